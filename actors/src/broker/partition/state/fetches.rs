//! Giving batches out: from memory, from disk, or when there are enough.

use std::time::Duration;

use bytes::Bytes;
use flumen_runtime::{
    batch::BatchHeader,
    ids::{LeaderEpoch, Offset},
    log::ReadDone,
};

use super::{Effect, Effects, State};
use crate::broker::{
    names::Isolation,
    partition::{
        marks::Marks,
        messages::{AbortedTransaction, Fetch, FetchError, Fetched, NotLeaderError, Portion},
        parked::Parked,
    },
};

/// What is to be read from disk, and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRange {
    /// First offset wanted.
    pub offset: Offset,
    /// Where it must end at the latest.
    pub end: Offset,
    /// Most bytes.
    pub bytes_max: usize,
    /// Whether not even the first batch may be larger.
    pub is_strict: bool,
    /// The marks when it was decided.
    pub marks: Marks,
    /// The epoch then.
    pub epoch: LeaderEpoch,
    /// Aborted transactions in the range.
    pub aborted: Vec<AbortedTransaction>,
}

impl ReadRange {
    /// The answer, with what was read of it.
    #[must_use]
    pub fn fetched(self, done: ReadDone) -> Fetched {
        let ReadRange { marks, epoch, mut aborted, .. } = self;
        aborted.retain(|transaction| transaction.first_offset < done.next);
        let (batches, withheld) = (vec![done.batches], done.withheld);
        Fetched { batches, marks, epoch, aborted, withheld }
    }
}

/// What a fetch could be given now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readable {
    /// Nothing below its mark.
    Nothing,
    /// So many bytes, in memory.
    Bytes(u64),
    /// Something, which only the disk has.
    OnDisk,
}

/// Of the aborted transactions, those that begin before the end of what is given out: the bytes that
/// end with the batch in `last`.
fn keep_touched(aborted: &mut Vec<AbortedTransaction>, last: Option<&Bytes>) {
    if let Some(Ok(header)) = last.filter(|_| !aborted.is_empty()).map(|b| BatchHeader::parse(b)) {
        aborted.retain(|transaction| transaction.first_offset < header.next_offset());
    }
}

impl<A, F> State<A, F> {
    /// The offset that `isolation` may not see.
    #[must_use]
    pub fn visible_end(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::LogEnd => self.written_end,
            Isolation::Uncommitted => self.high_watermark,
            Isolation::Committed => self.last_stable(),
            Isolation::Durable => self.high_watermark.min(self.durable_end),
        }
    }

    /// Answers a fetch, or parks it until `now + wait`.
    pub fn fetch(&mut self, fetch: Fetch, reader: F, now: Duration, effects: &mut Effects<A, F>) {
        if let Err(error) = self.check_fetch(&fetch) {
            effects.push(Effect::Answer(reader, Err(error)));
            return;
        }
        if fetch.wait.is_zero() || self.is_enough(&fetch) {
            self.answer(&fetch, reader, effects);
            return;
        }
        self.tail.follow();
        let deadline = now.saturating_add(fetch.wait);
        self.parked.park(Parked { fetch, deadline, reader });
    }

    fn check_fetch(&self, fetch: &Fetch) -> Result<(), FetchError> {
        self.check_epoch(fetch.epoch)?;
        let (log_start, log_end) = (self.log_start, self.log_end);
        if fetch.offset < log_start || fetch.offset > log_end {
            return Err(FetchError::OutOfRange { offset: fetch.offset, log_start, log_end });
        }
        Ok(())
    }

    /// Refuses whoever takes another epoch to be current.
    ///
    /// # Errors
    /// [`NotLeaderError`] says which it is.
    pub fn check_epoch(&self, epoch: Option<LeaderEpoch>) -> Result<(), NotLeaderError> {
        match epoch {
            Some(epoch) if epoch != self.epoch => Err(self.not_leader()),
            _ => Ok(()),
        }
    }

    /// Answers the parked fetches whose wait is over, with whatever there is.
    pub fn on_deadline(&mut self, now: Duration, effects: &mut Effects<A, F>) {
        for parked in self.parked.take_ready(|parked| parked.deadline <= now) {
            self.answer_parked(parked, effects);
        }
    }

    /// Answers the parked fetches that now have enough.
    pub(super) fn wake(&mut self, effects: &mut Effects<A, F>) {
        if self.parked.is_empty() {
            return;
        }
        let mut parked = std::mem::take(&mut self.parked);
        let ready = parked.take_ready(|parked| self.is_enough(&parked.fetch));
        self.parked = parked;
        for parked in ready {
            self.answer_parked(parked, effects);
        }
    }

    /// Whether a reader waits for something to be durable that others may read already: so it is where the
    /// topic is lazy.
    #[must_use]
    pub fn awaits_sync(&self) -> bool {
        let durable_end = self.visible_end(Isolation::Durable);
        let waits =
            |fetch: &Fetch| fetch.isolation == Isolation::Durable && fetch.offset >= durable_end;
        durable_end < self.high_watermark && self.parked.fetches().any(waits)
    }

    fn answer_parked(&mut self, parked: Parked<F>, effects: &mut Effects<A, F>) {
        // The log may have been trimmed past it while it waited, or another may lead.
        if let Err(error) = self.check_fetch(&parked.fetch) {
            effects.push(Effect::Answer(parked.reader, Err(error)));
            return;
        }
        self.answer(&parked.fetch, parked.reader, effects);
    }

    fn readable(&self, fetch: &Fetch) -> Readable {
        let end = self.visible_end(fetch.isolation);
        if fetch.offset >= end {
            return Readable::Nothing;
        }
        match self.tail.bytes_between(fetch.offset, end) {
            Some(bytes) => Readable::Bytes(bytes),
            None => Readable::OnDisk,
        }
    }

    /// Whether a fetch is answered without waiting. What only the disk has counts as enough, as for
    /// Kafka's older segments: to know its size would take a read.
    fn is_enough(&self, fetch: &Fetch) -> bool {
        if self.check_epoch(fetch.epoch).is_err() {
            return true;
        }
        let min = fetch.bytes_min.min(fetch.bytes_max) as u64;
        match self.readable(fetch) {
            Readable::Nothing => min == 0 || fetch.offset < self.log_start,
            Readable::Bytes(bytes) => bytes >= min,
            Readable::OnDisk => true,
        }
    }

    fn answer(&mut self, fetch: &Fetch, reader: F, effects: &mut Effects<A, F>) {
        let end = self.visible_end(fetch.isolation);
        let mut aborted = match fetch.isolation {
            Isolation::Committed => self.transactions.aborted_between(fetch.offset, end),
            Isolation::LogEnd | Isolation::Uncommitted | Isolation::Durable => Vec::new(),
        };
        let (marks, epoch) = (self.marks(), self.epoch);
        let is_strict = fetch.portion != Portion::FirstWhole;
        let (mut batches, mut withheld) = (Vec::new(), 0);
        let is_readable = self.readable(fetch) != Readable::Nothing;
        match self.tail.read(fetch.offset, end, fetch.bytes_max).filter(|_| is_readable) {
            Some(read) => {
                self.tail.follow();
                let first = read.first().map_or(0, Bytes::len);
                if is_strict && first > fetch.bytes_max {
                    withheld = first;
                } else {
                    batches = read;
                }
                keep_touched(&mut aborted, batches.last());
            }
            None if is_readable && fetch.portion != Portion::InMemory => {
                let (offset, bytes_max) = (fetch.offset, fetch.bytes_max);
                let range = ReadRange { offset, end, bytes_max, is_strict, marks, epoch, aborted };
                effects.push(Effect::Read(reader, range));
                return;
            }
            None => {}
        }
        if batches.is_empty() {
            aborted.clear();
        }
        assert!(end <= self.written_end, "PART-8: visible before it is written");
        let fetched = Fetched { batches, marks, epoch, aborted, withheld };
        effects.push(Effect::Answer(reader, Ok(fetched)));
    }
}
