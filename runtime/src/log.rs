//! A log: record batches in order, in segments on the disk.
//!
//! ```text
//!   append ──► queue ──┬──► write ──► sync                each arrow one effect, one at a time:
//!     end              │ written_end durable_end            what comes meanwhile gathers for the next
//!                      └──► commit to the journal
//!                         written_end and durable_end       the write to the segment is put off
//! ```
//!
//! The log itself does nothing: it says what is to be done ([`Log::next_io`] gives a [`LogIo`]), its
//! owner runs that, and hands the outcome back ([`Log::on_io`]). So it can be driven by an actor, by
//! a test, and by a simulation that decides when each write lands.
//!
//! Files, all in Kafka's formats but the two points:
//!
//! | file | what |
//! |---|---|
//! | `<20 digits>.log` | batches; the active one may end in zeros while the log is open |
//! | `<20 digits>.index`, `.timeindex` | sparse indexes, written when the recovery point moves |
//! | `<20 digits>.snapshot` | the owner's state at that offset |
//! | `leader-epoch-checkpoint` | where each epoch begins |
//! | `recovery-point` | up to where the segments are known to be durable |
//! | `compaction-point` | up to where the last compaction got, where there was one |
//!
//! # What is durable, and what is damage
//! The recovery point trails the syncs by a bounded number of bytes. Below it, and below what the
//! journal holds, a batch that fails its checksum is damage: the log refuses to open and says where.
//! Above it the log ends at the first batch that is not whole, even where whole ones follow, since
//! the pages of an unsynced write reach the disk in any order.
//!
//! Closed segments below it are trusted by their names until they are read: one that does not go to
//! where the next begins is damage that the reader is told of, and one whose file is gone while the log
//! is open is named to whoever reads it. Where the first begins above the log's start, the log refuses
//! to open.
//!
//! No checksum covers a batch's base offset and epoch, so these must be what they can only be: a batch
//! begins where the one before it ends, and is of the epoch that led there. Where compaction took
//! batches out, which it says in its point before it does so, a base offset must only fit between its
//! neighbours: one that was changed within such a hole is not noticed. Nor is the epoch of a batch
//! above the recovery point known to anyone else: after a crash it is believed, unless a batch with a
//! lower one follows.
//!
//! # Invariants
//! - LOG-1: a batch begins at the offset where the log ends.
//! - LOG-2: what was durable is there after a crash, and what is there is a prefix of what was
//!   written.
//! - LOG-3: `start <= durable_end <= written_end <= end`.
//! - LOG-4: a sync counts only for writes that had completed when it was submitted.
//! - LOG-5: after a write or sync has failed, nothing is written, and nothing becomes durable.
//! - LOG-6: what lies behind the last batch of a segment is zeros, or nothing, and only behind the
//!   active one's: it is cut to its last batch at roll, clean stop and recovery.
//! - LOG-7: what the journal is given begins where the log stops being durable, and has no hole.
//!
//! # Failure
//! A failed write or sync ends the log for good: the page cache says nothing about the disk any
//! more. After a failed sync no later life in this process opens it either; the next process reads
//! its end from the disk, past the cache.
//!
//! A full disk is no failure, for nothing is lost by it: below a floor of free room the log says
//! that it is full ([`Log::is_full`]) and its owner refuses what comes; a write that the disk
//! refuses all the same is made again, at the same place, once a look at the disk finds room. Reads
//! and retention go on.

pub mod adopt;
mod checkpoint;
mod closed;
mod compact;
mod config;
mod drive;
mod epochs;
mod index;
mod io;
mod lookup;
mod newest;
mod open;
mod read;
mod recovery;
mod repair;
mod segment;
mod settle;
mod space;
mod truncate;

use std::{collections::VecDeque, path::PathBuf, rc::Rc, sync::Arc};

use bytes::Bytes;

pub use closed::ClosedLog;
pub use compact::{Aborted, Decided};
pub use config::{Compaction, LogConfig};
pub use epochs::Epochs;
pub use io::{LogIo, LogIoDone};
pub use lookup::LookupPlan;
pub use open::{Cut, LogPlace, OpenError, Opened, open};
pub use read::{OutOfRangeError, READ_BYTES_MAX, READ_BYTES_MIN, ReadDone, ReadFailure, ReadPlan};
pub use recovery::BATCH_BYTES_LIMIT;
pub use repair::{RepairError, Repaired, repair};
pub use segment::Segment;

use self::{
    checkpoint::Checkpoint,
    compact::Compactor,
    index::IndexTail,
    io::Refused,
    read::{Extent, Meets},
    space::Room,
};
use crate::{
    batch::BatchHeader,
    disk::{DiskError, File},
    ids::Offset,
};

/// Whoever keeps state that is what replaying the log gives.
pub trait Owner {
    /// Its state after every batch that was appended so far, to be kept beside the log so that
    /// replay need not begin at the start; `None` where it has none worth keeping.
    fn snapshot(&self) -> Option<Bytes>;
}

/// Takes in what recovery reads.
pub trait Replay {
    /// Takes the state that was kept at `at`, the batches from there on following; `false` where it
    /// makes no sense, and an earlier one, or the whole log, must do.
    fn restore(&mut self, snapshot: &[u8], at: Offset) -> bool;

    /// Takes one batch, in order. All its bytes were checked.
    fn batch(&mut self, header: &BatchHeader, batch: &[u8]);
}

/// An owner without state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stateless;

impl Owner for Stateless {
    fn snapshot(&self) -> Option<Bytes> {
        Some(Bytes::new())
    }
}

impl Replay for Stateless {
    fn restore(&mut self, _: &[u8], _: Offset) -> bool {
        true
    }

    fn batch(&mut self, _: &BatchHeader, _: &[u8]) {}
}

/// The log has ended: a write or sync failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the log `{}` is offline: {error}; see to the disk, then start again", dir.display())]
pub struct LogFailure {
    /// The log's directory.
    pub dir: PathBuf,
    /// What failed.
    pub error: DiskError,
}

/// A batch that was appended and not written yet.
#[derive(Debug)]
struct Queued {
    bytes: Bytes,
    next: Offset,
    newest: i64,
}

/// A point between two batches of the active segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    offset: Offset,
    position: u64,
}

/// The recovery point to be, with the owner's state there.
#[derive(Debug)]
struct NextCheckpoint {
    at: Mark,
    /// Largest timestamp of the segment before it, and the last offset of its batch.
    newest: (i64, Offset),
    snapshot: Option<Bytes>,
}

/// Work that was asked for and must wait its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Truncate(Offset),
    Trim(Offset),
    Roll,
    Close,
}

/// Which effects are under way.
#[derive(Clone, Copy, Debug, Default)]
struct Running {
    write: bool,
    sync: bool,
    /// The sync is the journal's.
    commit: bool,
    maintenance: bool,
    space: bool,
    /// The maintenance that is under way bears no write beside it.
    is_exclusive: bool,
}

/// A log. See the module for how it is driven.
#[derive(Debug)]
pub struct Log {
    place: Rc<LogPlace>,
    config: Arc<LogConfig>,
    start: Offset,
    end: Offset,
    written: Mark,
    synced: Mark,
    durable_end: Offset,
    closed: VecDeque<Segment>,
    active: Segment,
    file: Option<File>,
    tail: IndexTail,
    queue: VecDeque<Queued>,
    queued_bytes: u64,
    /// Bytes at the end of the active segment whose write the journal was left to make.
    deferred: u64,
    /// Bytes from the beginning of the active segment that were written or zero-filled.
    filled: u64,
    /// Bytes from there that blocks were asked for.
    reserved: u64,
    running: Running,
    wanted: VecDeque<Wanted>,
    checkpoint: Checkpoint,
    next_checkpoint: Option<Box<NextCheckpoint>>,
    /// What is to go holds the recovery point: that must move first.
    must_checkpoint: bool,
    snapshots: Vec<Offset>,
    epochs: Rc<Epochs>,
    epochs_changed: bool,
    unsynced_since_ms: Option<i64>,
    /// Somebody waits for what is written to be durable, and no sync of it has begun.
    is_awaited: bool,
    ticked_ms: i64,
    checkpointed_ms: i64,
    written_since_tick: u64,
    written_last_tick: u64,
    /// A write that the disk had no room for, to be made again.
    refused: Option<Box<Refused>>,
    room: Room,
    /// The files are as a clean stop left them.
    is_clean: bool,
    /// Where the last reads left off, the latest one last.
    resumes: Vec<read::Resume>,
    compactor: Compactor,
    is_closed: bool,
    failed: Option<Box<LogFailure>>,
}

impl Log {
    /// First offset that is kept.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.start
    }

    /// Offset that the next record will get.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Offset up to which the batches are handed over, and can be read.
    #[must_use]
    pub fn written_end(&self) -> Offset {
        self.written.offset
    }

    /// Offset up to which a power cut takes nothing.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        self.durable_end
    }

    /// Where each leader epoch begins.
    #[must_use]
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// How it is kept.
    #[must_use]
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Keeps it another way from now on.
    pub fn configure(&mut self, config: impl Into<Arc<LogConfig>>) {
        self.config = config.into();
    }

    /// Bytes of all batches.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let closed: u64 = self.closed.iter().map(|segment| segment.size).sum();
        closed + self.active.size + self.queued_bytes
    }

    /// The segments, oldest first; the last one is the active one.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.closed.iter().chain([&self.active])
    }

    /// Why it takes nothing any more.
    #[must_use]
    pub fn failure(&self) -> Option<&LogFailure> {
        self.failed.as_deref()
    }

    /// Whether a clean close is done.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Appends a batch whose offset and epoch are stamped and whose checksum was verified.
    ///
    /// # Panics
    /// Where the batch does not begin at the log's end (LOG-1).
    pub fn append(&mut self, batch: Bytes, header: &BatchHeader) {
        assert_eq!(header.base_offset, self.end, "LOG-1: a batch begins where the log ends");
        assert_eq!(batch.len(), header.batch_bytes as usize, "LOG-1: a batch is whole");
        assert!(!self.is_closed, "LOG-5: nothing is appended to a closed log");
        let epoch = epochs::epoch_of(header);
        if self.epochs.latest() != Some(epoch) {
            let epochs = Rc::make_mut(&mut self.epochs);
            self.epochs_changed |= epochs.note(epoch, header.base_offset, Offset::ZERO);
        }
        self.end = header.next_offset();
        self.queued_bytes += batch.len() as u64;
        self.queue.push_back(Queued {
            bytes: batch,
            next: header.next_offset(),
            newest: header.max_timestamp,
        });
    }

    /// Makes what is written durable as soon as may be, also where the log is lazy: to be said again while
    /// somebody waits for it.
    pub fn hasten(&mut self) {
        self.is_awaited = true;
    }

    /// Removes every batch from the one that holds `offset` up: they diverge from the leader's. The
    /// log then ends where the last batch that stays ends.
    /// Done when [`Log::is_settled`].
    pub fn truncate_to(&mut self, offset: Offset) {
        self.wanted.push_back(Wanted::Truncate(offset));
    }

    /// Moves the log's start up to `offset`, at most to its end, once that is durable; whole segments
    /// below go. Done, and durable, when [`Log::start`] is there.
    pub fn trim_to(&mut self, offset: Offset) {
        self.wanted.push_back(Wanted::Trim(offset));
    }

    /// Closes the active segment, once nothing is queued, so that a trim can remove it.
    pub fn roll(&mut self) {
        if !self.active.is_empty() && !self.wanted.contains(&Wanted::Roll) {
            self.wanted.push_back(Wanted::Roll);
        }
    }

    /// Ends the log in order: everything durable, no zeros at the end, recovery point at the end.
    /// Done when [`Log::is_closed`].
    pub fn close(&mut self) {
        if !self.wanted.contains(&Wanted::Close) {
            self.wanted.push_back(Wanted::Close);
        }
    }

    /// Whether nothing that was asked for is still to be done, but for appended batches.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.wanted.is_empty() && !self.running.maintenance
    }

    /// What a closed log says of itself; `None` while it is not closed.
    #[must_use]
    pub fn to_closed(&self) -> Option<ClosedLog> {
        self.is_closed.then(|| ClosedLog {
            start: self.start,
            segments: self.segments().map(Segment::told).collect(),
            epochs: (*self.epochs).clone(),
            checkpoint_number: self.checkpoint.number,
            snapshots: self.snapshots.as_slice().into(),
        })
    }

    /// A read of whole batches from the one that holds `from` on, as far as `end`; the first batch
    /// is given even where it alone has more than `bytes_max` bytes. What is not written yet is not
    /// read.
    ///
    /// # Errors
    /// [`OutOfRangeError`] where `from` lies before the start or after the end.
    pub fn plan_read(
        &self,
        from: Offset,
        end: Offset,
        bytes_max: usize,
    ) -> Result<ReadPlan, OutOfRangeError> {
        if from < self.start || from > self.end {
            return Err(OutOfRangeError { offset: from, start: self.start, end: self.end });
        }
        Ok(ReadPlan {
            place: self.place.clone(),
            extent: self.extent(from),
            from,
            end: end.min(self.written.offset),
            bytes_max,
            is_strict: false,
            has_holes: self.config.compaction.is_some(),
            epochs: self.epochs.clone(),
            swaps: self.compactor.watch(),
        })
    }

    /// Takes note of where a read left off, so that one that goes on from there needs no search: of a few,
    /// since readers may take turns.
    pub fn note_read(&mut self, done: &ReadDone) {
        let Some(resume) = done.resume.as_ref().filter(|_| done.still_holds()) else { return };
        self.resumes.retain(|known| known.offset != resume.offset);
        if self.resumes.len() == read::RESUMES_MAX {
            self.resumes.remove(0);
        }
        self.resumes.push(resume.clone());
    }

    /// Whether a read from `offset` on goes on where one of the last ones left off, in the log as it was
    /// then.
    #[must_use]
    pub fn goes_on_at(&self, offset: Offset) -> bool {
        let goes_on = |resume: &read::Resume| resume.offset == offset && !resume.swaps.were_made();
        self.resumes.iter().any(goes_on)
    }

    /// Where to look for `offset`.
    fn extent(&self, offset: Offset) -> Extent {
        let after = self.closed.partition_point(|segment| segment.end <= offset);
        let mut extent = match self.closed.get(after) {
            Some(segment) => self.extent_of(segment, self.compactor.held(segment.base)),
            None => {
                let mut extent = self.extent_of(&self.active, self.file.clone());
                (extent.end, extent.size) = (self.written.offset, self.written.position);
                extent.is_deferred = self.deferred > 0;
                let wanted = offset.since(self.active.base);
                let place = self.tail.offsets.partition_point(|e| u64::from(e.last) < wanted);
                if let Some(entry) = place.checked_sub(1).and_then(|at| self.tail.offsets.get(at)) {
                    extent.from = entry.position.into();
                    extent.meets = Meets::Last(self.active.base.plus(entry.last.into()));
                    extent.is_exact = true;
                }
                extent
            }
        };
        let left_off =
            |resume: &&read::Resume| resume.segment == extent.base && resume.offset == offset;
        if let Some(resume) = self.resumes.iter().find(left_off) {
            extent.from = resume.position;
            extent.meets = Meets::Base(resume.offset);
            extent.is_exact = true;
            extent.file = Some(resume.file.clone());
        }
        extent
    }

    fn extent_of(&self, segment: &Segment, file: Option<File>) -> Extent {
        Extent {
            base: segment.base,
            end: segment.end,
            size: segment.size,
            indexed: segment.indexed,
            file,
            from: 0,
            meets: Meets::Base(segment.base),
            is_exact: false,
            is_deferred: false,
        }
    }

    /// A search for the first record at or after `timestamp` (Unix ms), below `end`.
    #[must_use]
    pub fn plan_lookup(&self, timestamp: i64, end: Offset) -> LookupPlan {
        self.lookup(Some(timestamp), end)
    }

    /// A search for the first record with the largest timestamp, below `end`.
    #[must_use]
    pub fn plan_newest(&self, end: Offset) -> LookupPlan {
        self.lookup(None, end)
    }

    fn lookup(&self, timestamp: Option<i64>, end: Offset) -> LookupPlan {
        let newest = |segment: &Segment| {
            let known = segment.newest.map(|(timestamp, _)| timestamp);
            known.filter(|timestamp| *timestamp != Segment::UNTOLD)
        };
        let held = |segment: &Segment| self.compactor.held(segment.base);
        let mut extents: Vec<_> =
            self.closed.iter().map(|s| (self.extent_of(s, held(s)), newest(s))).collect();
        let mut active = self.extent_of(&self.active, self.file.clone());
        (active.end, active.size) = (self.written.offset, self.written.position);
        active.is_deferred = self.deferred > 0;
        extents.push((active, newest(&self.active)));
        LookupPlan {
            place: self.place.clone(),
            extents,
            timestamp,
            start: self.start,
            end: end.min(self.written.offset),
            has_holes: self.config.compaction.is_some(),
            epochs: self.epochs.clone(),
            swaps: self.compactor.watch(),
        }
    }

    /// LOG-3, checked after every step.
    fn check(&self) {
        assert!(self.start <= self.durable_end, "LOG-3: the start beyond what is durable");
        assert!(self.durable_end <= self.written.offset, "LOG-3: durable beyond written");
        assert!(self.written.offset <= self.end, "LOG-3: written beyond the end");
        assert!(self.synced.offset <= self.durable_end, "LOG-4: synced beyond durable");
    }
}

#[cfg(test)]
mod tests;
