//! The fixed part of a batch, taken apart and put together.

use super::{BatchError, CRC_START, HEADER_BYTES, PREFIX_BYTES};
use crate::{codec::crc32c, ids::Offset};

/// How the records of a batch are compressed (`CompressionType.java`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Snappy, framed or raw.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard (RFC 8878).
    Zstd,
    /// A number that no codec has.
    Unknown,
}

/// The attribute bits of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub u16);

impl Attributes {
    /// Timestamps are the log's, not the producer's.
    pub const LOG_APPEND_TIME: u16 = 1 << 3;
    /// Part of a transaction.
    pub const TRANSACTIONAL: u16 = 1 << 4;
    /// Written by a coordinator or leader, not for consumers.
    pub const CONTROL: u16 = 1 << 5;
    /// The base timestamp is the time from which compaction may drop tombstones.
    pub const DELETE_HORIZON: u16 = 1 << 6;

    /// These, with the records compressed so.
    ///
    /// # Panics
    /// For [`Compression::Unknown`], which has no number.
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        let number = match compression {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
            Compression::Unknown => panic!("an unknown codec has no number"),
        };
        Self(self.0 & !7 | number)
    }

    /// How its records are compressed.
    #[must_use]
    pub fn compression(self) -> Compression {
        match self.0 & 7 {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => Compression::Unknown,
        }
    }

    /// Whether it is part of a transaction.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether it is a control batch.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether its timestamps are the log's.
    #[must_use]
    pub fn is_log_append_time(self) -> bool {
        self.0 & Self::LOG_APPEND_TIME != 0
    }

    /// Whether its base timestamp is a delete horizon.
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }
}

/// The header of a batch, checked for what it says of itself; see the module's table for the units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes of the whole batch, header included.
    pub batch_bytes: u32,
    /// Epoch of the leader that took it; −1: none.
    pub leader_epoch: i32,
    /// CRC-32C of what follows.
    pub crc: u32,
    /// Attribute bits.
    pub attributes: Attributes,
    /// Offset of the last record less that of the first.
    pub last_offset_delta: u32,
    /// Unix ms of the first record, or the delete horizon.
    pub base_timestamp: i64,
    /// Largest Unix ms of its records; −1: none.
    pub max_timestamp: i64,
    /// Who produced it; −1: nobody who is known.
    pub producer_id: i64,
    /// Its epoch; −1: none.
    pub producer_epoch: i16,
    /// Sequence number of the first record; −1: none.
    pub base_sequence: i32,
    /// How many records it claims; compaction leaves fewer than offsets.
    pub record_count: u32,
}

/// The `N` bytes at `at`; the caller has checked that they are there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the range has N bytes")
}

fn unsigned(field: &'static str, value: i32) -> Result<u32, BatchError> {
    u32::try_from(value).map_err(|_| BatchError::Field { field, value: value.into() })
}

impl BatchHeader {
    /// The header at the beginning of `bytes`, of which only [`HEADER_BYTES`] need be there.
    ///
    /// # Errors
    /// [`BatchError`] where the bytes end early, are of another format, or cannot be a batch.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let short = BatchError::Short { bytes: bytes.len(), needed: HEADER_BYTES };
        let bytes = bytes.get(..HEADER_BYTES).ok_or(short)?;
        let length = i32::from_be_bytes(array(bytes, 8));
        if bytes[16] != 2 {
            return Err(BatchError::Magic(bytes[16]));
        }
        if length < (HEADER_BYTES - PREFIX_BYTES) as i32 {
            return Err(BatchError::Length(length));
        }
        let base_offset = i64::from_be_bytes(array(bytes, 0));
        let base = u64::try_from(base_offset)
            .map_err(|_| BatchError::Field { field: "base offset", value: base_offset })?;
        let last_offset_delta =
            unsigned("last offset delta", i32::from_be_bytes(array(bytes, 23)))?;
        if base + u64::from(last_offset_delta) >= i64::MAX as u64 {
            return Err(BatchError::Field { field: "base offset", value: base_offset });
        }
        Ok(BatchHeader {
            base_offset: Offset(base),
            batch_bytes: length as u32 + PREFIX_BYTES as u32,
            leader_epoch: i32::from_be_bytes(array(bytes, 12)),
            crc: u32::from_be_bytes(array(bytes, 17)),
            attributes: Attributes(u16::from_be_bytes(array(bytes, 21))),
            last_offset_delta,
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, 35)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            record_count: unsigned("record count", i32::from_be_bytes(array(bytes, 57)))?,
        })
    }

    /// Writes the header over the first bytes of `batch`, with the length and checksum of what is
    /// there.
    pub(super) fn seal(&self, batch: &mut [u8]) {
        let length = i32::try_from(batch.len() - PREFIX_BYTES).expect("batches are below 2 GiB");
        batch[0..8].copy_from_slice(&self.base_offset.as_i64().to_be_bytes());
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        batch[16] = 2;
        batch[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        batch[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        batch[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        batch[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        batch[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        batch[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        batch[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        batch[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        let crc = crc32c(&[&batch[CRC_START..]]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }

    /// Offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(self.last_offset_delta.into())
    }

    /// Offset of the record after the last.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// Sequence number of the last record, which after `i32::MAX` goes on at 0; −1: none.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (last & i64::from(i32::MAX)) as i32
    }
}
