//! Typed values on a topic: what a record's bytes are, and how a program notices that they are
//! another's.
//!
//! Every record that a typed stage writes carries the header [`TYPE_HEADER`] with the name and
//! version of its type, `access@2`. Reading it as another type is an error that names both; reading
//! an older version goes through [`Record::upgrade`].

use std::{fmt::Debug, marker::PhantomData};

use bytes::Bytes;
use flumen_runtime::{batch::Lent, codec};
use serde::{Serialize, de::DeserializeOwned};

/// Header that names a value's type and version, in UTF-8: `<name>@<version>`.
pub const TYPE_HEADER: &str = "flumen-type";

/// A type that can stand on a topic.
///
/// ```
/// # use serde::{Serialize, Deserialize};
/// use flumen::typed::{Record, ValueError};
///
/// #[derive(Serialize, Deserialize)]
/// struct AccessV1 { path: String }
///
/// #[derive(Serialize, Deserialize)]
/// struct Access { path: String, status: u16 }
///
/// impl Record for Access {
///     const TYPE: &'static str = "access";
///     const VERSION: u16 = 2;
///
///     fn upgrade(version: u16, value: &[u8]) -> Result<Self, ValueError> {
///         match version {
///             1 => {
///                 let old: AccessV1 = flumen::typed::decode(value)?;
///                 Ok(Access { path: old.path, status: 200 })
///             }
///             _ => Err(ValueError::mismatch::<Self>(Self::TYPE, version)),
///         }
///     }
/// }
/// ```
pub trait Record: Serialize + DeserializeOwned + 'static {
    /// Name of the type, the same in every program that reads or writes it; without `@`.
    const TYPE: &'static str;

    /// Version of its fields: another number for every change.
    const VERSION: u16;

    /// The value that an older `version` wrote.
    ///
    /// # Errors
    /// [`ValueError::Mismatch`] where there is no way from that version to this one, which is the
    /// answer for every version unless a type says otherwise.
    fn upgrade(version: u16, _value: &[u8]) -> Result<Self, ValueError> {
        Err(ValueError::mismatch::<Self>(Self::TYPE, version))
    }
}

/// A value could not be made into bytes, or bytes into a value.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ValueError {
    /// The record holds another type, or a version that nothing leads from.
    #[error(
        "the record holds `{found}` and `{wanted}` was expected; read it as `{found}`, or write an `upgrade`"
    )]
    Mismatch {
        /// What its header says.
        found: String,
        /// What the reader expects.
        wanted: String,
    },
    /// The record says nothing of its type.
    #[error(
        "the record names no type and `{wanted}` was expected; read the topic as raw bytes or JSON"
    )]
    Untyped {
        /// What the reader expects.
        wanted: String,
    },
    /// The header says the right type, and the bytes are not of it.
    #[error(
        "the record's bytes are no `{wanted}`: {reason}; was a field changed without a new version?"
    )]
    Malformed {
        /// What the reader expects.
        wanted: String,
        /// What the decoder found.
        reason: String,
    },
    /// The value cannot be encoded.
    #[error("the value cannot be written as `{wanted}`: {reason}")]
    Unwritable {
        /// What was to be written.
        wanted: String,
        /// Why not.
        reason: String,
    },
}

impl ValueError {
    /// The record holds version `version` of `found`, and nothing leads from there to `T`.
    #[must_use]
    pub fn mismatch<T: Record>(found: &str, version: u16) -> Self {
        ValueError::Mismatch { found: type_name(found, version), wanted: wanted::<T>() }
    }
}

fn type_name(name: &str, version: u16) -> String {
    format!("{name}@{version}")
}

fn wanted<T: Record>() -> String {
    type_name(T::TYPE, T::VERSION)
}

/// The value that these bytes are of, in flumen's default encoding (bincode 1, fixed-width
/// integers): what an [`Record::upgrade`] reads an older version's fields with.
///
/// # Errors
/// [`ValueError::Malformed`].
pub fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, ValueError> {
    codec::decode(value).map_err(|error| ValueError::Malformed {
        wanted: std::any::type_name::<T>().to_owned(),
        reason: error.to_string(),
    })
}

/// How values of type `T` stand in a record.
pub trait Format<T>: Clone + 'static {
    /// What the header [`TYPE_HEADER`] of a written record says; `None` where it has none.
    fn type_header(&self) -> Option<String>;

    /// Adds the bytes of `value` to `to`.
    ///
    /// # Errors
    /// [`ValueError::Unwritable`].
    fn write(&self, value: &T, to: &mut Vec<u8>) -> Result<(), ValueError>;

    /// The value that `value` is of, in a record whose type header is `header`.
    ///
    /// # Errors
    /// [`ValueError`], each with what was found and what was expected.
    fn read(&self, value: Lent<'_>, header: Option<&[u8]>) -> Result<T, ValueError>;
}

/// bincode through serde, with the type's name and version in a header: the default.
pub struct Bincode<T>(PhantomData<fn() -> T>);

impl<T> Clone for Bincode<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> Default for Bincode<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Record> Format<T> for Bincode<T> {
    fn type_header(&self) -> Option<String> {
        Some(wanted::<T>())
    }

    fn write(&self, value: &T, to: &mut Vec<u8>) -> Result<(), ValueError> {
        codec::encode_into(value, to).map_err(|error| ValueError::Unwritable {
            wanted: wanted::<T>(),
            reason: error.to_string(),
        })
    }

    fn read(&self, value: Lent<'_>, header: Option<&[u8]>) -> Result<T, ValueError> {
        let header = header.ok_or_else(|| ValueError::Untyped { wanted: wanted::<T>() })?;
        match version::<T>(header) {
            Some(version) if version == T::VERSION => codec::decode(&value).map_err(|error| {
                ValueError::Malformed { wanted: wanted::<T>(), reason: error.to_string() }
            }),
            Some(version) if version < T::VERSION => T::upgrade(version, &value),
            _ => Err(ValueError::Mismatch {
                found: String::from_utf8_lossy(header).into_owned(),
                wanted: wanted::<T>(),
            }),
        }
    }
}

/// The version of `T` that a type header names; `None` where it names another type, or is none.
fn version<T: Record>(header: &[u8]) -> Option<u16> {
    // Every record is asked: a few digits are read faster here than as text.
    let digits = header.strip_prefix(T::TYPE.as_bytes())?.strip_prefix(b"@")?;
    let (first, rest) = digits.split_first()?;
    rest.iter().try_fold(digit(*first)?, |version, byte| {
        version.checked_mul(10)?.checked_add(digit(*byte)?)
    })
}

fn digit(byte: u8) -> Option<u16> {
    byte.is_ascii_digit().then(|| u16::from(byte - b'0'))
}

/// JSON (RFC 8259), one value a record, without a type header: what other programs read and write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl<T: Serialize + DeserializeOwned + 'static> Format<T> for Json {
    fn type_header(&self) -> Option<String> {
        None
    }

    fn write(&self, value: &T, to: &mut Vec<u8>) -> Result<(), ValueError> {
        serde_json::to_writer(to, value).map_err(|error| ValueError::Unwritable {
            wanted: "JSON".to_owned(),
            reason: error.to_string(),
        })
    }

    fn read(&self, value: Lent<'_>, _: Option<&[u8]>) -> Result<T, ValueError> {
        serde_json::from_slice(&value).map_err(|error| ValueError::Malformed {
            wanted: format!("JSON of {}", std::any::type_name::<T>()),
            reason: error.to_string(),
        })
    }
}

/// The record's bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Format<Bytes> for Raw {
    fn type_header(&self) -> Option<String> {
        None
    }

    fn write(&self, value: &Bytes, to: &mut Vec<u8>) -> Result<(), ValueError> {
        to.extend_from_slice(value);
        Ok(())
    }

    fn read(&self, value: Lent<'_>, _: Option<&[u8]>) -> Result<Bytes, ValueError> {
        Ok(value.share())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        path: String,
    }

    impl Record for Old {
        const TYPE: &'static str = "access";
        const VERSION: u16 = 1;
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Access {
        path: String,
        status: u16,
    }

    impl Record for Access {
        const TYPE: &'static str = "access";
        const VERSION: u16 = 2;

        fn upgrade(version: u16, value: &[u8]) -> Result<Self, ValueError> {
            assert_eq!(version, 1);
            let old: Old = decode(value)?;
            Ok(Access { path: old.path, status: 200 })
        }
    }

    fn written<T: Record>(value: &T) -> (Bytes, String) {
        let format = Bincode::<T>::default();
        let mut bytes = Vec::new();
        format.write(value, &mut bytes).unwrap();
        (bytes.into(), format.type_header().unwrap())
    }

    #[test]
    fn an_older_version_is_upgraded() {
        let (bytes, header) = written(&Old { path: "/".into() });
        let read =
            Bincode::<Access>::default().read((&bytes).into(), Some(header.as_bytes())).unwrap();
        assert_eq!(read, Access { path: "/".into(), status: 200 });
    }

    #[test]
    fn a_newer_version_or_another_type_is_named() {
        let (bytes, header) = written(&Access { path: "/".into(), status: 404 });
        assert_eq!(header, "access@2");
        let old = Bincode::<Old>::default();
        for found in
            ["access@2", "order@1", "access@x", "access@", "access", "accessed@1", "access@65537"]
        {
            let error = old.read((&bytes).into(), Some(found.as_bytes())).unwrap_err().to_string();
            assert!(error.contains(found) && error.contains("access@1"), "{error}");
        }
    }

    #[test]
    fn bytes_without_a_type_or_that_are_not_of_it_are_told_apart() {
        let format = Bincode::<Access>::default();
        let bytes = Bytes::from_static(b"not bincode");
        assert!(matches!(format.read((&bytes).into(), None), Err(ValueError::Untyped { .. })));
        let read = format.read((&bytes).into(), Some(b"access@2"));
        assert!(matches!(read, Err(ValueError::Malformed { .. })));
    }

    #[test]
    fn json_and_raw_bytes_need_no_type() {
        let mut bytes = Vec::new();
        let value = vec![1_u32, 2, 3];
        Json.write(&value, &mut bytes).unwrap();
        assert_eq!(bytes, b"[1,2,3]");
        let back: Vec<u32> = Json.read((&Bytes::from(bytes)).into(), None).unwrap();
        assert_eq!(back, value);
        let raw = Bytes::from_static(b"\x00\xff");
        assert_eq!(Raw.read((&raw).into(), None).unwrap(), raw);
    }
}
