//! Consumer groups: who is a member, who reads which partition, and how far each has come.
//!
//! ```text
//!   member ── JoinGroup, SyncGroup, … ──►┌──────────────────┐── Append ──►┐ one partition of
//!          ◄── once it is committed ─────│ GroupCoordinator │             │ __consumer_offsets
//!   administrator ── DescribeGroup, … ──►│  state::Shard    │◄── Fetch ───┘ (at start, all of it)
//!                                        └──────────────────┘
//! ```
//!
//! One actor for each partition of `__consumer_offsets`; a group belongs to the partition that its
//! name hashes to ([`ids::GroupId::partition_of`]). While it reads its log, it answers
//! [`GroupError::CoordinatorLoadInProgress`].
//!
//! # Invariants
//! - GRP-7: an answer that promises something lasting leaves only after its record is committed.
//! - GRP-8: between two appends of a coordinator stands no record of another; where there is one, a
//!   superseded coordinator wrote it, and this one reads the log anew.
//!
//! # Failure
//! A panic makes the actor anew from its log. When an append may or may not have been written (the
//! partition died, or went offline), whoever waits is told to ask again, and the log is read anew;
//! while its partition is offline the coordinator stays, keeps trying, and is unavailable.

mod append;
pub mod assignor;
mod classic;
pub mod error;
pub mod ids;
mod load;
pub mod messages;
mod offsets;
pub mod protocol;
pub mod records;
pub mod state;
pub mod turn;
mod waiting;
pub mod wire;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::prelude::*;
use flumen_runtime::{
    clock::Clock,
    failpoint,
    ids::Offset,
    mailbox::{ActorName, Drain},
    rng::Rng,
    supervision::{ChildSpec, Incarnation, Restart},
};
use tokio::{sync::watch, time::Instant};

use self::{
    error::GroupError,
    messages::Request,
    state::{Effects, Input, Shard},
    turn::{Now, Options, ReplyId},
    waiting::Waiting,
};
use crate::{
    answer::{self, Answer, Answering},
    broker::partition::messages::{Append, AppendError, Appended, Fetch},
};

/// The partition of `__consumer_offsets` that a coordinator stands on.
#[derive(Clone)]
pub struct GroupLog {
    /// Takes its records.
    pub append: Recipient<Append>,
    /// Gives them back.
    pub fetch: Recipient<Fetch>,
}

/// Coordinates the groups of one partition of `__consumer_offsets`.
pub struct GroupCoordinator {
    log: GroupLog,
    options: watch::Receiver<Options>,
    clock: Arc<dyn Clock>,
    rng: Rng,
    started_at: Instant,
    phase: Phase,
    shard: Shard,
    waiting: BTreeMap<ReplyId, Waiting>,
    next_reply: u64,
    /// The offset that the next append gets, unless another coordinator wrote.
    log_end: Offset,
    wake: Option<(u64, SpawnHandle)>,
    draining: Option<Answer<()>>,
    loads: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Loading,
    Serving { is_appending: bool },
}

impl GroupCoordinator {
    /// A coordinator on `log`; member ids come from `rng`, which must not repeat over lives.
    #[must_use]
    pub fn new(
        log: GroupLog,
        options: watch::Receiver<Options>,
        clock: Arc<dyn Clock>,
        rng: Rng,
    ) -> Self {
        let shard = Shard::new(options.borrow().clone(), rng.clone());
        Self {
            log,
            options,
            clock,
            rng,
            started_at: Instant::now(),
            phase: Phase::Loading,
            shard,
            waiting: BTreeMap::new(),
            next_reply: 0,
            log_end: Offset::ZERO,
            wake: None,
            draining: None,
            loads: 0,
        }
    }

    /// A supervised coordinator called `name` on `log`, and its address.
    #[must_use]
    pub fn child_spec(
        name: impl Into<ActorName>,
        log: GroupLog,
        options: watch::Receiver<Options>,
    ) -> (ChildSpec, Addr<Self>) {
        let factory = move |incarnation: &Incarnation<Self>| {
            let local = incarnation.local();
            let life = incarnation.number().to_string();
            let rng = local.rng(incarnation.name()).split(&life);
            Ok(Self::new(log.clone(), options.clone(), local.clock().clone(), rng))
        };
        let (spec, address) = ChildSpec::actor(name, factory);
        (spec.restart(Restart::Transient), address)
    }

    fn now(&self) -> Now {
        let steady = self.started_at.elapsed().as_millis();
        let steady_ms = u64::try_from(steady).unwrap_or(u64::MAX);
        Now { steady_ms, unix_ms: self.clock.now_ms() }
    }
}

impl Actor for GroupCoordinator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.load(ctx);
    }
}

// ---- Messages: each of `messages`, and those of the actor's own life --------------------------

impl GroupCoordinator {
    /// Takes a request in; the answer is given to `waiting` now or later.
    fn ask(&mut self, request: Request, waiting: Waiting, ctx: &mut Context<Self>) {
        if self.phase == Phase::Loading {
            return waiting.refuse(GroupError::CoordinatorLoadInProgress);
        }
        let id = ReplyId(self.next_reply);
        self.next_reply += 1;
        self.waiting.insert(id, waiting);
        self.step(Input::Ask(id, request), ctx);
    }

    fn step(&mut self, input: Input, ctx: &mut Context<Self>) {
        if self.options.has_changed().unwrap_or(false) {
            self.shard.set_options(self.options.borrow_and_update().clone());
        }
        let effects = self.shard.step(self.now(), input);
        self.carry_out(effects, ctx);
    }

    fn carry_out(&mut self, effects: Effects, ctx: &mut Context<Self>) {
        for (id, reply) in effects.replies {
            if let Some(waiting) = self.waiting.remove(&id) {
                waiting.give(reply);
            }
        }
        if !effects.append.is_empty() {
            let batches =
                append::encode(&effects.append, self.clock.now_ms(), &self.options.borrow());
            self.phase = Phase::Serving { is_appending: true };
            let appended = self.log.append.send(Append::new(batches)).into_actor(self);
            ctx.spawn(appended.map(|appended, act, ctx| act.on_appended(appended, ctx)));
        }
        self.wake_at(effects.wake_at_ms, ctx);
        self.maybe_drained();
    }

    fn wake_at(&mut self, at_ms: Option<u64>, ctx: &mut Context<Self>) {
        if self.wake.map(|(set_ms, _)| set_ms) == at_ms {
            return;
        }
        if let Some((_, handle)) = self.wake.take() {
            ctx.cancel_future(handle);
        }
        if let Some(at_ms) = at_ms {
            let wait = Duration::from_millis(at_ms.saturating_sub(self.now().steady_ms));
            let handle = ctx.run_later(wait, |act, ctx| {
                act.wake = None;
                act.step(Input::Elapsed, ctx);
            });
            self.wake = Some((at_ms, handle));
        }
    }

    fn on_appended(
        &mut self,
        appended: Result<Result<Appended, AppendError>, MailboxError>,
        ctx: &mut Context<Self>,
    ) {
        if self.phase != (Phase::Serving { is_appending: true }) {
            return;
        }
        self.phase = Phase::Serving { is_appending: false };
        match appended {
            Ok(Ok(appended)) if appended.base_offset == self.log_end => {
                self.log_end = appended.last_offset.next();
                failpoint::pass("coordinator: appended");
                self.step(Input::Committed, ctx);
            }
            Ok(Ok(appended)) => {
                let (wanted, got) = (self.log_end, appended.base_offset);
                tracing::warn!(%wanted, %got, "another coordinator wrote; reading the log anew");
                self.reload(ctx);
            }
            Ok(Err(why)) => match append::refusal(&why) {
                Some(refusal) => {
                    tracing::warn!(%why, "the records of groups were not written");
                    self.step(Input::Refused(refusal), ctx);
                }
                None => {
                    tracing::warn!(%why, "the records of groups may not be written; reading anew");
                    self.reload(ctx);
                }
            },
            Err(_) => self.reload(ctx),
        }
    }

    /// What is in memory and what is in the log may differ: whoever waits asks again, of a
    /// coordinator that has read the log.
    fn reload(&mut self, ctx: &mut Context<Self>) {
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            waiting.refuse(GroupError::CoordinatorNotAvailable);
        }
        self.wake_at(None, ctx);
        self.load(ctx);
        self.maybe_drained();
    }

    /// Answers who asked for the end, once nothing is being written. Parked members join again.
    fn maybe_drained(&mut self) {
        if self.phase != (Phase::Serving { is_appending: true })
            && let Some(answer) = self.draining.take()
        {
            answer.give(());
        }
    }
}

impl Handler<Drain> for GroupCoordinator {
    type Result = Answering<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let (answer, answering) = answer::later();
        self.draining = Some(answer);
        self.maybe_drained();
        answering
    }
}

#[cfg(test)]
mod tests;
