//! The partition: one log, one actor.
//!
//! ```text
//!                 ┌───────────── Partition ──────────────┐
//!   Append ─────► │  state (core) ── effects ──► log ────┼──► disk actor
//!   Fetch  ─────► │     ▲   acks, wakes            │     │
//!                 │     └──── on_io, on_timer ◄────┘     │
//!                 └──────────────────────────────────────┘
//!   NoRoom    the disk is full: tries again
//!      ▲│
//!      │▼
//!   Opening ──► Open (leading │ following) ──► Offline (stays, and says why)
//!      │  ▲ first request
//!      ▼  │
//!     AtRest    closed in order by the last run
//!      ▲──────────┘ truncated: what is left of the log is replayed
//! ```
//!
//! The ruler of a partition, its five numbers, stands in [`marks`]; every decision in [`state`], with
//! the invariants PART-1 to PART-9. This file only carries messages in and effects out.
//!
//! While the log opens, requests wait in order, at most [`OPENING_MAX`] of them; each waits under
//! its sender's permit, or is a read that its sender waits for.
//!
//! # Failure
//! - A panic: made anew from its log by the supervisor; messages that wait are answered by the new
//!   life.
//! - A log that cannot be opened, read for recovery, written or synced: the partition is **offline**.
//!   It stays, answers everything with [`OfflineError`], does not restart and counts against no
//!   budget: no restart heals a disk. Whoever repaired the log has the actor made anew.
//! - A disk that is full when the log is opened: it is opened by itself when there is room (`no_room`).
//! - Writes of an earlier life that do not end in time: the process ends ([`flumen_runtime::era`]).
//!
//! # Why the answer slots go through the core
//! See [`crate::answer`]: no task, no boxed future and no extra turn between the disk's completion and
//! the one who waits.

mod at_rest;
mod handle;
pub mod marks;
pub mod messages;
mod no_room;
mod open;
mod opening;
pub mod options;
pub mod parked;
mod prepare;
pub mod probe;
pub mod producers;
pub mod replay;
mod request;
pub mod state;
pub mod tail;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod transactions;
pub mod validate;
pub mod waiting;

use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use flumen_runtime::{
    credit::Permit,
    disk::DiskError,
    ids::{LeaderEpoch, LogId, Offset},
    log::{LogFailure, LogIoDone},
    supervision::{ChildSpec, Incarnation, Restart},
};

pub use self::handle::PartitionHandle;
use self::{
    at_rest::{AtRest, Rest},
    handle::Handover,
    messages::{
        AppendError, Assume, Condition, Configure, FetchError, OfflineError, PartitionStatus, Role,
        TruncateTo,
    },
    no_room::NoRoom,
    open::Open,
    opening::{Opened, OpenedLog, OpeningError},
    options::{ClosedPartition, PartitionConfig, PartitionOptions},
    prepare::Prepared,
    probe::{Probe, Snapshot},
    request::{OffsetAnswer, Request},
    state::{Recovered, State},
};
use crate::broker::{directories::DataDirectory, names::TopicPartition, traffic::Traffic};

/// Most requests that wait for a log to open; more are refused as passing.
pub const OPENING_MAX: usize = 4_096;

// ---- Actor -------------------------------------------------------------------------------------

/// What all lives of a partition share: a new life takes up the newest role and settings.
struct Shared {
    partition: TopicPartition,
    log: LogId,
    directory: Arc<DataDirectory>,
    dir: Arc<Path>,
    traffic: Arc<Traffic>,
    probe: Option<Arc<dyn Probe>>,
    handover: Handover,
    assigned: Mutex<Assigned>,
    rest: Rest,
    /// For those outside who look.
    is_offline: AtomicBool,
}

#[derive(Clone)]
struct Assigned {
    config: Arc<PartitionConfig>,
    role: Role,
    epoch: LeaderEpoch,
    /// Known to be committed when the log was last cut: a follower's mark never goes back.
    high_watermark: Offset,
}

impl Shared {
    fn assigned(&self) -> MutexGuard<'_, Assigned> {
        // Replaced as a whole: a panic cannot leave it torn.
        self.assigned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub struct Partition {
    shared: Arc<Shared>,
    incarnation: Incarnation<Partition>,
    stage: Stage,
    /// How long it waits for room before it tries to open again; zero where it lacks none.
    room_pause: Duration,
}

enum Stage {
    /// The log is being opened; these wait.
    Opening(VecDeque<Request>),
    /// There was no room for what opening must write: it is tried again.
    NoRoom(Box<NoRoom>),
    /// Its log was closed in order, and nobody has asked for anything yet.
    AtRest(Box<AtRest>),
    /// It serves.
    Open(Box<Open>),
    /// The log is being cut, and will be opened again; then this is answered.
    Cutting(Box<Cutting>),
    /// It does not serve.
    Offline(Box<OfflineError>),
}

struct Cutting {
    open: Open,
    answer: OffsetAnswer,
    waiting: VecDeque<Request>,
    is_closing: bool,
}

/// What the actor of `partition` is called.
#[must_use]
pub fn actor_name(partition: &TopicPartition) -> String {
    format!("partition/{partition}")
}

/// A partition under supervision, and its handle. Transient: made anew when it fails, with the newest
/// role and settings it was given; place and deadlines are the caller's to set.
#[must_use]
pub fn child_spec(options: PartitionOptions) -> (ChildSpec, PartitionHandle) {
    let PartitionOptions { config, role, epoch, .. } = options;
    let name = actor_name(&options.partition);
    let assigned = Assigned { config, role, epoch, high_watermark: Offset::ZERO };
    let shared = Arc::new(Shared {
        partition: options.partition,
        log: options.log,
        directory: options.directory,
        dir: options.dir,
        traffic: options.traffic,
        probe: options.probe,
        handover: Handover::new(options.closed, options.journaled),
        assigned: Mutex::new(assigned),
        rest: Rest::default(),
        is_offline: AtomicBool::new(false),
    });
    let kept = shared.clone();
    let (spec, address) = ChildSpec::actor(name.as_str(), move |incarnation| {
        let (shared, incarnation) = (kept.clone(), incarnation.clone());
        let (stage, room_pause) = (Stage::Opening(VecDeque::new()), Duration::ZERO);
        Ok(Partition { shared, incarnation, stage, room_pause })
    });
    (spec.restart(Restart::Transient), PartitionHandle { address, shared })
}

impl Actor for Partition {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.open(ctx);
    }
}

// ---- Stages ------------------------------------------------------------------------------------

impl Partition {
    fn now_ms(&self) -> i64 {
        self.incarnation.local().clock().now_ms()
    }

    fn open(&mut self, ctx: &mut Context<Self>) {
        let config = self.shared.assigned().config.log.clone();
        let local = self.incarnation.local().clone();
        let opening = opening::open(self.shared.clone(), config, local);
        ctx.spawn(opening.into_actor(self).map(|opened, actor, ctx| actor.on_opened(opened, ctx)));
    }

    fn on_opened(&mut self, opened: Result<Opened, OpeningError>, ctx: &mut Context<Self>) {
        self.shared.is_offline.store(opened.is_err(), Ordering::Relaxed);
        match opened {
            Ok(Opened::AtRest(at_rest)) => self.rest(at_rest, ctx),
            Ok(Opened::Log(opened)) => self.serve_from(*opened, ctx),
            Err(error) => match error.lacks() {
                Some(remedy) => self.wait_for_room(&error, remedy, ctx),
                None => self.on_not_opened(&error, ctx),
            },
        }
    }

    fn serve_from(&mut self, opened: OpenedLog, ctx: &mut Context<Self>) {
        self.has_room();
        let OpenedLog { log, replayed, disk } = opened;
        let Assigned { config, role, epoch, high_watermark } = self.shared.assigned().clone();
        let recovered = Recovered {
            log_start: log.start(),
            log_end: log.end(),
            producers: replayed.producers,
            transactions: replayed.transactions,
            high_watermark,
        };
        let state = State::new(config.rules(), recovered, role, epoch);
        let mut log = log;
        // They may have changed while it was opened.
        log.configure(config.log.clone());
        let ahead_room = self.shared.directory.read_ahead.clone();
        let open = Open::new(log, state, disk, ahead_room, self.now_ms());
        let open = Stage::Open(Box::new(open));
        let waiting = match std::mem::replace(&mut self.stage, open) {
            Stage::Opening(waiting) => waiting,
            _ => unreachable!("only an opening partition opens"),
        };
        waiting.into_iter().for_each(|request| self.serve(request, ctx));
        self.step(ctx);
    }

    fn on_not_opened(&mut self, error: &OpeningError, ctx: &mut Context<Self>) {
        if let OpeningError::TakeOver(error) = error {
            self.incarnation.local().fatal(error);
        }
        self.go_offline(error, error.remedy(), ctx);
    }

    fn offline(&self, reason: &str, remedy: &str, is_passing: bool) -> OfflineError {
        let partition = self.shared.partition.clone();
        OfflineError { partition, reason: reason.into(), remedy: remedy.into(), is_passing }
    }

    /// Stops serving, and stays.
    fn go_offline(&mut self, why: &dyn std::error::Error, remedy: &str, ctx: &mut Context<Self>) {
        let reason = why.to_string();
        let offline = self.offline(&reason, remedy, false);
        self.shared.is_offline.store(true, Ordering::Relaxed);
        tracing::error!(partition = %offline.partition, %reason, %remedy, "a partition is offline");
        self.stop_serving(offline, ctx);
    }

    fn stop_serving(&mut self, offline: OfflineError, ctx: &mut Context<Self>) {
        let stage = Stage::Offline(Box::new(offline.clone()));
        match std::mem::replace(&mut self.stage, stage) {
            Stage::Opening(waiting) => waiting.into_iter().for_each(|w| w.refuse(&offline)),
            Stage::Open(open) => open.dismiss(&offline, ctx),
            Stage::Cutting(cutting) => {
                cutting.answer.give(Err(offline.clone().into()));
                cutting.waiting.into_iter().for_each(|w| w.refuse(&offline));
                cutting.open.dismiss(&offline, ctx);
            }
            Stage::NoRoom(no_room) => no_room.dismiss(&offline),
            Stage::AtRest(_) | Stage::Offline(_) => {}
        }
    }

    /// Answers a request, now or later.
    fn serve(&mut self, request: Request, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        if let Request::Configure(configure, answer) = request {
            self.configure(configure, ctx);
            answer.give(Ok(()));
            return self.step(ctx);
        }
        let Some(request) = self.wake_for(request, ctx) else { return };
        let open = match &mut self.stage {
            Stage::Offline(offline) => return request.refuse(offline),
            Stage::NoRoom(_) => return self.serve_without_room(request, ctx),
            Stage::Opening(waiting) if waiting.len() < OPENING_MAX => {
                return waiting.push_back(request);
            }
            Stage::Cutting(cutting) if cutting.waiting.len() < OPENING_MAX => {
                return cutting.waiting.push_back(request);
            }
            Stage::Opening(_) | Stage::Cutting(_) => {
                return request.refuse(&self.offline("its log is being opened", "retry", true));
            }
            Stage::AtRest(_) => unreachable!("it was woken"),
            Stage::Open(open) => open,
        };
        if open.is_stopping() && !matches!(request, Request::Drain(_)) {
            return request.refuse(&self.offline("it is being stopped", "retry", true));
        }
        match request {
            Request::Append(append, answer) => {
                open.log.note_space(self.shared.directory.room.free());
                if open.log.is_full() {
                    let partition = self.shared.partition.clone();
                    return answer.give(Err(AppendError::DiskFull(partition)));
                }
                open.append(append, answer, now_ms, ctx);
            }
            Request::AppendAsFollower(append, answer) => {
                open.append_as_follower(append, answer, now_ms);
            }
            Request::Fetch(fetch, answer) => open.fetch(fetch, answer),
            Request::FindOffset(find, answer) => open.find_offset(find, answer, ctx),
            Request::TrimTo(trim, answer) => open.trim_to(trim.offset, answer),
            Request::TruncateTo(truncate, answer) => self.truncate_to(truncate, answer),
            Request::Truncated(answer) => answer.give(Ok(open.state.marks().log_end)),
            Request::LastSequence(last, answer) => open.last_sequence(last.producer, answer),
            Request::FindEpochEnd(find, answer) => answer.give(open.epoch_end(find)),
            Request::DescribeProducers(_, answer) => {
                answer.give(Ok(open.state.producers().describe()));
            }
            Request::Configure(..) => unreachable!("it was served in any stage"),
            Request::Assume(assume, answer) => answer.give(self.assume(assume)),
            Request::Drain(answer) => {
                let closing = self.offline("it is being stopped", "retry", true);
                if let Stage::Open(open) = &mut self.stage {
                    open.drain(answer, &closing, &self.shared.directory.closers, ctx);
                }
            }
        }
        self.step(ctx);
    }

    /// An append was prepared: it is taken, and those behind it up to the next that must be.
    fn on_prepared(&mut self, mut prepared: Prepared, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        let stopped = self.offline("it is being stopped", "retry", true);
        match &mut self.stage {
            Stage::Open(open) if open.is_turn(&prepared.turn) => {
                if open.log.is_full() {
                    let partition = self.shared.partition.clone();
                    prepared.batches = Err(AppendError::DiskFull(partition));
                }
                open.on_prepared(prepared, now_ms, ctx);
                self.step(ctx);
            }
            _ => prepared.answer.give(Err(stopped.into())),
        }
    }

    /// Ends a step: carries out what was decided, and lets the probe look.
    fn step(&mut self, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        let traffic = &self.shared.traffic;
        match &mut self.stage {
            Stage::Open(open) => open.apply(now_ms, traffic, ctx),
            Stage::Cutting(cutting) => cutting.open.apply(now_ms, traffic, ctx),
            Stage::Opening(_) | Stage::NoRoom(_) | Stage::AtRest(_) | Stage::Offline(_) => return,
        }
        // A log in which nothing changed closes without any work on the disk.
        self.maybe_closed();
        self.look();
    }

    fn look(&self) {
        let (Some(probe), Stage::Open(open)) = (&self.shared.probe, &self.stage) else {
            return;
        };
        let (role, epoch) = open.state.role();
        let (parked, waiting) = open.state.waiting();
        let snapshot = Snapshot {
            life: self.incarnation.number(),
            marks: open.state.marks(),
            role,
            epoch,
            acked_end: open.acked_end,
            duplicates: open.state.duplicates(),
            waiting,
            parked,
        };
        probe.partition(&self.shared.partition, &snapshot);
    }

    fn on_io(&mut self, done: LogIoDone, ctx: &mut Context<Self>) {
        let failed = match &mut self.stage {
            Stage::Open(open) => open.on_io(done),
            Stage::Cutting(cutting) => cutting.open.log.on_io(done),
            Stage::Opening(_) | Stage::NoRoom(_) | Stage::AtRest(_) | Stage::Offline(_) => return,
        };
        match failed {
            Ok(()) => {}
            Err(LogFailure { error: DiskError::Fenced(_), .. }) => {
                let superseded = self.offline("a newer life of it has taken over", "retry", true);
                return self.stop_serving(superseded, ctx);
            }
            Err(LogFailure { error: error @ DiskError::Changed { .. }, .. }) => {
                // The clean stop was good once: the next life recovers the log.
                let recovering = self.offline("its log is being recovered", "retry", true);
                self.stop_serving(recovering, ctx);
                return self.incarnation.fail(error);
            }
            Err(LogFailure { error, .. }) if error.is_out_of_files() => {
                // Nothing is lost: the next life opens the log once that has passed.
                self.stop_serving(self.offline(&error.to_string(), "retry", true), ctx);
                return self.incarnation.fail(error);
            }
            Err(LogFailure { error, .. }) => {
                return self.go_offline(&error, "see to the disk, then start again", ctx);
            }
        }
        self.maybe_reopen(ctx);
        self.step(ctx);
    }

    fn on_timer(&mut self, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        let open = match &mut self.stage {
            Stage::Open(open) => open,
            Stage::Cutting(cutting) => &mut cutting.open,
            _ => return,
        };
        if open.on_timer(now_ms, &self.shared.directory.cleaners) {
            tracing::warn!(
                partition = %self.shared.partition, dir = %self.shared.dir.display(),
                "the disk has no room to close the log in order: the partition stops once there is some; make \
                 room, or the log is recovered at the next start"
            );
        }
        self.step(ctx);
    }

    /// Takes settings in any stage: a log that is opened later is kept by the newest.
    fn configure(&mut self, configure: Configure, ctx: &mut Context<Self>) {
        self.shared.assigned().config = configure.config.clone();
        match &mut self.stage {
            Stage::Open(open) => open.configure(&configure.config),
            Stage::AtRest(_) => self.rest_on(ctx),
            Stage::Opening(_) | Stage::NoRoom(_) | Stage::Cutting(_) | Stage::Offline(_) => {}
        }
    }

    fn assume(&mut self, assume: Assume) -> Result<(), AppendError> {
        let gone = self.offline("it has another role now", "look the leader up again", true);
        let Stage::Open(open) = &mut self.stage else { return Ok(()) };
        let dropped = open.assume(assume.role, assume.epoch)?;
        let (is_leader, epoch) = (assume.role == Role::Leader, assume.epoch);
        let error = messages::NotLeaderError { is_leader, epoch }.into();
        dropped.into_iter().for_each(|held| held.refuse(&error, &gone));
        let mut assigned = self.shared.assigned();
        (assigned.role, assigned.epoch) = (assume.role, assume.epoch);
        Ok(())
    }

    /// Cuts the log, closes it, and opens it again: the producers' state is what is left of it gives.
    fn truncate_to(&mut self, truncate: TruncateTo, answer: OffsetAnswer) {
        let Stage::Open(open) = &self.stage else { return };
        let (marks, (role, epoch)) = (open.state.marks(), open.state.role());
        let offset = truncate.offset;
        if role != Role::Follower {
            let error = messages::NotLeaderError { is_leader: true, epoch };
            return answer.give(Err(error.into()));
        }
        if offset < marks.high_watermark || offset > marks.log_end {
            let (log_start, log_end) = (marks.high_watermark, marks.log_end);
            return answer.give(Err(FetchError::OutOfRange { offset, log_start, log_end }));
        }
        if offset == marks.log_end {
            return answer.give(Ok(offset));
        }
        let gone = self.offline("its log is being cut", "retry", true);
        let stage = Stage::Opening(VecDeque::new());
        let Stage::Open(mut open) = std::mem::replace(&mut self.stage, stage) else { return };
        open.cut(offset, &gone);
        self.shared.assigned().high_watermark = marks.high_watermark;
        let (open, waiting, is_closing) = (*open, VecDeque::new(), false);
        self.stage = Stage::Cutting(Box::new(Cutting { open, answer, waiting, is_closing }));
    }

    fn close(&mut self, permit: Permit, ctx: &mut Context<Self>) {
        if let Stage::Open(open) = &mut self.stage {
            open.close(permit);
            self.step(ctx);
        }
    }

    /// Once the log of a drained partition is closed, hands it over and answers.
    fn maybe_closed(&mut self) {
        let Stage::Open(open) = &mut self.stage else { return };
        if let Some(log) = open.log.to_closed() {
            let snapshot = open.state.encode().as_ref().into();
            self.shared.handover.set_closed(ClosedPartition { log, snapshot });
            open.is_drained();
        }
    }

    /// Once a cut log is cut and closed, opens it again.
    fn maybe_reopen(&mut self, ctx: &mut Context<Self>) {
        let Stage::Cutting(cutting) = &mut self.stage else { return };
        let log = &mut cutting.open.log;
        if log.is_settled() && !cutting.is_closing {
            cutting.is_closing = true;
            log.close();
        }
        if !log.is_closed() {
            return;
        }
        let stage = Stage::Opening(VecDeque::new());
        let Stage::Cutting(cutting) = std::mem::replace(&mut self.stage, stage) else { return };
        let Cutting { open, answer, waiting, .. } = *cutting;
        open.dismiss(&self.offline("its log is being cut", "retry", true), ctx);
        let first = Request::Truncated(answer);
        self.stage = Stage::Opening(std::iter::once(first).chain(waiting).collect());
        self.open(ctx);
    }

    fn status(&self) -> PartitionStatus {
        let partition = self.shared.partition.clone();
        let epoch = self.shared.assigned().epoch;
        let condition = match &self.stage {
            Stage::AtRest(at_rest) => return at_rest.status(&self.shared),
            Stage::Opening(_) | Stage::Cutting(_) => Condition::Opening,
            Stage::Open(open) if open.is_stopping() => Condition::Closing,
            Stage::Open(open) => match open.state.role().0 {
                Role::Leader => Condition::Leading,
                Role::Follower => Condition::Following,
            },
            Stage::Offline(offline) => {
                let (reason, remedy) = (offline.reason.clone(), offline.remedy.clone());
                Condition::Offline { reason, remedy }
            }
            Stage::NoRoom(no_room) => {
                let OfflineError { reason, remedy, .. } = no_room.offline.clone();
                Condition::Offline { reason, remedy }
            }
        };
        let Stage::Open(open) = &self.stage else {
            return PartitionStatus {
                partition,
                condition,
                marks: marks::Marks::default(),
                epoch,
                bytes: 0,
                producers: 0,
                parked: 0,
            };
        };
        PartitionStatus {
            partition,
            condition,
            marks: open.state.marks(),
            epoch,
            bytes: open.log.bytes(),
            producers: open.state.producers().len(),
            parked: open.state.waiting().0,
        }
    }
}
