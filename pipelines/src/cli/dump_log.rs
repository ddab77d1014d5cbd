//! `flumen dump-log`: what the files of a log say, as Kafka's DumpLogSegments shows it. It opens them
//! for reading alone, so a node may run meanwhile.

mod groups;
mod indexes;
mod segment;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use clap::Args;
use indicatif::HumanBytes;
use serde_json::Value;

use flumen_runtime::data_dir;

use self::segment::Dump;
use super::{CliError, print, progress::Progress, tell};

/// Options of `flumen dump-log`.
#[derive(Debug, Args)]
pub struct DumpLogArgs {
    /// Files of a log (`.log`, `.index`, `.timeindex`, `.snapshot`), or its directory,
    /// `<data>/<topic>-<partition>`, for all of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Also each record of a batch. Those of `__consumer_offsets` are told in words: which group is how
    /// far, and who is in it.
    #[arg(long)]
    records: bool,
    /// Take records for those of `__consumer_offsets`, wherever the file lies, and show them.
    #[arg(long)]
    offsets_decoder: bool,
    /// Print a line of JSON for each batch or entry.
    #[arg(long)]
    json: bool,
}

/// Says what is found, each thing as a person reads it or as an object.
struct Teller {
    records: bool,
    /// Whether the records at hand are about groups, and whether all are.
    of_groups: bool,
    all_of_groups: bool,
    json: bool,
    out: io::BufWriter<io::Stdout>,
    /// How far it is in all files, and how many bytes were in those that are done.
    progress: Progress,
    before: u64,
}

impl Teller {
    /// Shows that it is at this byte of the file at hand.
    fn at(&self, byte: u64) {
        let at = self.before + byte;
        self.progress.at(at, || HumanBytes(at).to_string());
    }

    fn heading(&mut self, path: &Path) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        io::Write::write_fmt(&mut self.out, format_args!("{}\n", path.display()))
    }

    fn tell(
        &mut self,
        text: impl FnOnce() -> String,
        object: impl FnOnce() -> Value,
    ) -> io::Result<()> {
        use io::Write as _;
        match self.json {
            true => writeln!(self.out, "{}", object()),
            false => writeln!(self.out, "  {}", text()),
        }
    }
}

/// Runs it: an error where a file cannot be read, or is damaged.
///
/// # Errors
/// [`CliError`].
pub fn run(args: DumpLogArgs) -> Result<(), CliError> {
    let out = io::BufWriter::with_capacity(64 << 10, io::stdout());
    let all_of_groups = args.offsets_decoder;
    let records = args.records || all_of_groups;
    let mut all = Vec::new();
    for path in &args.paths {
        all.extend(files(path)?);
    }
    let progress = Progress::of_output(Some(all.iter().map(|file| length(file)).sum()));
    let (json, of_groups, before) = (args.json, false, 0);
    let mut teller = Teller { records, of_groups, all_of_groups, json, out, progress, before };
    let mut damaged = 0;
    for file in all {
        let trouble = dump(&file, &mut teller)?;
        io::Write::flush(&mut teller.out)?;
        teller.before += length(&file);
        if let Some(trouble) = trouble {
            damaged += 1;
            let say = || tell(format_args!("flumen: `{}`: {trouble}", file.display()));
            teller.progress.aside(say);
        }
    }
    teller.progress.end();
    let data: BTreeSet<PathBuf> = args.paths.iter().filter_map(|path| data_dir_of(path)).collect();
    for dir in data.iter().filter(|dir| data_dir::is_in_use(dir)) {
        tell(format_args!(
            "flumen: a node runs on `{}`: what came last may stand in its journal, and is not shown",
            dir.display()
        ));
    }
    match damaged {
        0 => Ok(()),
        count => Err(CliError::Damaged(print::counted(count, "file"))),
    }
}

/// How many bytes a file has; one that is gone has none, which whoever opens it says.
fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |is| is.len())
}

/// The data directory in which `path` lies, a partition's directory or a file of it.
fn data_dir_of(path: &Path) -> Option<PathBuf> {
    let path = fs::canonicalize(path).ok()?;
    let mut above = path.ancestors().skip(1).take(2);
    above.find(|dir| dir.join("meta.properties").exists()).map(Path::to_owned)
}

/// The files that are meant: those of a directory in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>, CliError> {
    let failed = |error| CliError::File { path: path.to_owned(), error };
    if !path.is_dir() {
        return match kind(path) {
            Some(_) => Ok(vec![path.to_owned()]),
            None => Err(CliError::NoLogFile { path: path.to_owned() }),
        };
    }
    let entries = fs::read_dir(path).map_err(failed)?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(failed)?.path();
        if kind(&file).is_some() && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    match files.is_empty() {
        true => Err(CliError::NoLog { dir: path.to_owned(), why: "it has no segments" }),
        false => Ok(files),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Segment,
    Offsets,
    Times,
    Producers,
}

fn kind(path: &Path) -> Option<Kind> {
    match path.extension()?.to_str()? {
        "log" => Some(Kind::Segment),
        "index" => Some(Kind::Offsets),
        "timeindex" => Some(Kind::Times),
        "snapshot" => Some(Kind::Producers),
        _ => None,
    }
}

/// Says what is in `file`; what is wrong with it, if anything.
fn dump(file: &Path, teller: &mut Teller) -> Result<Option<String>, CliError> {
    let failed = |error| CliError::File { path: file.to_owned(), error };
    teller.heading(file)?;
    let kind = kind(file).expect("others were left out");
    if kind == Kind::Segment {
        teller.of_groups = teller.all_of_groups || groups::is_of_groups(file);
        return Dump::open(file).map_err(failed)?.run(teller);
    }
    let bytes = fs::read(file).map_err(failed)?;
    let base = segment::base(file).unwrap_or_default();
    let trouble = match kind {
        Kind::Offsets => indexes::offsets(&bytes, base, teller),
        Kind::Times => indexes::times(&bytes, base, teller),
        Kind::Producers | Kind::Segment => indexes::producers(&bytes, teller),
    };
    Ok(trouble?)
}
