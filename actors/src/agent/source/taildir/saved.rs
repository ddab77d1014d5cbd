//! What is kept of a tailed file with its events: which file it is, and how far it was read.
//!
//! | part of the position | value |
//! |---|---|
//! | `started` | when the source first began, in milliseconds since 1970 |
//! | `<device>:<inode>` | [`Saved`] |
//!
//! # Why the fingerprint covers what was read
//! Inode numbers are used again, at once on ext4, so a file is only taken for the one that was read
//! before if its first bytes are the same. The fingerprint is the CRC-32C of the first
//! `min(256, offset)` bytes: bytes that were read do not change in a file that is only appended to,
//! so it needs no second look while a small file grows; and where nothing was read there is nothing
//! to mistake.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use flumen_runtime::codec;
use serde::{Deserialize, Serialize};

use crate::agent::{
    event::{Position, PositionBytes},
    source::taildir::files::FileKey,
};

/// Most bytes of a file that its fingerprint covers.
pub const FINGERPRINT_BYTES_MAX: usize = 256;

/// The part that says when the source first began.
pub const STARTED: &str = "started";

/// How far a file was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// When its inode was made, where the file system tells.
    pub born_ns: Option<i64>,
    /// Bytes that the fingerprint covers.
    pub fingerprint_bytes: u16,
    /// CRC-32C of them.
    pub fingerprint: u32,
    /// Where the next line begins.
    pub offset: u64,
    /// The path whose rotation it belongs to.
    #[serde(with = "serde_bytes")]
    pub family: Vec<u8>,
}

/// As it is written: a later version gets a variant of its own.
#[derive(Serialize, Deserialize)]
enum Format {
    V1(Saved),
}

/// A position that this source cannot have written.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the saved position `{part}` cannot be read: {why}; it was written by a newer program, or the \
     channel belongs to a source of another kind under the same name"
)]
pub struct SavedError {
    /// Which part of the position.
    pub part: String,
    /// What is wrong with it.
    pub why: String,
}

impl Saved {
    /// The path whose rotation it belongs to.
    #[must_use]
    pub fn family(&self) -> PathBuf {
        Path::new(OsStr::from_bytes(&self.family)).to_owned()
    }

    /// Whether a file that begins with `head`, and was born then, can be this one. A birth that is
    /// not known on either side says nothing.
    #[must_use]
    pub fn is_same_file(&self, head: &[u8], born_ns: Option<i64>) -> bool {
        let is_born_then = self.born_ns.is_none() || born_ns.is_none() || self.born_ns == born_ns;
        let covered = head.get(..usize::from(self.fingerprint_bytes));
        // A file that is shorter than what was read of it was cut: still the same file.
        let is_same_head = match covered {
            Some(covered) => codec::crc32c(&[covered]) == self.fingerprint,
            None => self.born_ns.is_some() && self.born_ns == born_ns,
        };
        is_born_then && is_same_head
    }

    /// As bytes of a position.
    #[must_use]
    pub fn encode(&self) -> PositionBytes {
        let bytes = codec::encode(&Format::V1(self.clone()));
        PositionBytes(bytes.expect("numbers and a path are encodable"))
    }
}

/// The name of a file's part.
#[must_use]
pub fn part_of(key: FileKey) -> String {
    format!("{}:{}", key.device, key.inode)
}

/// The time of the first start, as bytes of a position.
#[must_use]
pub fn encode_started(started_ms: i64) -> PositionBytes {
    PositionBytes(codec::encode(&started_ms).expect("a number is encodable"))
}

/// How far the bytes of one part say that its file was read; `None` for what is no file.
#[must_use]
pub fn offset_of(bytes: &PositionBytes) -> Option<u64> {
    codec::decode(&bytes.0).ok().map(|Format::V1(saved)| saved.offset)
}

/// Whether the bytes of two parts of one name may be of one file, by their births. A birth that is not
/// known says nothing.
#[must_use]
pub fn is_same_birth(one: &PositionBytes, other: &PositionBytes) -> bool {
    let born = |bytes: &PositionBytes| {
        codec::decode(&bytes.0).ok().and_then(|Format::V1(saved)| saved.born_ns)
    };
    born(one).zip(born(other)).is_none_or(|(one, other)| one == other)
}

/// What a position says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// When the source first began, if it ever did.
    pub started_ms: Option<i64>,
    /// The files that it had read from.
    pub files: Vec<(FileKey, Saved)>,
}

/// What `position` says.
///
/// # Errors
/// [`SavedError`] names the part that cannot be read.
pub fn decode(position: &Position) -> Result<Restored, SavedError> {
    let Restored { mut started_ms, mut files } = Restored::default();
    for (part, bytes) in position {
        let refused = |why: String| SavedError { part: part.clone(), why };
        if part == STARTED {
            started_ms = Some(codec::decode(&bytes.0).map_err(|error| refused(error.to_string()))?);
            continue;
        }
        let key = part.split_once(':').and_then(|(device, inode)| {
            Some(FileKey { device: device.parse().ok()?, inode: inode.parse().ok()? })
        });
        let key = key.ok_or_else(|| refused("its name is no device and inode".into()))?;
        let Format::V1(saved) =
            codec::decode(&bytes.0).map_err(|error| refused(error.to_string()))?;
        files.push((key, saved));
    }
    Ok(Restored { started_ms, files })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(head: &[u8], born_ns: Option<i64>) -> Saved {
        Saved {
            born_ns,
            fingerprint_bytes: head.len() as u16,
            fingerprint: codec::crc32c(&[head]),
            offset: 1000,
            family: b"/var/log/a.log".to_vec(),
        }
    }

    #[test]
    fn a_position_comes_back_as_it_was_saved() {
        let key = FileKey { device: 7, inode: 42 };
        let file = saved(b"hello", Some(3));
        let position =
            Position::from([(STARTED.into(), encode_started(99)), (part_of(key), file.encode())]);
        assert_eq!(offset_of(&position["7:42"]), Some(1000));
        let restored = Restored { started_ms: Some(99), files: vec![(key, file)] };
        assert_eq!(decode(&position), Ok(restored));
    }

    #[test]
    fn a_foreign_position_is_refused_by_name() {
        let position = Position::from([("x".into(), PositionBytes(vec![1]))]);
        assert!(decode(&position).unwrap_err().to_string().contains("`x`"));
    }

    #[test]
    fn another_head_or_another_birth_is_another_file() {
        let file = saved(b"hello", Some(3));
        assert!(file.is_same_file(b"hello and more", Some(3)));
        assert!(file.is_same_file(b"hello and more", None));
        assert!(!file.is_same_file(b"hellO and more", Some(3)));
        assert!(!file.is_same_file(b"hello and more", Some(4)));
        assert!(file.is_same_file(b"he", Some(3)), "cut, and surely the same");
        assert!(!file.is_same_file(b"he", None), "shorter than what was read of it");
    }
}
