//! What a cleanly closed log says of itself.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::{Epochs, LogConfig, Segment, recovery::files, segment::Kind};
use crate::{
    disk::{DiskError, DiskHandle},
    ids::Offset,
};

/// What a cleanly closed log says of itself, so that it can be opened without a look at its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedLog {
    pub(super) start: Offset,
    pub(super) segments: Box<[Segment]>,
    pub(super) epochs: Epochs,
    pub(super) checkpoint_number: u64,
    pub(super) snapshots: Box<[Offset]>,
}

impl ClosedLog {
    /// First offset that is kept.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.start
    }

    /// Offset that the next record will get.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.segments.last().map_or(self.start, |segment| segment.end)
    }

    /// Where each leader epoch begins.
    #[must_use]
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Bytes of all batches.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// Whether it holds no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.iter().all(Segment::is_empty)
    }

    /// Whether it is known that no record is of the time `from_ms` (Unix ms) or later.
    #[must_use]
    pub fn ends_before(&self, from_ms: i64) -> bool {
        let is_older = |segment: &Segment| segment.newest.is_some_and(|(ms, _)| ms < from_ms);
        self.segments.iter().all(|segment| segment.is_empty() || is_older(segment))
    }

    /// Whether the files of its segments are in `dir` as they were left; one that is not is told by its
    /// name. A log of one segment, of which a node may have thousands that nobody uses, is not looked at:
    /// whoever uses it is told.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub async fn is_as_left(&self, disk: &DiskHandle, dir: &Path) -> Result<bool, DiskError> {
        if self.segments.len() == 1 {
            return Ok(true);
        }
        let found = match disk.list(dir).await {
            Err(error) if error.is_not_found() => Vec::new(),
            found => found?,
        };
        let lens: BTreeMap<Offset, u64> = files(&found, Kind::Log).collect();
        let mut is_as_left = true;
        for Segment { base, size, .. } in &self.segments {
            let file = Kind::Log.path(dir, *base);
            match lens.get(base) {
                Some(len) if len == size => continue,
                Some(len) => tracing::error!(
                    file = %file.display(), len, left = size,
                    "a segment is not as the last stop left it: its log is recovered"
                ),
                None => tracing::error!(
                    file = %file.display(),
                    "a segment is gone since the last stop: its log is recovered; restore it from a copy"
                ),
            }
            is_as_left = false;
        }
        Ok(is_as_left)
    }

    /// The time (Unix ms) before which such a log would do nothing by itself if it were open; `None`
    /// where it may have something to do at any time: more than one segment, or compaction.
    #[must_use]
    pub fn rests_until(&self, config: &LogConfig) -> Option<i64> {
        let [active] = &self.segments[..] else { return None };
        if config.compaction.is_some() {
            return None;
        }
        let newest = active.newest.filter(|(newest, _)| *newest >= 0 && !active.is_empty());
        let age_max = config.retention_ms.and_then(|age| i64::try_from(age).ok());
        Some(match newest.zip(age_max) {
            Some(((newest, _), age_max)) => newest.saturating_add(age_max).saturating_add(1),
            None => i64::MAX,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Compaction;

    fn closed(segments: Vec<Segment>) -> ClosedLog {
        let (start, epochs) = (Offset(3), Epochs::default());
        let (segments, snapshots) = (segments.into(), Box::default());
        ClosedLog { start, segments, epochs, checkpoint_number: 1, snapshots }
    }

    fn segment(newest: Option<(i64, Offset)>) -> Segment {
        Segment { end: Offset(9), size: 100, newest, ..Segment::new(Offset(3)) }
    }

    #[test]
    fn a_log_rests_until_its_only_segment_is_over_age() {
        let aged = LogConfig { retention_ms: Some(50), ..LogConfig::default() };
        let dated = closed(vec![segment(Some((1_000, Offset(8))))]);
        assert_eq!(dated.rests_until(&aged), Some(1_051));
        assert_eq!(dated.rests_until(&LogConfig::default()), Some(i64::MAX));
        assert_eq!(closed(vec![segment(Some((-1, Offset(3))))]).rests_until(&aged), Some(i64::MAX));
        assert_eq!(closed(vec![Segment::new(Offset(3))]).rests_until(&aged), Some(i64::MAX));
        assert_eq!((dated.end(), dated.bytes()), (Offset(9), 100));
    }

    #[test]
    fn a_log_ends_before_a_time_where_each_segment_does() {
        let dated = closed(vec![segment(Some((1_000, Offset(8)))), Segment::new(Offset(9))]);
        assert!(dated.ends_before(1_001) && !dated.ends_before(1_000));
        assert!(!closed(vec![segment(None)]).ends_before(1_001), "nobody knows");
        let empty = closed(vec![Segment::new(Offset(3))]);
        assert!(empty.ends_before(i64::MIN) && empty.is_empty() && !dated.is_empty());
    }

    #[test]
    fn a_log_that_may_have_work_does_not_rest() {
        let two = closed(vec![Segment::new(Offset(3)), Segment::new(Offset(3))]);
        assert_eq!(two.rests_until(&LogConfig::default()), None);
        let compacted =
            LogConfig { compaction: Some(Compaction::default()), ..LogConfig::default() };
        assert_eq!(closed(vec![Segment::new(Offset(3))]).rests_until(&compacted), None);
    }
}
