//! Writing a message to a connection.
//!
//! [`Output`] gathers what is to be sent: small fields in one buffer, and between them the slices of
//! records, which are not copied. [`Encoder`] writes one message to it.

use bytes::Bytes;

use super::{
    super::api::{ApiKey, Version},
    decode::STRING_MAX,
    error::{EncodeError, EncodeReason},
    wire::Wire,
};

/// Shorter slices are copied: an entry of a vectored write costs as much.
const SHARED_MIN: usize = 512;

/// Room that is made for a frame at once: most answers take less.
const FRAME_ROOM: usize = 128;

/// Bytes to be sent, in order: frames of responses or requests.
#[derive(Clone, Debug, Default)]
pub struct Output {
    buffer: Vec<u8>,
    /// What stands in between: after so many bytes of the buffer, this slice.
    shared: Vec<(usize, Bytes)>,
    shared_length: usize,
}

impl Output {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len() + self.shared_length
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `other` behind what is there.
    pub fn append(&mut self, other: Output) {
        if self.is_empty() {
            *self = other;
            return;
        }
        let before = self.buffer.len();
        self.buffer.extend_from_slice(&other.buffer);
        self.shared.extend(other.shared.into_iter().map(|(at, slice)| (before + at, slice)));
        self.shared_length += other.shared_length;
    }

    /// Takes all of it, as slices in the order in which they are sent.
    #[must_use]
    pub fn take_slices(&mut self) -> Vec<Bytes> {
        let buffer = Bytes::from(std::mem::take(&mut self.buffer));
        let mut slices = Vec::with_capacity(2 * self.shared.len() + 1);
        let mut from = 0;
        for (at, slice) in self.shared.drain(..) {
            if at > from {
                slices.push(buffer.slice(from..at));
                from = at;
            }
            slices.push(slice);
        }
        if from < buffer.len() {
            slices.push(buffer.slice(from..));
        }
        self.shared_length = 0;
        slices
    }

    /// Takes all of it in one piece; copies where there is more than one slice.
    #[must_use]
    pub fn take_bytes(&mut self) -> Bytes {
        let mut slices = self.take_slices();
        match slices.len() {
            1 => slices.remove(0),
            _ => slices.concat().into(),
        }
    }

    /// Puts `slice` behind what is there.
    fn put(&mut self, slice: &Bytes) {
        if slice.len() < SHARED_MIN {
            self.buffer.extend_from_slice(slice);
        } else {
            self.shared.push((self.buffer.len(), slice.clone()));
            self.shared_length += slice.len();
        }
    }

    /// Writes one frame with `write`, which is given an encoder that stands behind the length. Where
    /// it fails, nothing is written.
    pub(super) fn frame(
        &mut self,
        api: ApiKey,
        version: Version,
        write: impl FnOnce(&mut Encoder<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = (self.buffer.len(), self.shared.len(), self.shared_length);
        self.buffer.reserve(FRAME_ROOM);
        self.buffer.extend_from_slice(&[0; 4]);
        let before = self.len();
        let mut encoder =
            Encoder { output: self, api, version, field: "its header", copies: false };
        let result = write(&mut encoder).and_then(|()| {
            let length = encoder.output.len() - before;
            let length = i32::try_from(length).map_err(|_| encoder.too_long(length))?;
            encoder.output.buffer[start.0..start.0 + 4].copy_from_slice(&length.to_be_bytes());
            Ok(())
        });
        if result.is_err() {
            self.buffer.truncate(start.0);
            self.shared.truncate(start.1);
            self.shared_length = start.2;
        }
        result
    }
}

/// Writes one message.
#[derive(Debug)]
pub struct Encoder<'a> {
    output: &'a mut Output,
    api: ApiKey,
    version: Version,
    field: &'static str,
    /// Whether slices are copied too: what is written is about to be moved.
    copies: bool,
}

impl Encoder<'_> {
    /// The version that is written.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Names the field that is written next, for errors.
    #[inline]
    pub fn field(&mut self, name: &'static str) {
        self.field = name;
    }

    /// An error in the field that is written.
    #[cold]
    #[must_use]
    pub fn error(&self, reason: EncodeReason) -> EncodeError {
        let Self { api, version, field, .. } = *self;
        EncodeError { api, version: version.number, field, reason }
    }

    fn too_long(&self, length: usize) -> EncodeError {
        self.error(EncodeReason::Length(length))
    }

    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.output.buffer.extend_from_slice(bytes);
    }

    /// Puts a slice of records, which is not copied.
    pub(super) fn put_shared(&mut self, slice: &Bytes) {
        if self.copies {
            self.put(slice);
        } else {
            self.output.put(slice);
        }
    }

    pub(super) fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.put(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.put(&[value as u8]);
    }

    /// The length of an array or of bytes, `None` for null: 32 bits, or compact.
    pub(super) fn length(&mut self, length: Option<usize>) -> Result<(), EncodeError> {
        let signed = match length {
            None => -1,
            Some(length) => i32::try_from(length).map_err(|_| self.too_long(length))?,
        };
        if self.version.flexible {
            self.varint(signed.wrapping_add(1) as u32);
        } else {
            self.put(&signed.to_be_bytes());
        }
        Ok(())
    }

    /// The length of a string, `None` for null: 16 bits, or compact.
    pub(super) fn string_length(&mut self, length: Option<usize>) -> Result<(), EncodeError> {
        if let Some(length) = length.filter(|length| *length > STRING_MAX) {
            return Err(self.too_long(length));
        }
        if self.version.flexible {
            return self.length(length);
        }
        let length = length.map_or(-1, |length| length as i16);
        self.put(&length.to_be_bytes());
        Ok(())
    }

    /// How many tagged fields follow.
    pub fn tags(&mut self, count: u32) {
        self.varint(count);
    }

    /// One tagged field.
    pub fn tagged<T: Wire>(&mut self, number: u32, value: &T) -> Result<(), EncodeError> {
        self.varint(number);
        let start = self.output.buffer.len();
        let copies = std::mem::replace(&mut self.copies, true);
        value.encode(self)?;
        self.copies = copies;
        let content = self.output.buffer.split_off(start);
        let length = u32::try_from(content.len()).map_err(|_| self.too_long(content.len()))?;
        self.varint(length);
        self.put(&content);
        Ok(())
    }
}
