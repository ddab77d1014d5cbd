//! What a log does next: one effect at a time for each lane, and the rest gathers.
//!
//! # Zeros behind a busy log
//! A small write that makes the file of a busy log longer goes on with zeros, up to the next multiple of
//! [`PADDED_BYTES`]; the writes after it go over these zeros. So most syncs find the file's length and
//! blocks as they were, and the page cache has the file in aligned folios of that size, where batches
//! one after the other leave it many small ones. A bare loop of 64 KiB writes, each synced (ext4 without
//! journal, Linux 6.18), takes 0.75 ms of CPU a megabyte so, and 1.0 without; of 4 KiB 5.3 and 7.1. A
//! segment all of whose blocks were written before would be faster still (0.55 and 3.7), but writing
//! them before costs more than it gains: with a thread's zeros, 8 MiB at a time, a broker took 460 MB/s
//! of 1 KiB records at 1.5 ms of CPU a megabyte, and 554 at 1.0 so. Behind a write of more than
//! [`PADDED_WRITE_BYTES_MAX`] there are none: it makes the file longer all the same, and copying the
//! zeros costs more than all else (as fast as a broker took them: 406 MB/s at 1.9 ms, and 532 at 1.06
//! without). Blocks without content (`fallocate`) cost more than they gain, since each sync has to note
//! which were written. A lazy log has no zeros: 728 MB/s, and 631 with them.
//!
//! # Blocks ahead of a busy lazy log
//! The kernel finds a lazy log's blocks when it writes its pages back, and whoever appends meanwhile
//! waits until they are found: 13 to 58 ms at a time were seen (ext4, whose maps of free blocks had to
//! be read), after which the file's writes went to other threads for a second. So they are found ahead,
//! for as much as was written since the tick before: 694 MB/s of 1 KiB records, and 626 without. What is
//! not used of them is given back when the log is not busy any more, or the disk is full, and when the
//! segment ends, is closed or recovered.
//!
//! Little is left to be synced when the segment of a lazy log ends, for meanwhile nothing is written:
//! the nearer its end, the more often it is synced (853 MB/s, and 774 where all was synced at the end).

use std::mem;

use bytes::Bytes;

use super::{
    Log, LogIo, Mark, NextCheckpoint, Owner, Queued, Wanted,
    checkpoint::Checkpoint,
    io::{Ahead, CheckpointWork, IndexWrite, Refused, Work},
    segment::Indexed,
    truncate::Truncation,
};
use crate::{
    ids::{LeaderEpoch, Offset},
    journal::JournalEntry,
};

/// Most buffers of one write; the kernel takes 1,024.
const WRITE_BUFS_MAX: usize = 512;
/// Most bytes of one write: as many as go to the page cache at once, on this thread. What waits
/// longer is written in several, so that a sync which ends meanwhile is followed by one of what is
/// there already, and writing and syncing overlap.
const WRITE_BYTES_MAX: u64 = 256 << 10;
/// Most bytes that are worth journalling: what is larger is synced where it belongs.
const JOURNAL_BYTES_MAX: u64 = 32 << 10;
/// Bytes whose write is not put off any longer.
const DEFERRED_BYTES_MAX: u64 = 8 << 10;
/// See the module.
const PADDED_BYTES: u64 = 256 << 10;
/// See the module.
const PADDED_WRITE_BYTES_MAX: u64 = PADDED_BYTES / 2;
/// Bytes that need not be synced before a segment ends.
const UNSYNCED_AT_END_BYTES: u64 = 4 << 20;
/// See the module.
const RESERVED_BYTES_MAX: u64 = 128 << 20;
/// Of what is free above the floor, one log reserves at most one part in so many.
const SPARE_PARTS: u64 = 16;
/// Entries that a busy log gathers before they are written to its index files. What a crash takes
/// of them is not made again: a search there begins at the entry before.
const INDEX_ENTRIES_MIN: usize = 4096;
/// A recovery point that lags in a log which has become quiet is moved after this time.
const CHECKPOINT_QUIET_MS: i64 = 60_000;

impl Log {
    /// The next effect; `None` where nothing is to be done until something changes. To be called
    /// again until it says so, after every change.
    ///
    /// `owner` is asked for its state when the recovery point is about to move: it must know every
    /// batch that was appended, and nothing else.
    pub fn next_io(&mut self, now_ms: i64, owner: &dyn Owner) -> Option<LogIo> {
        if self.failed.is_some() || self.running.is_exclusive {
            return None;
        }
        self.bar_compaction();
        if self.is_clean && self.queue.is_empty() && self.wanted.front() == Some(&Wanted::Close) {
            self.end_in_order();
            return None;
        }
        let work = self
            .open_active()
            .or_else(|| self.exclusive(owner))
            .or_else(|| self.give_back())
            .or_else(|| self.sync(now_ms))
            .or_else(|| self.commit())
            .or_else(|| self.write())
            .or_else(|| self.checkpoint(now_ms, owner))
            .or_else(|| self.remove(now_ms, owner))
            .or_else(|| self.clean(now_ms, owner));
        self.is_clean &= work.is_none();
        self.check();
        let work = work.or_else(|| self.look_for_room());
        work.map(|work| LogIo { place: self.place.clone(), work })
    }

    /// Bytes between two ticks.
    fn rate(&self) -> u64 {
        self.written_since_tick.max(self.written_last_tick)
    }

    fn is_busy(&self) -> bool {
        self.rate() >= self.config.busy_bytes
    }

    /// Opens the active segment of a log that was found closed, once there is something to do in it.
    fn open_active(&mut self) -> Option<Work> {
        let is_needed = !self.queue.is_empty() || !self.wanted.is_empty();
        if self.file.is_some() || self.running.maintenance || !is_needed {
            return None;
        }
        self.running.maintenance = true;
        self.running.is_exclusive = true;
        Some(Work::OpenActive { base: self.active.base, left: self.active.size })
    }

    /// Work beside which nothing may be written: it waits until nothing is under way.
    fn exclusive(&mut self, owner: &dyn Owner) -> Option<Work> {
        let is_quiet = self.file.is_some()
            && !self.running.write
            && !self.running.sync
            && !self.running.maintenance
            && self.refused.is_none()
            && self.room.is_there();
        let is_drained = self.queue.is_empty();
        // A truncation may have left nothing to roll.
        if is_quiet && is_drained && self.active.is_empty() {
            self.wanted.retain(|wanted| *wanted != Wanted::Roll);
        }
        let is_wanted =
            self.must_roll() || !matches!(self.wanted.front(), None | Some(Wanted::Trim(_)));
        if is_quiet && is_wanted && self.deferred > 0 {
            return self.write_deferred();
        }
        let work = match self.wanted.front() {
            _ if !is_quiet => None,
            // Nothing of a compaction is left behind.
            Some(Wanted::Truncate(_) | Wanted::Close) if self.compactor.has_copy() => None,
            Some(Wanted::Truncate(offset)) => Some(self.truncate(*offset)),
            Some(Wanted::Close) if is_drained => self.close_work(owner),
            Some(Wanted::Roll) if is_drained && !self.active.is_empty() => Some(self.roll_work()),
            _ if self.must_roll() => Some(self.roll_work()),
            _ => None,
        };
        self.running.is_exclusive = work.is_some();
        self.running.maintenance |= work.is_some();
        work
    }

    /// Whether the next batch belongs into a new segment.
    fn must_roll(&self) -> bool {
        let Some(next) = self.queue.front() else { return false };
        !self.active.is_empty() && !self.fits(next, self.active.size)
    }

    fn fits(&self, batch: &Queued, size: u64) -> bool {
        let limit = self.config.segment_bytes.min(i32::MAX as u64);
        size + batch.bytes.len() as u64 <= limit
            && batch.next.since(self.active.base) <= i32::MAX as u64
            && self
                .active
                .begun_ms
                .is_none_or(|begun| self.ticked_ms.saturating_sub(begun) < self.age_max())
    }

    pub(super) fn age_max(&self) -> i64 {
        i64::try_from(self.config.segment_age_ms).unwrap_or(i64::MAX)
    }

    /// Whether nothing may be appended for now.
    fn is_barred(&self) -> bool {
        self.running.write
            || self.running.commit
            || matches!(self.wanted.front(), Some(Wanted::Truncate(_)))
            || !self.room.is_there()
    }

    /// Has the journal make durable what waits, where it is little and all before it is durable.
    fn commit(&mut self) -> Option<Work> {
        // Not one that becomes busy by it: a recovery point would wait for it to be quiet again.
        let rate = self.written_last_tick.max(self.written_since_tick + self.queued_bytes);
        let is_for_journal = self.config.journal
            && !self.config.is_lazy()
            && rate < self.config.busy_bytes
            && self.queued_bytes <= JOURNAL_BYTES_MAX
            && self.deferred < DEFERRED_BYTES_MAX
            && self.written.offset == self.durable_end
            && self.refused.is_none()
            // What it is to cover must be synced, which a log that is never quiet does only so.
            && self.next_checkpoint.is_none();
        if self.is_barred() || self.running.sync || !is_for_journal {
            return None;
        }
        let file = self.file.clone()?;
        let position = self.active.size;
        let payload = self.gather(JOURNAL_BYTES_MAX);
        if payload.is_empty() {
            return None;
        }
        (self.running.sync, self.running.commit) = (true, true);
        self.is_awaited = false;
        self.deferred += self.active.size - position;
        let first = payload[0].first_chunk().map(|base| u64::from_be_bytes(*base));
        assert_eq!(first, Some(self.durable_end.0), "LOG-7: the journal's entry has no hole");
        let entry = JournalEntry::Append {
            log: self.place.id,
            epoch: self.epochs.latest().unwrap_or(LeaderEpoch(0)),
            base_offset: self.durable_end,
            end_offset: self.active.end,
            payload,
            file,
            position,
        };
        Some(Work::Commit { entry, end: self.active.end, position: self.active.size })
    }

    /// Has the writes made that were put off, once nothing else is written or synced.
    fn write_deferred(&mut self) -> Option<Work> {
        if self.running.write || self.running.sync || !self.room.is_there() {
            return None;
        }
        self.running.write = true;
        Some(Work::WriteDeferred)
    }

    /// Gives those that have waited longest their place in the active segment, up to `bytes_max` bytes,
    /// and the first however large.
    fn gather(&mut self, bytes_max: u64) -> Vec<Bytes> {
        let position = self.active.size;
        let mut bufs = Vec::new();
        while let Some(batch) = self.queue.front() {
            let len = batch.bytes.len() as u64;
            let size = self.active.size;
            let is_first = bufs.is_empty();
            let fits = self.fits(batch, size) || (self.active.is_empty() && is_first);
            let is_enough = bufs.len() >= WRITE_BUFS_MAX || size + len - position > bytes_max;
            if !fits || (is_enough && !is_first) {
                break;
            }
            bufs.extend(self.take_queued());
        }
        bufs
    }

    /// Gathers what waits into one write.
    fn write(&mut self) -> Option<Work> {
        if self.is_barred() {
            return None;
        }
        let file = self.file.clone()?;
        if let Some(refused) = self.refused.take() {
            let Refused { position, bufs, end } = *refused;
            self.running.write = true;
            return Some(Work::Write { file, position, bufs, ahead: Ahead::Nothing, end });
        }
        let position = self.active.size;
        assert_eq!(position, self.written.position, "LOG-6: zeros are behind every batch");
        if self.deferred > 0 && !self.queue.is_empty() && !self.must_roll() {
            return self.write_deferred();
        }
        let bufs = self.gather(WRITE_BYTES_MAX);
        if bufs.is_empty() {
            return None;
        }
        self.running.write = true;
        let ahead = self.ahead(position);
        Some(Work::Write { file, position, bufs, ahead, end: self.active.end })
    }

    /// What is prepared with the batches that have just got their place from `position` on.
    fn ahead(&mut self, position: u64) -> Ahead {
        let size = self.active.size;
        let is_prepared = size <= self.filled.max(self.reserved);
        if is_prepared || !self.is_busy() || self.is_full() {
            return Ahead::Nothing;
        }
        if !self.config.is_lazy() {
            if size - position > PADDED_WRITE_BYTES_MAX {
                return Ahead::Nothing;
            }
            let padded = size.next_multiple_of(PADDED_BYTES).min(self.config.segment_bytes);
            return Ahead::Zeros(padded.saturating_sub(size));
        }
        // A file system that is nearly full is left to what is written.
        let most = RESERVED_BYTES_MAX.min(self.room.spare() / SPARE_PARTS);
        let until = (size + self.rate().min(most)).min(self.config.segment_bytes);
        if until <= size {
            return Ahead::Nothing;
        }
        self.reserved = until;
        Ahead::Blocks(until - position)
    }

    /// Gives back the blocks that a log which is not busy any more has not used.
    fn give_back(&mut self) -> Option<Work> {
        let is_unused = self.reserved > self.active.size && (!self.is_busy() || self.is_full());
        if !is_unused || self.running.maintenance || self.running.write || self.refused.is_some() {
            return None;
        }
        if self.deferred > 0 {
            return self.write_deferred();
        }
        let file = self.file.clone()?;
        self.reserved = 0;
        self.filled = self.filled.min(self.active.size);
        self.running.maintenance = true;
        self.running.is_exclusive = true;
        Some(Work::GiveBack { file, size: self.active.size })
    }

    /// Gives the oldest queued batch its place in the active segment.
    fn take_queued(&mut self) -> Option<Bytes> {
        let batch = self.queue.pop_front()?;
        let len = batch.bytes.len() as u64;
        self.queued_bytes -= len;
        let last = Offset(batch.next.0 - 1);
        self.active.note(batch.newest, last);
        let newest = self.active.newest.expect("noted");
        let place = (last, self.active.size, len);
        self.tail.note(self.active.base, place, newest, self.config.index_interval_bytes);
        self.active.begun_ms.get_or_insert(self.ticked_ms);
        self.active.size += len;
        self.active.end = batch.next;
        self.written_since_tick += len;
        self.room.note_written(len);
        Some(batch.bytes)
    }

    /// Makes durable what was written, all of it at once.
    fn sync(&mut self, now_ms: i64) -> Option<Work> {
        let is_due = self.written.offset > self.durable_end && self.sync_is_due(now_ms);
        if self.running.sync || !is_due {
            return None;
        }
        if self.deferred > 0 {
            return self.write_deferred();
        }
        let file = self.file.clone()?;
        self.running.sync = true;
        self.unsynced_since_ms = None;
        self.is_awaited = false;
        let Mark { offset: end, position } = self.written;
        Some(Work::Sync { file, end, position })
    }

    fn sync_is_due(&self, now_ms: i64) -> bool {
        let unsynced = self.written.position.saturating_sub(self.synced.position);
        // Little is left to be synced when the segment ends, while nothing can be written.
        let left = self.config.segment_bytes.saturating_sub(self.active.size);
        let is_much =
            unsynced >= self.config.unsynced_bytes_max.min(left.max(UNSYNCED_AT_END_BYTES));
        // A trim may have to wait for the recovery point, which moves over what is synced.
        let is_needed = matches!(self.wanted.front(), Some(Wanted::Trim(_)))
            || self.wanted.contains(&Wanted::Close);
        if !self.config.is_lazy() || is_much || is_needed || self.is_awaited {
            return true;
        }
        match (self.config.sync_interval, self.unsynced_since_ms) {
            (Some(interval), Some(since)) => {
                // A clock that was set back says nothing of how long it has been: not longer then.
                let since = u128::try_from(now_ms.saturating_sub(since)).unwrap_or(u128::MAX);
                since >= interval.as_millis()
            }
            _ => false,
        }
    }

    /// Moves the recovery point, once what it is to cover is synced.
    pub(super) fn checkpoint(&mut self, now_ms: i64, owner: &dyn Owner) -> Option<Work> {
        // A trim that was asked for before the close may still need one.
        let is_closing = self.wanted.front() == Some(&Wanted::Close);
        let is_barred = is_closing || !self.room.is_there();
        if self.running.maintenance || is_barred {
            return None;
        }
        let is_same = self.checkpoint.segment == self.active.base;
        let covered = if is_same { self.checkpoint.position } else { 0 };
        let behind = self.active.size + self.queued_bytes - covered;
        let is_quiet = now_ms.saturating_sub(self.checkpointed_ms) >= CHECKPOINT_QUIET_MS;
        // After a roll the point is brought into the new segment at the first batch.
        let is_due = self.must_checkpoint
            || behind >= self.config.checkpoint_bytes
            || (behind > 0 && (is_quiet || !is_same));
        if self.next_checkpoint.is_none() && is_due && !self.must_roll() {
            let position = self.active.size + self.queued_bytes;
            let at = Mark { offset: self.end, position };
            let snapshot = owner.snapshot();
            let next = NextCheckpoint { at, newest: self.newest(), snapshot };
            self.next_checkpoint = Some(Box::new(next));
            self.checkpointed_ms = now_ms;
            self.must_checkpoint = false;
        }
        let next = self.next_checkpoint.as_ref()?;
        let is_synced = self.synced.offset >= next.at.offset;
        // What only the journal, or nothing yet, makes durable is synced by the work itself.
        let is_written = self.written.offset >= next.at.offset && is_quiet_log(self);
        if !is_synced && !is_written {
            return None;
        }
        if !is_synced && self.deferred > 0 {
            return self.write_deferred();
        }
        let sync = if is_synced { None } else { Some(self.file.clone()?) };
        let NextCheckpoint { at, newest, snapshot } = *self.next_checkpoint.take()?;
        self.running.maintenance = true;
        let work = Box::new(self.checkpoint_work(at, newest, snapshot, false));
        Some(Work::Checkpoint { sync, work })
    }

    /// Largest timestamp of the active segment and of what is queued for it, and its batch's last
    /// offset.
    fn newest(&self) -> (i64, Offset) {
        let newest = self.active.newest.unwrap_or((-1, self.active.base));
        self.queue.iter().fold(newest, |newest, batch| {
            if batch.newest > newest.0 { (batch.newest, Offset(batch.next.0 - 1)) } else { newest }
        })
    }

    /// What moving the recovery point to `at` writes.
    fn checkpoint_work(
        &mut self,
        at: Mark,
        newest: (i64, Offset),
        snapshot: Option<Bytes>,
        is_last: bool,
    ) -> CheckpointWork {
        let (index, added) = self.index_work(at.offset, is_last);
        let checkpoint = Checkpoint {
            number: self.checkpoint.number + 1,
            start: self.start,
            end: at.offset,
            segment: self.active.base,
            position: at.position,
            newest,
            indexed: Indexed {
                offsets: self.active.indexed.offsets + added.offsets,
                times: self.active.indexed.times + added.times,
            },
        };
        // The newest two stay: one of them may turn out to be torn.
        let keep = self.snapshots.len().saturating_sub(1);
        let stale = match &snapshot {
            Some(_) => {
                self.snapshots.iter().take(keep).copied().filter(|s| *s != at.offset).collect()
            }
            None => Vec::new(),
        };
        // Now, and not when it is done: what changes meanwhile is to be written next time.
        let epochs = mem::take(&mut self.epochs_changed).then(|| self.epochs.to_text());
        CheckpointWork { checkpoint, index, added, snapshot, stale, epochs }
    }

    fn roll_work(&mut self) -> Work {
        self.next_checkpoint = None;
        self.note_last_time();
        let (index, added) = self.index_work(self.active.end, true);
        Work::Roll {
            file: self.file.clone().expect("an open log has its active file"),
            size: self.active.size,
            base: self.active.end,
            zero_fill: self.config.zero_fill_bytes.min(self.config.segment_bytes),
            index,
            added,
        }
    }

    /// What the index files of the active segment lack of batches before `end`.
    fn index_work(&self, end: Offset, is_last: bool) -> (IndexWrite, Indexed) {
        // Each write to an index costs two syncs of a growing file: a busy log makes few of them.
        let is_worth_it = is_last || !self.is_busy() || self.tail.len() >= INDEX_ENTRIES_MIN;
        let until = if is_worth_it { super::index::relative(self.active.base, end) } else { 0 };
        let (offsets, times, added) = self.tail.ready(until);
        let (segment, at) = (self.active.base, self.active.indexed);
        (IndexWrite { segment, at, offsets, times, is_last }, added)
    }

    fn note_last_time(&mut self) {
        if let Some(newest) = self.active.newest {
            self.tail.note_time(self.active.base, newest);
        }
    }

    fn close_work(&mut self, owner: &dyn Owner) -> Option<Work> {
        self.next_checkpoint = None;
        self.note_last_time();
        let at = Mark { offset: self.end, position: self.active.size };
        let work = Box::new(self.checkpoint_work(at, self.newest(), owner.snapshot(), true));
        Some(Work::Close { file: self.file.clone()?, size: self.active.size, work })
    }

    fn truncate(&mut self, offset: Offset) -> Work {
        let offset = offset.max(self.start);
        self.queue.clear();
        self.queued_bytes = 0;
        self.next_checkpoint = None;
        self.compactor.count_swap();
        let kept = self.closed.partition_point(|segment| segment.end <= offset);
        let mut gone: Vec<Offset> = self.segments().skip(kept + 1).map(|s| s.base).collect();
        gone.reverse();
        let keep = match self.closed.get(kept) {
            Some(segment) => self.extent_of(segment, None),
            None => self.extent_of(&self.active, self.file.clone()),
        };
        Work::Truncate(Box::new(Truncation {
            offset,
            keep,
            segments: gone,
            epochs: (*self.epochs).clone(),
            snapshots: self.snapshots.clone(),
            last: self.checkpoint,
            cleaned_to: self.compactor.cleaned_to,
            index_interval_bytes: self.config.index_interval_bytes,
        }))
    }

    /// Where a trim wants the log to start, if one is next.
    pub(super) fn wanted_start(&self) -> Option<Offset> {
        match self.wanted.front()? {
            // It may have been cut since.
            Wanted::Trim(offset) => Some((*offset).min(self.end)),
            _ => None,
        }
    }

    /// Removes what retention or a trim allows.
    fn remove(&mut self, now_ms: i64, owner: &dyn Owner) -> Option<Work> {
        if self.running.maintenance || self.compactor.is_swapping() {
            return None;
        }
        let trim = self.wanted_start();
        if trim.is_some_and(|offset| offset > self.durable_end) {
            // The sync that it waits for is on its way.
            return None;
        }
        let expired = match trim {
            Some(_) => 0,
            None => match self.expired(now_ms) {
                Ok(expired) => expired,
                Err(unknown) => return self.look_at(unknown),
            },
        };
        let start = trim
            .unwrap_or_else(|| expired.checked_sub(1).map_or(self.start, |i| self.closed[i].end))
            .max(self.start);
        if trim.is_none() && expired == 0 {
            return None;
        }
        let stays = self.closed.partition_point(|segment| segment.end <= start);
        let gone = self.closed.iter().take(stays).map(|segment| segment.base).collect();
        let first = self.closed.get(stays).map_or(self.active.base, |segment| segment.base);
        if self.checkpoint.segment < first {
            // The segment that holds the recovery point is to go: the owner's state must be kept
            // first, for it cannot be had from the batches any more.
            self.must_checkpoint = true;
            return self.checkpoint(now_ms, owner);
        }
        self.running.maintenance = true;
        let number = self.checkpoint.number + 1;
        Some(Work::Remove {
            checkpoint: Checkpoint { number, start, ..self.checkpoint },
            segments: gone,
        })
    }

    /// Looks how new a closed segment is.
    pub(super) fn look_at(&mut self, segment: Offset) -> Option<Work> {
        let segment = self.closed.iter().find(|known| known.base == segment)?;
        let extent = self.extent_of(segment, self.compactor.held(segment.base));
        self.running.maintenance = true;
        Some(Work::Newest(Box::new(extent)))
    }

    /// How many of the oldest closed segments are over age or size; or, where the age of one
    /// matters and is not known, its base.
    fn expired(&self, now_ms: i64) -> Result<usize, Offset> {
        let mut bytes = self.bytes();
        for (place, segment) in self.closed.iter().enumerate() {
            let over_size =
                self.config.retention_bytes.is_some_and(|max| bytes - segment.size >= max);
            if !over_size {
                let Some(age_max) = self.config.retention_ms else { return Ok(place) };
                let (newest, _) = segment.newest.ok_or(segment.base)?;
                let age_max = i64::try_from(age_max).unwrap_or(i64::MAX);
                // Records without a time are kept until size removes them.
                if newest < 0 || now_ms.saturating_sub(newest) <= age_max {
                    return Ok(place);
                }
            }
            bytes -= segment.size;
        }
        Ok(self.closed.len())
    }
}

/// Whether nothing of the log is on its way.
fn is_quiet_log(log: &Log) -> bool {
    log.queue.is_empty()
        && !log.running.write
        && !log.running.sync
        && log.refused.is_none()
        && !log.is_busy()
}
