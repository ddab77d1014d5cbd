//! Puts records together into a batch.

use bytes::{Bytes, BytesMut};

use super::{Attributes, BatchHeader, HEADER_BYTES, varint};
use crate::ids::Offset;

/// A record to be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordRef<'a> {
    /// Unix ms.
    pub timestamp: i64,
    /// Its key; `None` is another thing than empty.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone in a compacted log.
    pub value: Option<&'a [u8]>,
    /// Its headers, in their order.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// A batch in the making: one buffer, to which each record is appended in its final form.
#[derive(Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    bytes: Vec<u8>,
}

#[inline]
fn field_len(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| varint::len(bytes.len() as i64) + bytes.len())
}

#[inline]
fn put_field(to: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => varint::put(to, -1),
        Some(bytes) => {
            varint::put(to, bytes.len() as i64);
            to.extend_from_slice(bytes);
        }
    }
}

impl BatchBuilder {
    /// An empty batch whose records' times count from `base_timestamp` (Unix ms).
    #[must_use]
    pub fn new(base_timestamp: i64) -> Self {
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            batch_bytes: 0,
            leader_epoch: -1,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: 0,
            base_timestamp,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        };
        Self { header, bytes: vec![0; HEADER_BYTES] }
    }

    /// With room for `bytes` bytes.
    #[must_use]
    pub fn with_capacity(base_timestamp: i64, bytes: usize) -> Self {
        let mut builder = Self::new(base_timestamp);
        builder.bytes.reserve(bytes.saturating_sub(HEADER_BYTES));
        builder
    }

    /// Says who produces it, so that a second copy is known.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.set_producer(id, epoch, base_sequence);
        self
    }

    /// As [`BatchBuilder::producer`], on a batch that has records already.
    pub fn set_producer(&mut self, id: i64, epoch: i16, base_sequence: i32) {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
    }

    /// With these attribute bits; none of compression.
    #[must_use]
    pub fn attributes(mut self, attributes: Attributes) -> Self {
        assert_eq!(attributes.0 & 7, 0, "the builder does not compress");
        self.header.attributes = attributes;
        self
    }

    /// Offset and time of the next record, as it says them, and how long it is without its length.
    #[inline]
    fn measure(&self, record: &RecordRef<'_>) -> (i64, i64, usize) {
        let offset_delta = i64::from(self.header.record_count);
        let timestamp_delta = record.timestamp.wrapping_sub(self.header.base_timestamp);
        let mut len = 1
            + varint::len(timestamp_delta)
            + varint::len(offset_delta)
            + field_len(record.key)
            + field_len(record.value)
            + varint::len(record.headers.len() as i64);
        for (name, value) in record.headers {
            len += field_len(Some(name.as_bytes())) + field_len(*value);
        }
        (offset_delta, timestamp_delta, len)
    }

    /// Bytes that it would have with this record, too.
    #[must_use]
    pub fn bytes_with(&self, record: &RecordRef<'_>) -> usize {
        let (.., len) = self.measure(record);
        self.bytes.len() + varint::len(len as i64) + len
    }

    /// Appends one record.
    #[inline]
    pub fn push(&mut self, record: RecordRef<'_>) {
        let (offset_delta, timestamp_delta, len) = self.measure(&record);
        let to = &mut self.bytes;
        to.reserve(len + 5);
        varint::put(to, len as i64);
        to.push(0);
        varint::put(to, timestamp_delta);
        varint::put(to, offset_delta);
        put_field(to, record.key);
        put_field(to, record.value);
        varint::put(to, record.headers.len() as i64);
        for (name, value) in record.headers {
            put_field(to, Some(name.as_bytes()));
            put_field(to, *value);
        }
        self.header.record_count += 1;
        self.header.max_timestamp = self.header.max_timestamp.max(record.timestamp);
    }

    /// Bytes so far, header included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Records so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.header.record_count
    }

    /// Whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    /// The batch, checksummed, with base offset 0 and no leader epoch: a log stamps both.
    ///
    /// It is the only holder of its bytes, so they are not copied.
    #[must_use]
    pub fn build(mut self) -> BytesMut {
        assert!(!self.is_empty(), "a batch has records");
        self.header.last_offset_delta = self.header.record_count - 1;
        self.header.seal(&mut self.bytes);
        BytesMut::from(Bytes::from(self.bytes))
    }

    /// Where its bytes stand in memory.
    #[cfg(test)]
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }
}
