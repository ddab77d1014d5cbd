//! A partition at rest: its log was closed in order, and nobody has asked for anything since.
//!
//! A node may have thousands of partitions of which few are used. Until the first request that cannot
//! be answered from what the log said when it was closed, or until retention would have something to
//! do, such a one keeps no more than that, which is a fraction of what an open log takes. The right to
//! write is its own all the while, so opening it needs no disk and no wait: it is done within the step
//! that serves the request.
//!
//! It has no timer of its own. Until when it rests stands in [`Rest`], by the wall clock: whoever
//! started the partition looks there from time to time, and says when that is [`Over`]. So a clock
//! that is set makes retention late by no more than that.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicI64, Ordering},
};

use actix::{Context, Handler, Message};
use flumen_runtime::{
    disk::actor::DiskHandle,
    era::Ticket,
    log::{Log, LogPlace},
};

use super::{
    Partition, Shared, Stage,
    marks::Marks,
    messages::{At, Condition, FindOffset, FoundOffset, PartitionStatus, Role},
    opening::OpenedLog,
    options::ClosedPartition,
    replay::Replayed,
    request::Request,
};

/// Until when a partition rests, for those outside who look.
pub(super) struct Rest(AtomicI64);

impl Default for Rest {
    /// It does not rest, or has nothing to do by itself.
    fn default() -> Self {
        Self(AtomicI64::new(i64::MAX))
    }
}

impl Rest {
    fn set_until(&self, until_ms: i64) {
        self.0.store(until_ms, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self, now_ms: i64) -> bool {
        self.0.load(Ordering::Relaxed) <= now_ms
    }

    /// It is told of its end: nobody needs to tell it again.
    pub(super) fn is_told(&self) {
        self.set_until(i64::MAX);
    }
}

/// See the module.
pub(super) struct AtRest {
    closed: ClosedPartition,
    producers: usize,
    has_open_transaction: bool,
    ticket: Ticket,
    disk: DiskHandle,
}

impl AtRest {
    /// Takes `closed` as it is, or gives it up where its snapshot makes no sense.
    pub(super) fn new(closed: ClosedPartition, ticket: &Ticket, disk: &DiskHandle) -> Option<Self> {
        let Replayed { producers, .. } = Replayed::restored(&closed.snapshot).ok()?;
        let has_open_transaction = producers.first_open().is_some();
        let (ticket, disk, producers) = (ticket.clone(), disk.clone(), producers.len());
        Some(Self { closed, producers, has_open_transaction, ticket, disk })
    }

    fn open(self, shared: &Shared, now_ms: i64) -> OpenedLog {
        let config = shared.assigned().config.log.clone();
        let Self { closed, ticket, disk, .. } = self;
        let place = LogPlace { dir: shared.dir.clone(), id: shared.log, ticket };
        let mut replayed = Replayed::restored(&closed.snapshot).expect("it was read before");
        replayed.producers.wake(now_ms);
        OpenedLog { log: Log::reopen(place, config, closed.log, now_ms), replayed, disk }
    }

    /// The time before which the log has nothing to do by itself and all of it may be served; `None`
    /// where there is no such time.
    fn rests_until(&self, shared: &Shared) -> Option<i64> {
        let assigned = shared.assigned();
        let is_whole = assigned.role == Role::Leader && !self.has_open_transaction;
        self.closed.log.rests_until(&assigned.config.log).filter(|_| is_whole)
    }

    fn marks(&self) -> Marks {
        let (log_start, end) = (self.closed.log.start(), self.closed.log.end());
        Marks { log_start, last_stable: end, high_watermark: end, durable_end: end, log_end: end }
    }

    /// What is found there; the outer `None` where only the open log can tell.
    fn find(&self, find: &FindOffset) -> Option<Option<FoundOffset>> {
        let (log, marks) = (&self.closed.log, self.marks());
        let found = |offset| {
            let epoch = log.epochs().at(offset);
            Some(Some(FoundOffset { offset, timestamp_ms: -1, epoch }))
        };
        match find.at {
            _ if find.epoch.is_some() => None,
            At::Earliest => found(marks.log_start),
            At::Latest => found(marks.log_end),
            At::Timestamp(from_ms) => log.ends_before(from_ms).then_some(None),
            At::MaxTimestamp => log.is_empty().then_some(None),
        }
    }

    pub(super) fn status(&self, shared: &Shared) -> PartitionStatus {
        PartitionStatus {
            partition: shared.partition.clone(),
            condition: Condition::Leading,
            marks: self.marks(),
            epoch: shared.assigned().epoch,
            bytes: self.closed.log.bytes(),
            producers: self.producers,
            parked: 0,
        }
    }
}

/// The time until which it rests has come.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Over;

impl Handler<Over> for Partition {
    type Result = ();

    fn handle(&mut self, _: Over, ctx: &mut Self::Context) {
        self.rest_on(ctx);
    }
}

impl Partition {
    /// Rests, and answers what has waited.
    pub(super) fn rest(&mut self, at_rest: Box<AtRest>, ctx: &mut Context<Self>) {
        let Stage::Opening(waiting) = std::mem::replace(&mut self.stage, Stage::AtRest(at_rest))
        else {
            unreachable!("only an opening partition comes to rest")
        };
        self.rest_on(ctx);
        waiting.into_iter().for_each(|request| self.serve(request, ctx));
    }

    /// Rests on while that may be; otherwise opens the log.
    pub(super) fn rest_on(&mut self, ctx: &mut Context<Self>) {
        let Stage::AtRest(at_rest) = &self.stage else { return };
        match at_rest.rests_until(&self.shared) {
            Some(until_ms) if until_ms > self.now_ms() => self.shared.rest.set_until(until_ms),
            _ => self.wake(ctx),
        }
    }

    /// Opens the log where `request` needs that; gives it back unless it is answered already.
    pub(super) fn wake_for(
        &mut self,
        request: Request,
        ctx: &mut Context<Self>,
    ) -> Option<Request> {
        let Stage::AtRest(at_rest) = &self.stage else { return Some(request) };
        let known = match &request {
            Request::FindOffset(find, _) => at_rest.find(find),
            _ => None,
        };
        match (known, request) {
            (Some(found), Request::FindOffset(_, answer)) => {
                answer.give(Ok(found));
                None
            }
            (_, request) => {
                self.wake(ctx);
                Some(request)
            }
        }
    }

    /// Opens the log of a partition at rest.
    fn wake(&mut self, ctx: &mut Context<Self>) {
        let opening = Stage::Opening(VecDeque::new());
        let Stage::AtRest(at_rest) = std::mem::replace(&mut self.stage, opening) else {
            unreachable!("it is at rest")
        };
        self.shared.rest.is_told();
        let opened = at_rest.open(&self.shared, self.now_ms());
        self.serve_from(opened, ctx);
    }
}
