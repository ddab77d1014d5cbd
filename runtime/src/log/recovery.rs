//! Recovery: what a log that was not closed in order still is.
//!
//! ```text
//!   closed segments        │ segment of the recovery point │ later segments
//!   trusted by their names │ trusted │ read and checked ──►│ read and checked ──► end
//!                                    ▲ recovery point                            + journal
//! ```
//!
//! A segment begins only after the one before it was synced whole, so the durable mark is the
//! furthest of three: the recovery point, the beginning of the last segment, and the end of what the
//! journal holds. Below it a bad batch is damage; above it the log ends there.
//!
//! Without a recovery point all segments are read, and one is made at the beginning of the last.
//!
//! Recovery may itself be cut short anywhere: it changes nothing that the next one would miss.

mod filling;

use std::path::{Path, PathBuf};

use super::{
    Cut, LogConfig, LogPlace, OpenError, Replay,
    checkpoint::Checkpoint,
    compact,
    epochs::{self, Epochs},
    index::{IndexTail, OFFSET_ENTRY, TIME_ENTRY},
    io::{self, IndexWrite},
    open::make_checkpoint,
    segment::{Indexed, Kind, Segment},
};
use crate::{
    batch::{self, BatchError, BatchHeader, HEADER_BYTES},
    disk::{Entry, File, OpenMode, actor::DiskHandle},
    ids::Offset,
    journal::Journaled,
};

/// Bytes that recovery reads at once.
const CHUNK_BYTES: u64 = 512 << 10;
/// The largest batch that is read from a file, whatever its header claims: none that is larger may be
/// written.
pub const BATCH_BYTES_LIMIT: u64 = 64 << 20;

/// What recovery found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) segments: Vec<Segment>,
    /// The active segment's file, if it is open, of which `filled` bytes were written or zero-filled.
    pub(super) file: Option<File>,
    pub(super) filled: u64,
    /// Index entries of the active segment that the disk lacks; `None`: it lacks none.
    pub(super) tail: Option<IndexTail>,
    pub(super) checkpoint: Checkpoint,
    pub(super) epochs: Epochs,
    pub(super) snapshots: Vec<Offset>,
    pub(super) cut: Option<Cut>,
    pub(super) bytes_read: u64,
    pub(super) from_journal: usize,
    /// Whether the files are as a clean stop left them.
    pub(super) is_clean: bool,
}

/// Whether `name` is a segment's `.log` file.
pub(super) fn is_log(name: &str) -> bool {
    matches!(Kind::parse(name), Some((Kind::Log, _)))
}

struct Recovery<'a> {
    disk: &'a DiskHandle,
    place: &'a LogPlace,
    config: &'a LogConfig,
    found: &'a [Entry],
    point: Checkpoint,
    replay: &'a mut dyn Replay,
    epochs: Epochs,
    /// Where the last batch that was taken in begins.
    last: Offset,
    bytes_read: u64,
    /// There is no recovery point: that of an empty log stands for it.
    lacks_point: bool,
}

/// A segment in the course of being read.
struct Scan {
    segment: Segment,
    file: File,
    len: u64,
    tail: IndexTail,
    /// Why it ends before its file does.
    stopped: Option<BatchError>,
    /// Whether only zeros were seen after its end.
    ends_in_zeros: bool,
    /// Whether offsets may be missing: compaction takes some, below the recovery point only.
    has_holes: bool,
}

/// Recovers the log at `place`, whose directory holds `found`.
pub(super) async fn recover(
    disk: &DiskHandle,
    place: &LogPlace,
    config: &LogConfig,
    found: &[Entry],
    point: Option<Checkpoint>,
    journaled: Vec<Journaled>,
    replay: &mut dyn Replay,
) -> Result<Recovered, OpenError> {
    let mut bases: Vec<(Offset, u64)> = files(found, Kind::Log).collect();
    let lacks_point = point.is_none();
    let point = match (point, bases.first()) {
        (Some(point), _) => point,
        (None, Some((base, _))) => Checkpoint::empty(*base),
        (None, None) => unreachable!("there is a point or a segment"),
    };
    let epochs = epochs::read(place, disk, found, point.end).await?;
    let (last, bytes_read) = (Offset::ZERO, 0);
    let mut recovery = Recovery {
        disk,
        place,
        config,
        found,
        point,
        replay,
        epochs,
        last,
        bytes_read,
        lacks_point,
    };
    recovery.check_point(&bases)?;
    recovery.remove_leftovers(&mut bases).await?;
    let snapshots = recovery.replay_before_point(&bases).await?;
    let (mut closed, mut active) = recovery.read_after_point(&bases).await?;
    let from_journal = recovery.fill_from_journal(&mut active, journaled).await?;
    recovery.end(&active).await?;
    if lacks_point {
        recovery.make_point(active.segment.base).await?;
    }
    let kept: Vec<Offset> = snapshots.into_iter().filter(|at| *at <= active.segment.end).collect();
    let cut = match active.stopped.take() {
        Some(reason) if !active.ends_in_zeros => Some(Cut {
            file: active.file.path().to_owned(),
            position: active.segment.size,
            bytes: active.len - active.segment.size.min(active.len),
            reason,
        }),
        _ => None,
    };
    let Recovery { mut epochs, bytes_read, point, .. } = recovery;
    epochs.trim_to(point.start);
    closed.push(active.segment);
    let filled = closed.last().map_or(0, |segment| segment.size);
    Ok(Recovered {
        segments: closed,
        file: Some(active.file),
        filled,
        tail: Some(active.tail),
        checkpoint: point,
        epochs,
        snapshots: kept,
        cut,
        bytes_read,
        from_journal,
        is_clean: false,
    })
}

/// Base offset and bytes of each file of one kind, in order.
pub(super) fn files(found: &[Entry], kind: Kind) -> impl Iterator<Item = (Offset, u64)> {
    found.iter().filter_map(move |entry| match Kind::parse(&entry.name) {
        Some((parsed, base)) if parsed == kind && !entry.is_dir => Some((base, entry.len)),
        _ => None,
    })
}

impl Recovery<'_> {
    fn damaged(&self, file: PathBuf, position: u64, reason: impl ToString) -> OpenError {
        OpenError::Damaged { file, position, reason: reason.to_string() }
    }

    fn log_path(&self, base: Offset) -> PathBuf {
        Kind::Log.path(&self.place.dir, base)
    }

    /// The recovery point must lie in a segment that is there, and so must the log's start: what a trim that
    /// was cut short leaves lies below it.
    fn check_point(&self, bases: &[(Offset, u64)]) -> Result<(), OpenError> {
        let Checkpoint { segment, position, .. } = self.point;
        let path = self.log_path(segment);
        match bases.iter().find(|(base, _)| *base == segment) {
            None => Err(self.damaged(path, 0, "the file is gone")),
            Some((_, len)) if *len < position => Err(self.damaged(
                path,
                *len,
                format!("the file ends {} bytes too early", position - len),
            )),
            Some(_) => match bases.first() {
                Some((first, _)) if *first > self.point.start => {
                    Err(OpenError::Lost { first: self.log_path(*first), start: self.point.start })
                }
                _ => Ok(()),
            },
        }
    }

    /// Removes segments that lie below the log's start, and files that were never finished.
    async fn remove_leftovers(&self, bases: &mut Vec<(Offset, u64)>) -> Result<(), OpenError> {
        // The one that holds the recovery point stays until that has moved.
        let start = self.point.start.min(self.point.segment);
        let kept = bases.iter().rposition(|(base, _)| *base <= start).unwrap_or(0);
        let gone: Vec<Offset> = bases.drain(..kept).map(|(base, _)| base).collect();
        if !gone.is_empty() {
            io::remove(self.place, self.disk, &gone).await?;
        }
        for entry in self.found.iter().filter(|entry| entry.name.ends_with(".tmp")) {
            self.disk.remove_under(self.place.dir.join(&entry.name), &self.place.ticket).await?;
        }
        Ok(())
    }

    /// Gives the owner its newest usable state, and the batches from there to the recovery point.
    /// Returns the snapshots that stay.
    async fn replay_before_point(
        &mut self,
        bases: &[(Offset, u64)],
    ) -> Result<Vec<Offset>, OpenError> {
        let mut snapshots: Vec<Offset> =
            files(self.found, Kind::Snapshot).map(|(at, _)| at).collect();
        let mut from = self.point.start.min(self.point.end);
        let usable = snapshots.iter().rev().filter(|at| **at <= self.point.end);
        for at in usable.copied().collect::<Vec<_>>() {
            let path = Kind::Snapshot.path(&self.place.dir, at);
            let file = self.disk.open(&path, OpenMode::Read).await?;
            let len = self.disk.len(&file).await?.min(BATCH_BYTES_LIMIT) as usize;
            let bytes = self.disk.read(&file, 0, len).await?;
            self.bytes_read += bytes.len() as u64;
            if self.replay.restore(&bytes, at) {
                // Where all that was kept since is gone, what is older is still known.
                from = at;
                break;
            }
            tracing::warn!(file = %path.display(), "kept state is not usable; an earlier one is tried");
            snapshots.retain(|kept| *kept != at);
            self.disk.remove_under(path, &self.place.ticket).await?;
        }
        for (place, (base, len)) in bases.iter().enumerate() {
            let next = bases.get(place + 1).map_or(Offset(u64::MAX), |(next, _)| *next);
            if next <= from || *base >= self.point.end || from == self.point.end {
                continue;
            }
            let is_last = *base == self.point.segment;
            let end = if is_last { self.point.position } else { *len };
            let mut scan = self.begin(*base, *len, 0, Indexed::default()).await?;
            scan.has_holes = self.is_compacted();
            self.scan(&mut scan, end, from).await?;
            let end = next.min(self.point.end);
            let reason = match scan.stopped {
                Some(reason) => reason.to_string(),
                None if scan.segment.end == end => continue,
                None => format!("it goes to offset {}, and not to {end}", scan.segment.end),
            };
            return Err(self.damaged(self.log_path(*base), scan.segment.size, reason));
        }
        Ok(snapshots)
    }

    /// Whether compaction may have taken batches out: it says so before it does.
    fn is_compacted(&self) -> bool {
        self.found.iter().any(|entry| entry.name == compact::MARK_FILE)
    }

    async fn begin(
        &self,
        base: Offset,
        len: u64,
        position: u64,
        indexed: Indexed,
    ) -> Result<Scan, OpenError> {
        let file = self.disk.open(self.log_path(base), OpenMode::ReadWrite).await?;
        let mut segment = Segment::new(base);
        segment.size = position;
        segment.indexed = indexed;
        let mut newest_indexed = None;
        if position > 0 {
            segment.end = self.point.end;
            segment.newest = Some(self.point.newest);
            let header = self.disk.read(&file, 0, HEADER_BYTES).await?;
            segment.begun_ms = BatchHeader::parse(&header).ok().and_then(|first| begun_ms(&first));
            newest_indexed = io::last_time(self.place, self.disk, base, indexed.times).await?;
            if newest_indexed.is_none() {
                // The index files are not what they were: they are made anew from here on.
                segment.indexed = Indexed::default();
            }
        }
        let tail = IndexTail::resume(newest_indexed.map(|(time, _)| time));
        let has_holes = false;
        Ok(Scan { segment, file, len, tail, stopped: None, ends_in_zeros: false, has_holes })
    }

    /// Reads the segments from the recovery point on: all but the last must be whole.
    async fn read_after_point(
        &mut self,
        bases: &[(Offset, u64)],
    ) -> Result<(Vec<Segment>, Scan), OpenError> {
        let mut closed = Vec::new();
        let mut last: Option<Scan> = None;
        for (place, (base, len)) in bases.iter().enumerate() {
            let next = bases.get(place + 1).map(|(next, _)| *next);
            if *base < self.point.segment {
                closed.push(self.trusted(*base, *len, next.unwrap_or(self.point.segment)));
                continue;
            }
            if let Some(before) = last.take() {
                self.check_whole(&before, *base)?;
                closed.push(self.close_scanned(before).await?);
            }
            let is_point = *base == self.point.segment;
            let (position, indexed) = match is_point {
                true => (self.point.position, self.point.indexed),
                false => (0, Indexed::default()),
            };
            let mut scan = self.begin(*base, *len, position, indexed).await?;
            if is_point {
                scan.segment.end = self.point.end;
            }
            // Where no point says how far compaction may have come: as far as the last segment.
            scan.has_holes = self.lacks_point && next.is_some() && self.is_compacted();
            if next.is_none() {
                // Only here may a sync have failed: what the cache shows must be what the disk holds.
                self.disk.sync(&scan.file).await?;
                self.disk.forget(&scan.file, position).await?;
            }
            self.scan(&mut scan, *len, Offset::ZERO).await?;
            last = Some(scan);
        }
        Ok((closed, last.expect("the recovery point's segment is there")))
    }

    /// A segment below the recovery point, of which nothing is read.
    fn trusted(&self, base: Offset, size: u64, end: Offset) -> Segment {
        let entries = |kind: Kind, bytes: usize| {
            let path = kind.path(Path::new(""), base);
            // The listing is in the order of names, and may be of many thousand files.
            let found = self
                .found
                .binary_search_by(|entry| Path::new(&entry.name).as_os_str().cmp(path.as_os_str()));
            let len = found.map_or(0, |at| self.found[at].len);
            u32::try_from(len / bytes as u64).unwrap_or(0)
        };
        let indexed = Indexed {
            offsets: entries(Kind::Index, OFFSET_ENTRY),
            times: entries(Kind::TimeIndex, TIME_ENTRY),
        };
        Segment { base, end, size, newest: None, begun_ms: None, indexed }
    }

    fn check_whole(&self, scan: &Scan, next: Offset) -> Result<(), OpenError> {
        let Scan { segment, stopped, .. } = scan;
        if segment.end == next {
            return Ok(());
        }
        let reason = match stopped {
            Some(reason) => reason.to_string(),
            None => {
                format!("it ends at offset {}, and the next segment begins at {next}", segment.end)
            }
        };
        Err(self.damaged(self.log_path(segment.base), segment.size, reason))
    }

    /// Writes the index entries that a closed segment lacks.
    async fn close_scanned(&self, mut scan: Scan) -> Result<Segment, OpenError> {
        if let Some(newest) = scan.segment.newest {
            scan.tail.note_time(scan.segment.base, newest);
        }
        let (offsets, times, added) = scan.tail.ready(u32::MAX);
        let segment = scan.segment.base;
        let at = scan.segment.indexed;
        let index = IndexWrite { segment, at, offsets, times, is_last: true };
        io::write_index(self.place, self.disk, &index).await?;
        scan.segment.indexed.offsets += added.offsets;
        scan.segment.indexed.times += added.times;
        if scan.len > scan.segment.size {
            self.disk.truncate(&scan.file, scan.segment.size, &self.place.ticket).await?;
            self.disk.sync(&scan.file).await?;
        }
        Ok(scan.segment)
    }

    /// Reads batches up to byte `stop`, and shows those from offset `from` on to the owner.
    async fn scan(&mut self, scan: &mut Scan, stop: u64, from: Offset) -> Result<(), OpenError> {
        let mut want = CHUNK_BYTES;
        while scan.segment.size < stop && scan.stopped.is_none() {
            let room = stop - scan.segment.size;
            let chunk =
                self.disk.read(&scan.file, scan.segment.size, want.min(room) as usize).await?;
            self.bytes_read += chunk.len() as u64;
            want = CHUNK_BYTES;
            let mut at = 0;
            while at < chunk.len() {
                let from_offset = scan.segment.end;
                match self.whole(&chunk[at..], from_offset, scan.has_holes) {
                    Ok(header) => {
                        let batch = &chunk[at..at + header.batch_bytes as usize];
                        self.take(scan, &header, batch, from);
                        at += batch.len();
                    }
                    // The batch goes on after the chunk: it is read again from its beginning.
                    Err(BatchError::Short { needed, .. })
                        if chunk.len() as u64 != room
                            && (needed as u64) <= room.min(BATCH_BYTES_LIMIT)
                            && (at > 0 || needed > chunk.len()) =>
                    {
                        want = CHUNK_BYTES.max(needed as u64);
                        break;
                    }
                    Err(reason) => {
                        let rest = &chunk[at..chunk.len().min(at + HEADER_BYTES)];
                        scan.ends_in_zeros = rest.iter().all(|byte| *byte == 0);
                        scan.stopped = Some(reason);
                        break;
                    }
                }
            }
            if chunk.is_empty() {
                let needed = HEADER_BYTES;
                scan.stopped = Some(BatchError::Short { bytes: 0, needed });
            }
        }
        Ok(())
    }

    /// As [`whole`]; and of an epoch that is known, below the recovery point.
    fn whole(
        &self,
        bytes: &[u8],
        offset: Offset,
        has_holes: bool,
    ) -> Result<BatchHeader, BatchError> {
        let header = whole(bytes, offset, has_holes)?;
        if header.base_offset < self.point.end {
            self.epochs.check(&header)?;
        }
        Ok(header)
    }

    /// Takes a whole batch in: into indexes, epochs, and the owner's state.
    fn take(&mut self, scan: &mut Scan, header: &BatchHeader, batch: &[u8], from: Offset) {
        let Scan { segment, tail, .. } = scan;
        // No checksum covers an epoch: one that a single batch says is forgotten where the next says less,
        // and one that several say stands against a single one.
        let firm = self.point.end.max(self.last);
        self.epochs.note(epochs::epoch_of(header), header.base_offset, firm);
        self.last = header.base_offset;
        if segment.is_empty() {
            segment.begun_ms = begun_ms(header);
        }
        segment.note(header.max_timestamp, header.last_offset());
        let newest = segment.newest.expect("noted");
        let place = (header.last_offset(), segment.size, batch.len() as u64);
        tail.note(segment.base, place, newest, self.config.index_interval_bytes);
        segment.size += batch.len() as u64;
        segment.end = header.next_offset();
        if header.next_offset() > from {
            self.replay.batch(header, batch);
        }
    }

    /// Makes the recovery point that is missing, at the beginning of the last segment: all before it
    /// was whole, and offsets may be missing there.
    async fn make_point(&mut self, last: Offset) -> Result<(), OpenError> {
        let newest = (-1, last);
        self.point = Checkpoint { end: last, segment: last, newest, ..self.point };
        // A log that never had one has no such file yet.
        if self.found.iter().any(|entry| entry.name == epochs::FILE) {
            tracing::warn!(
                dir = %self.place.dir.display(), start = %self.point.start,
                "the recovery point was lost, and with it where the log began: records of its first file that \
                 had been deleted may be in it again"
            );
        }
        if last > self.point.start {
            // Below a point batches are held against what this file says.
            epochs::write(self.place, self.disk, &self.epochs).await?;
        }
        Ok(make_checkpoint(self.disk, self.place, &self.point).await?)
    }

    /// Cuts the active segment to its last batch, and makes what is there durable: the page cache
    /// may hold more than the disk.
    async fn end(&self, active: &Scan) -> Result<(), OpenError> {
        let Scan { segment, file, len, .. } = active;
        if segment.end < self.point.start {
            let reason = format!(
                "it ends at offset {}, before the log's start {}",
                segment.end, self.point.start
            );
            return Err(self.damaged(file.path().to_owned(), segment.size, reason));
        }
        // Blocks that a lazy log had found ahead do not show in its length.
        if *len != segment.size || self.config.is_lazy() {
            self.disk.truncate(file, segment.size, &self.place.ticket).await?;
        }
        self.disk.sync(file).await?;
        // States of what is gone would be taken for states of what comes.
        let all = files(self.found, Kind::Snapshot).map(|(at, _)| at);
        let stale: Vec<Offset> = all.filter(|at| *at > segment.end).collect();
        io::remove_snapshots(self.place, self.disk, &stale).await?;
        if !stale.is_empty() {
            self.disk.sync_dir(&*self.place.dir).await?;
        }
        Ok(())
    }
}

/// When a segment was begun, as far as its first batch tells: as in Kafka, when its newest record was
/// made.
fn begun_ms(first: &BatchHeader) -> Option<i64> {
    Some(first.max_timestamp).filter(|newest| *newest >= 0)
}

/// The header of the batch at the beginning of `bytes`, if all of it is there, sound, and begins at
/// `offset`, or after it where there may be holes.
pub(super) fn whole(
    bytes: &[u8],
    offset: Offset,
    has_holes: bool,
) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let needed = header.batch_bytes as usize;
    if bytes.len() < needed {
        return Err(BatchError::Short { bytes: bytes.len(), needed });
    }
    batch::check(bytes, &header)?;
    if !begins(&header, offset, has_holes) {
        return Err(misplaced(&header));
    }
    Ok(header)
}

/// Whether a batch begins at `offset`, or after it where there may be holes.
pub(super) fn begins(header: &BatchHeader, offset: Offset, has_holes: bool) -> bool {
    let base = header.base_offset;
    base == offset || (base > offset && has_holes)
}

/// The error of a batch that does not begin where it must.
pub(super) fn misplaced(header: &BatchHeader) -> BatchError {
    BatchError::Field { field: "base offset", value: header.base_offset.as_i64() }
}
