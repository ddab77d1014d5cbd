//! How new a segment is, where nobody remembers: after a crash, or of a log that was taken over.
//!
//! The last entry of its time index says so, but index files bear no checksum, and what it says decides
//! whether records are removed. So it counts only where the batch that it names says the same, and what
//! stands behind that batch is looked at as well; where it does not count, all headers are. Of these the
//! newest batch must be whole: no batch may keep a segment, or have it removed, by a changed bit.

use super::{
    LogPlace,
    index::{TIME_ENTRY, TimeEntry},
    read::{self, Extent, ReadFailure},
    recovery::BATCH_BYTES_LIMIT,
    segment::{Kind, Segment},
};
use crate::{
    batch::{self, BatchError, BatchHeader, HEADER_BYTES},
    disk::{DiskError, File, actor::DiskHandle},
    ids::Offset,
};

/// Bytes that are read at once, for the headers in them.
const CHUNK_BYTES: u64 = 16 << 10;

/// How new a closed segment is, as [`Segment::newest`] has it. Where its batches cannot tell, that is said,
/// and it stays in the log whatever its age.
///
/// # Errors
/// Where the disk refuses.
pub(super) async fn look(
    place: &LogPlace,
    disk: &DiskHandle,
    extent: &Extent,
) -> Result<(i64, Offset), DiskError> {
    let failure = match of(place, disk, extent, extent.end, |_| true).await {
        Ok(found) => return Ok(found.unwrap_or((-1, extent.base))),
        Err(ReadFailure::Disk(error)) if !error.is_not_found() => return Err(error),
        Err(failure) => failure,
    };
    // Whoever took over may have removed or compacted it.
    if place.ticket.check().is_ok() {
        tracing::error!(
            dir = %place.dir.display(), segment = %extent.base,
            "nobody can tell how old a segment is, so that age does not remove it, nor what follows: {failure}"
        );
    }
    Ok((Segment::UNTOLD, extent.base))
}

/// The largest timestamp, and the last offset of the batch that has it, of the batches of a segment that
/// end at or before `end` and are such as `counts`; `None` where none of them has a time.
///
/// # Errors
/// [`ReadFailure`], also where the segment does not go to its end.
pub(super) async fn of(
    place: &LogPlace,
    disk: &DiskHandle,
    extent: &Extent,
    end: Offset,
    counts: impl Fn(&BatchHeader) -> bool,
) -> Result<Option<(i64, Offset)>, ReadFailure> {
    if end <= extent.base {
        return Ok(None);
    }
    let file = read::open(&place.dir, disk, extent).await?;
    let reader = Reader { unwritten: read::unwritten(place, extent, &file)?, file, disk, extent };
    let known = indexed(&reader, place, end).await?.filter(|(_, header)| counts(header));
    let from = known.map_or(0, |(position, _)| position);
    let newest = reader.walk(from, end, counts).await?;
    let Some((position, header)) = newest else { return Ok(None) };
    if known.is_none_or(|(vouched, _)| vouched != position) {
        let batch = reader.read(position, u64::from(header.batch_bytes)).await?;
        batch::check(&batch, &header).map_err(|reason| reader.damaged(position, reason))?;
    }
    Ok(Some((header.max_timestamp, header.last_offset())))
}

/// The batch that the time index says is the newest below `end`, where that batch says the same of itself.
async fn indexed(
    reader: &Reader<'_>,
    place: &LogPlace,
    end: Offset,
) -> Result<Option<(u64, BatchHeader)>, DiskError> {
    let Reader { disk, extent, .. } = reader;
    let path = Kind::TimeIndex.path(&place.dir, extent.base);
    let parse = |bytes: &[u8]| TimeEntry::parse(bytes).map(|e| (u64::from(e.last), e));
    let (count, below) = (extent.indexed.times, end.since(extent.base));
    match read::last_below(disk, path, TIME_ENTRY, count, below, parse).await? {
        Some((_, entry)) => named(place, disk, extent, entry).await,
        None => Ok(None),
    }
}

/// Position and header of the batch that an entry of a segment's time index names, where that batch says
/// the same of itself.
pub(super) async fn named(
    place: &LogPlace,
    disk: &DiskHandle,
    extent: &Extent,
    entry: TimeEntry,
) -> Result<Option<(u64, BatchHeader)>, DiskError> {
    let last = extent.base.plus(entry.last.into());
    let (_, position) = read::locate(place, disk, extent, last).await?;
    let file = read::open(&place.dir, disk, extent).await?;
    let header = BatchHeader::parse(&disk.read(&file, position, HEADER_BYTES).await?);
    let is_true = |header: &BatchHeader| {
        header.last_offset() == last && header.max_timestamp == entry.timestamp
    };
    Ok(header.ok().filter(is_true).map(|header| (position, header)))
}

struct Reader<'a> {
    disk: &'a DiskHandle,
    extent: &'a Extent,
    file: File,
    unwritten: Option<(u64, bytes::Bytes)>,
}

impl Reader<'_> {
    fn damaged(&self, position: u64, reason: BatchError) -> ReadFailure {
        ReadFailure::Damaged { file: self.file.path().to_owned(), position, reason }
    }

    async fn read(&self, position: u64, len: u64) -> Result<bytes::Bytes, ReadFailure> {
        let len = len as usize;
        let bytes =
            read::read(self.disk, &self.file, (position, len), self.unwritten.as_ref()).await?;
        match bytes.len() < len {
            true => Err(ReadFailure::Removed),
            false => Ok(bytes),
        }
    }

    /// The newest batch that counts, and where it begins, of those from `position` on that end at or before
    /// `end`.
    async fn walk(
        &self,
        mut position: u64,
        end: Offset,
        counts: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Option<(u64, BatchHeader)>, ReadFailure> {
        let mut newest: Option<(u64, BatchHeader)> = None;
        let mut next = self.extent.base;
        while position < self.extent.size {
            let chunk = self.read(position, CHUNK_BYTES.min(self.extent.size - position)).await?;
            let mut at = 0;
            while at < chunk.len() {
                let begin = position + at as u64;
                let header = match BatchHeader::parse(&chunk[at..]) {
                    Err(BatchError::Short { .. }) if at > 0 => break,
                    parsed => parsed.map_err(|reason| self.damaged(begin, reason))?,
                };
                let needed = header.batch_bytes as usize;
                let room = (self.extent.size - begin).min(BATCH_BYTES_LIMIT) as usize;
                if needed > room {
                    let reason = BatchError::Short { bytes: room, needed };
                    return Err(self.damaged(begin, reason));
                }
                next = header.next_offset();
                if next > end {
                    return Ok(newest);
                }
                let least = newest.map_or(-1, |(_, newest)| newest.max_timestamp);
                if header.max_timestamp > least && counts(&header) {
                    newest = Some((begin, header));
                }
                at += needed;
            }
            position += at as u64;
        }
        match next == self.extent.end {
            true => Ok(newest),
            false => Err(self.damaged(position, BatchError::Lost(next))),
        }
    }
}
