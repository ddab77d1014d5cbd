//! Giving up the damaged end of a log, for a person who has no copy to restore it from; and making anew a
//! recovery point that is lost.

use std::path::PathBuf;

use super::{
    LogPlace,
    checkpoint::{self, Checkpoint, CheckpointError},
    compact::{self, SettleError},
    epochs::{self, Epochs},
    io,
    open::make_checkpoint,
    recovery::{self, BATCH_BYTES_LIMIT},
    segment::{Indexed, Kind},
};
use crate::{
    batch::{BatchError, BatchHeader, HEADER_BYTES},
    disk::{DiskError, Entry, File, OpenMode, actor::DiskHandle},
    ids::Offset,
};

/// Bytes that are copied to the side at once.
const COPY_BYTES: u64 = 1 << 20;

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The segment in which the log ends now.
    pub file: PathBuf,
    /// Where in it.
    pub position: u64,
    /// Where the log begins now, where the files of its beginning were gone.
    pub begins: Option<Offset>,
    /// Where the log begins now, where its recovery point was lost, and with it where it began: nobody
    /// knows whether records had been removed from its beginning; those that still lie in its first file
    /// are in it again.
    pub forgot_start: Option<Offset>,
    /// Offset that the next record will get.
    pub end: Offset,
    /// What was cut off, in order: copies of it stand in these files.
    pub set_aside: Vec<PathBuf>,
    /// Bytes that were cut off; where there were none, only the recovery point was made anew.
    pub bytes_cut: u64,
}

/// Why a log cannot be repaired.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RepairError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Nothing there is a log.
    #[error("`{}` holds no log: there is no `<20 digits>.log` file in it", .0.display())]
    NoLog(PathBuf),
    /// A later version wrote it.
    #[error("`{}` is of format {version}, which this version does not know; the log was left as it is: use the newer flumen", file.display())]
    Newer {
        /// Which file.
        file: PathBuf,
        /// Its version.
        version: u16,
    },
}

/// Reads the whole log, and cuts it before the first batch that is bad or missing. What follows is
/// copied to `<name>.<position>.damaged` beside it first. A recovery point that is missing or cannot
/// be read is made anew, also where nothing is to be cut, and a log whose first files are gone begins
/// with those that are left. `None` where nothing was to be done.
///
/// # Errors
/// [`RepairError`].
pub async fn repair(disk: DiskHandle, place: &LogPlace) -> Result<Option<Repaired>, RepairError> {
    let disk = &disk;
    let point = read_point(disk, place.dir.join(checkpoint::FILE)).await?;
    if let Some(version) = compact::newer_mark(place, disk).await? {
        return Err(RepairError::Newer { file: place.dir.join(compact::MARK_FILE), version });
    }
    let found = disk.list(&*place.dir).await?;
    let found = settle(disk, place, found).await?;
    let mut bases: Vec<(Offset, u64)> = recovery::files(&found, Kind::Log).collect();
    // What a trim that was cut short left below the start is no part of the log.
    let start = point.map_or(Offset::ZERO, |point| point.start.min(point.segment));
    bases.drain(..bases.iter().rposition(|(base, _)| *base <= start).unwrap_or(0));
    let Some(&(first, _)) = bases.first() else {
        return Err(RepairError::NoLog(place.dir.to_path_buf()));
    };
    let is_compacted = found.iter().any(|entry| entry.name == compact::MARK_FILE);
    let known_to = point.map_or(Offset::ZERO, |point| point.end);
    let epochs = epochs::read(place, disk, &found, known_to).await?;
    let mut seen = Seen { end: first, newest: (-1, first), last: first, epochs, known_to };
    let (kept, bad) = read_all(disk, place, &bases, (point, is_compacted), &mut seen).await?;
    let is_missing = kept + 1 < bases.len();
    let is_headless = point.is_some_and(|point| point.start < first || point.segment < first);
    // Whether a log that ends there has its recovery point, and may keep it.
    let is_reached = !is_headless && point.is_none_or(|point| point.end <= seen.end);
    let (file, position, len) = match bad {
        // Zeros at the end of the last segment are no damage.
        Some((file, position, len, true)) if is_zero(disk, &file, position, len).await? => {
            if is_reached {
                return make_point_anew(disk, place, point, (file, position), &seen, first).await;
            }
            (file, position, len)
        }
        Some((file, position, len, _)) => (file, position, len),
        None => {
            let (base, len) = bases[kept];
            let path = Kind::Log.path(&place.dir, base);
            let file = disk.open(path, OpenMode::ReadWrite).await?;
            if !is_missing && is_reached {
                return make_point_anew(disk, place, point, (file, len), &seen, first).await;
            }
            (file, len, len)
        }
    };
    let gone: Vec<(Offset, u64)> = bases.drain(kept + 1..).collect();
    let segment = bases[kept].0;
    let number = 1 + point.map_or(0, |point| point.number);
    let start = point.map_or(first, |point| point.start.max(first)).min(seen.end);
    let cutting = Cutting { file, segment, position, len, gone, start, number };
    let repaired = cut(disk, place, cutting, &seen).await?;
    let forgot_start = point.is_none().then_some(start);
    Ok(Some(Repaired { begins: is_headless.then_some(start), forgot_start, ..repaired }))
}

/// A segment that ends in what is no batch: its file, where, its length, and whether it is the last.
type Bad = (File, u64, u64, bool);

/// Reads segments as far as the log is whole: the last of them, and what is bad there.
async fn read_all(
    disk: &DiskHandle,
    place: &LogPlace,
    bases: &[(Offset, u64)],
    (point, is_compacted): (Option<Checkpoint>, bool),
    seen: &mut Seen,
) -> Result<(usize, Option<Bad>), DiskError> {
    let mut kept = 0;
    for (at, (base, len)) in bases.iter().enumerate() {
        if *base != seen.end {
            break;
        }
        kept = at;
        let file = disk.open(Kind::Log.path(&place.dir, *base), OpenMode::ReadWrite).await?;
        seen.newest = (-1, *base);
        let is_last = at + 1 == bases.len();
        let holes_to = if is_compacted { holes_to(point.as_ref(), *base, is_last) } else { 0 };
        let (position, reason) = walk(disk, (&file, *len), holes_to, seen).await?;
        if reason.is_some() {
            return Ok((kept, Some((file, position, *len, is_last))));
        }
    }
    Ok((kept, None))
}

/// What the batches that were read come to.
struct Seen {
    /// Offset after the last of them.
    end: Offset,
    /// Largest timestamp of the segment so far, and the last offset of its batch.
    newest: (i64, Offset),
    /// Where the last one begins.
    last: Offset,
    epochs: Epochs,
    /// Up to here the epochs stood in their file.
    known_to: Offset,
}

impl Seen {
    /// Takes in a batch that is whole.
    fn take(&mut self, header: &BatchHeader) -> Result<(), BatchError> {
        if header.base_offset < self.known_to {
            self.epochs.check(header)?;
        }
        let firm = self.known_to.max(self.last);
        self.epochs.note(epochs::epoch_of(header), header.base_offset, firm);
        self.last = header.base_offset;
        self.end = header.next_offset();
        if header.max_timestamp > self.newest.0 {
            self.newest = (header.max_timestamp, header.last_offset());
        }
        Ok(())
    }
}

/// Makes the recovery point that a whole log lacks: at the beginning of its last segment, so that the
/// index of that is made anew too. Nothing where there is `point`.
async fn make_point_anew(
    disk: &DiskHandle,
    place: &LogPlace,
    point: Option<Checkpoint>,
    (file, position): (File, u64),
    seen: &Seen,
    start: Offset,
) -> Result<Option<Repaired>, RepairError> {
    if point.is_some() {
        return Ok(None);
    }
    let base = file.path().file_name().and_then(|name| Kind::parse(name.to_str()?));
    let (_, segment) = base.expect("a segment is named so");
    let mut epochs = seen.epochs.clone();
    epochs.truncate_to(segment);
    epochs::write(place, disk, &epochs).await?;
    let point = Checkpoint { start, ..Checkpoint::empty(segment) };
    make_checkpoint(disk, place, &point).await?;
    Ok(Some(Repaired {
        file: file.path().to_owned(),
        position,
        begins: None,
        forgot_start: Some(start),
        end: seen.end,
        set_aside: Vec::new(),
        bytes_cut: 0,
    }))
}

/// Up to which byte of a segment compaction may have left holes: below the recovery point only.
fn holes_to(point: Option<&Checkpoint>, base: Offset, is_last: bool) -> u64 {
    match point {
        Some(point) if base == point.segment => point.position,
        Some(point) if base < point.segment => u64::MAX,
        None if !is_last => u64::MAX,
        _ => 0,
    }
}

/// Finishes or undoes a compaction that was cut short. A copy that is damaged is set aside.
async fn settle(
    disk: &DiskHandle,
    place: &LogPlace,
    mut found: Vec<Entry>,
) -> Result<Vec<Entry>, RepairError> {
    loop {
        match compact::settle(place, disk, found).await {
            Ok(settled) => return Ok(settled),
            Err(SettleError::Disk(error)) => return Err(error.into()),
            Err(SettleError::Damaged { file, .. }) => {
                let mut aside = file.as_os_str().to_owned();
                aside.push(".0.damaged");
                disk.rename_under(file, aside, &place.ticket).await?;
                disk.sync_dir(&*place.dir).await?;
                found = disk.list(&*place.dir).await?;
            }
        }
    }
}

/// Where a log is cut, and what is cut off.
struct Cutting {
    file: File,
    segment: Offset,
    position: u64,
    len: u64,
    gone: Vec<(Offset, u64)>,
    start: Offset,
    /// Of the recovery point that is written.
    number: u64,
}

async fn cut(
    disk: &DiskHandle,
    place: &LogPlace,
    cutting: Cutting,
    seen: &Seen,
) -> Result<Repaired, DiskError> {
    let Cutting { file, segment, position, len, gone, start, number } = cutting;
    let (end, newest) = (seen.end, seen.newest);
    let mut repaired = Repaired {
        file: file.path().to_owned(),
        position,
        begins: None,
        forgot_start: None,
        end,
        set_aside: Vec::new(),
        bytes_cut: len - position,
    };
    if len > position {
        repaired.set_aside.push(set_aside(disk, place, &file, position, len).await?);
    }
    for (base, len) in &gone {
        let file = disk.open(Kind::Log.path(&place.dir, *base), OpenMode::Read).await?;
        repaired.set_aside.push(set_aside(disk, place, &file, 0, *len).await?);
        repaired.bytes_cut += len;
    }
    disk.sync_dir(&*place.dir).await?;
    // Offsets above the new end will be given to other records, which were never compacted.
    compact::forget_mark(place, disk).await?;
    // Below the point batches are held against what the file of epochs says, and they must be there.
    epochs::write(place, disk, &seen.epochs).await?;
    disk.sync(&file).await?;
    // Copies are safe: now the point comes down, and only then what is above it goes.
    let indexed = Indexed::default();
    let point = Checkpoint { number, start, end, segment, position, indexed, newest };
    make_checkpoint(disk, place, &point).await?;
    for (base, _) in gone.iter().rev() {
        io::remove(place, disk, &[*base]).await?;
    }
    disk.truncate(&file, position, &place.ticket).await?;
    disk.sync(&file).await?;
    Ok(repaired)
}

async fn set_aside(
    disk: &DiskHandle,
    place: &LogPlace,
    file: &File,
    from: u64,
    len: u64,
) -> Result<PathBuf, DiskError> {
    let mut name = file.path().as_os_str().to_owned();
    name.push(format!(".{from}.damaged"));
    let path = PathBuf::from(name);
    let copy = disk.open(&path, OpenMode::Create).await?;
    disk.truncate(&copy, 0, &place.ticket).await?;
    let mut at = from;
    while at < len {
        let bytes = disk.read(file, at, COPY_BYTES.min(len - at) as usize).await?;
        if bytes.is_empty() {
            break;
        }
        let written = bytes.len() as u64;
        disk.write(&copy, at - from, vec![bytes], &place.ticket).await?;
        at += written;
    }
    disk.sync(&copy).await?;
    Ok(path)
}

/// Reads batches from the beginning: where they end, and why. Up to byte `holes_to` offsets may be
/// missing.
async fn walk(
    disk: &DiskHandle,
    (file, len): (&File, u64),
    holes_to: u64,
    seen: &mut Seen,
) -> Result<(u64, Option<BatchError>), DiskError> {
    let mut position = 0;
    while position < len {
        let header = disk.read(file, position, HEADER_BYTES).await?;
        let needed = match BatchHeader::parse(&header) {
            Ok(header) => u64::from(header.batch_bytes),
            Err(reason) => return Ok((position, Some(reason))),
        };
        let bytes = disk.read(file, position, needed.min(BATCH_BYTES_LIMIT) as usize).await?;
        let whole = recovery::whole(&bytes, seen.end, position < holes_to)
            .and_then(|header| seen.take(&header));
        if let Err(reason) = whole {
            return Ok((position, Some(reason)));
        }
        position += needed;
    }
    Ok((position, None))
}

async fn is_zero(disk: &DiskHandle, file: &File, from: u64, len: u64) -> Result<bool, DiskError> {
    let mut at = from;
    while at < len {
        let bytes = disk.read(file, at, COPY_BYTES.min(len - at) as usize).await?;
        if bytes.is_empty() {
            break;
        }
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += bytes.len() as u64;
    }
    Ok(true)
}

/// The recovery point; none where the file is missing or damaged.
async fn read_point(disk: &DiskHandle, path: PathBuf) -> Result<Option<Checkpoint>, RepairError> {
    let file = match disk.open(&path, OpenMode::Read).await {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    let bytes = disk.read(&file, 0, 2 * checkpoint::SLOT_BYTES).await?;
    match Checkpoint::newest(&bytes) {
        Err(CheckpointError::Newer(version)) => Err(RepairError::Newer { file: path, version }),
        read => Ok(read.ok()),
    }
}
