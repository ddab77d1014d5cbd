//! Kafka's primitive types as bytes (`protocol_guide`, KIP-482 for the compact ones), bounds-checked.
//!
//! A length that was read is a claim: it is checked against the bytes that are left before anything
//! is allocated for it.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum WireError {
    /// They end too early.
    #[error("the bytes end where {wanted} more are claimed and {left} are left")]
    Short {
        /// How many the field needs.
        wanted: usize,
        /// How many are left.
        left: usize,
    },
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// A field that must not be null, or a number out of its range.
    #[error("{0}")]
    Invalid(&'static str),
    /// A version that is not known here.
    #[error("version {got} of {what} is newer than {known_max}, the newest known here")]
    Version {
        /// Of what.
        what: &'static str,
        /// The version that came.
        got: i16,
        /// The newest known.
        known_max: i16,
    },
}

/// Reads fields one after the other.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    fn take(&mut self, wanted: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(wanted)
            .ok_or(WireError::Short { wanted, left: self.bytes.len() })?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        Ok(self.take(N)?.try_into().expect("take gives as many as asked for"))
    }

    /// An INT8.
    pub fn i8(&mut self) -> Result<i8, WireError> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    /// An INT16.
    pub fn i16(&mut self) -> Result<i16, WireError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// An INT32.
    pub fn i32(&mut self) -> Result<i32, WireError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// An INT64.
    pub fn i64(&mut self) -> Result<i64, WireError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A UUID.
    pub fn uuid(&mut self) -> Result<Uuid, WireError> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    /// An UNSIGNED_VARINT of at most 32 bits.
    pub fn uvarint(&mut self) -> Result<u32, WireError> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Invalid("a varint is longer than 32 bits"))
    }

    fn text(&mut self, length: usize) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.take(length)?).map_err(|_| WireError::NotUtf8)
    }

    /// A NULLABLE_STRING; compact where `flexible`.
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<&'a str>, WireError> {
        let length = if flexible { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i16()?) };
        match usize::try_from(length) {
            Ok(length) => self.text(length).map(Some),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(WireError::Invalid("a length is negative")),
        }
    }

    /// A STRING; compact where `flexible`.
    pub fn string(&mut self, flexible: bool) -> Result<&'a str, WireError> {
        self.nullable_string(flexible)?.ok_or(WireError::Invalid("a text must not be null"))
    }

    /// NULLABLE_BYTES; compact where `flexible`.
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<&'a [u8]>, WireError> {
        match self.length(flexible)? {
            Some(length) => self.take(length).map(Some),
            None => Ok(None),
        }
    }

    /// BYTES; compact where `flexible`.
    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes, WireError> {
        let bytes = self.nullable_bytes(flexible)?;
        bytes.map(Bytes::copy_from_slice).ok_or(WireError::Invalid("bytes must not be null"))
    }

    fn length(&mut self, flexible: bool) -> Result<Option<usize>, WireError> {
        let length = if flexible { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i32()?) };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(WireError::Invalid("a length is negative")),
        }
    }

    /// The elements of an ARRAY, each read by `read` and at least one byte long.
    pub fn elements<T>(
        &mut self,
        flexible: bool,
        mut read: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let wanted = self.length(flexible)?.unwrap_or(0);
        if wanted > self.left() {
            return Err(WireError::Short { wanted, left: self.left() });
        }
        // Elements of one byte may be large in memory: the room grows with what was really read.
        let mut elements = Vec::with_capacity(wanted.min(64));
        for _ in 0..wanted {
            elements.push(read(self)?);
        }
        Ok(elements)
    }

    /// The tagged fields at the end of a flexible structure: each is given to `field`.
    pub fn tagged(
        &mut self,
        mut field: impl FnMut(u32, &mut Reader<'a>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let length = self.uvarint()?;
            let mut inner = Reader::new(self.take(length as usize)?);
            field(tag, &mut inner)?;
        }
        Ok(())
    }
}

/// Writes fields one after the other.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: BytesMut,
}

impl Writer {
    /// What was written.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.bytes.freeze()
    }

    /// An INT16.
    pub fn i16(&mut self, value: i16) -> &mut Self {
        self.bytes.put_i16(value);
        self
    }

    /// An INT32.
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes.put_i32(value);
        self
    }

    /// An INT64.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes.put_i64(value);
        self
    }

    /// An UNSIGNED_VARINT.
    pub fn uvarint(&mut self, mut value: u32) -> &mut Self {
        while value >= 0x80 {
            self.bytes.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8(value as u8);
        self
    }

    /// A STRING, cut to what its length field can hold.
    pub fn string(&mut self, text: &str) -> &mut Self {
        let text = &text[..text.floor_char_boundary(i16::MAX as usize)];
        self.bytes.put_i16(text.len() as i16);
        self.bytes.put_slice(text.as_bytes());
        self
    }

    /// A NULLABLE_STRING.
    pub fn nullable_string(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.string(text),
            None => self.i16(-1),
        }
    }

    /// A COMPACT_STRING.
    pub fn compact_string(&mut self, text: &str) -> &mut Self {
        self.uvarint(u32::try_from(text.len()).expect("a text is below 4 GiB") + 1);
        self.bytes.put_slice(text.as_bytes());
        self
    }

    /// BYTES.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len());
        self.bytes.put_slice(bytes);
        self
    }

    /// NULLABLE_BYTES.
    pub fn nullable_bytes(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            Some(bytes) => self.bytes(bytes),
            None => self.i32(-1),
        }
    }

    /// The length of an ARRAY, whose elements follow.
    pub fn count(&mut self, count: usize) -> &mut Self {
        self.i32(i32::try_from(count).expect("a request is below 2 GiB"))
    }

    /// One tagged field of fixed bytes.
    pub fn tagged_uuid(&mut self, tag: u32, value: Uuid) -> &mut Self {
        self.uvarint(tag).uvarint(16);
        self.bytes.put_slice(value.as_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_length_is_checked_before_anything_is_allocated() {
        let claim = i32::MAX.to_be_bytes();
        let short = WireError::Short { wanted: i32::MAX as usize, left: 0 };
        assert_eq!(Reader::new(&claim).bytes(false), Err(short.clone()));
        assert_eq!(Reader::new(&claim).elements(false, |r| r.i16()), Err(short));
    }

    #[test]
    fn varints_are_read_as_written_and_overlong_ones_refused() {
        for value in [0, 1, 127, 128, 300, u32::MAX] {
            let mut writer = Writer::default();
            writer.uvarint(value);
            let bytes = writer.finish();
            assert_eq!(Reader::new(&bytes).uvarint(), Ok(value));
        }
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).uvarint().is_err());
    }
}
