//! What the outcome of an effect makes of a log, and what time does.

use std::mem;

use super::{
    Log, LogFailure, LogIoDone, Mark, Wanted,
    checkpoint::Checkpoint,
    index::IndexTail,
    io::{CheckpointWork, Lane, Outcome},
    segment::{Indexed, Segment},
};
use crate::{disk::File, ids::Offset};

impl Log {
    /// Applies the outcome of an effect.
    ///
    /// # Errors
    /// [`LogFailure`] where the effect failed: the log has ended (LOG-5).
    pub fn on_io(&mut self, LogIoDone(outcome, lane): LogIoDone) -> Result<(), LogFailure> {
        match lane {
            Lane::Write => self.running.write = false,
            Lane::Sync => self.running.sync = false,
            Lane::Zero => self.running.zero = false,
            Lane::Maintenance => {
                self.running.maintenance = false;
                self.running.is_exclusive = false;
            }
        }
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        match outcome {
            Ok(outcome) => {
                self.apply(outcome);
                self.check();
                Ok(())
            }
            Err(error) => {
                let failed = LogFailure { dir: self.place.dir.clone(), error };
                self.failed = Some(failed.clone());
                Err(failed)
            }
        }
    }

    fn apply(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Written { end } => {
                self.written = Mark { offset: end, position: self.active.size };
                self.unsynced_since_ms.get_or_insert(self.ticked_ms);
            }
            Outcome::Synced { end, position } => {
                self.synced = Mark { offset: end, position };
                self.durable_end = self.durable_end.max(end);
            }
            Outcome::Committed { end } => self.durable_end = self.durable_end.max(end),
            Outcome::Zeroed { end } => self.filled = end,
            Outcome::NotZeroed => self.zero_refused = true,
            Outcome::Rolled { file, base, zeroed, added } => self.rolled(file, base, zeroed, added),
            Outcome::Checkpointed { work } => {
                let synced = work.checkpoint.end;
                self.checkpointed(&work);
                if synced > self.synced.offset {
                    self.synced = Mark { offset: synced, position: work.checkpoint.position };
                    self.durable_end = self.durable_end.max(synced);
                }
            }
            Outcome::Closed { work } => {
                self.checkpointed(&work);
                self.synced = Mark { offset: self.end, position: self.active.size };
                self.durable_end = self.end;
                self.wanted.clear();
                self.file = None;
                self.resume = None;
                self.is_closed = true;
                self.running.is_exclusive = true;
            }
            Outcome::Removed { checkpoint, segments } => {
                self.checkpoint = checkpoint;
                self.start = checkpoint.start;
                self.closed.retain(|segment| !segments.contains(&segment.base));
                self.epochs.trim_to(self.start);
                self.epochs_changed = true;
                if matches!(self.wanted.front(), Some(Wanted::Trim(_))) {
                    self.wanted.pop_front();
                }
            }
            Outcome::Truncated { checkpoint, epochs, file, keep, size, end } => {
                self.epochs = epochs;
                self.truncated(checkpoint, file, keep, Mark { offset: end, position: size });
            }
            Outcome::Newest { segment, newest } => {
                let found = self.closed.iter_mut().find(|known| known.base == segment);
                if let Some(segment) = found {
                    let known = newest.map(|(time, last)| (time, segment.base.plus(last.into())));
                    segment.newest = Some(known.unwrap_or((-1, segment.base)));
                }
            }
        }
    }

    fn checkpointed(&mut self, work: &CheckpointWork) {
        let CheckpointWork { checkpoint, added, snapshot, stale, epochs, .. } = work;
        self.checkpoint = *checkpoint;
        self.indexed(*added);
        if snapshot.is_some() && self.snapshots.last() != Some(&checkpoint.end) {
            self.snapshots.push(checkpoint.end);
        }
        self.snapshots.retain(|kept| !stale.contains(kept));
        if epochs.is_some() {
            self.epochs_changed = false;
        }
    }

    fn indexed(&mut self, added: Indexed) {
        self.tail.written(added);
        self.active.indexed.offsets += added.offsets;
        self.active.indexed.times += added.times;
    }

    fn rolled(&mut self, file: File, base: Offset, zeroed: u64, added: Indexed) {
        self.indexed(added);
        let next = Segment::new(base);
        let old = mem::replace(&mut self.active, next);
        assert_eq!(old.end, self.active.base, "LOG-1: segments follow each other without a gap");
        self.closed.push_back(old);
        self.file = Some(file);
        self.tail = IndexTail::default();
        self.filled = zeroed;
        self.zero_refused = false;
        let base = Mark { offset: self.active.base, position: 0 };
        self.written = base;
        self.synced = base;
        self.durable_end = self.durable_end.max(base.offset);
        self.unsettled.clear();
        self.unsettled_bytes = 0;
        if self.wanted.front() == Some(&Wanted::Roll) {
            self.wanted.pop_front();
        }
    }

    fn truncated(&mut self, checkpoint: Checkpoint, file: File, keep: Offset, end: Mark) {
        while self.active.base > keep {
            self.active = self.closed.pop_back().expect("the kept segment is one of them");
        }
        self.active.end = end.offset;
        self.active.size = end.position;
        self.active.newest = self.active.newest.filter(|(_, offset)| *offset < end.offset);
        self.active.newest.get_or_insert((-1, self.active.base));
        if checkpoint.segment == keep && checkpoint.end == end.offset {
            self.active.indexed = Indexed::default();
        }
        self.tail = IndexTail::default();
        self.file = Some(file);
        self.resume = None;
        self.filled = end.position;
        self.checkpoint = checkpoint;
        self.snapshots.retain(|kept| *kept <= end.offset);
        self.written = end;
        self.synced = end;
        self.durable_end = end.offset;
        self.end = end.offset;
        self.unsettled.clear();
        self.unsettled_bytes = 0;
        self.wanted.pop_front();
    }

    /// Lets time pass: to be called about once a second, and followed by [`Log::next_io`].
    pub fn tick(&mut self, now_ms: i64) {
        self.ticked_ms = now_ms;
        if self.active_has_expired(now_ms) && self.wanted.is_empty() {
            self.roll();
        }
        self.written_since_tick = 0;
        // A descriptor that only reading needed is not kept.
        self.resume = None;
    }

    /// Whether every record of the active segment is over age, so that it may be closed and go.
    fn active_has_expired(&self, now_ms: i64) -> bool {
        let age_max = self.config.retention_ms.and_then(|age| i64::try_from(age).ok());
        match (self.active.newest, age_max) {
            (Some((newest, _)), Some(age_max)) if newest >= 0 && !self.active.is_empty() => {
                now_ms.saturating_sub(newest) > age_max
            }
            _ => false,
        }
    }
}
