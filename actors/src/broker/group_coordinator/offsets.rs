//! The committed offsets of one group, and when they expire.

use std::collections::{BTreeMap, BTreeSet};

use flumen_runtime::clock::UnixMillis;

use super::{
    classic::ClassicGroup,
    ids::GroupId,
    messages::{GroupState, OffsetToCommit},
    records::{CommittedOffset, GroupRecord},
};
use crate::broker::names::{TopicName, TopicPartition};

/// How far one group has come, in every partition that it committed.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    committed: BTreeMap<TopicPartition, CommittedOffset>,
    /// How many records of each partition are written and not committed yet.
    pending: BTreeMap<TopicPartition, u32>,
}

impl Offsets {
    pub(super) fn get(&self, partition: &TopicPartition) -> Option<&CommittedOffset> {
        self.committed.get(partition)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&TopicPartition, &CommittedOffset)> {
        self.committed.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty()
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Replays a record.
    pub(super) fn replay(&mut self, partition: TopicPartition, value: Option<CommittedOffset>) {
        match value {
            Some(value) => self.committed.insert(partition, value),
            None => self.committed.remove(&partition),
        };
    }

    /// The record that commits `offset`.
    pub(super) fn commit(
        &mut self,
        group: &GroupId,
        offset: OffsetToCommit,
        now_ms: UnixMillis,
        retention_ms: Option<i64>,
    ) -> GroupRecord {
        let partition = offset.partition;
        *self.pending.entry(partition.clone()).or_default() += 1;
        let value = CommittedOffset {
            offset: offset.offset,
            leader_epoch: offset.leader_epoch,
            metadata: offset.metadata,
            committed_at_ms: now_ms,
            expires_at_ms: retention_ms.map(|retention_ms| now_ms.saturating_add(retention_ms)),
            topic_id: offset.topic_id,
        };
        GroupRecord::Offset { group: group.clone(), partition, value: Some(value) }
    }

    /// The record that deletes the offset of `partition`, where there is or will be one.
    pub(super) fn delete(
        &mut self,
        group: &GroupId,
        partition: &TopicPartition,
    ) -> Option<GroupRecord> {
        if !self.committed.contains_key(partition) && !self.pending.contains_key(partition) {
            return None;
        }
        *self.pending.entry(partition.clone()).or_default() += 1;
        let (group, partition) = (group.clone(), partition.clone());
        Some(GroupRecord::Offset { group, partition, value: None })
    }

    /// The records that delete every offset of `topic` that there is or will be.
    pub(super) fn delete_topic(&mut self, group: &GroupId, topic: &TopicName) -> Vec<GroupRecord> {
        let mut partitions: BTreeSet<TopicPartition> = self.committed.keys().cloned().collect();
        partitions.extend(self.pending.keys().cloned());
        partitions.retain(|partition| partition.topic == *topic);
        partitions.iter().filter_map(|partition| self.delete(group, partition)).collect()
    }

    /// The records that delete every offset there is or will be.
    pub(super) fn delete_all(&mut self, group: &GroupId) -> Vec<GroupRecord> {
        let mut partitions: Vec<_> =
            self.committed.keys().chain(self.pending.keys()).cloned().collect();
        partitions.sort();
        partitions.dedup();
        partitions.iter().filter_map(|partition| self.delete(group, partition)).collect()
    }

    /// A record made here has been committed or refused.
    pub(super) fn settle(&mut self, partition: &TopicPartition) {
        if let Some(count) = self.pending.get_mut(partition) {
            *count -= 1;
            if *count == 0 {
                self.pending.remove(partition);
            }
        }
    }

    /// Partitions whose offset has expired: Kafka's rules of KIP-211.
    ///
    /// - an offset with a time of its own expires then;
    /// - in a group that never had members, an offset expires when it is old;
    /// - in a group whose members left, when the group has been empty for as long;
    /// - in a stable group, when it is old and nobody subscribes to its topic.
    pub(super) fn expired(
        &self,
        group: &ClassicGroup,
        now_ms: UnixMillis,
        retention_ms: i64,
    ) -> Vec<TopicPartition> {
        let is_old = |since_ms: i64| now_ms.saturating_sub(since_ms) >= retention_ms;
        let is_expired = |partition: &TopicPartition, offset: &CommittedOffset| {
            if let Some(expires_at_ms) = offset.expires_at_ms {
                return now_ms >= expires_at_ms;
            }
            match group.state() {
                _ if group.is_simple() => is_old(offset.committed_at_ms),
                GroupState::Empty => {
                    let since_ms = group.since_ms().unwrap_or(offset.committed_at_ms);
                    is_old(since_ms.max(offset.committed_at_ms))
                }
                GroupState::Stable => {
                    group.is_consumer()
                        && !group.may_consume(&partition.topic)
                        && is_old(offset.committed_at_ms)
                }
                _ => false,
            }
        };
        let expired = self.committed.iter().filter(|(partition, offset)| {
            !self.pending.contains_key(partition) && is_expired(partition, offset)
        });
        expired.map(|(partition, _)| partition.clone()).collect()
    }
}
