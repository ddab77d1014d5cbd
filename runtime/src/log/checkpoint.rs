//! The recovery point of a log: up to where its segments are known to be durable.
//!
//! One file `recovery-point`, two slots of [`SLOT_BYTES`], written in turn and synced, so that a torn
//! write leaves the other. Numbers are big-endian:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `FLRP` |
//! | 4 | 2 | version, 1 |
//! | 6 | 2 | 0 |
//! | 8 | 8 | number of the write: the larger one counts |
//! | 16 | 8 | log start |
//! | 24 | 8 | offset up to which the log is durable |
//! | 32 | 8 | base of the segment that holds it |
//! | 40 | 8 | position of that offset in the segment |
//! | 48 | 4 | entries of its `.index` that are durable |
//! | 52 | 4 | entries of its `.timeindex` that are durable |
//! | 56 | 8 | largest timestamp of the segment up to there |
//! | 64 | 8 | last offset of the batch that has it |
//! | 72 | 4 | CRC-32C of the bytes before |
//!
//! Kafka's own `recovery-point-offset-checkpoint` has no position, and one file for all logs: with it
//! recovery would have to search, and every log would rewrite the marks of all others.

use bytes::Bytes;

use super::segment::Indexed;
use crate::{codec::crc32c, ids::Offset};

/// The file's name.
pub(crate) const FILE: &str = "recovery-point";
/// Bytes from one slot to the next: a sector, which is what a torn write leaves whole.
pub(crate) const SLOT_BYTES: usize = 512;
const MAGIC: [u8; 4] = *b"FLRP";
const VERSION: u16 = 1;
const LEN: usize = 76;

/// A recovery point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) number: u64,
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    pub(crate) segment: Offset,
    pub(crate) position: u64,
    pub(crate) indexed: Indexed,
    /// Largest timestamp of the segment up to there, and the last offset of its batch.
    pub(crate) newest: (i64, Offset),
}

/// The file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckpointError {
    /// Neither slot is whole.
    Damaged,
    /// Written by a later version.
    Newer(u16),
}

impl Checkpoint {
    /// The beginning of an empty log that begins at `start`.
    pub(crate) fn empty(start: Offset) -> Self {
        let (number, position, indexed) = (1, 0, Indexed::default());
        let newest = (-1, start);
        Self { number, start, end: start, segment: start, position, indexed, newest }
    }

    /// The slot's bytes, and where in the file they go.
    pub(crate) fn slot(&self) -> (u64, Bytes) {
        let mut slot = Vec::with_capacity(LEN);
        slot.extend(MAGIC);
        slot.extend(VERSION.to_be_bytes());
        slot.extend([0; 2]);
        for number in [self.number, self.start.0, self.end.0, self.segment.0, self.position] {
            slot.extend(number.to_be_bytes());
        }
        slot.extend(self.indexed.offsets.to_be_bytes());
        slot.extend(self.indexed.times.to_be_bytes());
        slot.extend(self.newest.0.to_be_bytes());
        slot.extend(self.newest.1.0.to_be_bytes());
        slot.extend(crc32c(&[&slot]).to_be_bytes());
        ((self.number % 2) * SLOT_BYTES as u64, slot.into())
    }

    fn parse(slot: &[u8]) -> Result<Self, CheckpointError> {
        let slot = slot.first_chunk::<LEN>().ok_or(CheckpointError::Damaged)?;
        let number = |at: usize| u64::from_be_bytes(slot[at..at + 8].try_into().expect("8 bytes"));
        let small = |at: usize| u32::from_be_bytes(slot[at..at + 4].try_into().expect("4 bytes"));
        let version = u16::from_be_bytes([slot[4], slot[5]]);
        // Before the sum: a later version may have moved it.
        if slot[..4] == MAGIC && version > VERSION {
            return Err(CheckpointError::Newer(version));
        }
        if slot[..4] != MAGIC || crc32c(&[&slot[..LEN - 4]]) != small(LEN - 4) {
            return Err(CheckpointError::Damaged);
        }
        Ok(Self {
            number: number(8),
            start: Offset(number(16)),
            end: Offset(number(24)),
            segment: Offset(number(32)),
            position: number(40),
            indexed: Indexed { offsets: small(48), times: small(52) },
            newest: (number(56).cast_signed(), Offset(number(64))),
        })
    }

    /// The newest whole slot of the file.
    pub(crate) fn newest(file: &[u8]) -> Result<Self, CheckpointError> {
        let slots = [0, SLOT_BYTES].map(|at| Self::parse(file.get(at..).unwrap_or_default()));
        match slots {
            [Ok(a), Ok(b)] => Ok(if a.number > b.number { a } else { b }),
            [Err(CheckpointError::Newer(version)), _]
            | [_, Err(CheckpointError::Newer(version))] => Err(CheckpointError::Newer(version)),
            [Ok(one), Err(_)] | [Err(_), Ok(one)] => Ok(one),
            _ => Err(CheckpointError::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(slots: &[Checkpoint]) -> Vec<u8> {
        let mut file = vec![0; 2 * SLOT_BYTES];
        for checkpoint in slots {
            let (at, slot) = checkpoint.slot();
            file[at as usize..][..slot.len()].copy_from_slice(&slot);
        }
        file
    }

    fn numbered(number: u64) -> Checkpoint {
        Checkpoint { number, end: Offset(number * 10), ..Checkpoint::empty(Offset(3)) }
    }

    #[test]
    fn the_newest_whole_slot_counts() {
        let mut file = file(&[numbered(4), numbered(5)]);
        assert_eq!(Checkpoint::newest(&file), Ok(numbered(5)));
        file[SLOT_BYTES + 20] ^= 1;
        assert_eq!(Checkpoint::newest(&file), Ok(numbered(4)));
        file[20] ^= 1;
        assert_eq!(Checkpoint::newest(&file), Err(CheckpointError::Damaged));
        assert_eq!(Checkpoint::newest(&[]), Err(CheckpointError::Damaged));
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut file = file(&[numbered(4)]);
        // Its sum may stand elsewhere.
        file[5] = 2;
        assert_eq!(Checkpoint::newest(&file), Err(CheckpointError::Newer(2)));
    }
}
