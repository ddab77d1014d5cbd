//! Reading a message from a frame.
//!
//! A length is a claim. It is checked before anything is reserved, against the bytes that remain less
//! those that elements which were announced before must take; and all arrays of a message share one
//! budget of memory. So a frame of n bytes takes at most the smaller of [`MEMORY_MAX`] and a small
//! multiple of n. Text and records are slices of the frame.

use std::mem;

use bytes::Bytes;

use super::{
    super::api::{ApiKey, Version},
    error::{DecodeError, DecodeReason},
    wire::Wire,
};

/// How much memory the arrays of one message may take: half a million partitions.
pub const MEMORY_MAX: usize = 32 << 20;

/// Longest string, in bytes.
pub(super) const STRING_MAX: usize = i16::MAX as usize;

/// A place in a frame, and what is read there.
#[derive(Debug)]
pub struct Decoder {
    frame: Bytes,
    at: usize,
    /// Where reading must stop: the end of the frame, or of a tagged field.
    end: usize,
    /// Bytes before the end that the elements yet to be read of all open arrays take at least.
    owed: usize,
    /// Memory that arrays may take, and have not.
    room: usize,
    /// Memory that they took.
    arrays: usize,
    api: ApiKey,
    version: Version,
    field: &'static str,
}

/// One tagged field that was found.
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    /// Its number.
    pub number: u32,
    end: usize,
}

impl Decoder {
    /// A decoder of the message of `api` that begins at byte `at` of `frame`.
    #[must_use]
    pub fn new(frame: Bytes, at: usize, api: ApiKey, version: Version) -> Self {
        let end = frame.len();
        let (owed, room, arrays, field) = (0, MEMORY_MAX, 0, "its header");
        Self { frame, at: at.min(end), end, owed, room, arrays, api, version, field }
    }

    /// With at most `room` bytes of memory for arrays.
    #[must_use]
    pub fn with_memory(self, room: usize) -> Self {
        Self { room, ..self }
    }

    /// Bytes of memory that arrays took so far.
    #[must_use]
    pub fn arrays(&self) -> usize {
        self.arrays
    }

    /// The version that is read.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// How many bytes are still to be read.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// Names the field that is read next, for errors.
    #[inline]
    pub fn field(&mut self, name: &'static str) {
        self.field = name;
    }

    /// An error at this place.
    #[cold]
    #[must_use]
    pub fn error(&self, reason: DecodeReason) -> DecodeError {
        let Self { api, version, field, at, .. } = *self;
        DecodeError { api, version: version.number, field, at, reason }
    }

    /// The next `length` bytes, not copied.
    pub(super) fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        self.need(length)?;
        let bytes = self.frame.slice(self.at..self.at + length);
        self.at += length;
        Ok(bytes)
    }

    /// The next `N` bytes, for numbers.
    #[inline]
    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.frame[self.at..self.end].first_chunk() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(self.error(DecodeReason::Short { wanted: N, remaining: self.remaining() })),
        }
    }

    fn need(&self, wanted: usize) -> Result<(), DecodeError> {
        let remaining = self.remaining();
        if wanted > remaining {
            return Err(self.error(DecodeReason::Short { wanted, remaining }));
        }
        Ok(())
    }

    pub(super) fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error(DecodeReason::Varint))
    }

    /// The length of an array or of bytes, `None` for null: 32 bits, or compact.
    pub(super) fn length(&mut self) -> Result<Option<usize>, DecodeError> {
        if self.version.flexible {
            return self.compact_length();
        }
        let length = i32::from_be_bytes(self.fixed()?);
        self.signed_length(length)
    }

    /// The length of a string, `None` for null: 16 bits, or compact.
    pub(super) fn string_length(&mut self) -> Result<Option<usize>, DecodeError> {
        let length = if self.version.flexible {
            self.compact_length()?
        } else {
            let length = i16::from_be_bytes(self.fixed()?);
            self.signed_length(i32::from(length))?
        };
        match length {
            Some(length) if length > STRING_MAX => Err(self.error(DecodeReason::String(length))),
            length => Ok(length),
        }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        let length = self.varint()?;
        Ok(length.checked_sub(1).map(|length| length as usize))
    }

    fn signed_length(&self, length: i32) -> Result<Option<usize>, DecodeError> {
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(self.error(DecodeReason::Length(length))),
        }
    }

    /// The elements of an array, `None` for null.
    pub(super) fn array<T: Wire>(&mut self) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length()? else { return Ok(None) };
        let remaining = self.remaining().saturating_sub(self.owed);
        let least = T::least(self.version).max(1);
        if count > remaining / least {
            return Err(self.error(DecodeReason::Count { count, remaining }));
        }
        let room = self.room;
        let size = count
            .checked_mul(size_of::<T>())
            .filter(|size| *size <= room)
            .ok_or_else(|| self.error(DecodeReason::Memory { count, room }))?;
        self.room -= size;
        self.arrays += size;
        let mut elements = Vec::with_capacity(count);
        self.owed += count * least;
        for _ in 0..count {
            self.owed -= least;
            elements.push(T::decode(self)?);
        }
        Ok(Some(elements))
    }

    /// How many tagged fields follow.
    pub fn tags(&mut self) -> Result<u32, DecodeError> {
        self.varint()
    }

    /// The next tagged field, of which its content is still to be read, or skipped.
    pub fn tag(&mut self) -> Result<Tag, DecodeError> {
        let number = self.varint()?;
        let length = self.varint()? as usize;
        self.need(length)?;
        Ok(Tag { number, end: self.at + length })
    }

    /// The content of a tagged field.
    pub fn tagged<T: Wire>(&mut self, tag: Tag) -> Result<T, DecodeError> {
        let end = mem::replace(&mut self.end, tag.end);
        // What is owed stands behind the field.
        let owed = mem::take(&mut self.owed);
        let value = T::decode(self)?;
        if self.at < tag.end {
            return Err(self.error(DecodeReason::Tag(tag.end - self.at)));
        }
        (self.end, self.owed) = (end, owed);
        Ok(value)
    }

    /// Passes over a tagged field that nobody knows.
    pub fn skip(&mut self, tag: Tag) {
        self.at = tag.end;
    }

    /// Where the decoder stands in the frame.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// The whole frame.
    #[must_use]
    pub fn into_frame(self) -> Bytes {
        self.frame
    }
}
