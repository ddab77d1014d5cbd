//! Compaction: of each key only the last record stays, as in Kafka's `LogCleaner`.
//!
//! ```text
//!   closed segments                                   │ active
//!   ▓▓▓▓▓ compacted ▓▓▓▓▓▓│░░░░░░ new ░░░░░░│ not yet │
//!   └──────── read once more ──────────────┘│         │
//!                         └─ keys noted ───┘▲         ▲
//!                         ▲ compaction point          recovery point, undecided transactions,
//!                                                     and what is younger than it must be
//! ```
//!
//! The owner asks for it ([`Log::compact`]) where [`Log::wants_compaction`], which is when enough of
//! the log is new. Then it goes in pieces, one effect at a time like all else, each of at most a
//! chunk or a batch; it gives way to writes, and begins nothing that a roll or a trim would wait for
//! longer than one piece. First the last offset of each new key is noted, in bounded memory: what
//! does not fit is done in another pass. Then every segment from the first on is copied without what
//! is superseded, small neighbours into one, and swapped in. Offsets stay what they were.
//!
//! What becomes of each batch stands in [`filter`]; whether it is time in [`choice`].
//!
//! # The swap
//! Every name is durable before the next line begins. What recovery finds after a crash, and does:
//!
//! | files of base *b* on the disk | when | recovery |
//! |---|---|---|
//! | `b.log.cleaned` | it is written, then synced | removes it |
//! | and `b.index.swap`, `b.timeindex.swap` or their `.cleaned` | these are complete | removes all |
//! | `b.log.swap` and the originals | the copy is complete and has its name | goes on below |
//! | `b.log.swap` and some of the originals | the others are removed | removes the rest of them |
//! | `b.log.swap`, new `b.index` or `b.timeindex` | the indexes take their places | renames the rest |
//! | `b.log` | it has taken the place of the first original | nothing is left to do |
//!
//! Without the sync after the last of these names, or after what recovery removes, a crash finds an
//! earlier line of the table again, and the same is done about it: all that could build on the last
//! line (another swap, a removal, a cut, a clean stop) syncs the directory before it changes anything.
//! Those two syncs are there so that one rule holds for all lines; the others each prevent a loss.
//!
//! So the name `b.log.swap` decides. Which originals it stands for is read from it: all that begin
//! before its last batch ends; and another must begin right there, or else it has lost its end. A
//! recovery that is itself cut short finds one of these states again.
//!
//! The originals are removed, not renamed to Kafka's `.deleted` first: a reader that has one open
//! reads on, and one that had not is told to plan anew ([`ReadFailure::Removed`]). Whether what it
//! opened is still what it planned for, it knows by a count of swaps.
//!
//! # Invariants
//! - COMPACT-1: of each key below the compaction point, the last record stays, or it was a
//!   tombstone that nobody need see any more.
//! - COMPACT-2: offsets never change, and segments follow each other without a gap: the last batch of
//!   each stays, if need be empty.
//! - COMPACT-3: only what lies in closed segments below the recovery point is touched.
//!
//! # Failure
//! A batch that fails its checksum ends compaction of this log, which goes on otherwise, and says
//! where. A disk too full for the copy ends this attempt. A disk that fails ends the log (LOG-5).

mod choice;
mod filter;
mod io;
mod keys;
mod state;

use std::{cell::Cell, collections::BTreeSet, rc::Rc};

pub(super) use self::io::{
    Job, JobDone, MARK_FILE, SettleError, forget_mark, is_marked, mark, newer_mark, run, settle,
};
use self::{
    choice::{Bounds, Choice, choose},
    state::{Around, Cleaner, Damage},
};
use super::{Log, Owner, Wanted, io::Work};
use crate::{batch::BatchHeader, disk::File, ids::Offset};

/// How often in a row a compaction gives way to writes before it does a piece all the same.
const GIVE_WAY_MAX: u32 = 16;
/// How long after a compaction that found no room the next one is tried.
const NO_ROOM_MS: i64 = 60_000;

/// What the owner knows of its batches and compaction must: where all is decided, and what is void.
#[derive(Clone, Debug)]
pub struct Decided {
    /// Every batch below it is committed, and part of no undecided transaction.
    pub end: Offset,
    /// Transactions that were aborted, in the order of their ends.
    pub aborted: Vec<Aborted>,
    /// Last offsets of the last batch of each producer: what is known of its sequence.
    pub last_batches: BTreeSet<Offset>,
}

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// The producer's id.
    pub producer_id: i64,
    /// Its first offset.
    pub first: Offset,
    /// The offset of its marker.
    pub last: Offset,
}

impl Default for Decided {
    /// Of an owner that knows neither transactions nor producers.
    fn default() -> Self {
        Self { end: Offset(u64::MAX), aborted: Vec::new(), last_batches: BTreeSet::new() }
    }
}

impl Decided {
    fn is_aborted(&self, header: &BatchHeader) -> bool {
        if !header.attributes.is_transactional() {
            return false;
        }
        let base = header.base_offset;
        let first = self.aborted.partition_point(|aborted| aborted.last < base);
        self.aborted[first..]
            .iter()
            .any(|aborted| aborted.producer_id == header.producer_id && aborted.first <= base)
    }

    fn is_last_of_writer(&self, header: &BatchHeader) -> bool {
        header.producer_id >= 0 && self.last_batches.contains(&header.last_offset())
    }
}

/// What a log keeps for its compaction.
#[derive(Debug, Default)]
pub(super) struct Compactor {
    cleaner: Option<Box<Cleaner>>,
    /// It was asked for, and is to begin.
    asked: Option<Box<Decided>>,
    /// Up to here each key's last record is the only one; `None`: not read yet.
    pub(super) cleaned_to: Option<Offset>,
    /// Goes up when a swap begins and when it is done, and when the log is cut.
    swaps: Rc<Cell<u64>>,
    gave_way: u32,
    not_before_ms: i64,
    is_impossible: bool,
}

impl Compactor {
    /// Whether a file of its own would be left behind.
    pub(super) fn has_copy(&self) -> bool {
        self.cleaner.as_ref().is_some_and(|cleaner| cleaner.has_copy())
    }

    /// Whether a swap was begun that a full disk has stopped: its segments are nobody else's.
    pub(super) fn is_swapping(&self) -> bool {
        self.cleaner.as_ref().is_some_and(|cleaner| cleaner.is_decided())
    }

    /// The file of a segment that may be losing its name.
    pub(super) fn held(&self, segment: Offset) -> Option<File> {
        self.cleaner.as_ref()?.held(segment)
    }

    /// Counts the swaps from now on.
    pub(super) fn watch(&self) -> Swaps {
        Swaps { now: self.swaps.clone(), then: self.swaps.get() }
    }

    /// Whether compaction of this log was given up.
    #[cfg(test)]
    pub(super) fn is_impossible(&self) -> bool {
        self.is_impossible
    }

    /// Segments were removed.
    pub(super) fn removed(&mut self, removed: &[Offset]) {
        if let Some(cleaner) = &mut self.cleaner {
            cleaner.abandon_of(removed);
        }
    }

    fn abandon(&mut self) {
        self.asked = None;
        let Some(cleaner) = &mut self.cleaner else { return };
        cleaner.abandon();
        if !cleaner.has_copy() {
            self.cleaner = None;
        }
    }

    /// Segments are swapped, or cut: what was planned before may meet others, or none.
    pub(super) fn count_swap(&self) {
        self.swaps.set(self.swaps.get() + 1);
    }
}

/// Tells whether segments were swapped, or the log was cut, since it was made.
#[derive(Clone, Debug, Default)]
pub(super) struct Swaps {
    now: Rc<Cell<u64>>,
    then: u64,
}

impl Swaps {
    pub(super) fn were_made(&self) -> bool {
        self.now.get() != self.then
    }
}

impl Log {
    /// Whether enough of the log is new that it should be compacted.
    #[must_use]
    pub fn wants_compaction(&self, now_ms: i64) -> bool {
        let compactor = &self.compactor;
        let Some(how) = &self.config.compaction else { return false };
        if self.is_compacting()
            || compactor.is_impossible
            || self.closed.is_empty()
            || now_ms < compactor.not_before_ms
            || self.is_full()
            || self.failed.is_some()
        {
            return false;
        }
        // How far it got is not known yet: that is the first thing that it finds out.
        let Some(cleaned_to) = compactor.cleaned_to else { return true };
        let stable_end = self.durable_end;
        let bounds = Bounds { cleaned_to, point: self.checkpoint.segment, stable_end };
        choose(&self.closed, bounds, how, now_ms) != Choice::NotYet
    }

    /// Compacts the log in pieces, until not [`Log::is_compacting`].
    pub fn compact(&mut self, decided: Decided) {
        if self.config.compaction.is_some() && !self.is_compacting() {
            self.compactor.asked = Some(Box::new(decided));
        }
    }

    /// Whether a compaction that was asked for is still to be done.
    #[must_use]
    pub fn is_compacting(&self) -> bool {
        self.compactor.asked.is_some() || self.compactor.cleaner.is_some()
    }

    /// Ends a compaction that stands in the way of what is wanted.
    pub(super) fn bar_compaction(&mut self) {
        let is_barred = self.config.compaction.is_none()
            || matches!(self.wanted.front(), Some(Wanted::Close | Wanted::Truncate(_)));
        if is_barred && !self.running.maintenance && self.is_compacting() {
            self.compactor.abandon();
        }
    }

    /// The next piece of a compaction.
    pub(super) fn clean(&mut self, now_ms: i64, owner: &dyn Owner) -> Option<Work> {
        if self.running.maintenance || !self.room.is_there() || !self.is_compacting() {
            return None;
        }
        // What waits for the copy to be gone may bar the writes that it would give way to.
        let is_awaited = matches!(self.wanted.front(), Some(Wanted::Close | Wanted::Truncate(_)));
        let is_writing = !self.queue.is_empty() || self.running.write;
        if is_writing && !is_awaited && self.compactor.gave_way < GIVE_WAY_MAX {
            self.compactor.gave_way += 1;
            return None;
        }
        self.compactor.gave_way = 0;
        if self.compactor.cleaner.is_none() {
            return self.begin_cleaning(now_ms, owner);
        }
        let around = Around {
            closed: &self.closed,
            segment_bytes: self.config.segment_bytes,
            index_interval_bytes: self.config.index_interval_bytes,
        };
        let cleaner = self.compactor.cleaner.as_mut()?;
        let Some(job) = cleaner.next(around) else {
            self.compactor.cleaner = None;
            return None;
        };
        if matches!(job, Job::Replace { .. }) {
            self.compactor.count_swap();
        }
        self.running.maintenance = true;
        Some(Work::Clean(job))
    }

    fn begin_cleaning(&mut self, now_ms: i64, owner: &dyn Owner) -> Option<Work> {
        let Some(cleaned_to) = self.compactor.cleaned_to else {
            self.running.maintenance = true;
            return Some(Work::Clean(Job::ReadMark));
        };
        let how = self.config.compaction?;
        let decided = self.compactor.asked.take()?;
        let stable_end = decided.end.min(self.durable_end);
        let bounds = Bounds { cleaned_to, point: self.checkpoint.segment, stable_end };
        match choose(&self.closed, bounds, &how, now_ms) {
            Choice::NotYet => None,
            Choice::Look(segment) => {
                self.compactor.asked = Some(decided);
                self.look_at(segment)
            }
            Choice::MovePoint => {
                self.must_checkpoint = true;
                self.checkpoint(now_ms, owner)
            }
            Choice::Clean(from, end) => {
                let cleaner = Cleaner::new(*decided, &how, now_ms, (from, end));
                self.compactor.cleaner = Some(Box::new(cleaner));
                self.clean(now_ms, owner)
            }
        }
    }

    /// Applies what came of a piece.
    pub(super) fn cleaned(&mut self, done: JobDone) {
        let around = Around {
            closed: &self.closed,
            segment_bytes: self.config.segment_bytes,
            index_interval_bytes: self.config.index_interval_bytes,
        };
        let compactor = &mut self.compactor;
        match (done, &mut compactor.cleaner) {
            (JobDone::Mark(at), _) => {
                compactor.cleaned_to = Some(at.unwrap_or(Offset::ZERO).min(self.end));
            }
            (JobDone::NewerMark(version), _) => {
                tracing::warn!(
                    dir = %self.place.dir.display(), version,
                    "the log is not compacted: its `{MARK_FILE}` is of a later version"
                );
                compactor.is_impossible = true;
                compactor.abandon();
            }
            (JobDone::Read { file, bytes }, Some(cleaner)) => {
                if let Err(damage) = cleaner.on_read(file, &bytes, around) {
                    self.note_damage(&damage);
                }
            }
            (JobDone::Sifted(sift, kept), Some(cleaner)) => {
                if let Err(damage) = cleaner.on_sifted(*sift, kept, around) {
                    self.note_damage(&damage);
                }
            }
            (JobDone::Written { file }, Some(cleaner)) => cleaner.on_written(file),
            (JobDone::Prepared, Some(cleaner)) => cleaner.on_prepared(),
            (JobDone::Replaced, Some(_)) => self.swapped(),
            (JobDone::Marked, Some(cleaner)) => {
                compactor.cleaned_to = Some(cleaner.on_marked());
                let state::Summary { bytes_before, bytes_after, counts } = cleaner.summary();
                tracing::info!(
                    dir = %self.place.dir.display(), bytes_before, bytes_after,
                    records = counts.records, kept = counts.kept, keyless = counts.keyless,
                    unreadable = counts.opaque, "compacted; unreadable batches stay as they are"
                );
            }
            (JobDone::Discarded, Some(cleaner)) => cleaner.discarded(),
            (JobDone::NoRoom, _) => {
                tracing::warn!(
                    dir = %self.place.dir.display(),
                    "the disk has no room to compact the log; it is tried again later"
                );
                compactor.not_before_ms = self.ticked_ms.saturating_add(NO_ROOM_MS);
                compactor.abandon();
            }
            (_, None) => {}
        }
    }

    fn note_damage(&mut self, damage: &Damage) {
        self.compactor.is_impossible = true;
        self.compactor.abandon();
        // A read needs no right: what it finds may be what the one that took over has compacted.
        if self.place.ticket.check().is_err() {
            return;
        }
        let Damage { segment, position, reason } = damage;
        tracing::error!(
            dir = %self.place.dir.display(), %segment, position, %reason,
            "the log is compacted no more: a closed segment is damaged; restore it, then start again"
        );
    }

    fn swapped(&mut self) {
        let Some(cleaner) = &mut self.compactor.cleaner else { return };
        let (segment, replaced) = cleaner.on_swapped();
        let at = self.closed.partition_point(|known| known.base < segment.base);
        let gone: Vec<_> = self.closed.drain(at..at + replaced.len()).collect();
        assert!(gone.iter().map(|gone| gone.base).eq(replaced), "COMPACT-2: other segments");
        let ends = gone.last().map(|last| last.end);
        assert_eq!(ends, Some(segment.end), "COMPACT-2: the swap ends elsewhere");
        assert!(segment.end <= self.checkpoint.end, "COMPACT-3: beyond the recovery point");
        self.closed.insert(at, segment);
        // A place in the old file is none in the new one.
        self.resumes.clear();
        self.compactor.count_swap();
    }
}
