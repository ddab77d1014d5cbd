//! The files of one segment, and what is known of it without reading them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ids::Offset;

/// The kinds of file that a segment consists of (`LogFileUtils.java`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Record batches, back to back.
    Log,
    /// Sparse offset index.
    Index,
    /// Sparse time index.
    TimeIndex,
    /// The owner's state when the segment began.
    Snapshot,
    /// Aborted transactions.
    TxnIndex,
}

impl Kind {
    const ALL: [Kind; 5] =
        [Kind::Log, Kind::Index, Kind::TimeIndex, Kind::Snapshot, Kind::TxnIndex];
    /// Those that go when the segment goes.
    pub(crate) const OF_SEGMENT: [Kind; 4] =
        [Kind::Log, Kind::Index, Kind::TimeIndex, Kind::TxnIndex];

    fn extension(self) -> &'static str {
        match self {
            Kind::Log => "log",
            Kind::Index => "index",
            Kind::TimeIndex => "timeindex",
            Kind::Snapshot => "snapshot",
            Kind::TxnIndex => "txnindex",
        }
    }

    /// The file of this kind whose segment begins at `base`: 20 digits and the kind.
    pub(crate) fn path(self, dir: &Path, base: Offset) -> PathBuf {
        dir.join(format!("{:020}.{}", base.0, self.extension()))
    }

    /// Kind and base offset of a file called `name`; `None` where it is no segment's.
    pub(crate) fn parse(name: &str) -> Option<(Kind, Offset)> {
        let (digits, extension) = name.split_once('.')?;
        if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let base = digits.parse().ok().filter(|base| *base < i64::MAX as u64)?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.extension() == extension)?;
        Some((kind, Offset(base)))
    }
}

/// A segment: records from `base` up to `end`, in `size` bytes of its `.log` file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Offset that its name says; its first batch begins there or later.
    pub base: Offset,
    /// Offset after its last record.
    pub end: Offset,
    /// Bytes up to the end of its last batch; what follows in the file is zeros.
    pub size: u64,
    /// Largest timestamp of its records and the offset of the batch that has it; `None` while nobody
    /// has looked. −1: no record has one; [`Segment::UNTOLD`]: it is damaged, and nobody can tell.
    pub newest: Option<(i64, Offset)>,
    /// Unix ms at which its first batch came in, for its age; after a crash its largest timestamp.
    pub begun_ms: Option<i64>,
    /// Entries of its indexes that are on the disk.
    pub(crate) indexed: Indexed,
}

/// How many entries of the index files are valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Indexed {
    pub(crate) offsets: u32,
    pub(crate) times: u32,
}

impl Segment {
    /// Newer than all that may be removed for its age, or passed over in a search by time.
    pub const UNTOLD: i64 = i64::MAX;

    /// An empty one.
    pub(crate) fn new(base: Offset) -> Self {
        Self {
            base,
            end: base,
            size: 0,
            newest: Some((-1, base)),
            begun_ms: None,
            indexed: Indexed::default(),
        }
    }

    /// Takes note of a batch with this largest timestamp and last offset.
    pub(crate) fn note(&mut self, timestamp: i64, last: Offset) {
        if self.newest.is_none_or(|(newest, _)| newest < timestamp) {
            self.newest = Some((timestamp, last));
        }
    }

    /// It, as it is remembered: what a damaged file could not tell, a restored one may.
    pub(crate) fn told(&self) -> Self {
        let newest = self.newest.filter(|(timestamp, _)| *timestamp != Self::UNTOLD);
        Self { newest, ..self.clone() }
    }

    /// Whether it holds no batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        let path = Kind::TimeIndex.path(Path::new("d"), Offset(42));
        assert_eq!(path, Path::new("d/00000000000000000042.timeindex"));
        assert_eq!(
            Kind::parse("00000000000000000042.timeindex"),
            Some((Kind::TimeIndex, Offset(42)))
        );
        for other in ["42.log", "00000000000000000042.log.cleaned", "leader-epoch-checkpoint", ""] {
            assert_eq!(Kind::parse(other), None, "{other}");
        }
    }
}
