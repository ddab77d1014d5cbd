//! Assignors: who reads which partition. Pure functions of members and partitions, run by the
//! leader of a group; the names and results are those of Kafka's consumers, so that embedded members
//! and others can share a group.
//!
//! ```text
//!   range               t: 0 1 2 | 3 4    each topic cut into contiguous runs
//!                       u: 0 1 2 | 3 4
//!   roundrobin          t0 t2 t4 u1 u3 | t1 t3 u0 u2 u4    all partitions dealt in turn
//!   cooperative-sticky  what each holds stays, as far as loads differ by one at most; what moves
//!                       rests for one generation, while its holder gives it up (KIP-429)
//! ```
//!
//! # Invariants
//! - GRP-1: within one generation no partition is assigned to two members.

mod sticky;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    ids::{InstanceId, MemberId},
    protocol::Subscription,
};
use crate::broker::names::{PartitionId, TopicName, TopicPartition};

/// A member as an assignor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribedMember {
    /// Its name.
    pub member_id: MemberId,
    /// Its lasting name, where it is static.
    pub instance_id: Option<InstanceId>,
    /// What it subscribed to, and holds.
    pub subscription: Subscription,
}

impl SubscribedMember {
    /// Static members come first, by their lasting names, so that a restart changes nothing.
    fn rank(&self) -> (bool, Option<&InstanceId>, &MemberId) {
        (self.instance_id.is_none(), self.instance_id.as_ref(), &self.member_id)
    }

    fn wants(&self, topic: &TopicName) -> bool {
        self.subscription.topics.contains(topic)
    }
}

/// What each member is to read, sorted; every member has an entry.
pub type Assignments = BTreeMap<MemberId, Vec<TopicPartition>>;

/// How partitions are shared out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Each topic in contiguous runs (Kafka's `RangeAssignor`).
    Range,
    /// All partitions in turn (Kafka's `RoundRobinAssignor`).
    RoundRobin,
    /// Balanced, moving as little as possible, and never one that is still held
    /// (Kafka's `CooperativeStickyAssignor`).
    #[default]
    CooperativeSticky,
}

impl Assignor {
    /// Kafka's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
            Assignor::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// The assignor of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky];
        all.into_iter().find(|assignor| assignor.name() == name)
    }

    /// Whether members keep what they hold while a rebalance goes on.
    #[must_use]
    pub fn is_cooperative(self) -> bool {
        self == Assignor::CooperativeSticky
    }

    /// Shares out the partitions of `topics` (their numbers of partitions) among `members`.
    ///
    /// Range and round-robin assign every partition that someone subscribes to. Cooperative-sticky
    /// leaves out what moves from a member that holds it; that member gives it up and joins again,
    /// and the next generation assigns it.
    #[must_use]
    pub fn assign(
        self,
        members: &[SubscribedMember],
        topics: &BTreeMap<TopicName, u32>,
    ) -> Assignments {
        let mut ranked: Vec<_> = members.iter().collect();
        ranked.sort_by_key(|member| member.rank());
        let mut assignments = match self {
            Assignor::Range => range(&ranked, topics),
            Assignor::RoundRobin => round_robin(&ranked, topics),
            Assignor::CooperativeSticky => sticky::assign(&ranked, topics),
        };
        assignments.values_mut().for_each(|partitions| partitions.sort());
        let mut seen = BTreeSet::new();
        for partition in assignments.values().flatten() {
            assert!(seen.insert(partition), "GRP-1: {partition} is assigned twice");
        }
        assignments
    }
}

impl fmt::Display for Assignor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn nothing_yet(members: &[&SubscribedMember]) -> Assignments {
    members.iter().map(|member| (member.member_id.clone(), Vec::new())).collect()
}

fn partitions_of(topic: &TopicName, count: u32) -> impl Iterator<Item = TopicPartition> {
    (0..count).map(|id| TopicPartition { topic: topic.clone(), partition: PartitionId(id) })
}

fn range(members: &[&SubscribedMember], topics: &BTreeMap<TopicName, u32>) -> Assignments {
    let mut assignments = nothing_yet(members);
    for (topic, &count) in topics {
        let readers: Vec<_> = members.iter().filter(|member| member.wants(topic)).collect();
        let Ok(reader_count) = u32::try_from(readers.len()) else { continue };
        if reader_count == 0 {
            continue;
        }
        let (each, over) = (count / reader_count, count % reader_count);
        let mut partitions = partitions_of(topic, count);
        for (reader, rank) in readers.into_iter().zip(0..) {
            let share = each + u32::from(rank < over);
            let mine = assignments.entry(reader.member_id.clone()).or_default();
            mine.extend(partitions.by_ref().take(share as usize));
        }
    }
    assignments
}

fn round_robin(members: &[&SubscribedMember], topics: &BTreeMap<TopicName, u32>) -> Assignments {
    let mut assignments = nothing_yet(members);
    let mut turn = 0;
    for partition in topics.iter().flat_map(|(topic, &count)| partitions_of(topic, count)) {
        let in_turn = members.iter().enumerate().cycle().skip(turn).take(members.len());
        let Some((at, reader)) = in_turn.into_iter().find(|(_, m)| m.wants(&partition.topic))
        else {
            continue;
        };
        turn = (at + 1) % members.len();
        assignments.entry(reader.member_id.clone()).or_default().push(partition);
    }
    assignments
}

#[cfg(test)]
mod tests;
