//! The two sparse indexes of a segment, in Kafka's bytes (`OffsetIndex.java`, `TimeIndex.java`).
//!
//! | file | entry, big-endian |
//! |---|---|
//! | `.index` | 4 bytes: last offset of a batch less the base; 4 bytes: position of that batch |
//! | `.timeindex` | 8 bytes: largest timestamp so far; 4 bytes: its last offset less the base |
//!
//! Entries come in memory as batches are appended, and go to the files when the recovery point
//! moves or the segment closes. Beyond that point recovery makes them again from the batches.

use bytes::{BufMut, Bytes, BytesMut};

use super::segment::Indexed;
use crate::ids::Offset;

/// Bytes of an entry of the offset index.
pub(crate) const OFFSET_ENTRY: usize = 8;
/// Bytes of an entry of the time index.
pub(crate) const TIME_ENTRY: usize = 12;

/// An entry of the offset index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    /// Last offset of the batch, less the segment's base.
    pub(crate) last: u32,
    /// Where the batch begins.
    pub(crate) position: u32,
}

/// An entry of the time index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    /// Largest timestamp so far.
    pub(crate) timestamp: i64,
    /// Last offset of the batch that has it, less the segment's base.
    pub(crate) last: u32,
}

impl OffsetEntry {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (last, position) = bytes.first_chunk::<OFFSET_ENTRY>()?.split_at(4);
        Some(Self {
            last: u32::from_be_bytes(last.try_into().ok()?),
            position: u32::from_be_bytes(position.try_into().ok()?),
        })
    }
}

impl TimeEntry {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (timestamp, last) = bytes.first_chunk::<TIME_ENTRY>()?.split_at(8);
        Some(Self {
            timestamp: i64::from_be_bytes(timestamp.try_into().ok()?),
            last: u32::from_be_bytes(last.try_into().ok()?),
        })
    }
}

/// What the active segment's indexes still lack on the disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct IndexTail {
    pub(crate) offsets: Vec<OffsetEntry>,
    pub(crate) times: Vec<TimeEntry>,
    bytes_since: u64,
    newest_indexed: Option<i64>,
}

impl IndexTail {
    /// Takes note of a batch of `len` bytes at `position`; `newest` is the largest timestamp so far
    /// and the last offset of its batch.
    pub(crate) fn note(
        &mut self,
        base: Offset,
        (last, position, len): (Offset, u64, u64),
        newest: (i64, Offset),
        interval: u64,
    ) {
        if self.bytes_since > interval {
            let position = u32::try_from(position).expect("segments are below 2 GiB");
            self.offsets.push(OffsetEntry { last: relative(base, last), position });
            self.note_time(base, newest);
            self.bytes_since = 0;
        }
        self.bytes_since += len;
    }

    /// Adds the time entry that stands for all batches so far, if it says anything new.
    pub(crate) fn note_time(&mut self, base: Offset, (timestamp, last): (i64, Offset)) {
        if timestamp >= 0 && self.newest_indexed.is_none_or(|indexed| indexed < timestamp) {
            self.times.push(TimeEntry { timestamp, last: relative(base, last) });
            self.newest_indexed = Some(timestamp);
        }
    }

    /// Goes on after entries that are on the disk.
    pub(crate) fn resume(newest_indexed: Option<i64>) -> Self {
        Self { newest_indexed, ..Self::default() }
    }

    /// How many entries of the offset index there are.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// The entries that cover batches before `end` (relative), as bytes for the files, and how many.
    pub(crate) fn ready(&self, end: u32) -> (Bytes, Bytes, Indexed) {
        let mut offsets = BytesMut::new();
        let mut times = BytesMut::new();
        let mut count = Indexed::default();
        for entry in self.offsets.iter().take_while(|entry| entry.last < end) {
            offsets.put_u32(entry.last);
            offsets.put_u32(entry.position);
            count.offsets += 1;
        }
        for entry in self.times.iter().take_while(|entry| entry.last < end) {
            times.put_i64(entry.timestamp);
            times.put_u32(entry.last);
            count.times += 1;
        }
        (offsets.freeze(), times.freeze(), count)
    }

    /// Forgets entries that are on the disk now.
    pub(crate) fn written(&mut self, count: Indexed) {
        self.offsets.drain(..count.offsets as usize);
        self.times.drain(..count.times as usize);
        self.offsets.shrink_to(64);
        self.times.shrink_to(64);
    }
}

/// `offset` counted from the segment's base.
pub(crate) fn relative(base: Offset, offset: Offset) -> u32 {
    u32::try_from(offset.since(base)).expect("a segment is rolled before offsets overflow")
}
