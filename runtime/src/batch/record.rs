//! The records of a batch, one after the other; those of a plain batch without copying them.

use bytes::Bytes;

use super::{BatchError, BatchHeader, Compression, HEADER_BYTES, compression, varint};
use crate::ids::Offset;

/// One record; its bytes are slices of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset.
    pub offset: Offset,
    /// Unix ms; −1 where there is none.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    headers: Bytes,
    header_count: u32,
}

impl Record {
    /// Its headers, in their order.
    #[must_use]
    pub fn headers(&self) -> HeaderIter<'_> {
        HeaderIter { of: &self.headers, rest: &self.headers, left: self.header_count }
    }

    /// Writes what follows the offset: key, value and headers.
    pub(super) fn put_rest(&self, to: &mut Vec<u8>) {
        for field in [&self.key, &self.value] {
            match field {
                None => varint::put(to, -1),
                Some(bytes) => {
                    varint::put(to, bytes.len() as i64);
                    to.extend_from_slice(bytes);
                }
            }
        }
        varint::put(to, self.header_count.into());
        to.extend_from_slice(&self.headers);
    }

    /// The value of the last header called `name`, as Kafka's `lastHeader`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let mut found = None;
        let mut rest: &[u8] = &self.headers;
        for _ in 0..self.header_count {
            let key = field(&mut rest).flatten();
            let value = field(&mut rest).flatten();
            if key == Some(name.as_bytes()) {
                found = value;
            }
        }
        found
    }
}

/// The headers of a record: name and value, in their order.
#[derive(Clone, Debug)]
pub struct HeaderIter<'a> {
    of: &'a Bytes,
    rest: &'a [u8],
    left: u32,
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = (&'a str, Option<Bytes>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // Both were read once when the record was: lengths and UTF-8 are known to be right.
        let name = field(&mut self.rest).flatten().expect("read before");
        let value = field(&mut self.rest).expect("read before");
        let name = std::str::from_utf8(name).expect("checked before");
        Some((name, value.map(|value| self.of.slice_ref(value))))
    }
}

/// A length and that many bytes, from which `from` is moved on. `Some(None)` for length −1, `None`
/// where the bytes end early.
#[inline]
fn field<'a>(from: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let len = varint::take(from)?;
    if len == -1 {
        return Some(None);
    }
    let (field, rest) = from.split_at_checked(usize::try_from(len).ok()?)?;
    *from = rest;
    Some(Some(field))
}

/// The records of `batch`, whose header is `header`.
///
/// # Errors
/// [`BatchError::Compressed`] where they are, [`BatchError::Short`] where the batch is not whole;
/// the iterator yields an error and ends where a record contradicts itself.
pub fn records(batch: &Bytes, header: &BatchHeader) -> Result<Records, BatchError> {
    match header.attributes.compression() {
        Compression::None => {}
        compression => return Err(BatchError::Compressed(compression)),
    }
    let needed = header.batch_bytes as usize;
    if batch.len() < needed {
        return Err(BatchError::Short { bytes: batch.len(), needed });
    }
    Ok(Records { bytes: batch.slice(..needed), at: HEADER_BYTES, header: *header, index: 0 })
}

/// The records of `batch`, whose header is `header`, compressed or not. Those of a compressed batch are
/// held in memory of their own, of at most `bytes_max` bytes.
///
/// # Errors
/// As [`records`]; and [`BatchError::Block`] where they cannot be decompressed,
/// [`BatchError::Expands`] where they are more than `bytes_max` bytes.
pub fn expand(
    batch: &Bytes,
    header: &BatchHeader,
    bytes_max: usize,
) -> Result<Records, BatchError> {
    let compression = header.attributes.compression();
    if compression == Compression::None {
        return records(batch, header);
    }
    let needed = header.batch_bytes as usize;
    let short = BatchError::Short { bytes: batch.len(), needed };
    let block = batch.get(HEADER_BYTES..needed).ok_or(short)?;
    let bytes = compression::expand(compression, block, bytes_max)?;
    Ok(Records { bytes, at: 0, header: *header, index: 0 })
}

/// Iterator over the records of a batch.
#[derive(Clone, Debug)]
pub struct Records {
    /// The whole batch, or what its block expands to.
    bytes: Bytes,
    /// Where the next record begins.
    at: usize,
    header: BatchHeader,
    index: u32,
}

impl Records {
    /// The bytes of those that were not read yet.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    #[inline]
    fn read(&self, rest: &mut &[u8]) -> Result<Record, &'static str> {
        let len = varint::take(rest).ok_or("its length is cut off")?;
        let len = usize::try_from(len).map_err(|_| "its length is negative")?;
        let (mut body, after) = rest.split_at_checked(len).ok_or("it ends after its batch")?;
        *rest = after;
        let (_, mut fields) = body.split_first().ok_or("it is empty")?;
        let timestamp_delta = varint::take(&mut fields).ok_or("its timestamp is cut off")?;
        let offset_delta = varint::take(&mut fields).ok_or("its offset is cut off")?;
        let offset_delta = u32::try_from(offset_delta)
            .ok()
            .filter(|delta| *delta <= self.header.last_offset_delta)
            .ok_or("its offset is not in its batch")?;
        let key = field(&mut fields).ok_or("its key is cut off")?;
        let value = field(&mut fields).ok_or("its value is cut off")?;
        let header_count = varint::take(&mut fields).ok_or("its header count is cut off")?;
        // A header takes two bytes at least: a larger count is a lie.
        let header_count = u32::try_from(header_count)
            .ok()
            .filter(|count| *count as usize <= fields.len() / 2)
            .ok_or("its header count cannot be")?;
        body = fields;
        for _ in 0..header_count {
            let name = field(&mut fields).flatten().ok_or("a header has no name")?;
            std::str::from_utf8(name).map_err(|_| "a header's name is not UTF-8")?;
            field(&mut fields).ok_or("a header is cut off")?;
        }
        if !fields.is_empty() {
            return Err("bytes follow its last header");
        }
        let share = |part: &[u8]| self.bytes.slice_ref(part);
        Ok(Record {
            offset: self.header.base_offset.plus(offset_delta.into()),
            timestamp: self.timestamp(timestamp_delta),
            key: key.map(share),
            value: value.map(share),
            headers: if header_count == 0 { Bytes::new() } else { share(body) },
            header_count,
        })
    }

    fn timestamp(&self, delta: i64) -> i64 {
        let attributes = self.header.attributes;
        if attributes.is_log_append_time() {
            return self.header.max_timestamp;
        }
        self.header.base_timestamp.wrapping_add(delta)
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.index;
        if index == self.header.record_count {
            if self.at == self.bytes.len() {
                return None;
            }
            self.at = self.bytes.len();
            return Some(Err(BatchError::Record { index, reason: "more than the header counts" }));
        }
        let mut rest = &self.bytes[self.at..];
        match self.read(&mut rest) {
            Ok(record) => {
                self.at = self.bytes.len() - rest.len();
                self.index += 1;
                Some(Ok(record))
            }
            Err(reason) => {
                self.index = self.header.record_count;
                self.at = self.bytes.len();
                Some(Err(BatchError::Record { index, reason }))
            }
        }
    }
}
