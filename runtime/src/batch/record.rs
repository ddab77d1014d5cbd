//! The records of a batch, one after the other; those of a plain batch without copying them.
//!
//! [`Records`] as an iterator gives each record a share in the batch, to be kept as long as one likes:
//! an atomic count up and down for each field. [`Records::lend`] only shows it, to who decodes a record
//! and goes on to the next.

use std::ops::{Deref, Range};

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
        last_header(&self.headers, self.header_count, name)
    }
}

/// Bytes that stand among others, lent: a share in them can be had.
#[derive(Clone, Copy, Debug)]
pub struct Lent<'a> {
    of: &'a Bytes,
    bytes: &'a [u8],
}

impl Lent<'_> {
    /// A share in them, to be kept. It keeps all that they stand among.
    #[must_use]
    pub fn share(&self) -> Bytes {
        self.of.slice_ref(self.bytes)
    }
}

impl Deref for Lent<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl<'a> From<&'a Bytes> for Lent<'a> {
    fn from(bytes: &'a Bytes) -> Self {
        Self { of: bytes, bytes }
    }
}

/// One record, lent: it is looked at where it stands.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Unix ms; −1 where there is none.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Lent<'a>>,
    /// Its value.
    pub value: Option<Lent<'a>>,
    headers: Lent<'a>,
    header_count: u32,
}

impl RecordView<'_> {
    /// As [`Record::header`].
    #[must_use]
    #[inline]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        last_header(self.headers.bytes, self.header_count, name)
    }

    /// The record with a share in the batch, to be kept.
    #[must_use]
    #[inline]
    pub fn share(&self) -> Record {
        Record {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.as_ref().map(Lent::share),
            value: self.value.as_ref().map(Lent::share),
            headers: self.headers.share(),
            header_count: self.header_count,
        }
    }
}

#[inline]
fn last_header<'a>(mut headers: &'a [u8], count: u32, name: &str) -> Option<&'a [u8]> {
    let mut found = None;
    for _ in 0..count {
        let key = field(&mut headers).flatten();
        let value = field(&mut headers).flatten();
        if key == Some(name.as_bytes()) {
            found = value;
        }
    }
    found
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

/// Whether `count` headers, and no more, stand in `headers`.
fn check_headers(count: i64, mut headers: &[u8]) -> Result<(), &'static str> {
    // A header takes two bytes at least: a larger count is a lie.
    let possible = usize::try_from(count).is_ok_and(|count| count <= headers.len() / 2);
    if !possible {
        return Err("its header count cannot be");
    }
    for _ in 0..count {
        let name = field(&mut headers).flatten().ok_or("a header has no name")?;
        std::str::from_utf8(name).map_err(|_| "a header's name is not UTF-8")?;
        field(&mut headers).ok_or("a header is cut off")?;
    }
    if headers.is_empty() { Ok(()) } else { Err("bytes follow its last header") }
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
    Ok(Records::new(batch.slice(..needed), HEADER_BYTES, header))
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
    Ok(Records::new(bytes, 0, header))
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
    /// Where a record's header count and headers stand that were checked: those of the next are the
    /// same bytes, as a rule.
    checked: Range<usize>,
}

impl Records {
    fn new(bytes: Bytes, at: usize, header: &BatchHeader) -> Self {
        Self { bytes, at, header: *header, index: 0, checked: 0..0 }
    }

    /// The bytes of those that were not read yet.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// The next record, lent until the one after it is asked for; otherwise as the iterator.
    #[inline]
    pub fn lend(&mut self) -> Option<Result<RecordView<'_>, BatchError>> {
        let index = self.index;
        if index == self.header.record_count {
            if self.at == self.bytes.len() {
                return None;
            }
            self.at = self.bytes.len();
            return Some(Err(BatchError::Record { index, reason: "more than the header counts" }));
        }
        match view(&self.bytes, &mut self.at, &self.header, &mut self.checked) {
            Ok(record) => {
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

/// The record that begins at `at`, which is moved past it.
#[inline]
fn view<'a>(
    of: &'a Bytes,
    at: &mut usize,
    header: &BatchHeader,
    checked: &mut Range<usize>,
) -> Result<RecordView<'a>, &'static str> {
    let mut rest = &of[*at..];
    let len = varint::take(&mut rest).ok_or("its length is cut off")?;
    let len = usize::try_from(len).map_err(|_| "its length is negative")?;
    let (body, after) = rest.split_at_checked(len).ok_or("it ends after its batch")?;
    let end = of.len() - after.len();
    let (_, mut fields) = body.split_first().ok_or("it is empty")?;
    let timestamp_delta = varint::take(&mut fields).ok_or("its timestamp is cut off")?;
    let offset_delta = varint::take(&mut fields).ok_or("its offset is cut off")?;
    let offset_delta = u32::try_from(offset_delta)
        .ok()
        .filter(|delta| *delta <= header.last_offset_delta)
        .ok_or("its offset is not in its batch")?;
    let key = field(&mut fields).ok_or("its key is cut off")?;
    let value = field(&mut fields).ok_or("its value is cut off")?;
    let headers = fields;
    let header_count = varint::take(&mut fields).ok_or("its header count is cut off")?;
    if *headers != of[checked.clone()] {
        check_headers(header_count, fields)?;
        *checked = end - headers.len()..end;
    }
    *at = end;
    Ok(RecordView {
        offset: header.base_offset.plus(offset_delta.into()),
        timestamp: timestamp(header, timestamp_delta),
        key: key.map(|bytes| Lent { of, bytes }),
        value: value.map(|bytes| Lent { of, bytes }),
        headers: Lent { of, bytes: fields },
        // No more than there are bytes: it was checked.
        header_count: header_count as u32,
    })
}

fn timestamp(header: &BatchHeader, delta: i64) -> i64 {
    if header.attributes.is_log_append_time() {
        return header.max_timestamp;
    }
    header.base_timestamp.wrapping_add(delta)
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.lend()?.map(|record| record.share()))
    }
}
