//! Reading: from an offset on, whole batches, each checked before anyone sees it.
//!
//! A plan is made from what the log knows; running it needs nothing but the disk, so a read never
//! holds up an append. A batch whose checksum is wrong ends the read with an error that names file
//! and position: what a log cannot vouch for, it does not serve. So does one whose base offset or epoch
//! cannot be, for no checksum covers these.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use bytes::Bytes;

use super::{
    LogPlace,
    checkpoint::{self, Checkpoint},
    compact::{self, Swaps},
    epochs::Epochs,
    index::{OFFSET_ENTRY, OffsetEntry},
    recovery::{self, BATCH_BYTES_LIMIT},
    segment::{Indexed, Kind},
};
use crate::{
    batch::{self, BatchError, BatchHeader, HEADER_BYTES},
    disk::{DiskError, File, OpenMode, actor::DiskHandle},
    ids::Offset,
};

/// Most bytes of one answer, and of one read from the disk, but for a single larger batch.
pub const READ_BYTES_MAX: usize = 1 << 20;
/// Fewest bytes worth reading at once: a smaller answer holds so many, too.
pub const READ_BYTES_MIN: usize = 16 << 10;

/// Readers of a log who may take turns, and each go on without a search.
pub(super) const RESUMES_MAX: usize = 4;

/// The part of a segment that a read may look at.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    pub(super) base: Offset,
    /// The offset after them.
    pub(super) end: Offset,
    /// Bytes of its `.log` that hold batches.
    pub(super) size: u64,
    pub(super) indexed: Indexed,
    pub(super) file: Option<File>,
    /// Where a batch is known to begin whose base offset is at most what is looked for.
    pub(super) from: u64,
    pub(super) meets: Meets,
    /// Whether `from` came from memory, so that the index file has nothing better.
    pub(super) is_exact: bool,
    /// Whether writes to it were put off: what is not in the file is read from the gate.
    pub(super) is_deferred: bool,
}

/// What the batch at some place must say of itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meets {
    /// Its base offset; a later one where there may be holes.
    Base(Offset),
    /// Its last offset, as an index has it.
    Last(Offset),
}

/// A read to be carried out.
#[derive(Debug)]
pub struct ReadPlan {
    pub(super) place: Rc<LogPlace>,
    pub(super) extent: Extent,
    pub(super) from: Offset,
    pub(super) end: Offset,
    pub(super) bytes_max: usize,
    /// Whether not even the first batch may be larger.
    pub(super) is_strict: bool,
    /// Whether compaction may have taken batches out: where that is not known, the disk is asked.
    pub(super) has_holes: bool,
    pub(super) epochs: Rc<Epochs>,
    pub(super) swaps: Swaps,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct ReadDone {
    /// Whole batches, back to back; empty where there is none in the range asked for.
    pub batches: Bytes,
    /// Where a read that goes on from here begins.
    pub next: Offset,
    /// How many bytes would have to be read for the first batch, where a strict read gave none for that;
    /// else 0.
    pub withheld: usize,
    pub(super) resume: Option<Resume>,
}

impl ReadDone {
    /// Whether these are still the batches of the log that it was read from: nothing was cut off or
    /// compacted since the read was planned. `false` where it has none.
    #[must_use]
    pub fn still_holds(&self) -> bool {
        self.resume.as_ref().is_some_and(|resume| !resume.swaps.were_made())
    }
}

/// Where reading left off: the next read begins without a search.
#[derive(Clone, Debug)]
pub(super) struct Resume {
    pub(super) segment: Offset,
    pub(super) offset: Offset,
    pub(super) position: u64,
    pub(super) file: File,
    pub(super) swaps: Swaps,
}

/// Why nothing was read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReadFailure {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The segment was removed, cut or compacted since the plan was made: plan anew.
    #[error("the segment was removed, cut or compacted while it was read; ask again")]
    Removed,
    /// A segment's file is gone, and it was not the log that removed it.
    #[error("`{}` is gone, which the log did not remove; restore it from a copy, or give it up with `flumen log repair {}`", .0.display(), .0.parent().unwrap_or(.0).display())]
    Lost(PathBuf),
    /// The bytes are not those that were written.
    #[error("`{}` is damaged at byte {position}: {reason}; restore the file, or cut the log there with `flumen log repair`", file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Where the bad batch begins.
        position: u64,
        /// What is wrong with it.
        reason: BatchError,
    },
}

/// The offset is outside the log.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("offset {offset} is not in the log, which holds {start} to {end}")]
pub struct OutOfRangeError {
    /// What was asked for.
    pub offset: Offset,
    /// First offset kept.
    pub start: Offset,
    /// Offset after the last.
    pub end: Offset,
}

impl ReadPlan {
    /// The same, but for a first batch that alone is larger: it is not given, and not read.
    #[must_use]
    pub fn strict(self) -> Self {
        Self { is_strict: true, ..self }
    }

    /// Reads.
    ///
    /// # Errors
    /// [`ReadFailure`] where the disk refuses, or the first batch wanted is damaged; batches before
    /// a damaged one are returned, and the next read meets it.
    pub async fn run(self, disk: DiskHandle) -> Result<ReadDone, ReadFailure> {
        let ReadPlan { place, extent, from, end, bytes_max, is_strict, has_holes, epochs, swaps } =
            self;
        let file = match open(&place.dir, &disk, &extent).await {
            Err(error) if error.is_not_found() => {
                return Err(gone(&place, &disk, &extent, &swaps).await);
            }
            opened => opened?,
        };
        // What was opened now may be another segment than what was planned for.
        if extent.file.is_none() && swaps.were_made() {
            return Err(ReadFailure::Removed);
        }
        let unwritten = unwritten(&place, &extent, &file)?;
        let (mut position, meets) = search(&place.dir, &disk, &extent, &file, from).await?;
        let mut walk = Walk { meets, end: extent.end, has_holes, epochs: &epochs };
        let mut want = bytes_max.clamp(READ_BYTES_MIN, READ_BYTES_MAX);
        let mut done = ReadDone { next: from, ..ReadDone::default() };
        while position < extent.size {
            let len = want.min((extent.size - position) as usize);
            let chunk = read(&disk, &file, (position, len), unwritten.as_ref()).await?;
            if chunk.len() < len {
                return Err(ReadFailure::Removed);
            }
            let damaged = |at: usize, reason| ReadFailure::Damaged {
                file: file.path().to_owned(),
                position: position + at as u64,
                reason,
            };
            match take(&chunk, &mut walk, (from, end), bytes_max) {
                Taken::Batches { range, .. } if is_strict && range.len() > bytes_max => {
                    return Ok(ReadDone { withheld: range.len(), ..done });
                }
                Taken::Batches { range, next, at } => {
                    done.batches = chunk.slice(range);
                    done.next = next;
                    let position = position + at as u64;
                    done.resume =
                        Some(Resume { segment: extent.base, offset: next, position, file, swaps });
                    return Ok(done);
                }
                Taken::End => return Ok(done),
                Taken::Nothing { skipped: 0, needed } => {
                    let reason = BatchError::Short { bytes: chunk.len(), needed };
                    let room = extent.size - position;
                    let limit = room.min(BATCH_BYTES_LIMIT);
                    if needed as u64 > limit || needed <= chunk.len() {
                        return Err(damaged(0, reason));
                    }
                    if is_strict && needed > bytes_max {
                        return Ok(ReadDone { withheld: needed, ..done });
                    }
                    want = needed;
                }
                Taken::Nothing { skipped, .. } => position += skipped as u64,
                Taken::Bad { at, .. }
                    if !walk.has_holes && compact::is_marked(&place, &disk).await? =>
                {
                    walk.has_holes = true;
                    position += at as u64;
                }
                Taken::Bad { at, reason } => return Err(damaged(at, reason)),
            }
        }
        // Segments follow each other without a gap, compacted or not (COMPACT-2): this one has lost its
        // end, or the next one is gone, and whoever waits for it would wait for ever.
        if from.max(extent.base) < end.min(extent.end) {
            let (file, reason) = (file.path().to_owned(), BatchError::Lost(walk.at(from)));
            return Err(ReadFailure::Damaged { file, position: extent.size, reason });
        }
        Ok(done)
    }
}

/// What is known of the batches that a read comes by, and what no checksum of theirs covers.
struct Walk<'a> {
    meets: Meets,
    /// The offset after the last of them.
    end: Offset,
    has_holes: bool,
    epochs: &'a Epochs,
}

impl Walk<'_> {
    /// Where the batches end that it came by; at `from` where it came by none.
    fn at(&self, from: Offset) -> Offset {
        match self.meets {
            Meets::Base(at) => at,
            Meets::Last(_) => from,
        }
    }

    /// The offset after a batch: where it must be, which is what it says only if it is sound.
    fn next(&self, header: &BatchHeader) -> Offset {
        match self.meets {
            Meets::Base(at) if !self.has_holes => at.plus(header.last_offset_delta.into()).next(),
            Meets::Last(last) => last.next(),
            Meets::Base(_) => header.next_offset(),
        }
    }

    /// Whether a batch is where it must be; `after` are the bytes that follow it.
    fn check(&self, header: &BatchHeader, after: Option<&[u8]>) -> Result<(), BatchError> {
        let next = header.next_offset();
        let is_met = match self.meets {
            Meets::Base(at) => recovery::begins(header, at, self.has_holes),
            Meets::Last(last) => header.last_offset() == last,
        };
        // Where there may be holes it could be too far, and then the one behind it tells.
        let is_passed = self.has_holes
            && after
                .and_then(|after| BatchHeader::parse(after).ok())
                .is_some_and(|after| after.base_offset < next);
        match is_met && !is_passed && next <= self.end {
            true => Ok(()),
            false => Err(recovery::misplaced(header)),
        }
    }

    /// Whether a batch may be served.
    fn vouch(&self, header: &BatchHeader, batch: &[u8]) -> Result<(), BatchError> {
        self.epochs.check(header)?;
        batch::check(batch, header)
    }
}

/// What a chunk of a segment holds of what is wanted.
enum Taken {
    /// The batches in `range`; the next one, of offset `next`, begins at `at`.
    Batches { range: std::ops::Range<usize>, next: Offset, at: usize },
    /// What is wanted is beyond the end of the range.
    End,
    /// `skipped` bytes of earlier batches, after which `needed` bytes must be read together.
    Nothing { skipped: usize, needed: usize },
    /// The first batch wanted is bad.
    Bad { at: usize, reason: BatchError },
}

fn take(
    chunk: &[u8],
    walk: &mut Walk<'_>,
    (from, end): (Offset, Offset),
    bytes_max: usize,
) -> Taken {
    let mut at = 0;
    let mut begin = None;
    let mut next = from;
    loop {
        let header = match BatchHeader::parse(&chunk[at..]) {
            Ok(header) => header,
            Err(BatchError::Short { needed, .. }) if begin.is_none() => {
                return Taken::Nothing { skipped: at, needed };
            }
            Err(BatchError::Short { .. }) => break,
            Err(reason) if begin.is_none() => return Taken::Bad { at, reason },
            Err(_) => break,
        };
        let stop = at + header.batch_bytes as usize;
        let after = walk.next(&header);
        let is_wanted = after > from;
        // What was damaged below is nobody's concern here, where it is known how far it goes.
        if is_wanted || walk.has_holes {
            match walk.check(&header, chunk.get(stop..)) {
                Ok(()) => {}
                Err(reason) if begin.is_none() => return Taken::Bad { at, reason },
                Err(_) => break,
            }
        }
        if is_wanted && after > end {
            if begin.is_none() {
                return Taken::End;
            }
            break;
        }
        if stop > chunk.len() {
            if begin.is_none() {
                return Taken::Nothing { skipped: at, needed: header.batch_bytes as usize };
            }
            break;
        }
        if is_wanted {
            if begin.is_some_and(|begin| stop - begin > bytes_max) {
                break;
            }
            match walk.vouch(&header, &chunk[at..]) {
                Ok(()) => {}
                Err(reason) if begin.is_none() => return Taken::Bad { at, reason },
                Err(_) => break,
            }
            begin.get_or_insert(at);
            next = after;
        }
        at = stop;
        walk.meets = Meets::Base(after);
        if at == chunk.len() {
            break;
        }
    }
    match begin {
        Some(begin) => Taken::Batches { range: begin..at, next, at },
        None => Taken::Nothing { skipped: at, needed: HEADER_BYTES },
    }
}

/// What of a segment is not in its file yet: from where, and the bytes.
pub(super) fn unwritten(
    place: &LogPlace,
    extent: &Extent,
    file: &File,
) -> Result<Option<(u64, Bytes)>, ReadFailure> {
    if !extent.is_deferred {
        return Ok(None);
    }
    match place.ticket.gate.deferred(place.ticket.era) {
        // By now it may be that of a later segment; this one is written then.
        Ok(deferred) => Ok(deferred
            .filter(|(of, ..)| of.path().as_os_str() == file.path().as_os_str())
            .map(|(_, from, bytes)| (from, bytes))),
        // The log's next life writes it before it reads.
        Err(_) if !place.ticket.gate.is_deferring(place.ticket.era) => Ok(None),
        Err(fenced) => Err(DiskError::Fenced(fenced).into()),
    }
}

/// `len` bytes from `position` on, of the file and of what is not in it yet; fewer at the end of both.
pub(super) async fn read(
    disk: &DiskHandle,
    file: &File,
    (position, len): (u64, usize),
    unwritten: Option<&(u64, Bytes)>,
) -> Result<Bytes, DiskError> {
    let Some((from, bytes)) = unwritten.filter(|(from, _)| position + len as u64 > *from) else {
        return disk.read(file, position, len).await;
    };
    let in_file = from.saturating_sub(position) as usize;
    let begin = bytes.len().min(position.saturating_sub(*from) as usize);
    let rest = bytes.slice(begin..bytes.len().min(begin + len - in_file));
    if in_file == 0 {
        return Ok(rest);
    }
    let head = disk.read(file, position, in_file).await?;
    Ok(if head.len() < in_file { head } else { [head, rest].concat().into() })
}

pub(super) async fn open(
    dir: &Path,
    disk: &DiskHandle,
    extent: &Extent,
) -> Result<File, DiskError> {
    match &extent.file {
        Some(file) => Ok(file.clone()),
        None => disk.open(Kind::Log.path(dir, extent.base), OpenMode::Read).await,
    }
}

/// Why a segment that was planned for has no file: where a trim has removed it, the log's start was
/// durable before. So a file that was lost is told from one that somebody else may have removed.
pub(super) async fn gone(
    place: &LogPlace,
    disk: &DiskHandle,
    extent: &Extent,
    swaps: &Swaps,
) -> ReadFailure {
    let slots = async {
        let file = disk.open(place.dir.join(checkpoint::FILE), OpenMode::Read).await?;
        disk.read(&file, 0, 2 * checkpoint::SLOT_BYTES).await
    };
    let point = slots.await.ok().and_then(|slots| Checkpoint::newest(&slots).ok());
    let is_trimmed = point.is_some_and(|point| point.start >= extent.end);
    // Whoever has taken the log over may have removed anything.
    if is_trimmed || swaps.were_made() || place.ticket.check().is_err() {
        return ReadFailure::Removed;
    }
    ReadFailure::Lost(Kind::Log.path(&place.dir, extent.base))
}

/// Where to begin to look for the batch that holds `offset`: by the index file, or from the best
/// place known where the file is missing or does not tell the truth.
async fn search(
    dir: &Path,
    disk: &DiskHandle,
    extent: &Extent,
    file: &File,
    offset: Offset,
) -> Result<(u64, Meets), DiskError> {
    let first = (extent.from, extent.meets);
    let wanted = match u32::try_from(offset.since(extent.base)) {
        Ok(wanted) if !extent.is_exact && extent.indexed.offsets > 0 => wanted,
        _ => return Ok(first),
    };
    let path = Kind::Index.path(dir, extent.base);
    let parse = |bytes: &[u8]| OffsetEntry::parse(bytes).map(|e| (u64::from(e.last), e));
    let count = extent.indexed.offsets;
    // The last entry whose batch ends before what is wanted: its position is a good place to begin.
    let found = last_below(disk, path, OFFSET_ENTRY, count, u64::from(wanted), parse).await?;
    let Some((_, entry)) = found else { return Ok(first) };
    let position = u64::from(entry.position);
    if position <= extent.from || position >= extent.size {
        return Ok(first);
    }
    // Index files bear no checksum: the batch itself must say what its entry says.
    let header = BatchHeader::parse(&disk.read(file, position, HEADER_BYTES).await?);
    let last = extent.base.plus(entry.last.into());
    let is_true = header.is_ok_and(|header| header.last_offset() == last);
    Ok(if is_true { (position, Meets::Last(last)) } else { first })
}

/// Place and content of the last of `count` rising entries of a file whose key is below `wanted`; `None` where there is
/// none, or the file is missing, short or out of order.
pub(super) async fn last_below<T>(
    disk: &DiskHandle,
    path: PathBuf,
    entry_bytes: usize,
    count: u32,
    wanted: u64,
    parse: impl Fn(&[u8]) -> Option<(u64, T)>,
) -> Result<Option<(u32, T)>, DiskError> {
    const BLOCK: u32 = 512;
    let file = match disk.open(path, OpenMode::Read).await {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    // First by single entries, until what is left fits one read.
    let (mut low, mut high) = (0, count);
    while high - low > BLOCK {
        let middle = low + (high - low) / 2;
        let bytes = disk.read(&file, u64::from(middle) * entry_bytes as u64, entry_bytes).await?;
        match parse(&bytes) {
            Some((key, _)) if key < wanted => low = middle,
            Some(_) => high = middle,
            None => return Ok(None),
        }
    }
    let len = (high - low) as usize * entry_bytes;
    let block = disk.read(&file, u64::from(low) * entry_bytes as u64, len).await?;
    let entries = (low..).zip(block.chunks_exact(entry_bytes).map_while(parse));
    let found = entries.take_while(|(_, (key, _))| *key < wanted).last();
    Ok(found.map(|(place, (_, entry))| (place, entry)))
}

/// Where the batches that end at or before `offset` end: the offset after them, which compaction may
/// have left lower than where the next begins, and the position.
pub(super) async fn locate(
    place: &LogPlace,
    disk: &DiskHandle,
    extent: &Extent,
    offset: Offset,
) -> Result<(Offset, u64), DiskError> {
    let file = open(&place.dir, disk, extent).await?;
    let (mut position, _) = search(&place.dir, disk, extent, &file, offset).await?;
    let mut end = extent.base;
    while position < extent.size {
        let bytes = disk.read(&file, position, HEADER_BYTES).await?;
        let Ok(header) = BatchHeader::parse(&bytes) else { break };
        if header.next_offset() > offset {
            return Ok((end, position));
        }
        end = header.next_offset();
        position += u64::from(header.batch_bytes);
    }
    Ok((end, position.min(extent.size)))
}
