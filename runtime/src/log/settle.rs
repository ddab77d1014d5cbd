//! What the outcome of an effect makes of a log, and what time does.

use std::{mem, rc::Rc};

use super::{
    Log, LogFailure, LogIoDone, Mark, Wanted,
    index::IndexTail,
    io::{CheckpointWork, Lane, Outcome},
    segment::{Indexed, Segment},
    truncate::Truncated,
};
use crate::{disk::File, ids::Offset};

/// How long the active segment stays, however old its records were when they were written: as long as
/// they do in Kafka, which looks every five minutes (`log.retention.check.interval.ms`).
const AGED_SEGMENT_MS_MIN: i64 = 5 * 60 * 1000;

impl Log {
    /// Applies the outcome of an effect.
    ///
    /// # Errors
    /// [`LogFailure`] where the effect failed: the log has ended (LOG-5).
    pub fn on_io(&mut self, LogIoDone(outcome, lane): LogIoDone) -> Result<(), LogFailure> {
        match lane {
            Lane::Write => self.running.write = false,
            Lane::Sync => (self.running.sync, self.running.commit) = (false, false),
            Lane::Space => self.running.space = false,
            Lane::Maintenance => {
                self.running.maintenance = false;
                self.running.is_exclusive = false;
            }
        }
        if let Some(failed) = &self.failed {
            return Err((**failed).clone());
        }
        match outcome {
            Ok(outcome) => {
                self.apply(outcome);
                self.check();
                Ok(())
            }
            // Nothing is lost by it: what was to be done is done again when there is room.
            Err(error) if error.is_full() && lane == Lane::Maintenance => {
                self.room.note_refusal();
                self.epochs_changed = true;
                Ok(())
            }
            Err(error) => {
                if error.is_failed_sync() {
                    self.place.ticket.gate.note_failed_sync(&error);
                }
                let failed = LogFailure { dir: self.place.dir.to_path_buf(), error };
                self.failed = Some(Box::new(failed.clone()));
                Err(failed)
            }
        }
    }

    fn apply(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Opened { file } => self.file = Some(file),
            Outcome::Written { end, zeros } => {
                self.written = Mark { offset: end, position: self.active.size };
                self.filled = self.filled.max(self.active.size + zeros);
                self.unsynced_since_ms.get_or_insert(self.ticked_ms);
            }
            Outcome::Synced { end, position } => {
                self.synced = Mark { offset: end, position };
                self.durable_end = self.durable_end.max(end);
            }
            Outcome::Committed { end, position } => {
                self.written = Mark { offset: end, position };
                self.durable_end = self.durable_end.max(end);
            }
            Outcome::NotCommitted { end, position } => {
                self.room.note_refusal();
                self.written = Mark { offset: end, position };
                self.unsynced_since_ms.get_or_insert(self.ticked_ms);
            }
            Outcome::DeferredRefused => self.room.note_refusal(),
            Outcome::DeferredWritten => {
                self.deferred = 0;
                self.filled = self.filled.max(self.written.position);
            }
            Outcome::Refused(refused) => {
                self.room.note_refusal();
                self.refused = Some(Box::new(refused));
            }
            Outcome::GivenBack => {}
            Outcome::Space { free } => self.room.note_free(free, self.config.free_floor_bytes),
            Outcome::Rolled { file, base, zeroed, added } => self.rolled(file, base, zeroed, added),
            Outcome::Checkpointed { work } => {
                let synced = work.checkpoint.end;
                self.checkpointed(&work);
                if synced > self.synced.offset {
                    self.synced = Mark { offset: synced, position: work.checkpoint.position };
                }
                self.durable_end = self.durable_end.max(synced);
            }
            Outcome::Closed { work } => {
                self.checkpointed(&work);
                self.synced = Mark { offset: self.end, position: self.active.size };
                self.durable_end = self.end;
                self.end_in_order();
            }
            Outcome::Removed { checkpoint, segments } => {
                self.checkpoint = checkpoint;
                self.start = checkpoint.start;
                self.closed.retain(|segment| !segments.contains(&segment.base));
                self.compactor.removed(&segments);
                self.resumes.retain(|resume| !segments.contains(&resume.segment));
                Rc::make_mut(&mut self.epochs).trim_to(self.start);
                self.epochs_changed = true;
                // Retention may have removed less than a trim wants that came meanwhile.
                if self.wanted_start().is_some_and(|wanted| wanted <= self.start) {
                    self.wanted.pop_front();
                }
            }
            Outcome::Truncated(truncated) => self.truncated(*truncated),
            Outcome::Cleaned(done) => self.cleaned(done),
            Outcome::Newest { segment, newest } => {
                let found = self.closed.iter_mut().find(|known| known.base == segment);
                if let Some(segment) = found {
                    segment.newest = Some(newest);
                }
            }
        }
    }

    fn checkpointed(&mut self, work: &CheckpointWork) {
        let CheckpointWork { checkpoint, added, snapshot, stale, .. } = work;
        self.checkpoint = *checkpoint;
        self.indexed(*added);
        if snapshot.is_some() && self.snapshots.last() != Some(&checkpoint.end) {
            self.snapshots.push(checkpoint.end);
        }
        self.snapshots.retain(|kept| !stale.contains(kept));
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
        self.reserved = 0;
        let base = Mark { offset: self.active.base, position: 0 };
        self.written = base;
        self.synced = base;
        self.durable_end = self.durable_end.max(base.offset);
        if self.wanted.front() == Some(&Wanted::Roll) {
            self.wanted.pop_front();
        }
    }

    fn truncated(&mut self, truncated: Truncated) {
        let Truncated { checkpoint, epochs, file, segment, tail, snapshots } = truncated;
        while self.active.base > segment.base {
            self.active = self.closed.pop_back().expect("the kept segment is one of them");
        }
        let end = Mark { offset: segment.end, position: segment.size };
        self.active = Segment { begun_ms: self.active.begun_ms, ..segment };
        self.tail = tail;
        self.file = Some(file);
        self.resumes = Vec::new();
        self.filled = end.position;
        self.reserved = 0;
        self.checkpoint = checkpoint;
        self.start = checkpoint.start;
        self.epochs = Rc::new(epochs);
        self.snapshots = snapshots;
        self.written = end;
        self.synced = end;
        self.durable_end = end.offset;
        self.end = end.offset;
        // What was known of it may have been cut off, and then its mark is gone too.
        self.compactor.cleaned_to = None;
        self.wanted.pop_front();
    }

    /// There is nothing more to be done.
    pub(super) fn end_in_order(&mut self) {
        self.wanted.clear();
        self.file = None;
        self.resumes = Vec::new();
        self.is_closed = true;
        self.running.is_exclusive = true;
    }

    /// Lets time pass: to be called about once a second, and followed by [`Log::next_io`].
    pub fn tick(&mut self, now_ms: i64) {
        self.ticked_ms = now_ms;
        let is_over = self.active_has_expired(now_ms) || self.active_is_old(now_ms);
        if is_over && self.wanted.is_empty() {
            self.roll();
        }
        self.written_last_tick = mem::take(&mut self.written_since_tick);
        self.room.tick();
        // A descriptor that only reading needed is not kept, nor room for it.
        self.resumes = Vec::new();
    }

    /// Whether the active segment should be closed although nothing comes, so that it can be
    /// compacted.
    fn active_is_old(&self, now_ms: i64) -> bool {
        let begun = self.active.begun_ms.filter(|_| self.config.compaction.is_some());
        begun.is_some_and(|begun| now_ms.saturating_sub(begun) >= self.age_max())
    }

    /// Whether every record of the active segment is over age, so that it may be closed and go. One that
    /// was over age when it was written can be read for a while all the same.
    fn active_has_expired(&self, now_ms: i64) -> bool {
        let begun = self.active.begun_ms;
        if begun.is_none_or(|begun| now_ms.saturating_sub(begun) < AGED_SEGMENT_MS_MIN) {
            return false;
        }
        let age_max = self.config.retention_ms.and_then(|age| i64::try_from(age).ok());
        match (self.active.newest, age_max) {
            (Some((newest, _)), Some(age_max)) if newest >= 0 && !self.active.is_empty() => {
                now_ms.saturating_sub(newest) > age_max
            }
            _ => false,
        }
    }
}
