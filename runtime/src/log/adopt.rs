//! Taking over a log that another program wrote in this layout and closed in order.
//!
//! The log is read whole, every batch and its checksum, so that what is wrong with it is known before
//! anything is changed. Then it is given what only ours have: the owner's state at its end, and a
//! recovery point there. Both are written whole or not at all, so an adoption that was cut short is
//! simply made again. This runs before any actor does: it uses `std::fs` and blocks.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    checkpoint::{self, Checkpoint},
    index::{OFFSET_ENTRY, TIME_ENTRY},
    recovery::BATCH_BYTES_LIMIT,
    segment::{Indexed, Kind},
};
use crate::{
    batch::{self, BatchError, BatchHeader, PREFIX_BYTES},
    ids::Offset,
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
}

/// The segments' base offsets in `dir`, and those of states that its owner kept, each in order.
fn files(dir: &Path, kind: Kind) -> Result<Vec<Offset>, AdoptError> {
    let entries = fs::read_dir(dir).map_err(failed("list", dir))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("list", dir))?;
        if let Some((_, base)) =
            Kind::parse(&entry.file_name().to_string_lossy()).filter(|(parsed, _)| *parsed == kind)
        {
            found.push(base);
        }
    }
    found.sort();
    Ok(found)
}

/// The states that the log's owner kept in `dir`, the newest first.
///
/// # Errors
/// [`AdoptError::Io`].
pub fn kept_states(dir: &Path) -> Result<Vec<(Offset, Vec<u8>)>, AdoptError> {
    let kept = files(dir, Kind::Snapshot)?.into_iter().rev();
    kept.map(|at| {
        let path = Kind::Snapshot.path(dir, at);
        fs::read(&path).map(|bytes| (at, bytes)).map_err(failed("read", &path))
    })
    .collect()
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
    let mut point = Checkpoint::empty(first);
    for (place, base) in bases.iter().enumerate() {
        let limit = bases.get(place + 1).copied().unwrap_or(Offset(i64::MAX as u64));
        point = Checkpoint { segment: *base, end: *base, position: 0, ..Checkpoint::empty(*base) };
        read_segment(dir, &mut point, limit, &mut visit)?;
    }
    point.start = start.unwrap_or(first).max(first).min(point.end);
    let entries = |kind: Kind, bytes: usize| {
        let len = fs::metadata(kind.path(dir, point.segment)).map_or(0, |file| file.len());
        u32::try_from(len / bytes as u64).unwrap_or(0)
    };
    point.indexed = Indexed {
        offsets: entries(Kind::Index, OFFSET_ENTRY),
        times: entries(Kind::TimeIndex, TIME_ENTRY),
    };
    Ok(Adoptable { dir: dir.to_path_buf(), point })
}

/// Reads the segment that `point` begins with, up to its end, where `point` then stands.
fn read_segment(
    dir: &Path,
    point: &mut Checkpoint,
    limit: Offset,
    visit: &mut impl FnMut(&BatchHeader, &Bytes),
) -> Result<(), AdoptError> {
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
        if header.base_offset < point.end || header.next_offset() > limit {
            let (from, to) = (header.base_offset, header.last_offset());
            return Err(damaged(format!("offsets {from} to {to} do not belong there")));
        }
        visit(&header, &whole);
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
    /// [`AdoptError::Io`]; it may be tried again.
    pub fn adopt(&self, state: &[u8]) -> Result<(), AdoptError> {
        write_whole(&Kind::Snapshot.path(&self.dir, self.point.end), state)?;
        let (at, slot) = self.point.slot();
        let mut slots = vec![0; 2 * checkpoint::SLOT_BYTES];
        slots[at as usize..][..slot.len()].copy_from_slice(&slot);
        write_whole(&self.dir.join(checkpoint::FILE), &slots)?;
        let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
        synced.map_err(failed("sync", &self.dir))
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), AdoptError> {
    let beside = path.with_added_extension("tmp");
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(failed("write", path))
}
