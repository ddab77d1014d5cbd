//! What a leader checks of batches before it gives them offsets.
//!
//! Header, length, count, checksum, producer and timestamps are checked (the largest against how far
//! ahead it may be, the first against how far behind). The records inside are looked at only where the
//! topic's settings need it ([`Limits::needs_records`]): that is what makes storing cheap, and it means
//! that a hostile client can store a block that nobody can decode: it harms who reads that topic, not
//! the broker. Where they are compressed, or are to be, that is done beforehand: see
//! `prepare`.

use std::ops::Range;

use flumen_runtime::{
    batch::{self, BatchHeader, Codec, Compression, EXPANDED_BYTES_MAX, Records},
    clock::UnixMillis,
};
use smallvec::SmallVec;

use super::{
    messages::{AppendError, InvalidBatch, Origin},
    producers::Produced,
};
use crate::broker::names::ProducerId;

/// Most records without a key that are named to the producer of a batch.
const KEYLESS_MAX: usize = 10_000;

/// What batches of one partition must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a batch (`max.message.bytes`).
    pub batch_bytes_max: usize,
    /// How far ahead of the clock a timestamp may be (`message.timestamp.after.max.ms`).
    pub ahead_ms_max: i64,
    /// How far behind it (`message.timestamp.before.max.ms`).
    pub behind_ms_max: i64,
    /// Whether records get the time of the append (`message.timestamp.type`), whatever theirs.
    pub is_append_time: bool,
    /// Whether each record needs a key: only the last of each is kept.
    pub needs_keys: bool,
    /// How records are compressed (`compression.type`); none: as their producer did.
    pub codec: Option<Codec>,
    /// Most bytes of the records of a batch when they are decompressed.
    pub expanded_bytes_max: usize,
}

impl Limits {
    /// Whether a batch's header does not tell all that its records must keep to: each needs a key, or
    /// one that is too old may stand behind a first that is not.
    #[must_use]
    pub fn needs_records(&self) -> bool {
        self.needs_keys || (self.behind_ms_max != i64::MAX && !self.is_append_time)
    }

    /// How the records of a batch are to be compressed instead of how they are.
    #[must_use]
    pub fn other_codec(&self, header: &BatchHeader) -> Option<Codec> {
        self.codec.filter(|codec| codec.compression != header.attributes.compression())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_bytes_max: (1 << 20) + 12,
            ahead_ms_max: 3_600_000,
            behind_ms_max: i64::MAX,
            is_append_time: false,
            needs_keys: false,
            codec: None,
            expanded_bytes_max: EXPANDED_BYTES_MAX,
        }
    }
}

/// A batch that was checked, and where it lies in its request.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its header as the producer sent it.
    pub header: BatchHeader,
    /// Its bytes in the request.
    pub range: Range<usize>,
}

/// Batches of one request: nearly always one.
pub type CheckedBatches = SmallVec<[Checked; 1]>;

/// Cuts a request into its batches and checks each sum.
///
/// # Errors
/// [`AppendError::Corrupt`], [`AppendError::TooLarge`], or [`AppendError::Invalid`] where empty.
pub fn check_whole(batches: &[u8], limits: &Limits) -> Result<CheckedBatches, AppendError> {
    let mut checked = CheckedBatches::new();
    let mut at = 0;
    while at < batches.len() {
        let corrupt =
            |error: batch::BatchError| AppendError::Corrupt { at, reason: error.to_string() };
        let header = BatchHeader::parse(&batches[at..]).map_err(corrupt)?;
        let bytes = header.batch_bytes as usize;
        if bytes > limits.batch_bytes_max {
            return Err(AppendError::TooLarge { bytes, bytes_max: limits.batch_bytes_max });
        }
        batch::check(&batches[at..], &header).map_err(corrupt)?;
        checked.push(Checked { header, range: at..at + bytes });
        at += bytes;
    }
    if checked.is_empty() {
        return Err(AppendError::Invalid(InvalidBatch::Empty));
    }
    Ok(checked)
}

/// Checks what a leader demands of a batch beyond being whole.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_as_leader(
    header: &BatchHeader,
    origin: Origin,
    limits: &Limits,
    now_ms: UnixMillis,
) -> Result<(), InvalidBatch> {
    let (count, last_offset_delta) = (header.record_count, header.last_offset_delta);
    if count == 0 || u64::from(count) != u64::from(last_offset_delta) + 1 {
        return Err(InvalidBatch::Count { count, last_offset_delta });
    }
    if header.attributes.is_control() != (origin == Origin::Coordinator) {
        return Err(InvalidBatch::Control);
    }
    if header.attributes.compression() == Compression::Unknown {
        return Err(InvalidBatch::Codec);
    }
    // Compaction would take its first timestamp for the time from which its tombstones may go.
    if header.attributes.has_delete_horizon() {
        return Err(InvalidBatch::DeleteHorizon);
    }
    let (id, epoch, sequence) = (header.producer_id, header.producer_epoch, header.base_sequence);
    let has_sequence = sequence >= 0 || (origin == Origin::Coordinator && sequence == -1);
    if id < -1 || (id >= 0 && (epoch < 0 || !has_sequence)) {
        return Err(InvalidBatch::Producer { id, epoch, sequence });
    }
    if id < 0 && (header.attributes.is_transactional() || origin == Origin::Coordinator) {
        return Err(InvalidBatch::Transactional);
    }
    if limits.is_append_time {
        return Ok(());
    }
    check_time(header.max_timestamp, limits, now_ms)?;
    check_time(header.base_timestamp, limits, now_ms)
}

fn check_time(timestamp_ms: i64, limits: &Limits, now_ms: UnixMillis) -> Result<(), InvalidBatch> {
    let (ahead_ms_max, behind_ms_max) = (limits.ahead_ms_max, limits.behind_ms_max);
    if timestamp_ms > now_ms.saturating_add(ahead_ms_max) {
        return Err(InvalidBatch::Timestamp { timestamp_ms, ahead_ms_max });
    }
    // -1 is no time at all, and is never too old.
    if timestamp_ms != -1 && timestamp_ms < now_ms.saturating_sub(behind_ms_max) {
        return Err(InvalidBatch::Old { timestamp_ms, behind_ms_max });
    }
    Ok(())
}

/// Makes the timestamps of a whole batch the log's or the producer's, as the topic wants them; the
/// header follows. Whatever the producer said of that counts for nothing, as in Kafka.
pub fn set_time(batch: &mut [u8], header: &mut BatchHeader, limits: &Limits, now_ms: UnixMillis) {
    if limits.is_append_time || header.attributes.is_log_append_time() {
        batch::set_time(batch, limits.is_append_time.then_some(now_ms));
        *header = BatchHeader::parse(batch).expect("it was parsed before");
    }
}

/// Checks each of a batch's records: that it is whole and has the next offset, and the key and the time
/// that the topic demands. Returns the largest of their timestamps.
///
/// # Errors
/// The first rule that one breaks.
pub fn check_records(
    header: &BatchHeader,
    records: Records,
    limits: &Limits,
    now_ms: UnixMillis,
) -> Result<i64, InvalidBatch> {
    let (mut max_timestamp, mut keyless) = (-1, Vec::new());
    for (index, record) in (0..).zip(records) {
        let malformed = |reason| InvalidBatch::Record { index, reason };
        let record = record.map_err(|_| malformed("it is malformed"))?;
        if record.offset != header.base_offset.plus(index) {
            return Err(malformed("its offset is not the next"));
        }
        if limits.needs_keys && record.key.is_none() && keyless.len() < KEYLESS_MAX {
            keyless.push(index as u32);
        }
        if !limits.is_append_time {
            check_time(record.timestamp, limits, now_ms)?;
        }
        max_timestamp = max_timestamp.max(record.timestamp);
    }
    if keyless.is_empty() {
        Ok(max_timestamp)
    } else {
        Err(InvalidBatch::Keyless { indexes: keyless })
    }
}

/// The part of a data batch that concerns its producer; `None` where it has none.
#[must_use]
pub fn produced(header: &BatchHeader) -> Option<Produced> {
    if header.producer_id < 0 || header.base_sequence < 0 || header.attributes.is_control() {
        return None;
    }
    Some(Produced {
        producer: ProducerId(header.producer_id),
        epoch: header.producer_epoch,
        first_sequence: header.base_sequence,
        last_delta: header.last_offset_delta,
        timestamp_ms: header.max_timestamp,
        is_transactional: header.attributes.is_transactional(),
    })
}
