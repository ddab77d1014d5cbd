//! What an open partition looks up and reads on the disk, and what it knows of where its epochs ended.

use actix::{AsyncContext, Context, fut::wrap_future};
use flumen_runtime::{
    batch,
    ids::Offset,
    log::{READ_BYTES_MAX, ReadDone, ReadFailure},
};

use super::{Open, Partition, READ_TRIES};
use crate::broker::partition::{
    Stage,
    messages::{At, EpochEnd, FetchError, FindEpochEnd, FindOffset, FoundOffset},
    request::{FetchAnswer, FoundAnswer},
    state::ReadRange,
};

/// Places that cannot be read of which it is known that they were told.
const TOLD_MAX: usize = 16;

impl Open {
    pub(in crate::broker::partition) fn find_offset(
        &mut self,
        find: FindOffset,
        answer: FoundAnswer,
        ctx: &mut Context<Partition>,
    ) {
        if let Err(error) = self.state.check_epoch(find.epoch) {
            return answer.give(Err(error.into()));
        }
        let end = self.state.visible_end(find.isolation);
        let found = |offset| {
            let epoch = self.log.epochs().at(offset);
            Ok(Some(FoundOffset { offset, timestamp_ms: -1, epoch }))
        };
        let from_ms = match find.at {
            At::Earliest => return answer.give(found(self.state.marks().log_start)),
            At::Latest => return answer.give(found(end)),
            At::Timestamp(from_ms) => Some(from_ms),
            At::MaxTimestamp => None,
        };
        self.look_up(from_ms, end, answer, READ_TRIES, ctx);
    }

    /// Looks a time up, or the largest; once more where segments were compacted meanwhile.
    pub(in crate::broker::partition) fn look_up(
        &self,
        from_ms: Option<i64>,
        end: Offset,
        answer: FoundAnswer,
        tries: u32,
        ctx: &mut Context<Partition>,
    ) {
        let plan = match from_ms {
            Some(from_ms) => self.log.plan_lookup(from_ms, end),
            None => self.log.plan_newest(end),
        };
        let lookup = plan.run(self.disk.clone());
        let epochs = self.log.epochs().clone();
        let lookup = wrap_future::<_, Partition>(lookup);
        ctx.spawn(actix::ActorFutureExt::map(lookup, move |found, actor, ctx| match found {
            Ok(found) => answer.give(Ok(found.map(|(offset, timestamp_ms)| {
                let epoch = epochs.at(offset);
                FoundOffset { offset, timestamp_ms, epoch }
            }))),
            Err(ReadFailure::Removed) if tries > 0 => {
                actor.look_up_again(from_ms, end, answer, tries - 1, ctx);
            }
            Err(error) => answer.give(Err(actor.not_read(Offset::ZERO, &error))),
        }));
    }

    /// Where the records of an epoch end.
    pub(in crate::broker::partition) fn epoch_end(
        &self,
        find: FindEpochEnd,
    ) -> Result<Option<EpochEnd>, FetchError> {
        self.state.check_epoch(find.epoch)?;
        let (end, (_, current)) = (self.state.marks().log_end, self.state.role());
        // The current one ends where the log does, even before its first record.
        if find.of >= current {
            let found = EpochEnd { epoch: current, end, is_over: false };
            return Ok((find.of == current).then_some(found));
        }
        // One of which no record is left ended where the first one begins that has any, or will.
        let epochs = self.log.epochs();
        let first = (find.of, epochs.begin().unwrap_or(end));
        let (epoch, end) = epochs.end_of(find.of, end).unwrap_or(first);
        Ok(Some(EpochEnd { epoch, end, is_over: true }))
    }

    /// Reads, or gives what was read ahead.
    pub(in crate::broker::partition) fn read_or_take(
        &mut self,
        answer: FetchAnswer,
        range: ReadRange,
        ctx: &mut Context<Partition>,
    ) {
        if let Some((answer, range)) = self.answer_ahead(answer, range, ctx) {
            self.read(answer, range, READ_TRIES, ctx);
        }
    }

    /// Reads; once more where the segment was removed or compacted before it was opened.
    pub(in crate::broker::partition) fn read(
        &mut self,
        answer: FetchAnswer,
        range: ReadRange,
        tries: u32,
        ctx: &mut Context<Partition>,
    ) {
        let offset = range.offset;
        let plan = match self.log.plan_read(offset, range.end, range.bytes_max) {
            Ok(plan) if range.is_strict => plan.strict(),
            Ok(plan) => plan,
            Err(error) => {
                let reason = error.to_string();
                return answer.give(Err(FetchError::Unreadable { offset, reason }));
            }
        };
        let goes_on = self.log.goes_on_at(offset);
        let read = wrap_future::<_, Partition>(plan.run(self.disk.clone()));
        ctx.spawn(actix::ActorFutureExt::map(read, move |read, actor: &mut Partition, ctx| {
            match read {
                Ok(done) => actor.on_read(answer, range, done, goes_on, ctx),
                Err(ReadFailure::Removed) if tries > 0 => {
                    actor.read_again(answer, range, tries - 1, ctx);
                }
                Err(error) => answer.give(Err(actor.unreadable(offset, &error))),
            }
        }));
    }

    /// Gives what was read, and reads on where that went on from the read before.
    pub(in crate::broker::partition) fn give_read(
        &mut self,
        answer: FetchAnswer,
        range: ReadRange,
        done: ReadDone,
        goes_on: bool,
        ctx: &mut Context<Partition>,
    ) {
        self.log.note_read(&done);
        let next = (done.next, range.end, range.bytes_max);
        // Where nothing was given, or a batch alone was larger than that, so may be the next part: it is
        // not read for nothing.
        let has_fitted = (1..=range.bytes_max.min(READ_BYTES_MAX)).contains(&done.batches.len());
        answer.give(Ok(range.fetched(done)));
        if goes_on && has_fitted {
            self.read_ahead(next, ctx);
        }
    }
}

/// Whether there are batches, and compaction has left no record in any of them: the last of a segment
/// stays even so.
pub(super) fn is_hollow(done: &ReadDone) -> bool {
    let mut batches = batch::split(&done.batches);
    let is_emptied = |(header, _): (batch::BatchHeader, _)| header.record_count == 0;
    !done.batches.is_empty() && batches.all(|split| split.is_ok_and(is_emptied))
}

impl Partition {
    pub(super) fn on_read(
        &mut self,
        answer: FetchAnswer,
        range: ReadRange,
        done: ReadDone,
        goes_on: bool,
        ctx: &mut Context<Self>,
    ) {
        match &mut self.stage {
            // A client takes an answer without a record for one of too few bytes, and complains in the
            // end: librdkafka at the eleventh.
            Stage::Open(open) if is_hollow(&done) && done.next < range.end => {
                open.log.note_read(&done);
                // What follows may have been removed meanwhile.
                self.read_again(answer, ReadRange { offset: done.next, ..range }, READ_TRIES, ctx);
            }
            Stage::Open(open) => open.give_read(answer, range, done, goes_on, ctx),
            _ => answer.give(Ok(range.fetched(done))),
        }
    }

    pub(super) fn read_again(
        &mut self,
        answer: FetchAnswer,
        range: ReadRange,
        tries: u32,
        ctx: &mut Context<Self>,
    ) {
        match &mut self.stage {
            Stage::Open(open) if range.offset >= open.log.start() => {
                open.read(answer, range, tries, ctx);
            }
            _ => answer.give(Err(self.unreadable(range.offset, &ReadFailure::Removed))),
        }
    }

    fn look_up_again(
        &mut self,
        from_ms: Option<i64>,
        end: Offset,
        answer: FoundAnswer,
        tries: u32,
        ctx: &mut Context<Self>,
    ) {
        match &self.stage {
            Stage::Open(open) => open.look_up(from_ms, end, answer, tries, ctx),
            _ => answer.give(Err(self.not_read(Offset::ZERO, &ReadFailure::Removed))),
        }
    }

    /// What to say of a read that failed: perhaps the log was trimmed past it meanwhile.
    fn unreadable(&mut self, offset: Offset, error: &ReadFailure) -> FetchError {
        if let Stage::Open(open) = &self.stage
            && offset < open.log.start()
        {
            let (log_start, log_end) = (open.log.start(), open.log.end());
            return FetchError::OutOfRange { offset, log_start, log_end };
        }
        self.not_read(offset, error)
    }

    /// The same, of a log that was not trimmed. Where the partition does not serve any more, that is why it
    /// could not be read; it may pass.
    fn not_read(&mut self, offset: Offset, error: &ReadFailure) -> FetchError {
        let reason = error.to_string();
        match &self.stage {
            Stage::Open(_) => self.tell(error),
            Stage::Offline(offline) => return FetchError::Offline((**offline).clone()),
            _ if *error == ReadFailure::Removed => {
                return self.offline(&reason, "retry", true).into();
            }
            _ => {}
        }
        FetchError::Unreadable { offset, reason }
    }

    /// Says to whoever runs the node what cannot be read, for Kafka's clients hear a number only.
    fn tell(&mut self, error: &ReadFailure) {
        let Stage::Open(open) = &mut self.stage else { return };
        let reason = error.to_string();
        if *error != ReadFailure::Removed && open.told.is_news(&reason) {
            tracing::error!(partition = %self.shared.partition, %reason, "records cannot be read");
        }
    }
}

/// What was said that cannot be read. Readers ask for it again and again: of a few places each is said
/// once, and of however many at most one between two ticks.
#[derive(Default)]
pub(super) struct Told {
    /// The latest one last.
    reasons: Vec<String>,
    is_enough: bool,
}

impl Told {
    /// Whether `reason` is to be said now.
    fn is_news(&mut self, reason: &str) -> bool {
        if self.is_enough || self.reasons.iter().any(|told| told == reason) {
            return false;
        }
        if self.reasons.len() == TOLD_MAX {
            self.reasons.remove(0);
        }
        self.reasons.push(reason.to_owned());
        self.is_enough = true;
        true
    }

    pub(super) fn tick(&mut self) {
        self.is_enough = false;
    }
}
