//! The cooperative sticky assignor.
//!
//! 1. Who holds what: of several that claim a partition, those of the newest generation do.
//! 2. Holders keep what they hold; what nobody holds goes to whoever has least.
//! 3. While someone has at least two more than another who could take one of them, one moves. Each
//!    move brings the loads nearer, so it ends, and no partition moves that need not.
//! 4. What moved from a holder is left out, until that holder has given it up.

use std::collections::{BTreeMap, BTreeSet};

use super::{Assignments, SubscribedMember, partitions_of};
use crate::broker::{
    group_coordinator::ids::MemberId,
    names::{TopicName, TopicPartition},
};

/// Who claims each partition, in the newest generation that anyone claims it in.
type Holders = BTreeMap<TopicPartition, BTreeSet<MemberId>>;

pub(super) fn assign(
    members: &[&SubscribedMember],
    topics: &BTreeMap<TopicName, u32>,
) -> Assignments {
    let holders = holders(members);
    let mut loads = Loads::new(members);
    let mut free = Vec::new();
    for partition in topics.iter().flat_map(|(topic, &count)| partitions_of(topic, count)) {
        match holders.get(&partition).and_then(|claims| only(claims)) {
            Some(holder) if loads.may_take(holder, &partition) => loads.give(holder, partition),
            _ => free.push(partition),
        }
    }
    // Those that few can take first, while these few still have room.
    free.sort_by_key(|partition| loads.takers(partition).count());
    for partition in free {
        let least = loads.takers(&partition).min_by_key(|taker| loads.of(taker)).cloned();
        if let Some(taker) = least {
            loads.give(&taker, partition);
        }
    }
    loads.balance();
    let mut assignments = loads.held;
    for (member_id, partitions) in &mut assignments {
        let is_settled = |partition: &TopicPartition| {
            holders.get(partition).is_none_or(|claims| only(claims) == Some(member_id))
        };
        partitions.retain(is_settled);
    }
    assignments.into_iter().map(|(id, partitions)| (id, partitions.into_iter().collect())).collect()
}

fn only(claims: &BTreeSet<MemberId>) -> Option<&MemberId> {
    claims.first().filter(|_| claims.len() == 1)
}

fn holders(members: &[&SubscribedMember]) -> Holders {
    let mut newest = BTreeMap::new();
    let mut holders = Holders::new();
    for member in members {
        let generation = member.subscription.generation;
        for partition in &member.subscription.owned {
            let seen = newest.entry(partition.clone()).or_insert(generation);
            if *seen < generation {
                *seen = generation;
                holders.remove(partition);
            }
            if *seen == generation {
                let claims = holders.entry(partition.clone()).or_default();
                claims.insert(member.member_id.clone());
            }
        }
    }
    holders
}

struct Loads<'a> {
    members: &'a [&'a SubscribedMember],
    wants: BTreeMap<&'a MemberId, BTreeSet<&'a TopicName>>,
    held: BTreeMap<MemberId, BTreeSet<TopicPartition>>,
}

impl<'a> Loads<'a> {
    fn new(members: &'a [&'a SubscribedMember]) -> Self {
        let topics = |member: &'a SubscribedMember| member.subscription.topics.iter().collect();
        Self {
            members,
            wants: members.iter().map(|member| (&member.member_id, topics(member))).collect(),
            held: members.iter().map(|m| (m.member_id.clone(), BTreeSet::new())).collect(),
        }
    }

    fn of(&self, member_id: &MemberId) -> usize {
        self.held.get(member_id).map_or(0, BTreeSet::len)
    }

    fn may_take(&self, member_id: &MemberId, partition: &TopicPartition) -> bool {
        self.wants.get(member_id).is_some_and(|topics| topics.contains(&partition.topic))
    }

    fn takers(&self, partition: &TopicPartition) -> impl Iterator<Item = &'a MemberId> {
        let fit = self.members.iter().filter(|member| self.may_take(&member.member_id, partition));
        fit.map(|member| &member.member_id)
    }

    fn give(&mut self, member_id: &MemberId, partition: TopicPartition) {
        self.held.entry(member_id.clone()).or_default().insert(partition);
    }

    fn balance(&mut self) {
        while let Some((from, to, partition)) = self.next_move() {
            if let Some(held) = self.held.get_mut(&from) {
                held.remove(&partition);
            }
            self.give(&to, partition);
        }
    }

    /// A partition of the fullest member that someone with at least two less could take.
    fn next_move(&self) -> Option<(MemberId, MemberId, TopicPartition)> {
        let mut fullest_first: Vec<_> = self.held.iter().collect();
        fullest_first.sort_by_key(|(_, held)| std::cmp::Reverse(held.len()));
        for (from, held) in fullest_first {
            let least = self.members.iter().map(|m| self.of(&m.member_id)).min().unwrap_or(0);
            if held.len() < least + 2 {
                return None;
            }
            let topics: BTreeSet<_> = held.iter().map(|partition| &partition.topic).collect();
            // The last of a topic moves, so that what stays is a run from the start.
            let movable = topics.iter().filter_map(|&topic| {
                let last = held.iter().rfind(|partition| partition.topic == *topic)?;
                let to = self.takers(last).min_by_key(|taker| self.of(taker))?;
                (self.of(to) + 2 <= held.len()).then_some((self.of(to), to, last))
            });
            if let Some((_, to, partition)) = movable.min_by_key(|(load, ..)| *load) {
                return Some((from.clone(), to.clone(), partition.clone()));
            }
        }
        None
    }
}
