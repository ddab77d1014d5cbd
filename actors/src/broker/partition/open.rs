//! A partition whose log is open: the core, its log, and the effects carried out.

mod ahead;
mod reads;

use std::time::Duration;

use actix::{AsyncContext, Context, SpawnHandle, fut::wrap_future};
use flumen_runtime::{
    credit::{Credit, Permit},
    disk::actor::DiskHandle,
    ids::{LeaderEpoch, Offset},
    log::{Log, LogFailure, LogIoDone},
};
use tokio::time::Instant;

use self::{ahead::Ahead, reads::Told};
use super::{
    Partition,
    messages::{
        Append, AppendAsFollower, AppendError, Appended, Fetch, FetchError, NotLeaderError,
        OfflineError, ProducerTail, Role,
    },
    options::PartitionConfig,
    prepare::{self, Prepared, Preparing, Turn},
    request::{AppendAnswer, FetchAnswer, OffsetAnswer, Request, TailAnswer},
    state::{Accepted, Effect, Effects, Expected, State},
};
use crate::{
    answer::Answer,
    broker::{
        names::{Acks, ProducerId},
        traffic::Traffic,
    },
};

/// How often a partition looks after what ages, while something does.
const TICK: Duration = Duration::from_secs(1);
/// How often an idle one looks after retention.
const TICK_IDLE: Duration = Duration::from_secs(30);
/// Parked fetches that are not worth a look at whether they are still wanted.
const PARKED_MIN: usize = 64;

/// Ticks after which it is said that a log cannot be closed for want of room.
const HELD_UP_TICKS: u32 = 2;
/// How often a read is planned anew because its segment was removed or compacted meanwhile.
const READ_TRIES: u32 = 3;

/// An answer that waits for its mark.
#[derive(Debug)]
pub(super) enum Held {
    /// The permit goes when the answer does: at commit.
    Append {
        answer: AppendAnswer,
        appended: Appended,
        permit: Option<Permit>,
    },
    /// Nobody waits, but the room is taken until the commit.
    Permit(Permit),
    Tail {
        answer: TailAnswer,
        tail: ProducerTail,
    },
}

impl Held {
    fn give(self) {
        match self {
            Held::Append { answer, appended, permit } => {
                drop(permit);
                answer.give(Ok(appended));
            }
            Held::Permit(permit) => drop(permit),
            Held::Tail { answer, tail } => answer.give(Ok(Some(tail))),
        }
    }

    /// The mark will not pass here.
    pub(super) fn refuse(self, error: &AppendError, offline: &OfflineError) {
        match self {
            Held::Append { answer, .. } => answer.give(Err(error.clone())),
            Held::Permit(permit) => drop(permit),
            Held::Tail { answer, .. } => answer.give(Err(offline.clone())),
        }
    }
}

/// See the module.
pub(super) struct Open {
    pub(super) log: Log,
    pub(super) state: State<Held, FetchAnswer>,
    pub(super) acked_end: Offset,
    disk: DiskHandle,
    /// Read before it is asked for, the latest one last; and room for that.
    aheads: Vec<Ahead>,
    ahead_room: Credit,
    effects: Effects<Held, FetchAnswer>,
    trims: Vec<(Offset, OffsetAnswer)>,
    /// What it has said that it cannot read.
    told: Told,
    /// Parked fetches from which on it is looked whether they are still wanted.
    parked_max: usize,
    /// Asked to stop, or being cut: finishes what is in, closes the log, and stays closed.
    is_stopping: bool,
    /// Appends that must be prepared, and those behind them.
    preparing: Option<Box<Preparing>>,
    draining: Vec<Answer<()>>,
    /// Ticks at which the disk had no room for that.
    held_up_ticks: u32,
    /// While the log is being closed.
    closing: Option<Permit>,
    /// While the log is being compacted.
    cleaning: Option<Permit>,
    /// Another log of the directory is being compacted, and this one should be.
    waits_to_compact: bool,
    began: Instant,
    ticked: Duration,
    /// What the clock showed then.
    ticked_ms: i64,
    timer: Option<(Duration, SpawnHandle)>,
}

impl Open {
    pub(super) fn new(
        log: Log,
        state: State<Held, FetchAnswer>,
        disk: DiskHandle,
        ahead_room: Credit,
        now_ms: i64,
    ) -> Self {
        Self {
            log,
            state,
            acked_end: Offset::ZERO,
            disk,
            aheads: Vec::new(),
            ahead_room,
            effects: Vec::new(),
            trims: Vec::new(),
            told: Told::default(),
            parked_max: PARKED_MIN,
            is_stopping: false,
            preparing: None,
            draining: Vec::new(),
            held_up_ticks: 0,
            closing: None,
            cleaning: None,
            waits_to_compact: false,
            began: Instant::now(),
            ticked: Duration::ZERO,
            ticked_ms: now_ms,
            timer: None,
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    // ---- Requests ------------------------------------------------------------------------------

    /// Takes an append, at once where nothing must be done about it first.
    #[inline]
    pub(super) fn append(
        &mut self,
        append: Append,
        answer: AppendAnswer,
        now_ms: i64,
        ctx: &mut Context<Partition>,
    ) {
        if let Err(error) = self.state.check_in_sync(append.acks) {
            return answer.give(Err(error));
        }
        if self.preparing.is_none() && !prepare::is_needed(&append.batches, self.state.limits()) {
            return self.take(append, answer, now_ms);
        }
        self.preparing.get_or_insert_default().waiting.push_back((append, answer));
        self.prepare_next(now_ms, ctx);
    }

    /// Takes what needs no more, in its order, and begins to prepare what does.
    fn prepare_next(&mut self, now_ms: i64, ctx: &mut Context<Partition>) {
        loop {
            let Some(preparing) = &mut self.preparing else { return };
            if preparing.turn.is_some() {
                return;
            }
            let Some((append, answer)) = preparing.waiting.pop_front() else {
                self.preparing = None;
                return;
            };
            let limits = *self.state.limits();
            if !prepare::is_needed(&append.batches, &limits) {
                self.take(append, answer, now_ms);
                continue;
            }
            let prepared = preparing.begin(append, answer, limits, now_ms);
            let prepared = wrap_future::<_, Partition>(prepared);
            ctx.spawn(actix::ActorFutureExt::map(
                prepared,
                |prepared, actor: &mut Partition, ctx| {
                    actor.on_prepared(prepared, ctx);
                },
            ));
        }
    }

    /// Whether it is what is being prepared here.
    pub(super) fn is_turn(&self, turn: &Turn) -> bool {
        self.preparing.as_ref().is_some_and(|preparing| preparing.is_turn(turn))
    }

    pub(super) fn on_prepared(
        &mut self,
        prepared: Prepared,
        now_ms: i64,
        ctx: &mut Context<Partition>,
    ) {
        let Prepared { mut append, answer, batches, .. } = prepared;
        if let Some(preparing) = &mut self.preparing {
            preparing.turn = None;
        }
        match batches {
            Err(error) => answer.give(Err(error)),
            Ok(batches) => {
                append.batches = batches;
                self.take(append, answer, now_ms);
            }
        }
        self.prepare_next(now_ms, ctx);
    }

    fn take(&mut self, append: Append, answer: AppendAnswer, now_ms: i64) {
        let Append { batches, acks, origin, epoch, at, permit } = append;
        let expected = Expected { epoch, at };
        match self.state.append(batches, origin, expected, now_ms, &mut self.effects) {
            Err(error) => answer.give(Err(error)),
            Ok(Accepted { appended, end }) if acks == Acks::None => {
                answer.give(Ok(appended));
                if let Some(permit) = permit {
                    self.state.hold(Acks::Leader, end, Held::Permit(permit), &mut self.effects);
                }
            }
            Ok(Accepted { appended, end }) => {
                let held = Held::Append { answer, appended, permit };
                self.state.hold(acks, end, held, &mut self.effects);
            }
        }
    }

    pub(super) fn append_as_follower(
        &mut self,
        append: AppendAsFollower,
        answer: AppendAnswer,
        now_ms: i64,
    ) {
        let AppendAsFollower { batches, leader_epoch, high_watermark } = append;
        let effects = &mut self.effects;
        match self.state.append_as_follower(&batches, leader_epoch, high_watermark, now_ms, effects)
        {
            Err(error) => answer.give(Err(error)),
            Ok(Accepted { appended, end }) => {
                // What the leader counts as replicated here must be safe here.
                let held = Held::Append { answer, appended, permit: None };
                self.state.hold(Acks::Leader, end, held, effects);
            }
        }
    }

    pub(super) fn fetch(&mut self, fetch: Fetch, answer: FetchAnswer) {
        let now = if fetch.wait.is_zero() { Duration::ZERO } else { self.now() };
        if self.state.waiting().0 >= self.parked_max {
            // Readers that give up and ask again must not outrun the tick that forgets them.
            self.state.forget_unwanted(Answer::is_unwanted);
            self.parked_max = PARKED_MIN.max(2 * self.state.waiting().0);
        }
        self.state.fetch(fetch, answer, now, &mut self.effects);
    }

    pub(super) fn last_sequence(&mut self, producer: ProducerId, answer: TailAnswer) {
        match self.state.producers().tail(producer) {
            Some(tail @ ProducerTail { last_offset: Some(last), .. }) => {
                let held = Held::Tail { answer, tail };
                self.state.hold(Acks::InSync, last.next(), held, &mut self.effects);
            }
            tail => answer.give(Ok(tail)),
        }
    }

    pub(super) fn trim_to(&mut self, offset: Offset, answer: OffsetAnswer) {
        let marks = self.state.marks();
        if offset > marks.high_watermark {
            let (log_start, log_end) = (marks.log_start, marks.log_end);
            return answer.give(Err(FetchError::OutOfRange { offset, log_start, log_end }));
        }
        self.log.trim_to(offset);
        self.trims.push((offset, answer));
    }

    /// Stops taking anything, and closes the log once `closers` lets it.
    pub(super) fn drain(
        &mut self,
        answer: Answer<()>,
        closing: &OfflineError,
        closers: &Credit,
        ctx: &mut Context<Partition>,
    ) {
        // What waits for others may wait for ever; what waits for this disk is finished.
        for parked in self.state.dismiss_fetches() {
            parked.reader.give(Err(closing.clone().into()));
        }
        self.refuse_unprepared(closing);
        if self.log.is_closed() {
            return answer.give(());
        }
        self.draining.push(answer);
        if std::mem::replace(&mut self.is_stopping, true) {
            return;
        }
        if let Ok(permit) = closers.try_acquire(1, 0) {
            return self.close(permit);
        }
        let turn = wrap_future::<_, Partition>(closers.acquire(1, 0));
        ctx.spawn(actix::ActorFutureExt::map(turn, |permit, actor: &mut Partition, ctx| {
            actor.close(permit, ctx);
        }));
    }

    /// It is this log's turn to be closed.
    pub(super) fn close(&mut self, permit: Permit) {
        self.closing = Some(permit);
        self.log.close();
    }

    // ---- Effects -------------------------------------------------------------------------------

    /// Carries out what the core has decided, and gives the disk its next work.
    pub(super) fn apply(&mut self, now_ms: i64, traffic: &Traffic, ctx: &mut Context<Partition>) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Write(batch, header) => {
                    traffic.came_in(&header, batch.len());
                    self.log.append(batch, &header);
                }
                Effect::Release(held) => {
                    if let Held::Append { appended, .. } = &held {
                        self.acked_end = self.acked_end.max(appended.last_offset.next());
                    }
                    held.give();
                }
                Effect::Answer(answer, fetched) => answer.give(fetched),
                Effect::Read(answer, range) => self.read_or_take(answer, range, ctx),
            }
        }
        // Its room is used again, until a tick finds the partition idle.
        self.effects = effects;
        if self.state.awaits_sync() {
            self.log.hasten();
        }
        while let Some(io) = self.log.next_io(now_ms, &self.state) {
            let done = wrap_future::<_, Partition>(io.run(self.disk.clone()));
            ctx.spawn(actix::ActorFutureExt::map(done, |done, actor: &mut Partition, ctx| {
                actor.on_io(done, ctx);
            }));
        }
        if !self.log.is_compacting() {
            self.cleaning = None;
        }
        self.arm(ctx);
    }

    // ---- What happens --------------------------------------------------------------------------

    /// Applies what came of a piece of disk work.
    pub(super) fn on_io(&mut self, done: LogIoDone) -> Result<(), LogFailure> {
        self.log.on_io(done)?;
        self.follow_log();
        Ok(())
    }

    /// Takes over how far the log has got.
    fn follow_log(&mut self) {
        if self.log.start() > self.state.marks().log_start {
            self.state.on_log_start(self.log.start());
        }
        let (written, durable) = (self.log.written_end(), self.log.durable_end());
        self.state.on_progress(written, durable, &mut self.effects);
        let start = self.log.start();
        let trimmed = self.trims.extract_if(.., |(offset, _)| *offset <= start);
        trimmed.for_each(|(_, answer)| answer.give(Ok(start)));
    }

    /// The log is closed: whoever asked to stop may go on.
    pub(super) fn is_drained(&mut self) {
        self.closing = None;
        self.draining.drain(..).for_each(|answer| answer.give(()));
    }

    /// Its timer has run out. Whether it is to be said now that the disk has no room to close the log.
    pub(super) fn on_timer(&mut self, now_ms: i64, cleaners: &Credit) -> bool {
        self.timer = None;
        let now = self.now();
        self.state.on_deadline(now, &mut self.effects);
        if now >= self.ticked + self.tick_period() {
            let steps = now.saturating_sub(self.ticked).as_millis();
            let expected_ms = self.ticked_ms.saturating_add(i64::try_from(steps).unwrap_or(0));
            let leapt_ms = now_ms.saturating_sub(expected_ms);
            (self.ticked, self.ticked_ms) = (now, now_ms);
            self.age_ahead(now);
            self.told.tick();
            if !self.is_stopping {
                self.state.on_tick(now_ms, leapt_ms, Answer::is_unwanted);
            }
            let is_held_up = !self.draining.is_empty() && self.log.lacks_room();
            self.held_up_ticks += u32::from(is_held_up);
            // Also while it is being closed: only so is a full disk looked at again.
            self.log.tick(now_ms);
            if !self.is_stopping {
                self.maybe_compact(now_ms, cleaners);
            }
            if self.effects.is_empty() {
                self.effects = Vec::new();
            }
            return is_held_up && self.held_up_ticks == HELD_UP_TICKS;
        }
        false
    }

    /// Has the log compacted where enough of it is new, and no other log of the directory is just
    /// being compacted.
    fn maybe_compact(&mut self, now_ms: i64, cleaners: &Credit) {
        self.waits_to_compact = self.log.wants_compaction(now_ms);
        if self.waits_to_compact
            && let Ok(permit) = cleaners.try_acquire(1, 0)
        {
            self.log.compact(self.state.decided());
            (self.cleaning, self.waits_to_compact) = (Some(permit), false);
        }
    }

    fn tick_period(&self) -> Duration {
        let is_unsynced = self.log.durable_end() < self.log.end();
        match self.log.config().sync_interval.filter(|_| is_unsynced) {
            Some(interval) => interval.clamp(Duration::from_millis(1), TICK),
            None if self.is_stopping || !self.aheads.is_empty() => TICK,
            None if is_unsynced || self.waits_to_compact || !self.state.is_idle() => TICK,
            None => TICK_IDLE,
        }
    }

    /// Sets the timer for what is due next, where it is not set for that or earlier.
    fn arm(&mut self, ctx: &mut Context<Partition>) {
        if self.is_stopping && self.log.is_closed() {
            // Nothing waits for a time any more.
            return;
        }
        let tick = self.ticked + self.tick_period();
        let due = self.state.next_deadline().map_or(tick, |deadline| deadline.min(tick));
        if let Some((armed, handle)) = self.timer {
            if armed <= due {
                return;
            }
            ctx.cancel_future(handle);
        }
        let wait = due.saturating_sub(self.now());
        let handle = ctx.run_later(wait, Partition::on_timer);
        self.timer = Some((due, handle));
    }

    pub(super) fn assume(
        &mut self,
        role: Role,
        epoch: LeaderEpoch,
    ) -> Result<Vec<Held>, NotLeaderError> {
        self.state.assume(role, epoch, &mut self.effects)
    }

    pub(super) fn configure(&mut self, config: &PartitionConfig) {
        self.log.configure(config.log.clone());
        self.state.configure(config.rules(), &mut self.effects);
    }

    /// Gives up the appends that were not taken yet.
    fn refuse_unprepared(&mut self, offline: &OfflineError) {
        let waiting = self.preparing.take().map(|preparing| preparing.waiting).unwrap_or_default();
        waiting.into_iter().for_each(|(_, answer)| answer.give(Err(offline.clone().into())));
    }

    /// Gives up everyone who waits.
    fn dismiss_waiting(&mut self, offline: &OfflineError) {
        self.refuse_unprepared(offline);
        let (held, parked) = self.state.dismiss();
        let error = AppendError::Offline(offline.clone());
        held.into_iter().for_each(|held| held.refuse(&error, offline));
        for parked in parked {
            parked.reader.give(Err(offline.clone().into()));
        }
        for (_, answer) in self.trims.drain(..) {
            answer.give(Err(offline.clone().into()));
        }
    }

    /// Stops taking anything, and has the log cut.
    pub(super) fn cut(&mut self, offset: Offset, gone: &OfflineError) {
        self.is_stopping = true;
        self.dismiss_waiting(gone);
        self.log.truncate_to(offset);
    }

    /// Gives up everyone who waits, because the partition stops serving.
    pub(super) fn dismiss(mut self, offline: &OfflineError, ctx: &mut Context<Partition>) {
        self.dismiss_waiting(offline);
        for answer in self.draining {
            Request::Drain(answer).refuse(offline);
        }
        if let Some((_, handle)) = self.timer {
            ctx.cancel_future(handle);
        }
    }
}
