//! The one place that turns typed values into bytes and back: bincode, bounded, and an envelope for
//! files of our own.
//!
//! ```text
//!   envelope:  0        4          6         10         14
//!              ├ kind ──┼ version ─┼ length ──┼ CRC-32C ─┼ payload ──── … length bytes ┤
//!              │ 4 bytes│ u16      │ u32      │ u32      │ bincode                     │
//!              (numbers little-endian; the sum covers kind, version, length and payload)
//! ```
//!
//! # Why bincode 1.3.3, and why here only
//! RUSTSEC-2025-0141 says that bincode is unmaintained. Its authors call 1.3.3 complete, its version
//! 3 is an empty crate, and its bytes are also written by others (bincode 2 in its legacy mode,
//! wincode), so the format outlives the crate. It is pinned, nothing else names it (ARCH-4), and the
//! golden bytes of the tests below are what a replacement has to reproduce.
//!
//! # Limits
//! Input is hostile until its sum was checked, and a sum is no signature either. [`decode`] takes a
//! slice and never a reader, so a length that claims more than is there is an error before anything
//! is allocated for it; bytes that are left over are an error; a value has at most
//! [`VALUE_BYTES_MAX`] bytes. Payloads of bytes belong in `serde_bytes`: a plain
//! `Vec<u8>` is taken apart byte by byte.
//!
//! Kafka's formats do not pass through here: records, batches and protocol have codecs of their own.

use bincode::Options as _;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Most bytes of one encoded value: 64 MiB.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// Bytes of the envelope before its payload.
pub const ENVELOPE_BYTES: usize = 14;

/// A value that cannot be written.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum EncodeError {
    /// It comes to more than [`VALUE_BYTES_MAX`] bytes.
    #[error("value of {bytes} bytes is larger than the {VALUE_BYTES_MAX} that one value may have")]
    TooLarge {
        /// What it comes to.
        bytes: usize,
    },
    /// Its `Serialize` refused, or it has a shape that the format cannot hold (a sequence of unknown
    /// length, for instance).
    #[error("value cannot be encoded: {0}")]
    Unsupported(String),
}

/// Bytes that are no value of the wanted type.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// There are more than [`VALUE_BYTES_MAX`] of them.
    #[error("{bytes} bytes are more than the {VALUE_BYTES_MAX} that one value may have")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// They end early, go on after the value, claim a length that is not there, or break a rule of
    /// the type.
    #[error("{bytes} bytes are no value of the expected type: {why}")]
    Malformed {
        /// How many there are.
        bytes: usize,
        /// What does not fit.
        why: String,
    },
}

/// Bytes that are no envelope of the wanted kind.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnsealError {
    /// Fewer bytes than the envelope says, or than an envelope has.
    #[error("ends after {bytes} of {needed} bytes")]
    Short {
        /// Bytes that are there.
        bytes: usize,
        /// Bytes that there should be.
        needed: usize,
    },
    /// Another kind of file.
    #[error("begins with {found:?} where {wanted:?} is expected: another kind of file")]
    Kind {
        /// The first four bytes.
        found: String,
        /// What they should be.
        wanted: String,
    },
    /// Written by a later version of this program.
    #[error(
        "has format version {found}, and this program knows versions up to {known}; it was left \
         untouched: use the newer program that wrote it"
    )]
    Newer {
        /// The version that it names.
        found: u16,
        /// The newest that is known here.
        known: u16,
    },
    /// Its sum does not match.
    #[error("is damaged: its CRC-32C is {computed:08x} and should be {stored:08x}")]
    Damaged {
        /// The sum that was stored.
        stored: u32,
        /// The sum of what is there.
        computed: u32,
    },
    /// Whole, and yet no value of the type.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Fixed-width little-endian numbers, the layout of bincode 1's own `serialize`.
fn format() -> impl bincode::Options {
    bincode::DefaultOptions::new().with_fixint_encoding().reject_trailing_bytes()
}

/// Appends the bytes of `value` to `to`, which is left as it was where that fails.
///
/// # Errors
/// [`EncodeError`] where the value is too large or has a shape that the format cannot hold.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, to: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = to.len();
    // The limit is checked afterwards: bincode's own would walk the value twice.
    let written = format().with_no_limit().serialize_into(&mut *to, value);
    let bytes = to.len() - start;
    let outcome = match written {
        Err(error) => Err(EncodeError::Unsupported(error.to_string())),
        Ok(()) if bytes > VALUE_BYTES_MAX => Err(EncodeError::TooLarge { bytes }),
        Ok(()) => Ok(()),
    };
    if outcome.is_err() {
        to.truncate(start);
    }
    outcome
}

/// The bytes of `value`.
///
/// # Errors
/// As [`encode_into`].
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes)?;
    Ok(bytes)
}

/// The value that [`encode`] made these bytes of, all of them.
///
/// # Errors
/// [`DecodeError`] where they are anything else. Never panics, and never allocates more than a small
/// multiple of `bytes.len()`, unless `T` is a sequence of elements that have no bytes (`Vec<()>`).
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(DecodeError::TooLarge { bytes: bytes.len() });
    }
    format()
        .with_limit(bytes.len() as u64)
        .deserialize(bytes)
        .map_err(|error| DecodeError::Malformed { bytes: bytes.len(), why: error.to_string() })
}

/// `value` in an envelope that says what it is: for files of our own.
///
/// # Errors
/// As [`encode_into`].
pub fn seal<T: Serialize + ?Sized>(
    kind: [u8; 4],
    version: u16,
    value: &T,
) -> Result<Bytes, EncodeError> {
    let mut sealed = vec![0; ENVELOPE_BYTES];
    encode_into(value, &mut sealed)?;
    let length = u32::try_from(sealed.len() - ENVELOPE_BYTES).expect("at most VALUE_BYTES_MAX");
    sealed[0..4].copy_from_slice(&kind);
    sealed[4..6].copy_from_slice(&version.to_le_bytes());
    sealed[6..10].copy_from_slice(&length.to_le_bytes());
    let sum = sum_of(&sealed);
    sealed[10..14].copy_from_slice(&sum.to_le_bytes());
    Ok(sealed.into())
}

/// The value of an envelope of `kind`, whose version is not above `version_max`. What lies after the
/// envelope is not looked at: a slot of a file may be larger than what it holds.
///
/// # Errors
/// [`UnsealError`], which says what stands there instead.
pub fn unseal<T: DeserializeOwned>(
    kind: [u8; 4],
    version_max: u16,
    bytes: &[u8],
) -> Result<T, UnsealError> {
    let (_, payload) = open(kind, version_max, bytes)?;
    Ok(decode(payload)?)
}

/// Version and payload of an envelope, checked but not decoded: for kinds of which several versions
/// are read.
///
/// # Errors
/// [`UnsealError`], but never its `Decode`.
pub fn open(kind: [u8; 4], version_max: u16, bytes: &[u8]) -> Result<(u16, &[u8]), UnsealError> {
    let short = |needed| UnsealError::Short { bytes: bytes.len(), needed };
    let header = bytes.first_chunk::<ENVELOPE_BYTES>().ok_or_else(|| short(ENVELOPE_BYTES))?;
    if header[0..4] != kind {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        return Err(UnsealError::Kind { found: text(&header[0..4]), wanted: text(&kind) });
    }
    let version = u16::from_le_bytes([header[4], header[5]]);
    // Before length and sum: a later version may have moved them.
    if version > version_max {
        return Err(UnsealError::Newer { found: version, known: version_max });
    }
    let u32_at = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let end = ENVELOPE_BYTES + u32_at(6) as usize;
    let sealed = bytes.get(..end).ok_or_else(|| short(end))?;
    let (stored, computed) = (u32_at(10), sum_of(sealed));
    if stored != computed {
        return Err(UnsealError::Damaged { stored, computed });
    }
    Ok((version, &sealed[ENVELOPE_BYTES..]))
}

/// CRC-32C of a whole envelope but for the field that holds it.
fn sum_of(sealed: &[u8]) -> u32 {
    crc32c(&[&sealed[..10], &sealed[ENVELOPE_BYTES..]])
}

/// CRC-32C (Castagnoli, RFC 3720 §12.1) of `parts`, one after the other.
#[must_use]
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    u32::try_from(digest.finalize()).expect("a 32-bit sum has 32 bits")
}

#[cfg(test)]
mod tests;
