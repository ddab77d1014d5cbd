//! Reading ahead of a reader that takes one part of a log after the other.
//!
//! ```text
//!   it asks where the last read left off ──► answer, on its way ──► it asks for the next part
//!                                       └──► that is read meanwhile ──────────▲
//! ```
//!
//! A consumer asks for the next part when it has the last one: what the disk takes would come on top
//! of what the wire and the consumer take. So it is done at the same time, once two parts were asked
//! for one after the other. Readers that take turns each have a part of their own: there are at most
//! [`AHEADS_MAX`] of a log, and of all logs of a directory as many as it has room for. One that is there
//! is let go when nobody has asked for it in a second or two.

use std::{cell::Cell, rc::Rc, time::Duration};

use actix::{ActorFutureExt, AsyncContext, Context, fut::wrap_future};
use flumen_runtime::{
    credit::Permit,
    ids::Offset,
    log::{READ_BYTES_MAX, READ_BYTES_MIN, ReadDone, ReadFailure},
};

use super::{Open, Partition, READ_TRIES, TICK, reads::is_hollow};
use crate::broker::partition::{Stage, request::FetchAnswer, state::ReadRange};

/// Parts of one log that are read before they are asked for.
const AHEADS_MAX: usize = 4;

/// Who came for what was still being read.
type Asker = Rc<Cell<Option<(FetchAnswer, ReadRange)>>>;

/// The part after one that was given.
pub(super) struct Ahead {
    from: Offset,
    got: Got,
}

enum Got {
    Reading(Asker),
    Read {
        done: ReadDone,
        permit: Permit,
        /// Since when it is there.
        since: Duration,
    },
}

impl Open {
    /// Answers from what was read ahead, now or as soon as it is read. Gives back what it cannot answer.
    pub(super) fn answer_ahead(
        &mut self,
        answer: FetchAnswer,
        range: ReadRange,
        ctx: &mut Context<Partition>,
    ) -> Option<(FetchAnswer, ReadRange)> {
        let Some(at) = self.aheads.iter().position(|ahead| ahead.from == range.offset) else {
            return Some((answer, range));
        };
        match self.aheads.remove(at).got {
            Got::Reading(asker) => asker.set(Some((answer, range))),
            Got::Read { done, permit, .. } if is_answer(&done, &range) => {
                drop(permit);
                self.give_read(answer, range, done, true, ctx);
            }
            Got::Read { .. } => return Some((answer, range)),
        }
        None
    }

    /// Reads on from where a read left off, where there is more and room for it.
    pub(super) fn read_ahead(
        &mut self,
        (from, end, bytes_max): (Offset, Offset, usize),
        ctx: &mut Context<Partition>,
    ) {
        // Two that read the same one after the other have one part ahead of them.
        let is_there = self.aheads.iter().any(|ahead| ahead.from == from);
        if from >= end || self.is_stopping || is_there {
            return;
        }
        let bytes_max = bytes_max.min(READ_BYTES_MAX);
        let held_bytes = bytes_max.max(READ_BYTES_MIN);
        let Ok(permit) = self.ahead_room.try_acquire(1, held_bytes) else { return };
        let Ok(plan) = self.log.plan_read(from, end, bytes_max) else { return };
        let (plan, disk, asker) = (plan.strict(), self.disk.clone(), Asker::default());
        if self.aheads.len() == AHEADS_MAX {
            self.aheads.remove(0);
        }
        self.aheads.push(Ahead { from, got: Got::Reading(asker.clone()) });
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
        let is_it = |ahead: &Ahead| matches!(&ahead.got, Got::Reading(of) if Rc::ptr_eq(of, asker));
        let Some(at) = self.aheads.iter().position(is_it) else { return };
        match read {
            Ok(done) if !done.batches.is_empty() => {
                self.aheads[at].got = Got::Read { done, permit, since: self.now() };
            }
            // Whoever asks for it reads it anew, and is told why.
            _ => drop(self.aheads.remove(at)),
        }
    }

    /// A tick has come: what nobody has asked for in a while is let go.
    pub(super) fn age_ahead(&mut self, now: Duration) {
        self.aheads.retain(|ahead| match ahead.got {
            Got::Reading(_) => true,
            Got::Read { since, .. } => now < since + TICK,
        });
        if self.aheads.is_empty() {
            self.aheads = Vec::new();
        }
    }
}

/// Whether this answers it: at least a record, not more than was asked for, and nothing was cut off or
/// compacted since. By its own word: where other reads left off meanwhile says nothing of it.
fn is_answer(done: &ReadDone, range: &ReadRange) -> bool {
    let bytes = done.batches.len();
    let fits = bytes > 0 && bytes <= range.bytes_max && done.next <= range.end;
    fits && !is_hollow(done) && done.still_holds()
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
        match read {
            Ok(done) if is_answer(&done, &range) => self.on_read(answer, range, done, true, ctx),
            _ => self.read_again(answer, range, READ_TRIES, ctx),
        }
    }
}
