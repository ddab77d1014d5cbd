//! Taking over a log that another program wrote in this layout and closed in order.
//!
//! The log is read whole, every batch and its checksum, so that what is wrong with it is known before
//! anything is changed. Then it is given what only ours have: the owner's state at its end, and a
//! recovery point there. One that was compacted gets the mark of that, and where the other program left
//! less of a segment than goes up to the next, a batch without records that takes the offsets between:
//! here segments follow each other without a gap. All of it is written whole or not at all, so an
//! adoption that was cut short is simply made again. This runs before any actor does: it uses `std::fs`
//! and blocks.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    checkpoint::{self, Checkpoint},
    compact,
    epochs::{self, Epochs},
    index::{OFFSET_ENTRY, TIME_ENTRY},
    recovery::BATCH_BYTES_LIMIT,
    segment::{Indexed, Kind},
};
use crate::{
    batch::{self, BatchError, BatchHeader, PREFIX_BYTES},
    failpoint,
    ids::{LeaderEpoch, Offset},
};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 20;
/// The byte of a batch, in every version of the format, that says which.
const MAGIC_AT: usize = 16;
const VERSION: u8 = 2;

/// Why a log cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The operating system refuses.
    #[error("cannot {action} `{}`: {error}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        #[source]
        error: io::Error,
    },
    /// There is no segment.
    #[error("`{}` holds no segment", .0.display())]
    Empty(PathBuf),
    /// Segments are in the middle of being replaced.
    #[error("`{}` is to take the place of a segment, which was not finished: start Kafka, and stop it again", .0.display())]
    Unfinished(PathBuf),
    /// The log begins before its first segment.
    #[error(
        "`{}` begins at offset {start}, and its first segment at {first}: what lies between is in remote storage, \
         which is not read", dir.display()
    )]
    Remote {
        /// The log's directory.
        dir: PathBuf,
        /// Where it begins.
        start: Offset,
        /// Where its first segment does.
        first: Offset,
    },
    /// A batch that is not whole, not itself, or not in its place.
    #[error("`{}` is damaged at byte {position}: {reason}", file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Where.
        position: u64,
        /// What is wrong.
        reason: String,
    },
    /// A message set of a format from before record batches.
    #[error(
        "`{}` has a batch of format v{magic} at byte {position}, and only v2 is read", file.display()
    )]
    Old {
        /// Which file.
        file: PathBuf,
        /// Where.
        position: u64,
        /// Its version.
        magic: u8,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AdoptError {
    move |error| AdoptError::Io { action, path: path.to_path_buf(), error }
}

/// A log that was looked through, and may be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoptable {
    dir: PathBuf,
    point: Checkpoint,
    /// Whether offsets are missing, as after a compaction.
    has_holes: bool,
    gaps: Vec<Gap>,
}

/// Offsets between the last batch of a segment and the next segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    segment: Offset,
    from: Offset,
    to: Offset,
    epoch: i32,
}

/// The segments' base offsets in `dir`, or those of states that its owner kept, in order.
fn files(dir: &Path, kind: Kind) -> Result<Vec<Offset>, AdoptError> {
    let names = names(dir)?;
    let parsed = names.iter().filter_map(|name| Kind::parse(name));
    let mut found: Vec<_> =
        parsed.filter(|(parsed, _)| *parsed == kind).map(|(_, base)| base).collect();
    found.sort();
    Ok(found)
}

fn names(dir: &Path) -> Result<Vec<String>, AdoptError> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(failed("list", dir))?;
    Ok(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// The states that the log's owner kept in `dir`, the newest first; each is read when it is asked for.
///
/// # Errors
/// [`AdoptError::Io`].
pub fn kept_states(
    dir: &Path,
) -> Result<impl Iterator<Item = Result<(Offset, Vec<u8>), AdoptError>>, AdoptError> {
    let kept = files(dir, Kind::Snapshot)?.into_iter().rev();
    Ok(kept.map(|at| {
        let path = Kind::Snapshot.path(dir, at);
        let mut bytes = Vec::new();
        let read =
            File::open(&path).and_then(|file| file.take(BATCH_BYTES_LIMIT).read_to_end(&mut bytes));
        read.map(|_| (at, bytes)).map_err(failed("read", &path))
    }))
}

/// Reads the log in `dir`, which begins at `start` if it does not begin with its first segment, and
/// shows each batch to `visit`.
///
/// # Errors
/// [`AdoptError`]; nothing is changed.
pub fn look_through(
    dir: &Path,
    start: Option<Offset>,
    mut visit: impl FnMut(&BatchHeader, &Bytes),
) -> Result<Adoptable, AdoptError> {
    let bases = files(dir, Kind::Log)?;
    let first = *bases.first().ok_or_else(|| AdoptError::Empty(dir.to_path_buf()))?;
    if let Some(unfinished) = names(dir)?.iter().find(|name| name.ends_with(".swap")) {
        return Err(AdoptError::Unfinished(dir.join(unfinished)));
    }
    if let Some(start) = start.filter(|start| *start < first) {
        return Err(AdoptError::Remote { dir: dir.to_path_buf(), start, first });
    }
    let led = led(dir);
    let (mut point, mut gaps, mut has_holes) = (Checkpoint::empty(first), Vec::new(), false);
    let mut epoch = -1;
    for (place, base) in bases.iter().enumerate() {
        let next = bases.get(place + 1).copied();
        point = Checkpoint { segment: *base, end: *base, position: 0, ..Checkpoint::empty(*base) };
        read_segment(dir, &mut point, next, |end, header, batch| {
            has_holes |= header.base_offset > end;
            epoch = header.leader_epoch;
            visit(header, batch);
        })?;
        if let Some(to) = next.filter(|next| *next > point.end) {
            if to.since(*base) > i32::MAX as u64 {
                let (file, position) = (Kind::Log.path(dir, *base), point.position);
                let reason =
                    format!("it ends at offset {}, and the next begins at {to}", point.end);
                return Err(AdoptError::Damaged { file, position, reason });
            }
            let known = led.at(point.end).and_then(|epoch| i32::try_from(epoch.0).ok());
            let (segment, from, epoch) = (*base, point.end, known.unwrap_or(epoch));
            gaps.push(Gap { segment, from, to, epoch });
        }
    }
    point.start = start.unwrap_or(first).min(point.end);
    let entries = |kind: Kind, bytes: usize| {
        let len = fs::metadata(kind.path(dir, point.segment)).map_or(0, |file| file.len());
        u32::try_from(len / bytes as u64).unwrap_or(0)
    };
    point.indexed = Indexed {
        offsets: entries(Kind::Index, OFFSET_ENTRY),
        times: entries(Kind::TimeIndex, TIME_ENTRY),
    };
    has_holes |= !gaps.is_empty();
    Ok(Adoptable { dir: dir.to_path_buf(), point, has_holes, gaps })
}

/// What the log's `leader-epoch-checkpoint` says.
fn led(dir: &Path) -> Epochs {
    let text = fs::read_to_string(dir.join(epochs::FILE)).unwrap_or_default();
    Epochs::parse(&text).unwrap_or_default()
}

/// Reads the segment that `point` begins with, up to its end, where `point` then stands. Shows each batch,
/// and where the one before it ended.
fn read_segment(
    dir: &Path,
    point: &mut Checkpoint,
    next: Option<Offset>,
    mut visit: impl FnMut(Offset, &BatchHeader, &Bytes),
) -> Result<(), AdoptError> {
    let limit = next.unwrap_or(Offset(i64::MAX as u64));
    let path = Kind::Log.path(dir, point.segment);
    let file = File::open(&path).map_err(failed("open", &path))?;
    let len = file.metadata().map_err(failed("open", &path))?.len();
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, file);
    while point.position < len {
        let position = point.position;
        let damaged = |reason: String| AdoptError::Damaged { file: path.clone(), position, reason };
        let mut read = |bytes: &mut [u8]| reader.read_exact(bytes).map_err(failed("read", &path));
        let left = len - position;
        if left <= MAGIC_AT as u64 {
            return Err(damaged(format!("{left} bytes are no batch")));
        }
        let mut head = [0; MAGIC_AT + 1];
        read(&mut head)?;
        let magic = head[MAGIC_AT];
        if magic < VERSION {
            return Err(AdoptError::Old { file: path.clone(), position, magic });
        }
        let length = i32::from_be_bytes(head[8..PREFIX_BYTES].try_into().expect("4 bytes"));
        let bytes = u64::try_from(length).unwrap_or(0) + PREFIX_BYTES as u64;
        if bytes <= head.len() as u64 || bytes > left.min(BATCH_BYTES_LIMIT) {
            return Err(damaged(format!("a batch of {bytes} bytes, where {left} are left")));
        }
        let mut whole = head.to_vec();
        whole.resize(bytes as usize, 0);
        read(&mut whole[head.len()..])?;
        let whole = Bytes::from(whole);
        let checked = BatchHeader::parse(&whole)
            .and_then(|header| batch::check(&whole, &header).map(|()| header));
        let header = checked.map_err(|error: BatchError| damaged(error.to_string()))?;
        let is_far = header.next_offset().since(point.segment) > i32::MAX as u64;
        if header.base_offset < point.end || header.next_offset() > limit || is_far {
            let (from, to) = (header.base_offset, header.last_offset());
            return Err(damaged(format!("offsets {from} to {to} do not belong there")));
        }
        visit(point.end, &header, &whole);
        (point.position, point.end) = (position + bytes, header.next_offset());
        if header.max_timestamp > point.newest.0 {
            point.newest = (header.max_timestamp, header.last_offset());
        }
    }
    Ok(())
}

impl Adoptable {
    /// The offset after its last record.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.point.end
    }

    /// Takes it over: `state` is its owner's at its end.
    ///
    /// # Errors
    /// [`AdoptError`]; it may be tried again.
    pub fn adopt(&self, state: &[u8]) -> Result<(), AdoptError> {
        self.gaps.iter().try_for_each(|gap| self.fill(gap))?;
        if self.has_holes {
            let mark = compact::mark(Offset::ZERO);
            write_whole(&self.dir.join(compact::MARK_FILE), |file| file.write_all(&mark))?;
            failpoint::pass("adopt: marked");
        }
        let snapshot = Kind::Snapshot.path(&self.dir, self.point.end);
        write_whole(&snapshot, |file| file.write_all(state))?;
        failpoint::pass("adopt: state written");
        // Removed files that the other program would have deleted at its next start.
        for name in names(&self.dir)?.iter().filter(|name| name.ends_with(".deleted")) {
            let path = self.dir.join(name);
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
        let (at, slot) = self.point.slot();
        let mut slots = vec![0; 2 * checkpoint::SLOT_BYTES];
        slots[at as usize..][..slot.len()].copy_from_slice(&slot);
        write_whole(&self.dir.join(checkpoint::FILE), |file| file.write_all(&slots))?;
        failpoint::pass("adopt: recovery point written");
        let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
        synced.map_err(failed("sync", &self.dir))
    }

    /// Ends the segment before a gap with a batch that takes its offsets: in a copy, for one that was cut
    /// short in the middle would be no segment any more.
    fn fill(&self, gap: &Gap) -> Result<(), AdoptError> {
        let path = Kind::Log.path(&self.dir, gap.segment);
        let filler = batch::filler(gap.from, gap.to, LeaderEpoch(gap.epoch.max(0).unsigned_abs()));
        write_whole(&path, |copy| {
            io::copy(&mut File::open(&path)?, copy)?;
            copy.write_all(&filler)
        })?;
        failpoint::pass("adopt: gap filled");
        Ok(())
    }
}

fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), AdoptError> {
    let beside = path.with_added_extension("tmp");
    let write = || {
        let mut file = File::create(&beside)?;
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(failed("write", path))
}
