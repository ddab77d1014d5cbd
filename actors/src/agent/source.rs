//! Sources: what brings events in.

pub mod feed;
pub mod taildir;

use actix::Message;

/// What a source has done, and whether it can go on.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "SourceState")]
pub struct SourceStatus;

/// The answer to [`SourceStatus`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceState {
    /// Events that are in all required channels, in this life.
    pub events: u64,
    /// Bytes that are there to be read and were not.
    pub unread_bytes: u64,
    /// What happened that a person should know of, by name: `truncations`, for instance.
    pub counts: Vec<(&'static str, u64)>,
    /// Why it does not go on, and what helps; where that is so.
    pub offline: Option<String>,
}
