//! Why bytes are no message, and why a message has no bytes.

use super::super::api::ApiKey;

/// Bytes that are not the message that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{api} version {version}: {field} at byte {at}: {reason}")]
pub struct DecodeError {
    /// Of which API it should be a message.
    pub api: ApiKey,
    /// In which version.
    pub version: i16,
    /// The structure and its field that was read.
    pub field: &'static str,
    /// Where in the frame, counted after its length.
    pub at: usize,
    /// What is wrong there.
    pub reason: DecodeReason,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeReason {
    /// The frame ends within it.
    #[error("{wanted} bytes are needed, and {remaining} remain")]
    Short {
        /// How many bytes it takes.
        wanted: usize,
        /// How many there are.
        remaining: usize,
    },
    /// An array that cannot be in what remains of the frame.
    #[error(
        "{count} elements are announced, and the {remaining} bytes that remain cannot hold them"
    )]
    Count {
        /// How many elements it announces.
        count: usize,
        /// How many bytes remain.
        remaining: usize,
    },
    /// The message's arrays together take more memory than a message may.
    #[error("{count} elements take more memory than is left to this message ({room} bytes)")]
    Memory {
        /// How many elements the array has.
        count: usize,
        /// How many bytes of memory were left.
        room: usize,
    },
    /// A length that no field has.
    #[error("{0} is not a length")]
    Length(i32),
    /// A string longer than Kafka allows.
    #[error("a string of {0} bytes is too long")]
    String(usize),
    /// A number of variable length that does not end, or does not fit.
    #[error("a variable-length number does not fit in 32 bits")]
    Varint,
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    Utf8,
    /// Null where the version has none.
    #[error("null, which this version does not allow")]
    Null,
    /// A tagged field whose content is shorter than it says.
    #[error("a tagged field leaves {0} of its bytes unread")]
    Tag(usize),
}

/// A message that cannot be written in the version that it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{api} version {version}: {field}: {reason}")]
pub struct EncodeError {
    /// The message's API.
    pub api: ApiKey,
    /// The version it should be written in.
    pub version: i16,
    /// The structure and its field.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: EncodeReason,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeReason {
    /// It has a value, and the version has no such field.
    #[error("it is set, and this version cannot say it")]
    Lost,
    /// It is null where the version has none.
    #[error("it is null, which this version does not allow")]
    Null,
    /// It is longer than a length can say.
    #[error("its length {0} is more than can be said")]
    Length(usize),
    /// The codec does not know the version.
    #[error("the version is unknown")]
    Version,
}

/// A frame that does not begin with a request's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It is shorter than the header.
    #[error("the frame ends within its header")]
    Short,
    /// There is no such API.
    #[error("there is no API {0}")]
    Unknown(i16),
    /// An API or a version that is not served.
    #[error("{api} version {version} is not supported")]
    Unsupported {
        /// The API.
        api: ApiKey,
        /// The version asked for.
        version: i16,
        /// The number of the request, which an answer must carry.
        correlation_id: i32,
    },
    /// A length that no client id has.
    #[error("the length of the client id is none")]
    ClientId,
    /// Its tagged fields are malformed.
    #[error("the header's tagged fields are malformed")]
    Tags,
}
