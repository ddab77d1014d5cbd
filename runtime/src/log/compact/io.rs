//! What a compaction does on the disk, and what recovery does about one that was cut short.

use std::path::PathBuf;

use bytes::Bytes;

use super::{
    super::{
        LogPlace, io,
        recovery::{self, BATCH_BYTES_LIMIT},
        segment::Kind,
    },
    filter::{Kept, Sift},
};
use crate::{
    aside::aside,
    batch::BatchError,
    codec::crc32c,
    disk::{DiskError, DiskHandle, Entry, File, OpenMode},
    ids::Offset,
};

/// The file that says how far compaction got: magic `FLCP`, version 1 (2 bytes), 2 zeros, the offset
/// (8 bytes), and the CRC-32C of these; big-endian.
pub(crate) const MARK_FILE: &str = "compaction-point";
const MAGIC: [u8; 4] = *b"FLCP";
const VERSION: u16 = 1;
const MARK_BYTES: usize = 20;

const CLEANED: &str = "cleaned";
const SWAP: &str = "swap";
/// Bytes that are read at once.
const CHUNK_BYTES: usize = 512 << 10;

/// A piece of work.
#[derive(Debug)]
pub(crate) enum Job {
    /// Reads how far the last compaction got.
    ReadMark,
    /// Reads a piece of a segment.
    Read { file: Option<File>, base: Offset, position: u64, len: usize },
    /// Looks at a compressed batch.
    Sift(Box<Sift>),
    /// Writes a piece of the copy.
    Write { file: Option<File>, base: Offset, position: u64, bufs: Vec<Bytes> },
    /// Makes the copy complete: nothing has changed by it yet.
    Prepare(Box<Copy>),
    /// Puts the copy in the place of what it was made from: the first segment, and `others`.
    Replace { base: Offset, others: Vec<Offset> },
    /// Writes how far compaction got.
    Mark { at: Offset },
    /// Removes the copy.
    Discard { base: Offset },
}

/// A copy whose batches are all written, and its indexes.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) base: Offset,
    pub(crate) file: File,
    pub(crate) offsets: Bytes,
    pub(crate) times: Bytes,
}

/// What came of a piece of work.
#[derive(Debug)]
pub(crate) enum JobDone {
    /// How far the last one got, if anyone knows.
    Mark(Option<Offset>),
    /// The mark is of a later version.
    NewerMark(u16),
    Read {
        file: File,
        bytes: Bytes,
    },
    Sifted(Box<Sift>, Option<Kept>),
    Written {
        file: File,
    },
    Prepared,
    Replaced,
    Marked,
    Discarded,
    /// There is no room for the copy.
    NoRoom,
}

fn path(place: &LogPlace, kind: Kind, base: Offset, suffix: &str) -> PathBuf {
    let mut name = kind.path(&place.dir, base).into_os_string();
    name.push(".");
    name.push(suffix);
    name.into()
}

pub(crate) async fn run(
    place: &LogPlace,
    disk: &DiskHandle,
    job: Job,
) -> Result<JobDone, DiskError> {
    let ticket = &place.ticket;
    match job {
        Job::ReadMark => read_mark(place, disk).await,
        Job::Read { file, base, position, len } => {
            let file = match file {
                Some(file) => file,
                None => disk.open(Kind::Log.path(&place.dir, base), OpenMode::Read).await?,
            };
            let bytes = disk.read(&file, position, len).await?;
            Ok(JobDone::Read { file, bytes })
        }
        Job::Sift(sift) => {
            let (sift, kept) = aside(move || sift.run()).await;
            Ok(JobDone::Sifted(Box::new(sift), kept))
        }
        Job::Write { file, base, position, bufs } => {
            match write(place, disk, (file, base), position, bufs).await {
                Ok(file) => Ok(JobDone::Written { file }),
                Err(error) if error.is_full() => Ok(JobDone::NoRoom),
                Err(error) => Err(error),
            }
        }
        Job::Prepare(copy) => match prepare(place, disk, *copy).await {
            Ok(()) => Ok(JobDone::Prepared),
            Err(error) if error.is_full() => Ok(JobDone::NoRoom),
            Err(error) => Err(error),
        },
        Job::Replace { base, others } => {
            let to = path(place, Kind::Log, base, SWAP);
            rename(place, disk, path(place, Kind::Log, base, CLEANED), to).await?;
            disk.sync_dir(&*place.dir).await?;
            replace(place, disk, base, &others).await?;
            Ok(JobDone::Replaced)
        }
        Job::Mark { at } => {
            write_mark(place, disk, at).await?;
            Ok(JobDone::Marked)
        }
        Job::Discard { base } => {
            disk.remove_under(path(place, Kind::Log, base, CLEANED), ticket).await?;
            for kind in [Kind::Index, Kind::TimeIndex] {
                for suffix in [CLEANED, SWAP] {
                    disk.remove_under(path(place, kind, base, suffix), ticket).await?;
                }
            }
            Ok(JobDone::Discarded)
        }
    }
}

/// What [`MARK_FILE`] holds of a log that is compacted up to `at`.
pub(crate) fn mark(at: Offset) -> Vec<u8> {
    let mut mark = Vec::with_capacity(MARK_BYTES);
    mark.extend(MAGIC);
    mark.extend(VERSION.to_be_bytes());
    mark.extend([0; 2]);
    mark.extend(at.0.to_be_bytes());
    mark.extend(crc32c(&[&mark]).to_be_bytes());
    mark
}

async fn write_mark(place: &LogPlace, disk: &DiskHandle, at: Offset) -> Result<(), DiskError> {
    disk.write_atomically(&place.dir.join(MARK_FILE), mark(at).into(), &place.ticket).await
}

/// Whether the log was ever compacted: then offsets may be missing in it.
pub(crate) async fn is_marked(place: &LogPlace, disk: &DiskHandle) -> Result<bool, DiskError> {
    match disk.open(place.dir.join(MARK_FILE), OpenMode::Read).await {
        Err(error) if error.is_not_found() => Ok(false),
        opened => opened.map(|_| true),
    }
}

/// What was compacted is to be looked at once more; that it was is not forgotten.
pub(crate) async fn forget_mark(place: &LogPlace, disk: &DiskHandle) -> Result<(), DiskError> {
    if is_marked(place, disk).await? {
        write_mark(place, disk, Offset::ZERO).await?;
    }
    Ok(())
}

async fn read_mark(place: &LogPlace, disk: &DiskHandle) -> Result<JobDone, DiskError> {
    let file = match disk.open(place.dir.join(MARK_FILE), OpenMode::Read).await {
        Err(error) if error.is_not_found() => return Ok(JobDone::Mark(None)),
        opened => opened?,
    };
    let bytes = disk.read(&file, 0, MARK_BYTES).await?;
    Ok(parse_mark(&bytes))
}

/// The version of a mark that a later version of the program wrote.
pub(crate) async fn newer_mark(
    place: &LogPlace,
    disk: &DiskHandle,
) -> Result<Option<u16>, DiskError> {
    match read_mark(place, disk).await? {
        JobDone::NewerMark(version) => Ok(Some(version)),
        _ => Ok(None),
    }
}

fn parse_mark(bytes: &[u8]) -> JobDone {
    // Where the file says nothing, all is compacted once more.
    let Some(mark) = bytes.first_chunk::<MARK_BYTES>() else { return JobDone::Mark(None) };
    let (content, crc) = mark.split_at(MARK_BYTES - 4);
    if content[..4] != MAGIC || crc32c(&[content]).to_be_bytes() != crc {
        return JobDone::Mark(None);
    }
    match u16::from_be_bytes([content[4], content[5]]) {
        version if version > VERSION => JobDone::NewerMark(version),
        _ => {
            let at = content[8..].first_chunk().map(|at| Offset(u64::from_be_bytes(*at)));
            JobDone::Mark(at)
        }
    }
}

async fn write(
    place: &LogPlace,
    disk: &DiskHandle,
    (file, base): (Option<File>, Offset),
    position: u64,
    bufs: Vec<Bytes>,
) -> Result<File, DiskError> {
    let file = match file {
        Some(file) => file,
        None => create(place, disk, Kind::Log, base).await?,
    };
    disk.write(&file, position, bufs, &place.ticket).await?;
    Ok(file)
}

/// An empty file for a copy.
async fn create(
    place: &LogPlace,
    disk: &DiskHandle,
    kind: Kind,
    base: Offset,
) -> Result<File, DiskError> {
    let path = path(place, kind, base, CLEANED);
    let file = disk.open_under(path, OpenMode::Create, &place.ticket).await?;
    disk.truncate(&file, 0, &place.ticket).await?;
    Ok(file)
}

async fn prepare(place: &LogPlace, disk: &DiskHandle, copy: Copy) -> Result<(), DiskError> {
    let Copy { base, file, offsets, times } = copy;
    disk.sync(&file).await?;
    // Readers take a hole for damage unless the log is known to be compacted.
    if !is_marked(place, disk).await? {
        write_mark(place, disk, Offset::ZERO).await?;
    }
    for (kind, bytes) in [(Kind::Index, offsets), (Kind::TimeIndex, times)] {
        let index = create(place, disk, kind, base).await?;
        if !bytes.is_empty() {
            disk.write(&index, 0, vec![bytes], &place.ticket).await?;
        }
        disk.sync(&index).await?;
        rename(place, disk, path(place, kind, base, CLEANED), path(place, kind, base, SWAP))
            .await?;
    }
    // The log's new name is what decides: it must not be there before those of its indexes are.
    disk.sync_dir(&*place.dir).await
}

/// From when `.log.swap` is durable: what it stands for goes, and it takes its place. Each step may
/// be made a second time, where a full disk or a crash stopped it the first time.
async fn replace(
    place: &LogPlace,
    disk: &DiskHandle,
    base: Offset,
    others: &[Offset],
) -> Result<(), DiskError> {
    // Durably gone before the swap is no longer known for one: what is left would overlap it.
    io::remove(place, disk, others).await?;
    for kind in [Kind::Index, Kind::TimeIndex] {
        rename(place, disk, path(place, kind, base, SWAP), kind.path(&place.dir, base)).await?;
    }
    disk.sync_dir(&*place.dir).await?;
    let to = Kind::Log.path(&place.dir, base);
    rename(place, disk, path(place, Kind::Log, base, SWAP), to).await?;
    disk.sync_dir(&*place.dir).await
}

/// Renames a file; one that is gone was renamed before.
async fn rename(
    place: &LogPlace,
    disk: &DiskHandle,
    from: PathBuf,
    to: PathBuf,
) -> Result<(), DiskError> {
    match disk.rename_under(from, to, &place.ticket).await {
        Err(error) if error.is_not_found() => Ok(()),
        renamed => renamed,
    }
}

/// Base offset and kind of a file called `name` that ends in `suffix`.
fn parse(name: &str, suffix: &str) -> Option<(Kind, Offset)> {
    Kind::parse(name.strip_suffix(suffix)?.strip_suffix('.')?)
}

/// Why a compaction that was cut short can be neither finished nor undone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The copy that was to take the originals' place is not whole.
    #[error("`{}` is damaged at byte {position}: {reason}", file.display())]
    Damaged { file: PathBuf, position: u64, reason: BatchError },
}

/// Brings a compaction that a crash cut short to its end, or undoes it: see the table in the module.
/// Returns what the directory holds then; `found` is what it held.
///
/// # Errors
/// [`SettleError`].
pub(crate) async fn settle(
    place: &LogPlace,
    disk: &DiskHandle,
    found: Vec<Entry>,
) -> Result<Vec<Entry>, SettleError> {
    let is_ours =
        |entry: &Entry| parse(&entry.name, SWAP).is_some() || parse(&entry.name, CLEANED).is_some();
    if !found.iter().any(is_ours) {
        return Ok(found);
    }
    // A killed process may have left names that are in the page cache only.
    disk.sync_dir(&*place.dir).await?;
    for entry in &found {
        let Some((Kind::Log, base)) = parse(&entry.name, SWAP) else { continue };
        let end = end_of(place, disk, base).await?;
        let bases = found.iter().filter_map(|entry| Kind::parse(&entry.name));
        let (others, later): (Vec<Offset>, Vec<Offset>) = bases
            .filter(|(kind, other)| *kind == Kind::Log && *other > base)
            .map(|(_, other)| other)
            .partition(|other| *other < end);
        // COMPACT-2, or else its end is lost: the originals must not go for it.
        if later.iter().min() != Some(&end) {
            let file = path(place, Kind::Log, base, SWAP);
            let position = disk.len(&disk.open(&file, OpenMode::Read).await?).await?;
            let reason = BatchError::Field { field: "end of the segment", value: end.as_i64() };
            return Err(SettleError::Damaged { file, position, reason });
        }
        replace(place, disk, base, &others).await?;
        tracing::info!(dir = %place.dir.display(), %base, %end, "a compaction that was cut short was finished");
    }
    let left = disk.list(&*place.dir).await?;
    for entry in left.iter().filter(|entry| is_ours(entry)) {
        disk.remove_under(place.dir.join(&entry.name), &place.ticket).await?;
        tracing::info!(dir = %place.dir.display(), file = %entry.name, "a compaction that was cut short was undone");
    }
    disk.sync_dir(&*place.dir).await?;
    Ok(disk.list(&*place.dir).await?)
}

/// The offset after the last batch of a swap.
async fn end_of(place: &LogPlace, disk: &DiskHandle, base: Offset) -> Result<Offset, SettleError> {
    let path = path(place, Kind::Log, base, SWAP);
    let file = disk.open(&path, OpenMode::Read).await?;
    let len = disk.len(&file).await?;
    let (mut position, mut end, mut want) = (0, base, CHUNK_BYTES);
    while position < len {
        let room = len - position;
        let chunk = disk.read(&file, position, room.min(want as u64) as usize).await?;
        want = CHUNK_BYTES;
        let mut at = 0;
        while at < chunk.len() {
            match recovery::whole(&chunk[at..], end, true) {
                Ok(header) => {
                    at += header.batch_bytes as usize;
                    end = header.next_offset();
                }
                Err(BatchError::Short { needed, .. })
                    if (needed as u64) <= room.min(BATCH_BYTES_LIMIT)
                        && (at > 0 || needed > chunk.len()) =>
                {
                    want = CHUNK_BYTES.max(needed);
                    break;
                }
                Err(reason) => {
                    let position = position + at as u64;
                    return Err(SettleError::Damaged { file: path, position, reason });
                }
            }
        }
        if chunk.is_empty() {
            break;
        }
        position += at as u64;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_says_nothing_is_none() {
        for bytes in [&b""[..], b"FLCP", &[0; 20]] {
            assert!(matches!(parse_mark(bytes), JobDone::Mark(None)));
        }
        let mut newer = [&MAGIC[..], &2_u16.to_be_bytes(), &[0; 10]].concat();
        newer.extend(crc32c(&[&newer]).to_be_bytes());
        assert!(matches!(parse_mark(&newer), JobDone::NewerMark(2)));
    }

    #[test]
    fn only_files_of_segments_are_ours() {
        let swap = parse("00000000000000000042.timeindex.swap", SWAP);
        assert_eq!(swap, Some((Kind::TimeIndex, Offset(42))));
        for other in ["00000000000000000042.log", "a.swap", "00000000000000000042.logswap", "swap"]
        {
            assert_eq!(parse(other, SWAP), None, "{other}");
        }
    }
}
