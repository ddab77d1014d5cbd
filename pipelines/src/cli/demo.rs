//! `flumen demo`: see [`crate::demo`].

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use super::{CliError, tell};
use crate::demo::{self, DemoOptions};

/// Options of `flumen demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep everything in this directory, which is made or empty; without it, in one that is removed
    /// afterwards.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How long the log is written, in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Lines a second; ten times as many in a burst of half a second every five.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Print one JSON object as the last line, and no table.
    #[arg(long)]
    json: bool,
    /// Where the plot of the latencies goes.
    #[arg(long, default_value = "flumen-demo.svg", value_name = "FILE")]
    svg: PathBuf,
}

/// Whether `dir` holds nothing: what an earlier run left there would be counted as doubled.
fn is_free(dir: &Path) -> bool {
    fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

/// Runs it.
///
/// # Errors
/// [`CliError`]; [`CliError::Ledger`] where a record was lost or doubled.
pub fn run(args: DemoArgs) -> Result<(), CliError> {
    let temporary = tempfile::Builder::new().prefix("flumen-demo-").tempdir();
    let temporary =
        temporary.map_err(|error| CliError::File { path: std::env::temp_dir(), error })?;
    if let Some(dir) = args.data.as_ref().filter(|dir| !is_free(dir)) {
        return Err(CliError::Option {
            option: "--data",
            value: dir.display().to_string(),
            expected:
                "the demonstration counts all that is there, so it wants an empty directory or \
                       one that it may make"
                    .into(),
        });
    }
    let ledger = demo::run(DemoOptions {
        dir: args.data.unwrap_or_else(|| temporary.path().to_owned()),
        duration: Duration::from_secs(args.seconds),
        rate: args.rate,
        is_quiet: args.json,
    })?;
    let drawn = fs::write(&args.svg, ledger.plot());
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", ledger.to_json())?;
    } else {
        writeln!(out, "{ledger}")?;
        if drawn.is_ok() {
            tell(format_args!("\nThe latencies are drawn in `{}`.", args.svg.display()));
        }
    }
    drawn.map_err(|error| CliError::File { path: args.svg, error })?;
    if ledger.is_clean() { Ok(()) } else { Err(CliError::Ledger) }
}
