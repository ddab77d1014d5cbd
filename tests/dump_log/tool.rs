//! Kafka's own `DumpLogSegments`, whose folder `tests/run` names.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

pub(crate) fn tools() -> Option<String> {
    let tools = std::env::var("FLUMEN_KAFKA_TOOLS").ok();
    if tools.is_none() {
        let why = "FLUMEN_KAFKA_TOOLS names no folder with Kafka's tools: run `tests/run dump_log`, which \
                   fetches them where there are Java and Maven";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
        eprintln!("skipped: {why}");
    }
    tools
}

/// What the tool prints of the files of `dir` with these extensions; an error where it is not content.
pub(crate) fn run_tool(
    tools: &str,
    dir: &Path,
    extensions: &[&str],
    options: &[&str],
) -> Result<String, String> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|file| extensions.iter().any(|wanted| has_extension(file, wanted)));
    files.sort();
    assert!(!files.is_empty(), "`{}` has no {extensions:?}", dir.display());
    let files: Vec<_> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let output = Command::new("java")
        .args(["-XX:TieredStopAtLevel=1", "-cp", &format!("{tools}/*")])
        .args(["org.apache.kafka.tools.DumpLogSegments", "--files", &files.join(",")])
        .args(options)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    let is_content =
        output.status.success() && complaint(&text).or_else(|| complaint(&errors)).is_none();
    if is_content { Ok(text) } else { Err(format!("{}: {text}{errors}", output.status)) }
}

/// The first line with which it is not content: it ends well all the same.
fn complaint(text: &str) -> Option<&str> {
    let complaints = [
        "ismatch",
        "corrupt",
        "out of order",
        "nvalid",
        "isvalid: false",
        "Exception",
        "log timestamp",
    ];
    // Of a batch that compaction has emptied it finds no record's timestamp, and takes -1 for the batch's.
    let is_of_emptied = |line: &&str| line.ends_with(", log timestamp: -1");
    let is_heading = |line: &&str| line.starts_with("Found timestamp mismatch in ");
    let lines = text.lines().filter(|line| !is_of_emptied(line) && !is_heading(line));
    lines.into_iter().find(|line| complaints.iter().any(|complaint| line.contains(complaint)))
}

/// What the tool prints; it must be content.
pub(crate) fn dump(tools: &str, dir: &Path, extensions: &[&str], options: &[&str]) -> String {
    let text = run_tool(tools, dir, extensions, options);
    text.unwrap_or_else(|why| panic!("{options:?} of {extensions:?} in `{}`: {why}", dir.display()))
}

pub(crate) fn has_extension(file: &Path, wanted: &str) -> bool {
    file.extension().is_some_and(|is| is == wanted)
}

/// The payloads that the tool prints, by offset.
pub(crate) fn payloads(text: &str) -> BTreeMap<u64, String> {
    let record = |line: &str| {
        let rest = line.trim_start_matches(['|', ' ']).strip_prefix("offset: ")?;
        let offset = rest.split(' ').next()?.parse().ok()?;
        let payload = line.split("payload: ").nth(1)?;
        Some((offset, payload.trim().to_owned()))
    };
    text.lines().filter_map(record).collect()
}
