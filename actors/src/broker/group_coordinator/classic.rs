//! A group of Kafka's classic protocol: its members, and how it moves between its states.
//!
//! ```text
//!   join ──► member parked ──► all joined ──► generation + 1, vote, leader ──► join answered
//!   sync ──► member parked ──► leader's assignments ──► written ──► committed ──► sync answered
//! ```
//!
//! The members themselves live in memory only: what is written is the membership that a leader
//! assigned, and the fact that a group became empty. After a restart the members find themselves in
//! the generation they were in, and whoever stays silent expires.
//!
//! # Invariants
//! - GRP-3: the state moves only along the transitions of [`GroupState`].
//! - GRP-4: a group with members has a leader, and it is one of them.
//! - GRP-5: only a group that prepares has parked joins, and only one that completes parked syncs.
//! - GRP-6: a static member's name leads to a member that bears it, and to no other.

mod heartbeat;
mod join;
mod leave;
mod sync;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use flumen_runtime::clock::UnixMillis;

use super::{
    error::GroupError,
    ids::{GenerationId, GroupId, InstanceId, MemberId},
    messages::{DescribedGroup, DescribedMember, GroupState, JoinGroup, Protocol, Reply},
    protocol::{CONSUMER_PROTOCOL_TYPE, Subscription},
    records::{GroupRecord, MemberRecord, Membership},
    turn::{ReplyId, Timer, Turn},
};
use crate::broker::names::TopicName;

/// A member of a classic group.
#[derive(Debug)]
struct Member {
    instance_id: Option<InstanceId>,
    client_id: Arc<str>,
    client_host: Arc<str>,
    session_timeout_ms: u32,
    rebalance_timeout_ms: u32,
    protocols: Vec<Protocol>,
    assignment: Bytes,
    /// Its join, while it is parked.
    joining: Option<ReplyId>,
    /// Its sync, while it is parked.
    syncing: Option<ReplyId>,
    /// Whether its first join is not answered yet.
    is_new: bool,
    /// Earlier members come first in elections and votes.
    order: u64,
}

impl Member {
    fn speaks(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|known| &*known.name == protocol)
    }

    fn metadata(&self, protocol: &str) -> Bytes {
        let known = self.protocols.iter().find(|known| &*known.name == protocol);
        known.map(|known| known.metadata.clone()).unwrap_or_default()
    }
}

/// A group of the classic protocol.
#[derive(Debug)]
pub(super) struct ClassicGroup {
    id: GroupId,
    state: GroupState,
    previous: GroupState,
    since_ms: Option<UnixMillis>,
    protocol_type: Option<Arc<str>>,
    generation: GenerationId,
    protocol: Option<Arc<str>>,
    leader: Option<MemberId>,
    members: BTreeMap<MemberId, Member>,
    statics: BTreeMap<InstanceId, MemberId>,
    /// Names given to members that have not come back with them yet.
    pending: BTreeSet<MemberId>,
    /// Members that have not asked for their assignment in this generation.
    unsynced: BTreeSet<MemberId>,
    /// What the leader assigned, while it is being written.
    assigning: Option<BTreeMap<MemberId, Bytes>>,
    /// Whether a member joined since the first rebalance was last prolonged.
    is_growing: bool,
    /// How much longer the first rebalance may be prolonged.
    prolonging_ms: u64,
    /// What its members subscribe to, as far as that can be read.
    topics: Option<BTreeSet<TopicName>>,
    next_order: u64,
}

impl ClassicGroup {
    pub(super) fn new(id: GroupId, since_ms: UnixMillis) -> Self {
        Self {
            id,
            state: GroupState::Empty,
            previous: GroupState::Empty,
            since_ms: Some(since_ms),
            protocol_type: None,
            generation: GenerationId::default(),
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            assigning: None,
            is_growing: false,
            prolonging_ms: 0,
            topics: None,
            next_order: 0,
        }
    }

    /// The group as its last record has it.
    pub(super) fn restore(id: GroupId, record: Membership) -> Self {
        let mut group = Self::new(id, 0);
        group.since_ms = record.since_ms;
        group.generation = record.generation;
        group.protocol_type =
            Some(record.protocol_type.as_str()).filter(|kind| !kind.is_empty()).map(Arc::from);
        group.protocol = record.protocol.as_deref().map(Arc::from);
        for member in record.members {
            group.restore_member(member);
        }
        let leader = record.leader.filter(|leader| group.members.contains_key(leader));
        group.leader = leader.or_else(|| group.earliest(|_| true));
        if !group.members.is_empty() {
            group.state = GroupState::Stable;
            group.previous = GroupState::CompletingRebalance;
            group.read_topics();
        }
        group.check();
        group
    }

    fn restore_member(&mut self, record: MemberRecord) {
        let protocol = self.protocol.clone().unwrap_or_else(|| "".into());
        let order = self.next_order;
        self.next_order += 1;
        if let Some(instance_id) = &record.instance_id {
            self.statics.insert(instance_id.clone(), record.member_id.clone());
        }
        let member = Member {
            instance_id: record.instance_id,
            client_id: record.client_id.into(),
            client_host: record.client_host.into(),
            session_timeout_ms: record.session_timeout_ms,
            rebalance_timeout_ms: record.rebalance_timeout_ms,
            protocols: vec![Protocol { name: protocol, metadata: record.subscription }],
            assignment: record.assignment,
            joining: None,
            syncing: None,
            is_new: false,
            order,
        };
        self.members.insert(record.member_id, member);
    }

    /// Starts the members' session timeouts, after the log was read.
    pub(super) fn start_sessions(&mut self, turn: &mut Turn) {
        for member_id in self.members.keys() {
            self.renew_session(turn, member_id);
        }
    }

    // ---- Queries -------------------------------------------------------------------------------

    pub(super) fn state(&self) -> GroupState {
        self.state
    }

    pub(super) fn since_ms(&self) -> Option<UnixMillis> {
        self.since_ms
    }

    pub(super) fn protocol_type(&self) -> Arc<str> {
        self.protocol_type.clone().unwrap_or_else(|| "".into())
    }

    /// Whether the group ever was more than a name for offsets.
    pub(super) fn is_simple(&self) -> bool {
        self.protocol_type.is_none()
    }

    pub(super) fn has_pending_members(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether its members consume `topic`; when that cannot be read, they might.
    pub(super) fn may_consume(&self, topic: &TopicName) -> bool {
        let consumes = |topics: &BTreeSet<TopicName>| topics.contains(topic);
        !self.members.is_empty() && self.topics.as_ref().is_none_or(consumes)
    }

    pub(super) fn is_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// What it keeps of what its members say.
    pub(super) fn bytes(&self) -> usize {
        let members = self.members.iter().map(|(id, member)| {
            let texts = [member.client_id.len(), member.client_host.len(), id.as_str().len()];
            let own = texts.iter().sum::<usize>() + Protocol::bytes(&member.protocols);
            size_of::<Member>() + own
        });
        let pending = self.pending.iter().map(|id| size_of::<MemberId>() + id.as_str().len());
        members.sum::<usize>() + pending.sum::<usize>()
    }

    /// How much more it would keep with this join: of a member that it has, what it says more than before.
    pub(super) fn grows_by(&self, join: &JoinGroup) -> usize {
        let named = join.instance_id.as_ref().and_then(|id| self.statics.get(id));
        let member = join.member_id.as_ref().or(named).and_then(|id| self.members.get(id));
        let before = |member: &Member| {
            member.client_id.len() + join.protocol_type.len() + Protocol::bytes(&member.protocols)
        };
        join.bytes().saturating_sub(member.map_or(0, before))
    }

    pub(super) fn describe(&self) -> DescribedGroup {
        let protocol = self.protocol.clone().unwrap_or_else(|| "".into());
        // Before the group is stable, subscriptions and assignments are those of two generations.
        let is_stable = self.state == GroupState::Stable;
        let describe = |(member_id, member): (&MemberId, &Member)| DescribedMember {
            member_id: member_id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if is_stable { member.metadata(&protocol) } else { Bytes::new() },
            assignment: if is_stable { member.assignment.clone() } else { Bytes::new() },
        };
        DescribedGroup {
            state: self.state,
            generation: self.generation,
            protocol_type: self.protocol_type(),
            members: self.members.iter().map(describe).collect(),
            protocol: if is_stable { protocol } else { "".into() },
        }
    }

    /// The first member to join among those that `is_fit` holds for.
    fn earliest(&self, is_fit: impl Fn(&Member) -> bool) -> Option<MemberId> {
        let fit = self.members.iter().filter(|(_, member)| is_fit(member));
        fit.min_by_key(|(_, member)| member.order).map(|(member_id, _)| member_id.clone())
    }

    /// Member ids in the order in which they joined.
    fn in_order(&self) -> Vec<MemberId> {
        let mut ids: Vec<_> = self.members.iter().collect();
        ids.sort_by_key(|(_, member)| member.order);
        ids.into_iter().map(|(member_id, _)| member_id.clone()).collect()
    }

    /// Refuses a member that is not known, or whose instance id has passed to another.
    fn check_member(
        &self,
        member_id: &MemberId,
        instance_id: Option<&InstanceId>,
    ) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.statics.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(owner) if owner != member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    fn rebalance_timeout_ms(&self) -> u64 {
        self.members
            .values()
            .map(|member| u64::from(member.rebalance_timeout_ms))
            .max()
            .unwrap_or(0)
    }

    // ---- Changes that several requests make -----------------------------------------------------

    fn become_state(&mut self, turn: &Turn, next: GroupState) {
        assert!(self.state.may_become(next), "GRP-3: {:?} to {next:?}", self.state);
        self.previous = self.state;
        self.state = next;
        self.since_ms = Some(turn.now.unix_ms);
    }

    /// The group is being deleted.
    pub(super) fn die(&mut self, turn: &Turn) {
        self.become_state(turn, GroupState::Dead);
    }

    /// The deletion could not be written: the group is what it was before it.
    pub(super) fn revive(&mut self) {
        if self.state == GroupState::Dead {
            self.state = self.previous;
        }
    }

    fn renew_session(&self, turn: &mut Turn, member_id: &MemberId) {
        if let Some(member) = self.members.get(member_id) {
            let timer = Timer::Session(self.id.clone(), member_id.clone());
            turn.set_timer(timer, u64::from(member.session_timeout_ms));
        }
    }

    /// Takes a member out, answering what it has parked with `why`.
    fn remove_member(&mut self, turn: &mut Turn, member_id: &MemberId, why: &GroupError) {
        turn.timers.cancel(&Timer::Session(self.id.clone(), member_id.clone()));
        self.unsynced.remove(member_id);
        let Some(mut member) = self.members.remove(member_id) else { return };
        if let Some(reply) = member.joining.take() {
            turn.reply(reply, Reply::Join(Err(why.clone())));
        }
        if let Some(reply) = member.syncing.take() {
            turn.reply(reply, Reply::Sync(Err(why.clone())));
        }
        if let Some(instance_id) = member.instance_id {
            self.statics.remove(&instance_id);
        }
        if self.leader.as_ref() == Some(member_id) {
            self.leader = self.earliest(|_| true);
        }
    }

    /// A member came, went or changed: forms a new membership, or sees whether it has now formed.
    fn rebalance(&mut self, turn: &mut Turn) {
        if self.state.may_become(GroupState::PreparingRebalance) {
            self.prepare_rebalance(turn);
        } else {
            self.maybe_complete_join(turn);
        }
        self.check();
    }

    /// What stands in the log about this membership.
    fn record(&self, assignments: &BTreeMap<MemberId, Bytes>) -> GroupRecord {
        let protocol = self.protocol.as_deref();
        let members = self.in_order().into_iter().filter_map(|member_id| {
            let member = self.members.get(&member_id)?;
            Some(MemberRecord {
                instance_id: member.instance_id.clone(),
                client_id: (*member.client_id).to_owned(),
                client_host: (*member.client_host).to_owned(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                subscription: protocol.map(|name| member.metadata(name)).unwrap_or_default(),
                assignment: assignments.get(&member_id).cloned().unwrap_or_default(),
                member_id,
            })
        });
        let membership = Membership {
            protocol_type: (*self.protocol_type()).to_owned(),
            generation: self.generation,
            protocol: protocol.map(str::to_owned),
            leader: self.leader.clone(),
            since_ms: self.since_ms,
            members: members.collect(),
        };
        GroupRecord::Group { group: self.id.clone(), value: Some(membership) }
    }

    fn read_topics(&mut self) {
        self.topics = None;
        let Some(protocol) = self.protocol.clone().filter(|_| self.is_consumer()) else { return };
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            match Subscription::decode(&member.metadata(&protocol)) {
                Ok(subscription) => topics.extend(subscription.topics),
                Err(_) => return,
            }
        }
        self.topics = Some(topics);
    }

    /// Asserts the invariants.
    pub(super) fn check(&self) {
        match &self.leader {
            Some(leader) => assert!(self.members.contains_key(leader), "GRP-4: {leader} left"),
            None => assert!(self.members.is_empty(), "GRP-4: {} has no leader", self.id),
        }
        for (member_id, member) in &self.members {
            let is_preparing = self.state == GroupState::PreparingRebalance;
            assert!(member.joining.is_none() || is_preparing, "GRP-5: {member_id} joins");
            let is_completing = self.state == GroupState::CompletingRebalance;
            assert!(member.syncing.is_none() || is_completing, "GRP-5: {member_id} syncs");
        }
        for (instance_id, member_id) in &self.statics {
            let bears = self.members.get(member_id).and_then(|member| member.instance_id.as_ref());
            assert!(bears == Some(instance_id), "GRP-6: {instance_id}");
        }
    }
}
