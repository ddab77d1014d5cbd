//! What the machine itself does: one thread that writes to a zeroed file and syncs.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

use tokio::time::Instant;

const FILE_BYTES: u64 = 512 << 20;

/// A zeroed file, written from its beginning to its end, and again.
pub(crate) struct Raw {
    file: File,
    at: u64,
}

impl Raw {
    /// Makes the file below `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        let file = File::create_new(dir.join("raw")).expect("the directory is new");
        let zeros = vec![0; 1 << 20];
        for at in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, at).expect("there is room");
        }
        file.sync_all().expect("the disk works");
        Self { file, at: 0 }
    }

    /// Writes and syncs `total` bytes, `piece` at a time; bytes a second.
    pub(crate) fn run(&mut self, piece: u64, total: u64) -> f64 {
        let bytes = vec![0x5a; usize::try_from(piece).expect("a piece fits into memory")];
        let began = Instant::now();
        let mut done = 0;
        while done < total {
            if self.at + piece > FILE_BYTES {
                self.at = 0;
            }
            self.file.write_all_at(&bytes, self.at).expect("there is room");
            self.file.sync_data().expect("the disk works");
            self.at += piece;
            done += piece;
        }
        done as f64 / began.elapsed().as_secs_f64()
    }
}
