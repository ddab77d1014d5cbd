//! One turn of a tailer: the core's wishes carried out on files, on a thread that may block.
//!
//! ```text
//!   scan, when it is time ─► open what is new ─► look at what is open ─► read ─► close what is quiet
//! ```

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::agent::source::taildir::{
    files::{FileKey, Files},
    saved::FINGERPRINT_BYTES_MAX,
    scan::{self, Trouble},
    state::{Sighting, Tail, TailBatch},
};

/// The core with the files that it follows.
#[derive(Debug)]
pub struct Tailer<F: Files> {
    files: F,
    tail: Tail,
    handles: BTreeMap<FileKey, F::Handle>,
    patterns: Vec<String>,
    troubles: Vec<Trouble>,
}

impl<F: Files> Tailer<F> {
    /// A tailer of what `patterns` match in `files`.
    #[must_use]
    pub fn new(files: F, patterns: Vec<String>, tail: Tail) -> Self {
        Self { files, tail, handles: BTreeMap::new(), patterns, troubles: Vec::new() }
    }

    /// The core.
    #[must_use]
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// What went wrong since this was last asked.
    pub fn take_troubles(&mut self) -> Vec<Trouble> {
        std::mem::take(&mut self.troubles)
    }

    /// Reads once around; looks for new files first if `scans`. `now` is the time since any fixed
    /// moment.
    pub fn turn(&mut self, now: Duration, scans: bool) -> TailBatch {
        if scans {
            self.scan(now);
        }
        for (key, handle) in &self.handles {
            match self.files.stat_open(handle) {
                Ok(stat) => self.tail.on_stat(*key, &stat, now),
                Err(error) => self.troubles.push(trouble(key, &error)),
            }
        }
        self.tail.begin_reads();
        while let Some(plan) = self.tail.next_read() {
            let handle = &self.handles[&plan.key];
            match self.files.read(handle, plan.position, plan.len) {
                Ok(bytes) => self.tail.on_read(plan, &bytes),
                Err(error) => {
                    self.troubles.push(trouble(&plan.key, &error));
                    self.tail.on_read_failed(plan);
                }
            }
        }
        for key in self.tail.close_quiet(now) {
            self.handles.remove(&key);
        }
        self.tail.end_turn()
    }

    fn scan(&mut self, now: Duration) {
        self.tail.begin_scan();
        let seen = scan::scan(&mut self.files, &self.patterns, &self.tail, &mut self.troubles);
        for sighting in seen {
            if self.tail.on_sighting(&sighting, now) {
                self.open(&sighting, now);
            }
        }
        self.tail.end_scan(now);
    }

    fn open(&mut self, sighting: &Sighting, now: Duration) {
        let opened = self.files.open(&sighting.path).and_then(|(handle, stat)| {
            let head = self.files.read(&handle, 0, FINGERPRINT_BYTES_MAX)?;
            Ok((handle, stat, head))
        });
        match opened {
            Ok((handle, stat, head)) => {
                if self.tail.on_opened(sighting, &stat, &head, now) {
                    self.handles.insert(stat.key, handle);
                }
            }
            // Renamed or removed since: the next scan finds it, if it is anywhere.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let path: &PathBuf = &sighting.path;
                let what = path.display().to_string();
                self.troubles.push(Trouble { what, why: error.to_string() });
            }
        }
    }
}

fn trouble(key: &FileKey, error: &std::io::Error) -> Trouble {
    let what = format!("inode {} of device {}", key.inode, key.device);
    Trouble { what, why: error.to_string() }
}

#[cfg(test)]
mod tests;
