//! The core of a partition: every decision, and nothing that waits.
//!
//! ```text
//!   append ──► check, judge, stamp ──► Write ──► log ──► on_progress(written, durable)
//!                     │                                        │ high watermark moves
//!   hold(ack) ────────┴──────────► waiting ────────────────────┼──► Release, in offset order
//!   fetch ──► Answer │ Read │ parked ──────────────────────────┴──► Answer │ Read
//! ```
//!
//! # Invariants
//! - PART-1: `log start <= last stable <= high watermark <= log end`.
//! - PART-2: the high watermark never goes back, and a follower truncates only at or above it.
//! - PART-6: `durable end <= written end <= log end`, and the high watermark does not pass the
//!   durable end, except on a lazy topic: there, not the written end.
//! - PART-7: an ack is released only when its mark has passed its last offset, in offset order.
//! - PART-8: a consumer is given whole batches below its mark, none above.
//! - PART-9: a batch gets the offset at which the log ends, and no other gets it.
//!
//! # Why answers are opaque
//! `A` and `F` are whatever answers an append and a fetch: a reply slot in the actor, a number in a
//! test. The core decides when they are given, and cannot give them itself.

mod appends;
mod fetches;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use flumen_runtime::{
    batch::BatchHeader,
    clock::UnixMillis,
    ids::{LeaderEpoch, Offset},
    log::{Aborted, Decided},
};

pub(crate) use self::appends::marker;
pub use self::{
    appends::{Accepted, Expected},
    fetches::ReadRange,
};
use super::{
    marks::Marks,
    messages::{AppendError, FetchError, Fetched, NotLeaderError, Role},
    parked::{Parked, ParkedFetches},
    producers::Producers,
    tail::Tail,
    transactions::Transactions,
    validate::Limits,
    waiting::Waiting,
};
use crate::broker::names::Acks;

/// What a partition is told by its topic, as far as its decisions go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What a batch must keep to.
    pub limits: Limits,
    /// Nothing waits for a sync.
    pub is_lazy: bool,
    /// How many replicas must have what all of them are waited for with (`min.insync.replicas`).
    pub in_sync_min: u32,
    /// How long an unused producer's state is kept.
    pub producer_age_ms: i64,
}

impl Default for Rules {
    fn default() -> Self {
        let limits = Limits::default();
        Self { limits, is_lazy: false, in_sync_min: 1, producer_age_ms: 86_400_000 }
    }
}

/// What the log gave when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// First offset kept.
    pub log_start: Offset,
    /// Offset after the last: all of it is written and durable.
    pub log_end: Offset,
    /// Producer states.
    pub producers: Producers,
    /// Decided and aborted transactions.
    pub transactions: Transactions,
    /// What a follower knew to be committed before; it never goes back.
    pub high_watermark: Offset,
}

/// What is to be done.
#[derive(Debug)]
pub enum Effect<A, F> {
    /// Append to the log.
    Write(Bytes, BatchHeader),
    /// Give this answer: its mark has passed.
    Release(A),
    /// Answer this fetch.
    Answer(F, Result<Fetched, FetchError>),
    /// Read from the disk, and answer this fetch with it.
    Read(F, ReadRange),
}

/// The effects of one step, in the order in which they are carried out.
pub type Effects<A, F> = Vec<Effect<A, F>>;

/// The state of a partition that is open.
#[derive(Debug)]
pub struct State<A, F> {
    rules: Rules,
    role: Role,
    epoch: LeaderEpoch,
    log_start: Offset,
    log_end: Offset,
    written_end: Offset,
    durable_end: Offset,
    high_watermark: Offset,
    /// What the leader told a follower last.
    leader_high_watermark: Offset,
    /// Up to here a lazy topic had committed when it stopped being lazy.
    lazy_until: Offset,
    producers: Producers,
    transactions: Transactions,
    /// Acks that wait for this disk alone.
    until_durable: Waiting<A>,
    /// Acks that wait for the high watermark.
    until_committed: Waiting<A>,
    parked: ParkedFetches<F>,
    tail: Tail,
    duplicates: u64,
}

impl<A, F> State<A, F> {
    /// The state of a log that was just opened, in `role` of `epoch`.
    #[must_use]
    pub fn new(rules: Rules, recovered: Recovered, role: Role, epoch: LeaderEpoch) -> Self {
        let end = recovered.log_end;
        // A follower learns from its leader what is committed; a sole replica has it all.
        let known = recovered.high_watermark.clamp(recovered.log_start, end);
        let committed = if role == Role::Leader { end } else { known };
        let mut state = Self {
            rules,
            role,
            epoch,
            log_start: recovered.log_start,
            log_end: end,
            written_end: end,
            durable_end: end,
            high_watermark: committed,
            leader_high_watermark: committed,
            lazy_until: Offset::ZERO,
            producers: recovered.producers,
            transactions: recovered.transactions,
            until_durable: Waiting::default(),
            until_committed: Waiting::default(),
            parked: ParkedFetches::default(),
            tail: Tail::default(),
            duplicates: 0,
        };
        state.transactions.on_high_watermark(committed);
        state.check();
        state
    }

    /// The five numbers.
    #[must_use]
    pub fn marks(&self) -> Marks {
        Marks {
            log_start: self.log_start,
            last_stable: self.last_stable(),
            high_watermark: self.high_watermark,
            durable_end: self.durable_end,
            log_end: self.log_end,
        }
    }

    /// The role and its epoch.
    #[must_use]
    pub fn role(&self) -> (Role, LeaderEpoch) {
        (self.role, self.epoch)
    }

    /// What replaying the log would give, as the content of a `.snapshot` file.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.producers.encode(self.transactions.aborted())
    }

    /// What compaction must know before it takes anything away.
    #[must_use]
    pub fn decided(&self) -> Decided {
        let aborted = self.transactions.aborted().iter().map(|aborted| Aborted {
            producer_id: aborted.producer.0,
            first: aborted.first_offset,
            last: aborted.last_offset,
        });
        Decided {
            end: self.last_stable(),
            aborted: aborted.collect(),
            last_batches: self.producers.last_offsets().collect(),
        }
    }

    /// The producers' states.
    #[must_use]
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// How many fetches are parked, and how many acks wait.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.parked.len(), self.until_durable.len() + self.until_committed.len())
    }

    /// Batches that had been appended before, so far.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Where the oldest undecided transaction begins, but not above the high watermark.
    fn last_stable(&self) -> Offset {
        let undecided = [self.producers.first_open(), self.transactions.first_unsettled()];
        let first = undecided.into_iter().flatten().min().unwrap_or(self.high_watermark);
        first.min(self.high_watermark).max(self.log_start)
    }

    /// How far this disk alone has got: what the topic takes for safe.
    fn safe_end(&self) -> Offset {
        if self.rules.is_lazy { self.written_end } else { self.durable_end }
    }

    /// Keeps `answer` until the append that ends at `end` has what `acks` asks for; gives it in
    /// this step where it has that already.
    pub fn hold(&mut self, acks: Acks, end: Offset, answer: A, effects: &mut Effects<A, F>) {
        match acks {
            Acks::None => effects.push(Effect::Release(answer)),
            Acks::Leader => self.until_durable.push(end, answer),
            Acks::InSync => self.until_committed.push(end, answer),
        }
        self.release(effects);
    }

    /// The log has written up to `written_end` and synced up to `durable_end`.
    pub fn on_progress(
        &mut self,
        written_end: Offset,
        durable_end: Offset,
        effects: &mut Effects<A, F>,
    ) {
        assert!(written_end >= self.written_end && durable_end >= self.durable_end, "PART-6");
        self.written_end = written_end;
        self.durable_end = durable_end;
        self.advance(effects);
    }

    /// Retention, or someone who trims, has moved the start of the log.
    pub fn on_log_start(&mut self, log_start: Offset) {
        assert!(log_start >= self.log_start, "PART-1: the log start went back");
        self.log_start = log_start;
        self.transactions.trim_to(log_start);
        self.check();
    }

    /// Takes what the marks now allow.
    fn advance(&mut self, effects: &mut Effects<A, F>) {
        let (safe, before) = (self.safe_end(), self.high_watermark);
        let committed = match self.role {
            Role::Leader => safe,
            Role::Follower => self.leader_high_watermark.min(safe),
        };
        if committed > self.high_watermark {
            self.high_watermark = committed;
            self.transactions.on_high_watermark(committed);
        }
        assert!(self.high_watermark >= before, "PART-2: the high watermark went back");
        // Readers go first: what is answered first is on its way one turn of a connection sooner.
        self.wake(effects);
        self.release(effects);
        self.check();
    }

    fn release(&mut self, effects: &mut Effects<A, F>) {
        let safe = self.safe_end();
        while let Some(answer) = self.until_durable.pop(safe) {
            effects.push(Effect::Release(answer));
        }
        while let Some(answer) = self.until_committed.pop(self.high_watermark) {
            effects.push(Effect::Release(answer));
        }
    }

    /// Takes a role. Answers the acks that the new role cannot give any more.
    ///
    /// # Errors
    /// [`NotLeaderError`] where `epoch` is older than the one this replica is in, or names another
    /// role in it.
    pub fn assume(
        &mut self,
        role: Role,
        epoch: LeaderEpoch,
        effects: &mut Effects<A, F>,
    ) -> Result<Vec<A>, NotLeaderError> {
        if epoch < self.epoch || (epoch == self.epoch && role != self.role) {
            return Err(self.not_leader());
        }
        self.role = role;
        self.epoch = epoch;
        self.leader_high_watermark = self.high_watermark;
        let mut dropped = Vec::new();
        if role == Role::Follower {
            dropped.extend(self.until_durable.drain());
            dropped.extend(self.until_committed.drain());
        }
        // Those that were parked for the epoch before wait for what may never come.
        self.wake(effects);
        self.check();
        Ok(dropped)
    }

    fn not_leader(&self) -> NotLeaderError {
        NotLeaderError { is_leader: self.role == Role::Leader, epoch: self.epoch }
    }

    /// What batches must keep to.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.rules.limits
    }

    /// Whether as many replicas are in sync as an append needs that waits for `acks`: the only one is.
    ///
    /// # Errors
    /// [`AppendError::TooFewInSync`].
    pub fn check_in_sync(&self, acks: Acks) -> Result<(), AppendError> {
        match self.rules.in_sync_min {
            min if min > 1 && acks == Acks::InSync => Err(AppendError::TooFewInSync(min)),
            _ => Ok(()),
        }
    }

    /// The topic's rules changed.
    pub fn configure(&mut self, rules: Rules, effects: &mut Effects<A, F>) {
        if self.rules.is_lazy && !rules.is_lazy {
            self.lazy_until = self.high_watermark;
        }
        self.rules = rules;
        self.advance(effects);
    }

    /// About a second has passed, in which the clock leapt by `leapt_ms` besides: ages the tail,
    /// expires producers, and drops the parked fetches that nobody waits for any more.
    pub fn on_tick(&mut self, now_ms: UnixMillis, leapt_ms: i64, is_unwanted: impl Fn(&F) -> bool) {
        self.forget_unwanted(is_unwanted);
        // One that went back makes them younger, which does no harm.
        self.producers.pass_over(leapt_ms.max(0));
        self.tail.on_tick(!self.parked.is_empty());
        self.producers.expire(now_ms, self.rules.producer_age_ms);
        self.check();
    }

    /// Whether nothing waits and nothing is kept that a tick would let go.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting() == (0, 0) && self.tail.is_idle()
    }

    /// Forgets the parked fetches that nobody waits for any more.
    pub fn forget_unwanted(&mut self, is_unwanted: impl Fn(&F) -> bool) {
        drop(self.parked.take_ready(|parked| is_unwanted(&parked.reader)));
    }

    /// Gives up those who wait for what may never come.
    pub fn dismiss_fetches(&mut self) -> Vec<Parked<F>> {
        self.parked.drain()
    }

    /// Gives up everyone who waits: the partition stops serving.
    pub fn dismiss(&mut self) -> (Vec<A>, Vec<Parked<F>>) {
        let answers = self.until_durable.drain().chain(self.until_committed.drain()).collect();
        (answers, self.parked.drain())
    }

    /// When the next parked fetch is to be answered, whatever there is.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.parked.next_deadline()
    }

    fn check(&self) {
        self.marks().check();
        assert!(self.durable_end <= self.written_end, "PART-6: durable before written");
        assert!(self.written_end <= self.log_end, "PART-6: written past the end");
        let committed_max = self.safe_end().max(self.lazy_until);
        assert!(self.high_watermark <= committed_max, "PART-6: committed before it is safe");
    }
}
