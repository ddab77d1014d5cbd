//! Bytes of a journal file: a header, then groups, each what one write and one sync made durable.
//!
//! ```text
//!   0        512                    +512·n
//!   ├ header ┼ group 1 … zeros ─────┼ group 2 … ──► then older bytes, or zeros
//!
//!   header:  an envelope of codec.rs, kind "FLMJ": boot, salt
//!   group:   0         4         8        16        24        28        32
//!            ├ CRC-32C ┼ length ─┼ salt ──┼ number ─┼ entries ┼ 0 ──────┼ entries …
//!            the sum covers everything after it; length counts the bytes of the entries
//!   entry:   0      1     4       8        24      32     40    48      52       56
//!            ├ kind ┼ 0 ──┼ shard ┼ log id ┼ seq ──┼ base ┼ end ┼ epoch ┼ length ┼ payload …
//!            (numbers little-endian)
//! ```
//!
//! A group begins at a sector of its own, so that a write torn between sectors spoils no earlier one,
//! and the header with a new salt is durable before the first group is written, so that a file is
//! always wholly of one use.
//! Its salt is drawn anew each time that the file is used again and never leaves the machine: bytes
//! of an earlier use are not taken for groups, not even where a payload was made to look like one.
//!
//! # Invariants
//! - JRN-1: groups are written one after the other, each after the one before is durable. So a group
//!   that is not whole is the last one; where a later one stands, what lies before it is damage.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    codec::{self, crc32c},
    ids::{LeaderEpoch, LogId, Offset},
};

/// Where the first group begins, and what every group's length is rounded up to.
pub(super) const SECTOR: usize = 512;
const KIND: [u8; 4] = *b"FLMJ";
const VERSION: u16 = 1;
const GROUP_HEADER: usize = 32;
const ENTRY_HEADER: usize = 56;

/// What stands at the beginning of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Number of the start of the node that wrote the file: entries of a later one come after.
    pub(super) boot: u64,
    /// What every group of this use of the file carries.
    pub(super) salt: u64,
}

/// One entry, and its place in the order of all entries of a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) log: LogId,
    pub(super) seq: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Append { epoch: LeaderEpoch, base: Offset, end: Offset, payload: Vec<Bytes> },
    TruncatedTo(Offset),
    Deleted,
}

/// Why a file cannot be replayed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FileError {
    /// Its header is of another kind or version, or damaged.
    #[error("its header {0}")]
    Header(#[from] codec::UnsealError),
    /// A group is not whole although a later one is.
    #[error("what is at byte {position} is damaged, for entries that came later are whole")]
    Damaged {
        /// Where in the file.
        position: usize,
    },
}

impl Record {
    /// Bytes that it takes in a group.
    pub(super) fn bytes(&self) -> usize {
        let payload = match &self.what {
            What::Append { payload, .. } => payload.iter().map(Bytes::len).sum(),
            What::TruncatedTo(_) | What::Deleted => 0,
        };
        ENTRY_HEADER + payload
    }

    fn put(&self, to: &mut BytesMut) {
        let (kind, base, end, epoch) = match &self.what {
            What::Append { epoch, base, end, .. } => (1, base.0, end.0, epoch.0),
            What::TruncatedTo(end) => (2, 0, end.0, 0),
            What::Deleted => (3, 0, 0, 0),
        };
        to.put_u8(kind);
        to.put_bytes(0, 3);
        to.put_u32_le(self.log.shard);
        to.put_slice(self.log.id.as_bytes());
        to.put_u64_le(self.seq);
        to.put_u64_le(base);
        to.put_u64_le(end);
        to.put_u32_le(epoch);
        to.put_u32_le(u32::try_from(self.bytes() - ENTRY_HEADER).expect("JRN-5: small entries"));
        if let What::Append { payload, .. } = &self.what {
            payload.iter().for_each(|part| to.put_slice(part));
        }
    }

    /// The entry at byte `at` of a group whose sum was right, and where the next one begins.
    fn parse(group: &Bytes, at: usize) -> Option<(Record, usize)> {
        let header = group.get(at..at + ENTRY_HEADER)?;
        let u32_at = |at| u32::from_le_bytes(*header[at..].first_chunk().expect("in the header"));
        let u64_at = |at| u64::from_le_bytes(*header[at..].first_chunk().expect("in the header"));
        let offset = |at| Some(u64_at(at)).filter(|offset| *offset <= i64::MAX as u64).map(Offset);
        let start = at + ENTRY_HEADER;
        let end = start.checked_add(u32_at(52) as usize).filter(|end| *end <= group.len())?;
        let id = Uuid::from_bytes(*header[8..].first_chunk().expect("in the header"));
        let what = match header[0] {
            1 => What::Append {
                epoch: LeaderEpoch(u32_at(48)),
                base: offset(32)?,
                end: offset(40)?,
                payload: vec![group.slice(start..end)],
            },
            2 => What::TruncatedTo(offset(40)?),
            3 => What::Deleted,
            _ => return None,
        };
        Some((Record { log: LogId { id, shard: u32_at(4) }, seq: u64_at(24), what }, end))
    }
}

/// Bytes of a group of records that take `bytes`, to the next sector.
pub(super) fn group_bytes(bytes: usize) -> usize {
    (GROUP_HEADER + bytes).next_multiple_of(SECTOR)
}

/// The sector that a file begins with.
pub(super) fn header(header: &Header) -> Bytes {
    let sealed = codec::seal(KIND, VERSION, header).expect("two numbers can be encoded");
    let mut sector = BytesMut::from(&sealed[..]);
    sector.resize(SECTOR, 0);
    sector.freeze()
}

/// Appends a group.
pub(super) fn put_group<'a>(
    salt: u64,
    number: u64,
    records: impl Iterator<Item = &'a Record>,
    to: &mut BytesMut,
) {
    let start = to.len();
    to.put_bytes(0, GROUP_HEADER);
    let mut count = 0_u32;
    for record in records {
        record.put(to);
        count += 1;
    }
    let length = to.len() - start - GROUP_HEADER;
    let length = u32::try_from(length).expect("JRN-5: a group is far below 4 GiB");
    let group = &mut to[start..];
    group[4..8].copy_from_slice(&length.to_le_bytes());
    group[8..16].copy_from_slice(&salt.to_le_bytes());
    group[16..24].copy_from_slice(&number.to_le_bytes());
    group[24..28].copy_from_slice(&count.to_le_bytes());
    let sum = crc32c(&[&group[4..]]);
    group[..4].copy_from_slice(&sum.to_le_bytes());
    let padding = group_bytes(length as usize) - group.len();
    to.put_bytes(0, padding);
}

/// A whole group with `salt` at byte `at`: its number, its records, and where the next one begins.
fn parse_group(file: &Bytes, at: usize, salt: u64) -> Option<(u64, Vec<Record>, usize)> {
    let header = file.get(at..at.checked_add(GROUP_HEADER)?)?;
    let u64_at = |at| u64::from_le_bytes(*header[at..].first_chunk().expect("in the header"));
    let u32_at = |at| u32::from_le_bytes(*header[at..].first_chunk().expect("in the header"));
    if u64_at(8) != salt {
        return None;
    }
    let end = (at + GROUP_HEADER).checked_add(u32_at(4) as usize)?;
    let group = Some(end).filter(|end| *end <= file.len()).map(|end| file.slice(at..end))?;
    if crc32c(&[&group[4..]]) != u32_at(0) {
        return None;
    }
    let (mut records, mut next) = (Vec::new(), GROUP_HEADER);
    for _ in 0..u32_at(24) {
        let (record, after) = Record::parse(&group, next)?;
        records.push(record);
        next = after;
    }
    let whole = next == group.len();
    whole.then_some((u64_at(16), records, at + group_bytes(group.len() - GROUP_HEADER)))
}

/// Boot and records of a file, in the order in which they were written; `None` where nothing was
/// ever committed to it.
pub(super) fn parse_file(file: &Bytes) -> Result<Option<(u64, Vec<Record>)>, FileError> {
    let Some(sector) = file.get(..SECTOR) else {
        // Shorter than a header of ours. One of a later version may be.
        return match codec::open(KIND, VERSION, file) {
            Err(error @ codec::UnsealError::Newer { .. }) => Err(error.into()),
            _ => Ok(None),
        };
    };
    if sector.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let (_, header) = codec::open(KIND, VERSION, sector)?;
    let header: Header = codec::decode(header).map_err(codec::UnsealError::from)?;
    let (mut records, mut at, mut last) = (Vec::new(), SECTOR, 0);
    while let Some((number, group, next)) = parse_group(file, at, header.salt) {
        if number != last + 1 {
            break;
        }
        records.extend(group);
        (at, last) = (next, number);
    }
    let later = (at..file.len()).step_by(SECTOR);
    let is_later = |group: (u64, Vec<Record>, usize)| group.0 > last + 1;
    for position in later {
        if parse_group(file, position, header.salt).is_some_and(is_later) {
            return Err(FileError::Damaged { position: at });
        }
    }
    Ok(Some((header.boot, records)))
}

#[cfg(test)]
mod tests;
