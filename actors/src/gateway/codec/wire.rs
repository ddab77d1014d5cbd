//! How each kind of value stands on the wire.

use bytes::Bytes;
use bytestring::ByteString;
use uuid::Uuid;

use super::{
    super::{api::Version, error_code::ErrorCode},
    decode::Decoder,
    encode::Encoder,
    error::{DecodeError, DecodeReason, EncodeError},
};

/// A value that is written and read.
pub trait Wire: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// [`DecodeError`] where the bytes are none.
    fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError>;

    /// Writes it.
    ///
    /// # Errors
    /// [`EncodeError`] where the version cannot say it.
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError>;

    /// How many bytes it takes at least.
    fn least(version: Version) -> usize;
}

/// A value that has a null of its own on the wire.
pub trait Nullable: Wire {
    /// Reads it, or null.
    ///
    /// # Errors
    /// [`DecodeError`] where the bytes are neither.
    fn decode_nullable(decoder: &mut Decoder) -> Result<Option<Self>, DecodeError>;

    /// Writes null.
    ///
    /// # Errors
    /// [`EncodeError`].
    fn encode_null(encoder: &mut Encoder<'_>) -> Result<(), EncodeError>;

    /// Writes a value where null would have been allowed.
    ///
    /// # Errors
    /// [`EncodeError`] where the version cannot say it.
    fn encode_present(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        self.encode(encoder)
    }

    /// How many bytes it takes at least, where it may be null.
    fn least_nullable(version: Version) -> usize {
        Self::least(version)
    }
}

impl<T: Nullable> Wire for Option<T> {
    fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        T::decode_nullable(decoder)
    }

    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        match self {
            Some(value) => value.encode_present(encoder),
            None => T::encode_null(encoder),
        }
    }

    fn least(version: Version) -> usize {
        T::least_nullable(version)
    }
}

fn present<T: Nullable>(decoder: &mut Decoder) -> Result<T, DecodeError> {
    let value = T::decode_nullable(decoder)?;
    value.ok_or_else(|| decoder.error(DecodeReason::Null))
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Wire for $number {
            #[inline]
            fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
                decoder.fixed().map(Self::from_be_bytes)
            }

            #[inline]
            fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
                encoder.put(&self.to_be_bytes());
                Ok(())
            }

            fn least(_: Version) -> usize {
                size_of::<Self>()
            }
        }
    )*};
}

numbers!(i8, i16, i32, i64);

impl Wire for bool {
    fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        let [byte] = decoder.fixed()?;
        Ok(byte != 0)
    }

    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.put(&[u8::from(*self)]);
        Ok(())
    }

    fn least(_: Version) -> usize {
        1
    }
}

impl Wire for Uuid {
    fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        decoder.fixed().map(Uuid::from_bytes)
    }

    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.put(self.as_bytes());
        Ok(())
    }

    fn least(_: Version) -> usize {
        16
    }
}

impl Wire for ErrorCode {
    fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        i16::decode(decoder).map(ErrorCode::from_number)
    }

    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        self.number().encode(encoder)
    }

    fn least(_: Version) -> usize {
        2
    }
}

impl Wire for ByteString {
    fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        present(decoder)
    }

    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.string_length(Some(self.len()))?;
        encoder.put(self.as_bytes());
        Ok(())
    }

    fn least(version: Version) -> usize {
        if version.flexible { 1 } else { 2 }
    }
}

impl Nullable for ByteString {
    fn decode_nullable(decoder: &mut Decoder) -> Result<Option<Self>, DecodeError> {
        let Some(length) = decoder.string_length()? else { return Ok(None) };
        let bytes = decoder.take(length)?;
        let text = ByteString::try_from(bytes);
        text.map(Some).map_err(|_| decoder.error(DecodeReason::Utf8))
    }

    fn encode_null(encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.string_length(None)
    }
}

/// Least of what begins with a length as arrays and bytes have it.
fn least_length(version: Version) -> usize {
    if version.flexible { 1 } else { 4 }
}

impl Wire for Bytes {
    fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        present(decoder)
    }

    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.length(Some(self.len()))?;
        encoder.put_shared(self);
        Ok(())
    }

    fn least(version: Version) -> usize {
        least_length(version)
    }
}

impl Nullable for Bytes {
    fn decode_nullable(decoder: &mut Decoder) -> Result<Option<Self>, DecodeError> {
        let Some(length) = decoder.length()? else { return Ok(None) };
        decoder.take(length).map(Some)
    }

    fn encode_null(encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.length(None)
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        present(decoder)
    }

    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.length(Some(self.len()))?;
        self.iter().try_for_each(|element| element.encode(encoder))
    }

    fn least(version: Version) -> usize {
        least_length(version)
    }
}

impl<T: Wire> Nullable for Vec<T> {
    fn decode_nullable(decoder: &mut Decoder) -> Result<Option<Self>, DecodeError> {
        decoder.array()
    }

    fn encode_null(encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.length(None)
    }
}

/// Records of an answer to a fetch: one slice, or several that follow each other.
///
/// Null is read as empty and never written: librdkafka takes a null for an error.
#[derive(Clone, Debug, Default)]
pub struct Records {
    first: Bytes,
    more: Vec<Bytes>,
}

impl Records {
    /// How many bytes they are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slices().map(Bytes::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `slice` behind them.
    pub fn push(&mut self, slice: Bytes) {
        if self.first.is_empty() {
            self.first = slice;
        } else {
            self.more.push(slice);
        }
    }

    /// Their slices, in order.
    pub fn slices(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

impl From<Bytes> for Records {
    fn from(slice: Bytes) -> Self {
        Self { first: slice, more: Vec::new() }
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        let bytes = |records: &Self| records.slices().flatten().copied().collect::<Vec<_>>();
        self.len() == other.len() && bytes(self) == bytes(other)
    }
}

impl Eq for Records {}

impl Wire for Records {
    fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        Bytes::decode_nullable(decoder).map(|bytes| bytes.unwrap_or_default().into())
    }

    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.length(Some(self.len()))?;
        self.slices().for_each(|slice| encoder.put_shared(slice));
        Ok(())
    }

    fn least(version: Version) -> usize {
        least_length(version)
    }
}
