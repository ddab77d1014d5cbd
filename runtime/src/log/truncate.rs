//! Removing the end of a log, so that a crash in the middle leaves the old end, the new one, or one
//! between them.
//!
//! The recovery point comes down first: were it above what a crash leaves, recovery would see
//! damage. Then the journal learns that what it holds from there up is void: entries above what a
//! crash leaves would be a gap. Then segments go, newest first and each durably, so that none is
//! left between them; last the kept one is cut.

use super::{
    LogPlace,
    checkpoint::Checkpoint,
    compact,
    epochs::{self, Epochs},
    index::{IndexTail, OFFSET_ENTRY, OffsetEntry, TIME_ENTRY, TimeEntry, relative},
    io, newest,
    read::{self, Extent},
    segment::{Indexed, Kind, Segment},
};
use crate::{
    batch::{BatchHeader, HEADER_BYTES},
    disk::{DiskError, File, OpenMode, actor::DiskHandle},
    ids::Offset,
    journal::JournalEntry,
};

/// What is to be removed: the batch that holds `offset`, and everything after it.
#[derive(Debug)]
pub(super) struct Truncation {
    pub(super) offset: Offset,
    /// The segment that holds the new end.
    pub(super) keep: Extent,
    /// Those after it, newest first.
    pub(super) segments: Vec<Offset>,
    pub(super) epochs: Epochs,
    pub(super) snapshots: Vec<Offset>,
    pub(super) last: Checkpoint,
    /// How far compaction got, where that is known.
    pub(super) cleaned_to: Option<Offset>,
    pub(super) index_interval_bytes: u64,
}

/// What is left.
#[derive(Debug)]
pub(super) struct Truncated {
    pub(super) checkpoint: Checkpoint,
    pub(super) epochs: Epochs,
    pub(super) file: File,
    /// The segment that is the active one now.
    pub(super) segment: Segment,
    pub(super) tail: IndexTail,
    pub(super) snapshots: Vec<Offset>,
}

pub(super) async fn run(
    place: &LogPlace,
    disk: &DiskHandle,
    work: Truncation,
) -> Result<Truncated, DiskError> {
    let Truncation { keep, last, mut epochs, mut snapshots, .. } = work;
    let path = Kind::Log.path(&place.dir, keep.base);
    let file = disk.open(path, OpenMode::ReadWrite).await?;
    let (end, size) = read::locate(place, disk, &keep, work.offset).await?;
    let (segment, tail) =
        survey(place, disk, (&file, &keep), (end, size), work.index_interval_bytes).await?;
    let number = last.number + 1;
    let checkpoint = if end <= last.end {
        let indexed = segment.indexed;
        // The batch may begin before the start: as in Kafka, that comes down with the end.
        let start = last.start.min(end);
        let newest = segment.newest.unwrap_or((-1, keep.base));
        let (segment, position) = (keep.base, size);
        Checkpoint { number, start, end, segment, position, indexed, newest }
    } else {
        Checkpoint { number, start: last.start.min(end), ..last }
    };
    if work.cleaned_to.is_none_or(|cleaned| cleaned > end) {
        // Offsets above the new end will be given to other records.
        compact::forget_mark(place, disk).await?;
    }
    io::write_checkpoint(place, disk, &checkpoint).await?;
    disk.commit(JournalEntry::TruncatedTo { log: place.id, offset: end }, &place.ticket).await?;
    let kept = snapshots.partition_point(|at| *at <= end);
    io::remove_snapshots(place, disk, &snapshots.split_off(kept)).await?;
    for base in work.segments {
        io::remove(place, disk, &[base]).await?;
    }
    disk.truncate(&file, size, &place.ticket).await?;
    disk.sync(&file).await?;
    epochs.truncate_to(end);
    let path = place.dir.join(epochs::FILE);
    disk.write_atomically(&path, epochs.to_text().into(), &place.ticket).await?;
    Ok(Truncated { checkpoint, epochs, file, segment, tail, snapshots })
}

/// What is known of the kept segment up to its new end. Only what the index files do not cover is
/// read.
async fn survey(
    place: &LogPlace,
    disk: &DiskHandle,
    (file, keep): (&File, &Extent),
    (end, size): (Offset, u64),
    index_interval_bytes: u64,
) -> Result<(Segment, IndexTail), DiskError> {
    let until = relative(keep.base, end).into();
    let path = Kind::Index.path(&place.dir, keep.base);
    let parse = |bytes: &[u8]| OffsetEntry::parse(bytes).map(|e| (u64::from(e.last), e));
    let count = keep.indexed.offsets;
    let offsets = read::last_below(disk, path, OFFSET_ENTRY, count, until, parse).await?;
    let path = Kind::TimeIndex.path(&place.dir, keep.base);
    let parse = |bytes: &[u8]| TimeEntry::parse(bytes).map(|e| (u64::from(e.last), e));
    let count = keep.indexed.times;
    let times = read::last_below(disk, path, TIME_ENTRY, count, until, parse).await?;
    let named = match times {
        Some((_, entry)) => newest::named(place, disk, keep, entry).await?,
        None => None,
    };
    // Where the time index does not tell, all is read, and both are made anew.
    let (offsets, times) = if named.is_some() { (offsets, times) } else { (None, None) };
    let indexed_to = offsets.map_or(0, |(_, entry)| u64::from(entry.position));
    let mut segment = Segment::new(keep.base);
    segment.indexed = Indexed {
        offsets: offsets.map_or(0, |(place, _)| place + 1),
        times: times.map_or(0, |(place, _)| place + 1),
    };
    let mut tail = IndexTail::resume(named.map(|(_, header)| header.max_timestamp));
    // The time index may have lost entries that the other one has.
    let mut position = named.map_or(0, |(position, _)| position.min(indexed_to));
    if let Some((_, header)) = named {
        segment.note(header.max_timestamp, header.last_offset());
    }
    while position < size {
        let bytes = disk.read(file, position, HEADER_BYTES).await?;
        let Ok(header) = BatchHeader::parse(&bytes) else { break };
        segment.note(header.max_timestamp, header.last_offset());
        if position >= indexed_to {
            let newest = segment.newest.expect("noted");
            let batch = (header.last_offset(), position, u64::from(header.batch_bytes));
            tail.note(keep.base, batch, newest, index_interval_bytes);
        }
        position += u64::from(header.batch_bytes);
    }
    (segment.end, segment.size) = (end, size);
    Ok((segment, tail))
}
