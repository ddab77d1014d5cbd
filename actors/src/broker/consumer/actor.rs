//! The actor of a consumer: carries the member's decisions out, and commits.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::prelude::*;
use flumen_runtime::{
    credit::Credit,
    ids::{LeaderEpoch, Offset},
};
use futures::{FutureExt as _, channel::mpsc, future::ready};

use super::{
    CommitError, ConsumedTo, ConsumerOptions, Lookup, Reads, Start,
    deliveries::{Delivery, Queued, Revocation, Wanted},
    fetching::{Begins, find_beginnings},
    member::{Effect, Input, Member},
};
use crate::{
    answer::{self, Answering},
    broker::{
        group_coordinator::{
            GroupCoordinator,
            error::GroupError,
            ids::GroupId,
            messages::{CommitOffsets, OffsetToCommit},
        },
        names::{TopicName, TopicPartition},
    },
};

const RETRY: Duration = Duration::from_millis(50);
/// A member hears of a rebalance at its next heartbeat, which costs a few microseconds.
const HEARTBEAT_MAX: Duration = Duration::from_millis(500);

/// A partition that the consumer reads, or is giving up.
pub(super) struct Holding {
    /// Which time of holding it: commits name it (CONS-2).
    pub(super) tenure: u64,
    /// Until the tenure ends.
    pub(super) tenured: Wanted,
    /// Until the tenure ends, or a seek.
    pub(super) wanted: Wanted,
    /// Where the next fetch begins; none before that is known.
    pub(super) position: Option<Offset>,
    /// The furthest that was delivered in this tenure.
    pub(super) delivered: Offset,
    /// The epoch of what was fetched last.
    pub(super) epoch: Option<LeaderEpoch>,
    pub(super) is_fetching: bool,
    pub(super) is_paused: bool,
    /// The revocation that ends the tenure.
    revocation: Option<u64>,
}

impl Holding {
    /// Whether a fetch should be on its way, and is not.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_fetching && !self.is_paused && self.revocation.is_none()
    }
}

/// Reads partitions; see [`super::Consumer`].
pub(super) struct ConsumerActor {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) options: ConsumerOptions,
    pub(super) queue: mpsc::UnboundedSender<Queued>,
    pub(super) credit: Credit,
    pub(super) holdings: BTreeMap<TopicPartition, Holding>,
    group: Option<GroupId>,
    coordinator: Option<Addr<GroupCoordinator>>,
    member: Option<Member>,
    /// What is read without a group's assignment; taken up at start.
    fixed: Vec<(TopicPartition, Start)>,
    next_tenure: u64,
    is_closing: bool,
}

impl ConsumerActor {
    pub(super) fn new(
        lookup: Arc<dyn Lookup>,
        reads: Reads,
        options: ConsumerOptions,
        queue: mpsc::UnboundedSender<Queued>,
    ) -> Self {
        let (group, member, fixed) = match reads {
            Reads::Subscribed(member) => {
                (Some(member.group.clone()), Some(Member::new(member)), Vec::new())
            }
            Reads::Partitions { partitions, group } => (group, None, partitions),
        };
        Self {
            lookup,
            credit: Credit::new(usize::MAX, options.bytes_max),
            options,
            queue,
            holdings: BTreeMap::new(),
            group,
            coordinator: None,
            member,
            fixed,
            next_tenure: 0,
            is_closing: false,
        }
    }

    pub(super) fn deliver(&self, delivery: Queued) {
        // Nobody reads any more: `Close` is on its way.
        let _ = self.queue.unbounded_send(delivery);
    }

    /// Everything begins once the group's coordinator, if there is a group, is found.
    fn begin(&mut self, coordinator: Option<Addr<GroupCoordinator>>, ctx: &mut Context<Self>) {
        if self.is_closing {
            return;
        }
        self.coordinator = coordinator;
        let fixed = std::mem::take(&mut self.fixed);
        self.take(fixed, ctx);
        if let Some(member) = &self.member {
            let third = u64::from(member.options().session_timeout_ms) / 3;
            let interval = HEARTBEAT_MAX.min(Duration::from_millis(third.max(1)));
            ctx.run_interval(interval, |act, ctx| act.step(Input::Beat, ctx));
            self.step(Input::Join, ctx);
        }
    }

    // ---- Membership ------------------------------------------------------------------------------

    fn step(&mut self, input: Input, ctx: &mut Context<Self>) {
        let Some(member) = &mut self.member else { return };
        let lookup = self.lookup.clone();
        let effects = member.step(input, &move |topic: &TopicName| lookup.partitions(topic));
        for effect in effects {
            self.carry_out(effect, ctx);
        }
    }

    fn carry_out(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Join(join) => self.ask(join, Input::Joined, ctx),
            Effect::Sync(sync) => self.ask(sync, Input::Synced, ctx),
            Effect::Heartbeat(beat) => {
                let generation = beat.generation.unwrap_or_default();
                self.ask(beat, move |answer| Input::Beaten(generation, answer), ctx);
            }
            Effect::JoinLater => {
                ctx.run_later(RETRY, |act, ctx| act.step(Input::Join, ctx));
            }
            Effect::Revoke(number, partitions) => {
                for partition in &partitions {
                    if let Some(holding) = self.holdings.get_mut(partition) {
                        holding.wanted.end();
                        holding.revocation = Some(number);
                    }
                }
                let revocation = Revocation::new(number, partitions, ctx.address());
                self.deliver(Queued::Other(Delivery::Revoking(revocation)));
            }
            Effect::Lose(partitions) => {
                partitions.iter().for_each(|partition| self.release(partition));
                self.deliver(Queued::Other(Delivery::Lost(partitions)));
            }
            Effect::Assign(partitions) => {
                let start = self.options.start;
                self.take(partitions.into_iter().map(|at| (at, start)).collect(), ctx);
            }
            Effect::Fail(why) => {
                self.deliver(Queued::Other(Delivery::Failed(why)));
                self.queue.close_channel();
            }
        }
    }

    fn ask<M, T>(
        &self,
        request: M,
        input: impl FnOnce(M::Result) -> Input + 'static,
        ctx: &mut Context<Self>,
    ) where
        M: Message<Result = Result<T, GroupError>> + Send + 'static,
        T: Send + 'static,
        GroupCoordinator: Handler<M>,
    {
        let coordinator = self.coordinator.clone();
        let answer = async move {
            match coordinator {
                Some(coordinator) => coordinator.send(request).await,
                None => Ok(Err(GroupError::CoordinatorNotAvailable)),
            }
        };
        let answer = answer.into_actor(self).map(|answer, act, ctx| {
            let answer = answer.unwrap_or(Err(GroupError::CoordinatorNotAvailable));
            act.step(input(answer), ctx);
        });
        ctx.spawn(answer);
    }

    // ---- Partitions that come and go -------------------------------------------------------------

    /// Reads these from now on, once it is known where each begins.
    fn take(&mut self, partitions: Vec<(TopicPartition, Start)>, ctx: &mut Context<Self>) {
        let mut tenures = BTreeMap::new();
        for (partition, _) in &partitions {
            self.next_tenure += 1;
            tenures.insert(partition.clone(), self.next_tenure);
            let holding = Holding {
                tenure: self.next_tenure,
                tenured: Wanted::new(),
                wanted: Wanted::new(),
                position: None,
                delivered: Offset::ZERO,
                epoch: None,
                is_fetching: false,
                is_paused: false,
                revocation: None,
            };
            self.holdings.insert(partition.clone(), holding);
        }
        if partitions.is_empty() {
            return;
        }
        let group = self.group.clone().zip(self.coordinator.clone());
        let found = find_beginnings(self.lookup.clone(), group, partitions);
        let found = found.into_actor(self).map(move |found, act, ctx| {
            act.on_beginnings(&tenures, found, ctx);
        });
        ctx.spawn(found);
    }

    fn on_beginnings(
        &mut self,
        tenures: &BTreeMap<TopicPartition, u64>,
        found: Begins,
        ctx: &mut Context<Self>,
    ) {
        let mut assigned = Vec::with_capacity(found.len());
        for begins in found {
            let Some(holding) = self.holdings.get_mut(&begins.partition) else { continue };
            if tenures.get(&begins.partition) != Some(&holding.tenure) {
                continue;
            }
            // A seek may have come first.
            let position = *holding.position.get_or_insert(begins.position);
            holding.delivered = holding.delivered.max(begins.position);
            let committed = begins.committed.as_ref();
            holding.epoch = holding.epoch.or_else(|| committed.and_then(|at| at.leader_epoch));
            let is_cut = begins.is_cut && position == begins.position;
            let begins = super::Assigned { position, is_cut, ..begins };
            assigned.push((holding.tenure, holding.tenured.clone(), begins));
        }
        let partitions: Vec<_> = assigned.iter().map(|(_, _, a)| a.partition.clone()).collect();
        self.deliver(Queued::Assigned(assigned));
        for partition in partitions {
            self.fetch(&partition, ctx);
        }
    }

    fn release(&mut self, partition: &TopicPartition) {
        if let Some(holding) = self.holdings.remove(partition) {
            holding.wanted.end();
            holding.tenured.end();
        }
    }

    // ---- Commits ---------------------------------------------------------------------------------

    /// The request that commits `positions` in this generation, if it may be made.
    fn prepare(&self, positions: Vec<(u64, ConsumedTo)>) -> Result<CommitOffsets, Refused> {
        let group = self.group.clone().ok_or(CommitError::NoGroup)?;
        let mut offsets = Vec::with_capacity(positions.len());
        for (tenure, position) in positions {
            let partition = position.partition;
            let holding = self.holdings.get(&partition).filter(|held| held.tenure == tenure);
            let Some(holding) = holding else {
                return Err(CommitError::NotAssigned(partition).into());
            };
            if position.offset > holding.delivered {
                let (offset, delivered) = (position.offset, holding.delivered);
                return Err(CommitError::Ahead { partition, offset, delivered }.into());
            }
            offsets.push(OffsetToCommit {
                partition,
                topic_id: None,
                offset: position.offset,
                leader_epoch: position.leader_epoch.or(holding.epoch),
                metadata: position.metadata,
            });
        }
        let (member_id, generation, instance_id) = match &self.member {
            Some(member) => {
                let (member_id, generation) = member.identity().ok_or(Refused::ForNow)?;
                (Some(member_id), Some(generation), member.options().instance_id.clone())
            }
            None => (None, None, None),
        };
        Ok(CommitOffsets { group, generation, member_id, instance_id, retention_ms: None, offsets })
    }
}

impl Actor for ConsumerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (lookup, group) = (self.lookup.clone(), self.group.clone());
        let found = async move {
            let group = group?;
            loop {
                if let Some(coordinator) = lookup.coordinator(&group).await {
                    return Some(coordinator);
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        ctx.spawn(found.into_actor(self).map(|found, act, ctx| act.begin(found, ctx)));
    }
}

// ---- Messages ----------------------------------------------------------------------------------

/// Commits positions, each in a tenure: all or none.
#[derive(Message)]
#[rtype(result = "Result<(), Refused>")]
pub(super) struct Commit {
    pub(super) positions: Vec<(u64, ConsumedTo)>,
}

/// Why a commit was not made.
#[derive(Debug)]
pub(super) enum Refused {
    /// A rebalance is on, or the coordinator is away: worth another try while the tenure lasts.
    ForNow,
    ForGood(CommitError),
}

impl From<CommitError> for Refused {
    fn from(why: CommitError) -> Self {
        Refused::ForGood(why)
    }
}

/// Goes on reading elsewhere.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Seek {
    pub(super) partition: TopicPartition,
    pub(super) offset: Offset,
}

/// Stops or goes on fetching.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SetPaused {
    pub(super) partition: TopicPartition,
    pub(super) is_paused: bool,
}

/// The caller has finished what a revocation takes away.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct GivenUp {
    pub(super) number: u64,
}

/// Leaves the group, and ends. A static member leaves only `for_good`.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Close {
    pub(super) for_good: bool,
}

impl Handler<Commit> for ConsumerActor {
    type Result = ResponseFuture<Result<(), Refused>>;

    fn handle(&mut self, commit: Commit, _: &mut Self::Context) -> Self::Result {
        let request = match self.prepare(commit.positions) {
            Ok(request) => request,
            Err(refused) => return Box::pin(ready(Err(refused))),
        };
        let is_member = request.generation.is_some();
        let Some(coordinator) = self.coordinator.clone() else {
            return Box::pin(ready(Err(Refused::ForNow)));
        };
        let answer = coordinator.send(request).map(move |answer| match answer {
            Ok(Ok(committed)) => {
                let refusal = committed.partitions.into_iter().find_map(|(_, one)| one.err());
                refusal.map_or(Ok(()), |why| Err(CommitError::Refused(why).into()))
            }
            Err(_) => Err(Refused::ForNow),
            Ok(Err(why)) if why.is_passing() => Err(Refused::ForNow),
            // The next heartbeat tells whether it is a new generation, or no membership any more.
            Ok(Err(
                GroupError::RebalanceInProgress
                | GroupError::IllegalGeneration
                | GroupError::UnknownMemberId,
            )) if is_member => Err(Refused::ForNow),
            Ok(Err(why)) => Err(CommitError::Refused(why).into()),
        });
        Box::pin(answer)
    }
}

impl Handler<Seek> for ConsumerActor {
    type Result = ();

    fn handle(&mut self, seek: Seek, ctx: &mut Self::Context) {
        let Some(holding) = self.holdings.get_mut(&seek.partition) else { return };
        if holding.revocation.is_some() {
            return;
        }
        holding.wanted.end();
        holding.wanted = Wanted::new();
        holding.position = Some(seek.offset);
        holding.is_fetching = false;
        self.fetch(&seek.partition, ctx);
    }
}

impl Handler<SetPaused> for ConsumerActor {
    type Result = ();

    fn handle(&mut self, set: SetPaused, ctx: &mut Self::Context) {
        if let Some(holding) = self.holdings.get_mut(&set.partition) {
            holding.is_paused = set.is_paused;
            self.fetch(&set.partition, ctx);
        }
    }
}

impl Handler<GivenUp> for ConsumerActor {
    type Result = ();

    fn handle(&mut self, given_up: GivenUp, ctx: &mut Self::Context) {
        let number = Some(given_up.number);
        let gone = self.holdings.iter().filter(|(_, holding)| holding.revocation == number);
        for partition in gone.map(|(partition, _)| partition.clone()).collect::<Vec<_>>() {
            self.release(&partition);
        }
        self.step(Input::GivenUp(given_up.number), ctx);
    }
}

impl Handler<Close> for ConsumerActor {
    type Result = Answering<()>;

    fn handle(&mut self, close: Close, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answering) = answer::later();
        let leave = self.member.as_mut().and_then(|member| member.leave(close.for_good));
        let leave = leave.zip(self.coordinator.clone());
        self.queue.close_channel();
        for partition in self.holdings.keys().cloned().collect::<Vec<_>>() {
            self.release(&partition);
        }
        if std::mem::replace(&mut self.is_closing, true) {
            answer.give(());
            return answering;
        }
        let left = async move {
            if let Some((leave, coordinator)) = leave {
                // Not heard, it is as good as a crash: the session times out.
                let _ = coordinator.send(leave).await;
            }
        };
        ctx.spawn(left.into_actor(self).map(|(), _, ctx| {
            answer.give(());
            ctx.stop();
        }));
        answering
    }
}
