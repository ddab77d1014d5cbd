//! Names and numbers that all of the broker shares.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Name of a topic, in Kafka's alphabet (`Topic.java`): 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or `..`,
/// so that it is also the name of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(Arc<str>);

/// Most bytes of a topic's name: with `-<partition>` and a suffix it still is a file name.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// A text that is no topic's name.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is no topic name: 1 to {TOPIC_NAME_BYTES_MAX} of a-z, A-Z, 0-9, `.`, `_` and `-`, and neither `.` nor `..`"
)]
pub struct TopicNameError(pub String);

impl TopicName {
    /// The name `name`.
    ///
    /// # Errors
    /// [`TopicNameError`] where it holds other characters, is too long, empty, `.` or `..`.
    pub fn new(name: &str) -> Result<Self, TopicNameError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let length = 1..=TOPIC_NAME_BYTES_MAX;
        if !length.contains(&name.len()) || !name.bytes().all(legal) || matches!(name, "." | "..") {
            return Err(TopicNameError(name.chars().take(TOPIC_NAME_BYTES_MAX).collect()));
        }
        Ok(Self(name.into()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TopicName {
    type Error = TopicNameError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name)
    }
}

impl std::str::FromStr for TopicName {
    type Err = TopicNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> Self {
        name.0.as_ref().into()
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Number of a partition within its topic: 0, 1, ….
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct PartitionId(pub u32);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one topic; shown as `<topic>-<partition>`, which is also its directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// Which of its partitions.
    pub partition: PartitionId,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Who appends idempotently: not negative.
///
/// Two ranges, told apart by bit 62, so that how long a producer's state lives can be read off its
/// id, with nothing to store and nothing to forget:
///
/// | id | given by | its state |
/// |---|---|---|
/// | below 2⁶² | the broker, one after the other | expires when unused (`producer.id.expiration.ms`) |
/// | from 2⁶² on | its owner, a channel's log ([`ProducerId::owned_by`]) | never expires |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProducerId(pub i64);

impl ProducerId {
    /// The first id of the range whose state never expires.
    pub const OWNED_FIRST: ProducerId = ProducerId(1 << 62);

    /// The id of the producer that `owner` (the id of a channel's log) has for ever: 62 bits of it,
    /// and bit 62.
    #[must_use]
    pub fn owned_by(owner: Uuid) -> Self {
        let (high, low) = owner.as_u64_pair();
        // The two halves of a random id are independent: folding them keeps 62 random bits.
        let bits = (high ^ low.rotate_left(32)) & ((1 << 62) - 1);
        Self(bits as i64 | Self::OWNED_FIRST.0)
    }

    /// Whether this producer's state is kept for ever.
    #[must_use]
    pub fn is_owned(self) -> bool {
        self >= Self::OWNED_FIRST
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When an append is answered (Kafka's `acks`). What each survives stands in the crate's promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acks {
    /// At once, with no promise (0).
    None,
    /// When it is durable on the leader (1).
    Leader,
    /// When it is committed: durable on enough in-sync replicas (`all`).
    #[default]
    InSync,
}

/// How far a fetch may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// All that is written: followers only.
    LogEnd,
    /// Below the high watermark (Kafka's `read_uncommitted`).
    #[default]
    Uncommitted,
    /// Below the last stable offset (Kafka's `read_committed`).
    Committed,
    /// Below the high watermark, and only what is on the disk: of a lazy topic not what a power cut may
    /// still take. Who waits for more has a lazy topic synced.
    Durable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_are_kafkas() {
        for good in ["a", "orders.v1_eu-2", "__consumer_offsets", &"x".repeat(249)] {
            assert_eq!(TopicName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "ü", "a\0", &"x".repeat(250)] {
            assert!(TopicName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn owned_producers_are_told_by_their_id() {
        for owner in [Uuid::nil(), Uuid::max(), Uuid::from_u128(0x1234 << 64)] {
            let id = ProducerId::owned_by(owner);
            assert!(id.is_owned() && id.0 > 0, "{id}");
        }
        assert!(!ProducerId((1 << 62) - 1).is_owned());
        let one = ProducerId::owned_by(Uuid::from_u128(1));
        assert_ne!(one, ProducerId::owned_by(Uuid::from_u128(2)));
    }
}
