//! Record batch v2: the unit of append, of checksum and of disk write, in Kafka's own bytes
//! (`DefaultRecordBatch.java`, `DefaultRecord.java`).
//!
//! All numbers are big-endian:
//!
//! | offset | size | field | |
//! |---|---|---|---|
//! | 0 | 8 | base offset | stamped by the log, outside the checksum |
//! | 8 | 4 | batch length | bytes after this field |
//! | 12 | 4 | leader epoch | stamped by the log, outside the checksum |
//! | 16 | 1 | magic | 2 |
//! | 17 | 4 | CRC-32C | of bytes 21 to the end |
//! | 21 | 2 | attributes | [`Attributes`] |
//! | 23 | 4 | last offset delta | |
//! | 27 | 8 | base timestamp | Unix ms |
//! | 35 | 8 | max timestamp | Unix ms |
//! | 43 | 8 | producer id | −1: none |
//! | 51 | 2 | producer epoch | −1: none |
//! | 53 | 4 | base sequence | −1: none |
//! | 57 | 4 | record count | |
//! | 61 | … | records | one compressed block where a codec is set |
//!
//! The checksum covers neither base offset nor leader epoch, so that a log may stamp them without
//! reading the rest; so it says nothing about where a batch belongs.

mod builder;
mod compression;
pub mod control;
mod header;
mod recode;
mod record;
mod retain;
mod varint;

pub use builder::{BatchBuilder, RecordRef};
pub use compression::{Codec, EXPANDED_BYTES_MAX};
pub use header::{Attributes, BatchHeader, Compression};
pub use recode::recode;
pub use record::{HeaderIter, Lent, Record, RecordView, Records, expand, records};
pub use retain::{emptied, filler, retain};

use crate::{
    codec::crc32c,
    ids::{LeaderEpoch, Offset},
};

/// Bytes of a batch before its first record.
pub const HEADER_BYTES: usize = 61;

/// Bytes that tell how long a batch is: base offset and batch length.
pub const PREFIX_BYTES: usize = 12;

/// Where the bytes begin that the checksum covers.
const CRC_START: usize = 21;

/// Why bytes are no batch, or a batch's records cannot be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BatchError {
    /// Fewer bytes than the batch claims, or than a header has.
    #[error("{bytes} bytes where {needed} are needed")]
    Short {
        /// Bytes that are there.
        bytes: usize,
        /// Bytes that are needed.
        needed: usize,
    },
    /// Another format: message sets v0 and v1 are not read.
    #[error("format v{0} is not read, only v2")]
    Magic(u8),
    /// The length field claims less than a header.
    #[error("claims a length of {0} bytes, less than its own header")]
    Length(i32),
    /// A number of the header that cannot be.
    #[error("the {field} {value} cannot be")]
    Field {
        /// Which.
        field: &'static str,
        /// What it says.
        value: i64,
    },
    /// There is nothing where the batch of this offset must begin.
    #[error(
        "nothing follows, and offset {0} must: the file has lost its end, or the next one is gone"
    )]
    Lost(Offset),
    /// The bytes are not those that were written.
    #[error("checksum {found:#010x} where the header says {wanted:#010x}")]
    Checksum {
        /// Of the bytes.
        found: u32,
        /// In the header.
        wanted: u32,
    },
    /// The records are compressed, and whoever asked reads only plain ones.
    #[error("the records are compressed with {0:?}")]
    Compressed(Compression),
    /// The compressed block of the records is not one.
    #[error("the records cannot be decompressed as {compression:?}: {reason}")]
    Block {
        /// As what.
        compression: Compression,
        /// What its codec says.
        reason: String,
    },
    /// The records are too many bytes when they are decompressed.
    #[error("decompressed, the records are more than {bytes_max} bytes")]
    Expands {
        /// The limit.
        bytes_max: usize,
    },
    /// A record that contradicts its own lengths.
    #[error("record {index} is malformed: {reason}")]
    Record {
        /// Which of the batch, from 0.
        index: u32,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Whether the bytes of `batch` are those its producer made. `header` is what
/// [`BatchHeader::parse`] made of the same bytes.
///
/// # Errors
/// [`BatchError::Short`] where the batch is not whole, [`BatchError::Checksum`] where it is damaged.
pub fn check(batch: &[u8], header: &BatchHeader) -> Result<(), BatchError> {
    let needed = header.batch_bytes as usize;
    let covered =
        batch.get(CRC_START..needed).ok_or(BatchError::Short { bytes: batch.len(), needed })?;
    let found = crc32c(&[covered]);
    if found == header.crc {
        return Ok(());
    }
    Err(BatchError::Checksum { found, wanted: header.crc })
}

/// Writes the base offset and leader epoch that a log gives the batch.
pub fn stamp(batch: &mut [u8], base_offset: Offset, epoch: LeaderEpoch) {
    assert!(batch.len() >= HEADER_BYTES, "a batch has a header");
    batch[0..8].copy_from_slice(&base_offset.as_i64().to_be_bytes());
    batch[12..16].copy_from_slice(&epoch.0.to_be_bytes());
}

/// Says whose the timestamps of a batch are: the log's, which took it at `append_ms` (Unix ms), or the
/// producer's. The checksum, which covers that, is made anew.
pub fn set_time(batch: &mut [u8], append_ms: Option<i64>) {
    assert!(batch.len() >= HEADER_BYTES, "a batch has a header");
    let mut attributes = u16::from_be_bytes([batch[21], batch[22]]) & !Attributes::LOG_APPEND_TIME;
    if let Some(append_ms) = append_ms {
        attributes |= Attributes::LOG_APPEND_TIME;
        batch[35..43].copy_from_slice(&append_ms.to_be_bytes());
    }
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    let crc = crc32c(&[&batch[CRC_START..]]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// The batches that stand back to back in `bytes`: each with its header, or the error that ends
/// them. A piece of a batch at the end is an error too.
pub fn split(bytes: &[u8]) -> impl Iterator<Item = Result<(BatchHeader, &[u8]), BatchError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let parsed = BatchHeader::parse(rest).and_then(|header| {
            let needed = header.batch_bytes as usize;
            let short = BatchError::Short { bytes: rest.len(), needed };
            let (batch, after) = rest.split_at_checked(needed).ok_or(short)?;
            rest = after;
            Ok((header, batch))
        });
        if parsed.is_err() {
            rest = &[];
        }
        Some(parsed)
    })
}

/// The offset after the last whole batch in `bytes`; none where there is no batch.
#[must_use]
pub fn end_of(bytes: &[u8]) -> Option<Offset> {
    split(bytes).map_while(Result::ok).last().map(|(header, _)| header.next_offset())
}

#[cfg(test)]
mod tests;
