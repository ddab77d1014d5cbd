//! Reading ahead of a reader that takes one part of a log after the other.
//!
//! ```text
//!   it asks where the last read left off ──► answer, on its way ──► it asks for the next part
//!                                       └──► that is read meanwhile ──────────▲
//! ```
//!
//! A consumer asks for the next part when it has the last one: what the disk takes would come on top
//! of what the wire and the consumer take. So it is done at the same time, once two parts were asked
//! for one after the other. There is one such part of a log, of a bounded number of logs, and it is
//! let go when nobody has asked for it in a second or two.

use std::{cell::Cell, rc::Rc, time::Duration};

use actix::{ActorFutureExt, AsyncContext, Context, fut::wrap_future};
use flumen_runtime::{
    credit::Permit,
    ids::Offset,
    log::{READ_BYTES_MAX, READ_BYTES_MIN, ReadDone, ReadFailure},
};

use super::{Open, Partition, READ_TRIES, TICK, reads::is_hollow};
use crate::broker::partition::{Stage, request::FetchAnswer, state::ReadRange};

/// Who came for what was still being read.
type Asker = Rc<Cell<Option<(FetchAnswer, ReadRange)>>>;

/// The part after the one that was given last.
pub(super) struct Ahead {
    from: Offset,
    got: Got,
    /// When it was begun.
    since: Duration,
}

enum Got {
    Reading(Asker),
    Read(ReadDone, Permit),
}

impl Open {
    /// Answers from what was read ahead, now or as soon as it is read. Gives back what it cannot answer.
    pub(super) fn answer_ahead(
        &mut self,
        answer: FetchAnswer,
        range: ReadRange,
        ctx: &mut Context<Partition>,
    ) -> Option<(FetchAnswer, ReadRange)> {
        let ahead = self.ahead.take().filter(|ahead| ahead.from == range.offset);
        match ahead.map(|ahead| ahead.got) {
            Some(Got::Reading(asker)) => asker.set(Some((answer, range))),
            Some(Got::Read(done, permit)) if self.is_answered(&range, &done) => {
                drop(permit);
                self.give_read(answer, range, done, true, ctx);
            }
            _ => return Some((answer, range)),
        }
        None
    }

    /// Whether this answers it: at least a record, not more than was asked for, and nothing was cut off
    /// or compacted since.
    fn is_answered(&self, range: &ReadRange, done: &ReadDone) -> bool {
        let bytes = done.batches.len();
        let fits = bytes > 0 && bytes <= range.bytes_max && done.next <= range.end;
        fits && !is_hollow(done) && self.log.goes_on_at(range.offset)
    }

    /// Reads on from where a read left off, where there is more and room for it.
    pub(super) fn read_ahead(
        &mut self,
        (from, end, bytes_max): (Offset, Offset, usize),
        ctx: &mut Context<Partition>,
    ) {
        if from >= end || self.is_stopping {
            return;
        }
        let bytes_max = bytes_max.min(READ_BYTES_MAX);
        let held_bytes = bytes_max.max(READ_BYTES_MIN);
        let Ok(permit) = self.ahead_room.try_acquire(1, held_bytes) else { return };
        let Ok(plan) = self.log.plan_read(from, end, bytes_max) else { return };
        let (plan, disk, asker) = (plan.strict(), self.disk.clone(), Asker::default());
        let (got, since) = (Got::Reading(asker.clone()), self.now());
        self.ahead = Some(Box::new(Ahead { from, got, since }));
        self.arm(ctx);
        let read = async move {
            // First the answer goes on its way, then its successor is read.
            tokio::task::yield_now().await;
            plan.run(disk).await
        };
        let read = wrap_future::<_, Partition>(read);
        ctx.spawn(read.map(move |read, actor, ctx| actor.on_ahead(&asker, permit, read, ctx)));
    }

    /// What was read ahead is there, and nobody has come for it yet.
    fn keep_ahead(&mut self, asker: &Asker, permit: Permit, read: Result<ReadDone, ReadFailure>) {
        let Some(ahead) = &mut self.ahead else { return };
        if !matches!(&ahead.got, Got::Reading(current) if Rc::ptr_eq(current, asker)) {
            return;
        }
        match read {
            Ok(done) if !done.batches.is_empty() => ahead.got = Got::Read(done, permit),
            // Whoever asks for it reads it anew, and is told why.
            _ => self.ahead = None,
        }
    }

    /// A tick has come: what nobody has asked for in a while is let go.
    pub(super) fn age_ahead(&mut self, now: Duration) {
        self.ahead = self.ahead.take().filter(|ahead| now < ahead.since + TICK);
    }
}

impl Partition {
    fn on_ahead(
        &mut self,
        asker: &Asker,
        permit: Permit,
        read: Result<ReadDone, ReadFailure>,
        ctx: &mut Context<Self>,
    ) {
        let Some((answer, range)) = asker.take() else {
            if let Stage::Open(open) = &mut self.stage {
                open.keep_ahead(asker, permit, read);
            }
            return;
        };
        drop(permit);
        match (&mut self.stage, read) {
            (Stage::Open(open), Ok(done)) if open.is_answered(&range, &done) => {
                open.give_read(answer, range, done, true, ctx);
            }
            _ => self.read_again(answer, range, READ_TRIES, ctx),
        }
    }
}
