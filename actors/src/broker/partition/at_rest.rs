//! A partition at rest: its log was closed in order, and nobody has asked for anything since.
//!
//! A node may have thousands of partitions of which few are used. Until the first request that is no
//! mere question for where it begins and ends, or until
//! retention would have something to do, such a one keeps what its log said when it was closed, which
//! is a fraction of what an open log takes. The right to write is its own all the while, so opening it
//! needs no disk and no wait: it is done within the step that serves the request.

use std::{collections::VecDeque, time::Duration};

use actix::{AsyncContext as _, Context, SpawnHandle};
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

/// See the module.
pub(super) struct AtRest {
    closed: ClosedPartition,
    producers: usize,
    has_open_transaction: bool,
    ticket: Ticket,
    disk: DiskHandle,
    timer: Option<SpawnHandle>,
}

impl AtRest {
    /// Takes `closed` as it is, or gives it up where its snapshot makes no sense.
    pub(super) fn new(closed: ClosedPartition, ticket: &Ticket, disk: &DiskHandle) -> Option<Self> {
        let Replayed { producers, .. } = Replayed::restored(&closed.snapshot).ok()?;
        let has_open_transaction = producers.first_open().is_some();
        let (ticket, disk, producers) = (ticket.clone(), disk.clone(), producers.len());
        Some(Self { closed, producers, has_open_transaction, ticket, disk, timer: None })
    }

    fn open(self, shared: &Shared, now_ms: i64) -> OpenedLog {
        let config = shared.assigned().config.log.clone();
        let Self { closed, ticket, disk, .. } = self;
        let place = LogPlace { dir: shared.dir.clone(), id: shared.log, ticket };
        let mut replayed = Replayed::restored(&closed.snapshot).expect("it was read before");
        replayed.producers.wake(now_ms);
        OpenedLog { log: Log::reopen(place, config, closed.log, now_ms), replayed, disk }
    }

    fn marks(&self) -> Marks {
        let (log_start, end) = (self.closed.log.start(), self.closed.log.end());
        Marks { log_start, last_stable: end, high_watermark: end, durable_end: end, log_end: end }
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

impl Partition {
    /// Rests where the log has nothing to do by itself and all of it may be served; what waits is
    /// answered, or opens it.
    pub(super) fn rest(&mut self, mut at_rest: AtRest, ctx: &mut Context<Self>) {
        let until = {
            let assigned = self.shared.assigned();
            let is_whole = assigned.role == Role::Leader && !at_rest.has_open_transaction;
            let until = at_rest.closed.log.rests_until(&assigned.config.log);
            until.filter(|_| is_whole)
        };
        let now_ms = self.now_ms();
        match until {
            Some(until) if until > now_ms => {
                at_rest.timer = (until < i64::MAX).then(|| {
                    let wait = Duration::from_millis((until - now_ms).unsigned_abs());
                    ctx.run_later(wait, Self::wake)
                });
                let rests = Stage::AtRest(Box::new(at_rest));
                if let Stage::Opening(waiting) = std::mem::replace(&mut self.stage, rests) {
                    waiting.into_iter().for_each(|request| self.serve(request, ctx));
                }
            }
            _ => {
                let opened = at_rest.open(&self.shared, now_ms);
                self.serve_from(opened, ctx);
            }
        }
    }

    /// Opens the log where `request` needs that; gives it back unless it is answered already.
    pub(super) fn wake_for(
        &mut self,
        request: Request,
        ctx: &mut Context<Self>,
    ) -> Option<Request> {
        let Stage::AtRest(at_rest) = &self.stage else { return Some(request) };
        let marks = at_rest.marks();
        let (offset, answer) = match request {
            Request::FindOffset(FindOffset { at: At::Earliest, epoch: None, .. }, answer) => {
                (marks.log_start, answer)
            }
            Request::FindOffset(FindOffset { at: At::Latest, epoch: None, .. }, answer) => {
                (marks.log_end, answer)
            }
            other => {
                self.wake(ctx);
                return Some(other);
            }
        };
        let epoch = at_rest.closed.log.epochs().at(offset);
        answer.give(Ok(Some(FoundOffset { offset, timestamp_ms: -1, epoch })));
        None
    }

    /// Opens the log of a partition at rest.
    pub(super) fn wake(&mut self, ctx: &mut Context<Self>) {
        if !matches!(self.stage, Stage::AtRest(_)) {
            return;
        }
        let opening = Stage::Opening(VecDeque::new());
        let Stage::AtRest(at_rest) = std::mem::replace(&mut self.stage, opening) else { return };
        if let Some(timer) = at_rest.timer {
            ctx.cancel_future(timer);
        }
        let opened = at_rest.open(&self.shared, self.now_ms());
        self.serve_from(opened, ctx);
    }
}
