//! The records of `__consumer_offsets`, byte for byte as Kafka writes and reads them
//! (`group-coordinator/src/main/resources/common/message/*.json`).
//!
//! ```text
//!   key:   INT16 kind ─┬─ 0, 1  OffsetCommit   group, topic, partition
//!                      └─ 2     GroupMetadata  group
//!   value: INT16 version + fields; no value at all = the fact is gone (tombstone)
//! ```
//!
//! Written as Kafka 4 does: offsets in version 4 (the first flexible one; version 1 where the client
//! asked for a retention of its own, since only that has the field), groups in version 3. All of
//! versions 0 to 4 are read. Kinds of other protocols (3 and up) are not understood yet, and kept out
//! of the way: [`decode`] gives none for them.

use std::sync::Arc;

use bytes::Bytes;
use flumen_runtime::ids::{LeaderEpoch, Offset};
use uuid::Uuid;

use super::{
    ids::{GenerationId, GroupId, InstanceId, MemberId},
    wire::{Reader, WireError, Writer},
};
use crate::broker::names::{PartitionId, TopicName, TopicPartition};

const KIND_OFFSET_LEGACY: i16 = 0;
const KIND_OFFSET: i16 = 1;
const KIND_GROUP: i16 = 2;
const OFFSET_VERSION: i16 = 4;
const OFFSET_VERSION_EXPIRING: i16 = 1;
const GROUP_VERSION: i16 = 3;
const VERSION_MAX: i16 = 4;

/// One fact about a group, or that it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRecord {
    /// The committed offset of one partition.
    Offset {
        /// Whose.
        group: GroupId,
        /// Of which partition.
        partition: TopicPartition,
        /// The offset; none once it is deleted or expired.
        value: Option<CommittedOffset>,
    },
    /// The members of a group and what each was assigned.
    Group {
        /// Which.
        group: GroupId,
        /// Its membership; none once the group is deleted or expired.
        value: Option<Membership>,
    },
}

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset that the group will read.
    pub offset: Offset,
    /// Epoch of the last record read, where the member knew it.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The member's own words, opaque here.
    pub metadata: Arc<str>,
    /// When it was committed, in Unix milliseconds.
    pub committed_at_ms: i64,
    /// When it expires, where the member gave a retention of its own (old clients).
    pub expires_at_ms: Option<i64>,
    /// Id of the topic, where the member named it.
    pub topic_id: Option<Uuid>,
}

/// A membership of a group as it was agreed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// What kind of group, such as `consumer`; empty where none ever joined.
    pub protocol_type: String,
    /// Which membership.
    pub generation: GenerationId,
    /// The assignor that was voted for; none in an empty group.
    pub protocol: Option<String>,
    /// Who assigns; none in an empty group.
    pub leader: Option<MemberId>,
    /// Since when the group is in its state, in Unix milliseconds.
    pub since_ms: Option<i64>,
    /// The members.
    pub members: Vec<MemberRecord>,
}

/// One member of a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    /// Its name.
    pub member_id: MemberId,
    /// Its lasting name, where it is static.
    pub instance_id: Option<InstanceId>,
    /// What its client calls itself.
    pub client_id: String,
    /// Where its client is.
    pub client_host: String,
    /// How long a rebalance waits for it, in milliseconds.
    pub rebalance_timeout_ms: u32,
    /// How long it may be silent, in milliseconds.
    pub session_timeout_ms: u32,
    /// What it subscribed to, in the words of the assignor.
    pub subscription: Bytes,
    /// What it was assigned, in the words of the assignor.
    pub assignment: Bytes,
}

impl GroupRecord {
    /// Key and value as they stand in the log; no value is a tombstone.
    #[must_use]
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        let mut key = Writer::default();
        match self {
            GroupRecord::Offset { group, partition, value } => {
                key.i16(KIND_OFFSET).string(group.as_str()).string(partition.topic.as_str());
                key.i32(partition.partition.0.cast_signed());
                (key.finish(), value.as_ref().map(encode_offset))
            }
            GroupRecord::Group { group, value } => {
                key.i16(KIND_GROUP).string(group.as_str());
                (key.finish(), value.as_ref().map(encode_membership))
            }
        }
    }

    /// About how many bytes the record takes in a batch.
    #[must_use]
    pub fn bytes_about(&self) -> usize {
        const FIXED: usize = 96;
        FIXED
            + match self {
                GroupRecord::Offset { group, value, .. } => {
                    group.as_str().len() + value.as_ref().map_or(0, |value| value.metadata.len())
                }
                GroupRecord::Group { group, value } => {
                    let members = value.iter().flat_map(|value| &value.members);
                    let member = |m: &MemberRecord| {
                        FIXED + m.subscription.len() + m.assignment.len() + m.client_id.len()
                    };
                    group.as_str().len() + members.map(member).sum::<usize>()
                }
            }
    }
}

/// The record that `key` and `value` hold; none where its kind is not known here.
///
/// # Errors
/// [`WireError`] where the bytes are not what their kind and version say.
pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<GroupRecord>, WireError> {
    let mut key = Reader::new(key);
    let kind = key.i16()?;
    if !(KIND_OFFSET_LEGACY..=KIND_GROUP).contains(&kind) {
        return Ok(None);
    }
    let group = GroupId::from(key.string(false)?);
    if kind == KIND_GROUP {
        let value = value.map(decode_membership).transpose()?;
        return Ok(Some(GroupRecord::Group { group, value }));
    }
    let topic = TopicName::new(key.string(false)?)
        .map_err(|_| WireError::Invalid("the key of an offset names no possible topic"))?;
    let partition = u32::try_from(key.i32()?)
        .map_err(|_| WireError::Invalid("the number of a partition is negative"))?;
    let value = value.map(decode_offset).transpose()?;
    let partition = TopicPartition { topic, partition: PartitionId(partition) };
    Ok(Some(GroupRecord::Offset { group, partition, value }))
}

fn version(reader: &mut Reader<'_>, what: &'static str) -> Result<i16, WireError> {
    let got = reader.i16()?;
    if (0..=VERSION_MAX).contains(&got) {
        Ok(got)
    } else {
        Err(WireError::Version { what, got, known_max: VERSION_MAX })
    }
}

fn encode_offset(value: &CommittedOffset) -> Bytes {
    let mut writer = Writer::default();
    if let Some(expires_at_ms) = value.expires_at_ms {
        writer.i16(OFFSET_VERSION_EXPIRING).i64(value.offset.as_i64()).string(&value.metadata);
        writer.i64(value.committed_at_ms).i64(expires_at_ms);
        return writer.finish();
    }
    let epoch = value.leader_epoch.map_or(-1, |epoch| epoch.0.cast_signed());
    writer.i16(OFFSET_VERSION).i64(value.offset.as_i64()).i32(epoch);
    writer.compact_string(&value.metadata).i64(value.committed_at_ms);
    match value.topic_id {
        Some(id) => writer.uvarint(1).tagged_uuid(0, id),
        None => writer.uvarint(0),
    };
    writer.finish()
}

fn decode_offset(bytes: &[u8]) -> Result<CommittedOffset, WireError> {
    let mut reader = Reader::new(bytes);
    let version = version(&mut reader, "an offset's record")?;
    let flexible = version >= 4;
    let offset = u64::try_from(reader.i64()?)
        .map_err(|_| WireError::Invalid("a committed offset is negative"))?;
    let epoch = if version >= 3 { reader.i32()? } else { -1 };
    let metadata = reader.string(flexible)?.into();
    let committed_at_ms = reader.i64()?;
    let expires_at_ms = if version == 1 { reader.i64()? } else { -1 };
    let mut topic_id = None;
    if flexible {
        reader.tagged(|tag, field| {
            if tag == 0 {
                topic_id = Some(field.uuid()?).filter(|id| !id.is_nil());
            }
            Ok(())
        })?;
    }
    Ok(CommittedOffset {
        offset: Offset(offset),
        leader_epoch: u32::try_from(epoch).ok().map(LeaderEpoch),
        metadata,
        committed_at_ms,
        expires_at_ms: (expires_at_ms >= 0).then_some(expires_at_ms),
        topic_id,
    })
}

fn encode_membership(value: &Membership) -> Bytes {
    let mut writer = Writer::default();
    writer.i16(GROUP_VERSION).string(&value.protocol_type).i32(value.generation.as_i32());
    writer.nullable_string(value.protocol.as_deref());
    writer.nullable_string(value.leader.as_ref().map(MemberId::as_str));
    writer.i64(value.since_ms.unwrap_or(-1)).count(value.members.len());
    for member in &value.members {
        writer.string(member.member_id.as_str());
        writer.nullable_string(member.instance_id.as_ref().map(InstanceId::as_str));
        writer.string(&member.client_id).string(&member.client_host);
        writer.i32(member.rebalance_timeout_ms.cast_signed());
        writer.i32(member.session_timeout_ms.cast_signed());
        writer.bytes(&member.subscription).bytes(&member.assignment);
    }
    writer.finish()
}

fn decode_membership(bytes: &[u8]) -> Result<Membership, WireError> {
    let mut reader = Reader::new(bytes);
    let version = version(&mut reader, "a group's record")?;
    let flexible = version >= 4;
    let protocol_type = reader.string(flexible)?.to_owned();
    let generation = GenerationId::from_i32(reader.i32()?).unwrap_or_default();
    let protocol = reader.nullable_string(flexible)?.map(str::to_owned);
    let leader = reader.nullable_string(flexible)?.map(MemberId::from);
    let since_ms = if version >= 2 { reader.i64()? } else { -1 };
    let members = reader.elements(flexible, |reader| decode_member(reader, version))?;
    if flexible {
        reader.tagged(|_, _| Ok(()))?;
    }
    let since_ms = (since_ms >= 0).then_some(since_ms);
    Ok(Membership { protocol_type, generation, protocol, leader, since_ms, members })
}

fn decode_member(reader: &mut Reader<'_>, version: i16) -> Result<MemberRecord, WireError> {
    let flexible = version >= 4;
    let member_id = MemberId::from(reader.string(flexible)?);
    let instance_id = if version >= 3 { reader.nullable_string(flexible)? } else { None };
    let client_id = reader.string(flexible)?.to_owned();
    let client_host = reader.string(flexible)?.to_owned();
    let rebalance_timeout = if version >= 1 { Some(reader.i32()?) } else { None };
    let session_timeout = reader.i32()?;
    let subscription = reader.bytes(flexible)?;
    let assignment = reader.bytes(flexible)?;
    if flexible {
        reader.tagged(|_, _| Ok(()))?;
    }
    let positive = |ms: i32| u32::try_from(ms).unwrap_or(0);
    Ok(MemberRecord {
        member_id,
        instance_id: instance_id.map(InstanceId::from),
        client_id,
        client_host,
        // Version 0 had one time for both.
        rebalance_timeout_ms: positive(rebalance_timeout.unwrap_or(session_timeout)),
        session_timeout_ms: positive(session_timeout),
        subscription,
        assignment,
    })
}

#[cfg(test)]
mod tests;
