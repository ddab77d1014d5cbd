//! What members of a `consumer` group tell each other through the coordinator, which carries it
//! unread: subscription and assignment (Kafka's `ConsumerProtocolSubscription.json` and
//! `ConsumerProtocolAssignment.json`, versions 0 to 3, none flexible).
//!
//! A newer version than is known is read by the newest known layout: new versions may only add
//! fields at the end, and that is how Kafka's own clients read them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    ids::GenerationId,
    wire::{Reader, WireError, Writer},
};
use crate::broker::names::{PartitionId, TopicName, TopicPartition};

/// The type of groups whose members consume topics.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";
const SUBSCRIPTION_VERSION: i16 = 3;
const ASSIGNMENT_VERSION: i16 = 3;

/// What a member subscribed to, and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The topics.
    pub topics: Vec<TopicName>,
    /// For the assignor's own use.
    pub user_data: Option<Bytes>,
    /// Partitions that it holds, sorted (version 1 on).
    pub owned: Vec<TopicPartition>,
    /// The generation in which it was given what it holds (version 2 on).
    pub generation: Option<GenerationId>,
    /// Where it runs (version 3 on, KIP-881).
    pub rack: Option<String>,
}

/// What a member was assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The partitions, sorted.
    pub partitions: Vec<TopicPartition>,
    /// For the assignor's own use.
    pub user_data: Option<Bytes>,
}

impl Subscription {
    /// As bytes of version 3.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.i16(SUBSCRIPTION_VERSION).count(self.topics.len());
        for topic in &self.topics {
            writer.string(topic.as_str());
        }
        writer.nullable_bytes(self.user_data.as_deref());
        write_partitions(&mut writer, &self.owned);
        writer.i32(self.generation.map_or(-1, GenerationId::as_i32));
        writer.nullable_string(self.rack.as_deref());
        writer.finish()
    }

    /// From bytes of any version.
    ///
    /// # Errors
    /// [`WireError`] where the bytes are not what their version says.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let version = version(&mut reader)?;
        let topics = reader.elements(false, read_topic)?;
        let user_data = reader.nullable_bytes(false)?.map(Bytes::copy_from_slice);
        let owned = if version >= 1 { read_partitions(&mut reader)? } else { Vec::new() };
        let generation = if version >= 2 { reader.i32()? } else { -1 };
        let rack = if version >= 3 { reader.nullable_string(false)? } else { None };
        let generation = GenerationId::from_i32(generation);
        Ok(Self { topics, user_data, owned, generation, rack: rack.map(str::to_owned) })
    }
}

impl Assignment {
    /// Assigns `partitions`.
    #[must_use]
    pub fn of(mut partitions: Vec<TopicPartition>) -> Self {
        partitions.sort();
        Self { partitions, user_data: None }
    }

    /// As bytes of version 3.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.i16(ASSIGNMENT_VERSION);
        write_partitions(&mut writer, &self.partitions);
        writer.nullable_bytes(self.user_data.as_deref());
        writer.finish()
    }

    /// From bytes of any version; no bytes at all assign nothing, as a member gets that its leader
    /// did not mention.
    ///
    /// # Errors
    /// [`WireError`] where the bytes are not what their version says.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader::new(bytes);
        version(&mut reader)?;
        let partitions = read_partitions(&mut reader)?;
        let user_data = reader.nullable_bytes(false)?.map(Bytes::copy_from_slice);
        Ok(Self { partitions, user_data })
    }
}

fn version(reader: &mut Reader<'_>) -> Result<i16, WireError> {
    let version = reader.i16()?;
    if version < 0 {
        return Err(WireError::Invalid("a version is negative"));
    }
    Ok(version)
}

fn read_topic(reader: &mut Reader<'_>) -> Result<TopicName, WireError> {
    TopicName::new(reader.string(false)?)
        .map_err(|_| WireError::Invalid("a text is no possible name of a topic"))
}

/// Sorted: clients name them in any order, and one topic more than once.
fn read_partitions(reader: &mut Reader<'_>) -> Result<Vec<TopicPartition>, WireError> {
    let topics = reader.elements(false, |reader| {
        let topic = read_topic(reader)?;
        reader.elements(false, |reader| {
            let partition = u32::try_from(reader.i32()?)
                .map_err(|_| WireError::Invalid("the number of a partition is negative"))?;
            Ok(TopicPartition { topic: topic.clone(), partition: PartitionId(partition) })
        })
    })?;
    let mut partitions: Vec<TopicPartition> = topics.into_iter().flatten().collect();
    partitions.sort();
    Ok(partitions)
}

fn write_partitions(writer: &mut Writer, partitions: &[TopicPartition]) {
    let mut topics = BTreeMap::<&TopicName, Vec<PartitionId>>::new();
    for of in partitions {
        topics.entry(&of.topic).or_default().push(of.partition);
    }
    writer.count(topics.len());
    for (topic, partitions) in topics {
        writer.string(topic.as_str()).count(partitions.len());
        for partition in partitions {
            writer.i32(partition.0.cast_signed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: &str, partition: u32) -> TopicPartition {
        TopicPartition { topic: TopicName::new(topic).unwrap(), partition: PartitionId(partition) }
    }

    fn subscription() -> Subscription {
        Subscription {
            topics: vec![TopicName::new("t").unwrap()],
            user_data: Some(Bytes::from_static(b"u")),
            owned: vec![partition("t", 1), partition("t", 2)],
            generation: Some(GenerationId(5)),
            rack: Some("r".into()),
        }
    }

    #[test]
    fn a_subscription_is_kafkas_version_3() {
        let expected = b"\0\x03\0\0\0\x01\0\x01t\0\0\0\x01u\
            \0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x01\0\0\0\x02\0\0\0\x05\0\x01r";
        assert_eq!(subscription().encode().as_ref(), expected);
        assert_eq!(Subscription::decode(expected), Ok(subscription()));
    }

    #[test]
    fn older_subscriptions_lack_what_came_later_and_newer_ones_are_read_as_far_as_known() {
        let v0 = Subscription::decode(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff").unwrap();
        assert_eq!(v0.topics, subscription().topics);
        assert_eq!((v0.user_data, v0.owned.len(), v0.generation), (None, 0, None));
        let v2 = b"\0\x02\0\0\0\0\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff";
        assert_eq!(Subscription::decode(v2), Ok(Subscription::default()));
        let mut newer = subscription().encode().to_vec();
        newer[1] = 9;
        newer.extend(b"more");
        assert_eq!(Subscription::decode(&newer), Ok(subscription()));
    }

    #[test]
    fn an_assignment_is_kafkas_and_no_bytes_assign_nothing() {
        let assignment = Assignment::of(vec![partition("t", 2), partition("s", 0)]);
        let expected = b"\0\x03\0\0\0\x02\0\x01s\0\0\0\x01\0\0\0\0\0\x01t\0\0\0\x01\0\0\0\x02\
            \xff\xff\xff\xff";
        assert_eq!(assignment.encode().as_ref(), expected);
        assert_eq!(Assignment::decode(expected), Ok(assignment));
        assert_eq!(Assignment::decode(b""), Ok(Assignment::default()));
        assert!(Assignment::decode(b"\0\x01\0\0\0\x09").is_err());
    }
}
