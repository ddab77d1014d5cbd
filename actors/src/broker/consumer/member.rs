//! The core of a member of a group: joins, asks for its assignment, stays, gives up, joins again.
//!
//! ```text
//!   Out ── join ──► Joining ── sync ──► Syncing ── assigned ──► Stable ──┐
//!    ▲                ▲  ▲                │ cooperative: something went  │ rebalance:
//!    │                │  └── given up ── Revoking ◄─────────────────────┴─ eager gives all up,
//!    └── not known ───┴───────────────────────── cooperative keeps all and joins at once
//! ```
//!
//! # Invariants
//! - MEM-1: nothing is given up to others (by joining without it) before the caller has finished it.
//! - MEM-2: an eager member joins holding nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use crate::broker::{
    group_coordinator::{
        assignor::{Assignor, SubscribedMember},
        error::GroupError,
        ids::{GenerationId, GroupId, InstanceId, MemberId},
        messages::{
            Heartbeat, JoinGroup, JoinedGroup, LeaveGroup, LeavingMember, Protocol, SyncGroup,
            SyncedGroup,
        },
        protocol::{Assignment, CONSUMER_PROTOCOL_TYPE, Subscription},
    },
    names::{TopicName, TopicPartition},
};

/// How a member presents itself.
#[derive(Clone, Debug)]
pub struct MemberOptions {
    /// Its group.
    pub group: GroupId,
    /// What it wants to read.
    pub topics: Vec<TopicName>,
    /// The assignor; all members of a group must share one.
    pub assignor: Assignor,
    /// A lasting name: a restart within the session timeout takes up what the last life had.
    pub instance_id: Option<InstanceId>,
    /// What it calls itself.
    pub client_id: Arc<str>,
    /// How long it may be silent, in milliseconds.
    pub session_timeout_ms: u32,
    /// How long others wait for it to give up what it reads, in milliseconds.
    pub rebalance_timeout_ms: u32,
}

impl MemberOptions {
    /// A member of `group` that reads `topics`; Kafka's defaults, cooperative.
    #[must_use]
    pub fn new(group: impl Into<GroupId>, topics: Vec<TopicName>) -> Self {
        Self {
            group: group.into(),
            topics,
            assignor: Assignor::default(),
            instance_id: None,
            client_id: "flumen".into(),
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 300_000,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Begin, or try again.
    Join,
    /// The answer to [`Effect::Join`].
    Joined(Result<JoinedGroup, GroupError>),
    /// The answer to [`Effect::Sync`].
    Synced(Result<SyncedGroup, GroupError>),
    /// It is time to say that the member lives.
    Beat,
    /// The answer, and the generation that was asked about.
    Beaten(GenerationId, Result<(), GroupError>),
    /// The caller has finished what the revocation of this number took away.
    GivenUp(u64),
}

/// What is to be done, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask this; then [`Input::Joined`].
    Join(JoinGroup),
    /// Ask this; then [`Input::Synced`].
    Sync(SyncGroup),
    /// Ask this; then [`Input::Beaten`].
    Heartbeat(Heartbeat),
    /// Input [`Input::Join`] after a while.
    JoinLater,
    /// Let the caller finish these; then [`Input::GivenUp`] with this number.
    Revoke(u64, Vec<TopicPartition>),
    /// These belong to someone else by now.
    Lose(Vec<TopicPartition>),
    /// These are the member's from now on.
    Assign(Vec<TopicPartition>),
    /// It cannot be a member.
    Fail(GroupError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Out,
    Joining,
    Syncing,
    Stable,
    Revoking(u64),
    Failed,
}

/// How many partitions a topic has, where it exists.
pub type Count<'a> = &'a dyn Fn(&TopicName) -> Option<u32>;

/// What a member says that it wants: nothing, where that cannot be read.
fn subscription(metadata: &[u8]) -> Subscription {
    Subscription::decode(metadata).unwrap_or_default()
}

/// One member's state.
#[derive(Debug)]
pub struct Member {
    options: MemberOptions,
    phase: Phase,
    member_id: Option<MemberId>,
    generation: Option<GenerationId>,
    /// The generation in which it was given what it holds.
    held_since: Option<GenerationId>,
    held: BTreeSet<TopicPartition>,
    /// What the caller has not finished yet of a revocation.
    giving_up: Vec<TopicPartition>,
    /// What the topics were when this member, as leader, assigned them.
    led: Option<BTreeMap<TopicName, u32>>,
    revocations: u64,
}

impl Member {
    /// One that has not joined yet: begin with [`Input::Join`].
    #[must_use]
    pub fn new(options: MemberOptions) -> Self {
        Self {
            options,
            phase: Phase::Out,
            member_id: None,
            generation: None,
            held_since: None,
            held: BTreeSet::new(),
            giving_up: Vec::new(),
            led: None,
            revocations: 0,
        }
    }

    /// How it presents itself.
    #[must_use]
    pub fn options(&self) -> &MemberOptions {
        &self.options
    }

    /// Who commits, and in which generation; none while it is no member.
    #[must_use]
    pub fn identity(&self) -> Option<(MemberId, GenerationId)> {
        Some((self.member_id.clone()?, self.generation?))
    }

    /// The topics whose partitions it has shared out, as the leader of its group.
    pub fn led(&self) -> impl Iterator<Item = &TopicName> {
        self.led.iter().flat_map(BTreeMap::keys)
    }

    /// The topics whose partitions it shares out once it takes `joined`: those that any member wants, its
    /// own or not. None where another leads. Whoever does not know all topics learns here of which the
    /// counts are asked next.
    #[must_use]
    pub fn leads(&self, joined: &JoinedGroup) -> BTreeSet<TopicName> {
        if joined.leader != joined.member_id {
            return BTreeSet::new();
        }
        let others = joined.members.iter().flat_map(|member| subscription(&member.metadata).topics);
        others.chain(self.options.topics.iter().cloned()).collect()
    }

    /// What it says when it ends; a static member says nothing and comes back, unless `for_good`.
    pub fn leave(&mut self, for_good: bool) -> Option<LeaveGroup> {
        self.phase = Phase::Failed;
        let (member_id, instance_id) = (self.member_id.take(), self.options.instance_id.clone());
        let has_joined = member_id.is_some();
        // A static member that has not heard its id yet may be a member all the same, by its name.
        if if instance_id.is_some() { !for_good } else { !has_joined } {
            return None;
        }
        let member = LeavingMember { member_id, instance_id };
        Some(LeaveGroup { group: self.options.group.clone(), members: vec![member] })
    }

    /// Takes `input`, and says what is to be done.
    pub fn step(&mut self, input: Input, count: Count<'_>) -> Vec<Effect> {
        match (input, self.phase) {
            (_, Phase::Failed) => Vec::new(),
            (Input::Join, Phase::Out) => vec![self.join()],
            (Input::Joined(Ok(joined)), Phase::Joining) => self.on_joined(joined, count),
            (Input::Joined(Err(why)), Phase::Joining) => self.on_refused(why),
            (Input::Synced(Ok(synced)), Phase::Syncing) => self.on_synced(&synced),
            (Input::Synced(Err(why)), Phase::Syncing) => self.on_refused(why),
            (Input::Beat, Phase::Stable | Phase::Revoking(_)) => self.on_beat(count),
            (Input::Beaten(generation, Err(why)), Phase::Stable | Phase::Revoking(_))
                if self.generation == Some(generation) =>
            {
                self.on_heartbeat_refused(why)
            }
            (Input::GivenUp(number), Phase::Revoking(wanted)) if number == wanted => {
                self.giving_up.clear();
                vec![self.join()]
            }
            _ => Vec::new(),
        }
    }

    fn join(&mut self) -> Effect {
        let is_eager = !self.options.assignor.is_cooperative();
        assert!(self.giving_up.is_empty(), "MEM-1: {:?}", self.giving_up);
        assert!(!is_eager || self.held.is_empty(), "MEM-2: {:?}", self.held);
        self.phase = Phase::Joining;
        self.led = None;
        let subscription = Subscription {
            topics: self.options.topics.clone(),
            user_data: None,
            owned: self.held.iter().cloned().collect(),
            generation: self.held_since,
            rack: None,
        };
        let protocol =
            Protocol { name: self.options.assignor.name().into(), metadata: subscription.encode() };
        Effect::Join(JoinGroup {
            group: self.options.group.clone(),
            member_id: self.member_id.clone(),
            instance_id: self.options.instance_id.clone(),
            client_id: self.options.client_id.clone(),
            client_host: "embedded".into(),
            session_timeout_ms: self.options.session_timeout_ms,
            rebalance_timeout_ms: self.options.rebalance_timeout_ms,
            protocol_type: CONSUMER_PROTOCOL_TYPE.into(),
            protocols: vec![protocol],
            needs_known_id: true,
            can_skip_assignment: true,
        })
    }

    fn on_joined(&mut self, joined: JoinedGroup, count: Count<'_>) -> Vec<Effect> {
        self.phase = Phase::Syncing;
        self.member_id = Some(joined.member_id.clone());
        self.generation = Some(joined.generation);
        let is_leader = joined.leader == joined.member_id;
        let assignments = match joined.is_assignment_skipped {
            false if is_leader => self.assign(&joined, count),
            true if is_leader => {
                self.lead_blindly();
                Vec::new()
            }
            _ => Vec::new(),
        };
        vec![Effect::Sync(SyncGroup {
            group: self.options.group.clone(),
            generation: Some(joined.generation),
            member_id: joined.member_id,
            instance_id: self.options.instance_id.clone(),
            protocol_type: Some(joined.protocol_type),
            protocol: Some(joined.protocol),
            assignments,
        })]
    }

    /// Shares out the partitions, as the leader. A member whose subscription cannot be read gets none.
    fn assign(&mut self, joined: &JoinedGroup, count: Count<'_>) -> Vec<(MemberId, Bytes)> {
        let mut members = Vec::with_capacity(joined.members.len());
        for member in &joined.members {
            members.push(SubscribedMember {
                member_id: member.member_id.clone(),
                instance_id: member.instance_id.clone(),
                subscription: subscription(&member.metadata),
            });
        }
        let wanted: BTreeSet<_> =
            members.iter().flat_map(|member| &member.subscription.topics).cloned().collect();
        let counts = |topic: TopicName| {
            let partitions = count(&topic).unwrap_or(0);
            (topic, partitions)
        };
        let topics: BTreeMap<_, _> = wanted.into_iter().map(counts).collect();
        let assignor = Assignor::named(&joined.protocol).unwrap_or(self.options.assignor);
        let assignments = assignor.assign(&members, &topics);
        self.led = Some(topics);
        let encode = |(id, mine)| (id, Assignment::of(mine).encode());
        assignments.into_iter().map(encode).collect()
    }

    /// Leads what its last life has assigned. The topics may have grown since, and it may want
    /// others: of none it knows a partition that is assigned, so its next beat shares all out anew.
    fn lead_blindly(&mut self) {
        self.led = Some(self.options.topics.iter().map(|topic| (topic.clone(), 0)).collect());
    }

    fn on_synced(&mut self, synced: &SyncedGroup) -> Vec<Effect> {
        let assignment = Assignment::decode(&synced.assignment).unwrap_or_default();
        // What its last life was assigned and it does not want goes when all is shared out anew.
        let is_wanted = |at: &TopicPartition| self.options.topics.contains(&at.topic);
        let now: BTreeSet<_> = assignment.partitions.into_iter().filter(is_wanted).collect();
        let gone: Vec<_> = self.held.difference(&now).cloned().collect();
        let new: Vec<_> = now.difference(&self.held).cloned().collect();
        self.held = now;
        self.held_since = self.generation;
        self.phase = Phase::Stable;
        let mut effects = Vec::new();
        if !gone.is_empty() {
            effects.push(self.revoke(gone));
        }
        effects.push(Effect::Assign(new));
        effects
    }

    fn revoke(&mut self, partitions: Vec<TopicPartition>) -> Effect {
        self.revocations += 1;
        self.phase = Phase::Revoking(self.revocations);
        self.giving_up.clone_from(&partitions);
        Effect::Revoke(self.revocations, partitions)
    }

    /// Takes part in a rebalance: an eager member first gives up all that it holds.
    fn rejoin(&mut self) -> Vec<Effect> {
        if self.options.assignor.is_cooperative() || self.held.is_empty() {
            return vec![self.join()];
        }
        let held = std::mem::take(&mut self.held);
        vec![self.revoke(held.into_iter().collect())]
    }

    fn on_beat(&mut self, count: Count<'_>) -> Vec<Effect> {
        let Some((member_id, generation)) = self.identity() else { return Vec::new() };
        let have_grown = self.led.as_ref().is_some_and(|led| {
            led.iter().any(|(topic, partitions)| count(topic).unwrap_or(0) != *partitions)
        });
        if have_grown && self.phase == Phase::Stable {
            return self.rejoin();
        }
        vec![Effect::Heartbeat(Heartbeat {
            group: self.options.group.clone(),
            generation: Some(generation),
            member_id,
            instance_id: self.options.instance_id.clone(),
        })]
    }

    fn on_heartbeat_refused(&mut self, why: GroupError) -> Vec<Effect> {
        match why {
            // What is being given up ends in a join anyway.
            GroupError::RebalanceInProgress if self.phase == Phase::Stable => self.rejoin(),
            GroupError::RebalanceInProgress => Vec::new(),
            why if why.is_passing() => Vec::new(),
            why => {
                self.phase = Phase::Joining;
                self.on_refused(why)
            }
        }
    }

    /// A join, a sync or a heartbeat was refused.
    fn on_refused(&mut self, why: GroupError) -> Vec<Effect> {
        self.phase = Phase::Out;
        match why {
            GroupError::MemberIdRequired(member_id) => {
                self.member_id = Some(member_id);
                vec![self.join()]
            }
            GroupError::RebalanceInProgress => vec![self.join()],
            GroupError::UnknownMemberId => {
                self.member_id = None;
                self.lose_then(Effect::JoinLater)
            }
            GroupError::IllegalGeneration => self.lose_then(Effect::JoinLater),
            GroupError::UnknownServer(_) => vec![Effect::JoinLater],
            why if why.is_passing() => vec![Effect::JoinLater],
            why => {
                self.phase = Phase::Failed;
                self.lose_then(Effect::Fail(why))
            }
        }
    }

    fn lose_then(&mut self, then: Effect) -> Vec<Effect> {
        self.generation = None;
        self.held_since = None;
        let mut lost = std::mem::take(&mut self.giving_up);
        lost.extend(std::mem::take(&mut self.held));
        if lost.is_empty() { vec![then] } else { vec![Effect::Lose(lost), then] }
    }
}
