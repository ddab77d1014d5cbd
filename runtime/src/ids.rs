//! Numbers that must not be mixed up, each a type of its own.
//!
//! Ends are exclusive and called `end`; inclusive ones are called `last`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Position of a record in a log: 0, 1, 2, …. At most `i64::MAX`, since Kafka's format is signed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Offset(pub u64);

impl Offset {
    /// The first offset of a new log.
    pub const ZERO: Offset = Offset(0);

    /// The offset `count` records further on.
    #[must_use]
    pub fn plus(self, count: u64) -> Offset {
        Offset(
            self.0.checked_add(count).filter(|end| *end <= i64::MAX as u64).expect("offset fits"),
        )
    }

    /// The offset right after this one.
    #[must_use]
    pub fn next(self) -> Offset {
        self.plus(1)
    }

    /// How many records lie from `start` up to this offset; 0 where it lies before `start`.
    #[must_use]
    pub fn since(self, start: Offset) -> u64 {
        self.0.saturating_sub(start.0)
    }

    /// As the signed number of Kafka's formats.
    #[must_use]
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0).expect("offsets are kept below 2^63")
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Name of a log that outlives its directory's name: whoever owns several logs under one id numbers
/// them. A log that is deleted and made anew has another id.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogId {
    /// The owner's id, never given twice.
    pub id: uuid::Uuid,
    /// Number of the log among the owner's.
    pub shard: u32,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.id, self.shard)
    }
}

/// Number of a leadership; 0 is the first. Fences whoever led before.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LeaderEpoch(pub u32);

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of an arbiter of this process: 0, 1, ….
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ArbiterId(pub u32);

impl fmt::Display for ArbiterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arbiter-{}", self.0)
    }
}
