//! What a bench runs on.

use std::{fs, path::Path, path::PathBuf, thread};

use flumen_runtime::disk::{DiskMaker as _, Engine, RealDisks};

/// One line: cores, processor, memory, kernel.
pub(crate) fn describe() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0.0, |kib| kib as f64 / f64::from(1 << 20));
    let system = rustix::system::uname();
    let kernel = system.release().to_string_lossy();
    format!("{cores} cores of {cpu}, {memory:.1} GiB of memory, Linux {kernel}")
}

/// One line: which disk driver, and why.
pub(crate) fn disk() -> String {
    match RealDisks::choose(Engine::Auto) {
        Ok(disks) => disks.describe(),
        Err(error) => format!("disk: {error}"),
    }
}

/// The first `name : value` of a file of the kernel's.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Where cargo builds.
pub(crate) fn target() -> &'static Path {
    scratch_path().parent().unwrap_or_else(|| Path::new("."))
}

/// A directory for what benches write, on the disk that holds the build.
pub(crate) fn scratch() -> PathBuf {
    let path = scratch_path();
    fs::create_dir_all(path).expect("cargo builds there, so it can be written");
    path.to_owned()
}

fn scratch_path() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}
