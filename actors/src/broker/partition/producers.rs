//! What a partition knows of its idempotent and transactional producers (Kafka's
//! `ProducerStateManager`).
//!
//! ```text
//!   producer 7, epoch 2:  recent = [ 0..=9 @ 100 ][ 10..=14 @ 110 ] … at most 5
//!
//!   batch 10..=14  ──► one of the recent five      ──► duplicate: answered with offset 110 and its time
//!   batch 15..=19  ──► continues the last sequence ──► new
//!   batch 20..=24  ──► a gap                       ──► out of order
//!   epoch 1        ──► superseded                  ──► fenced
//!   epoch 3        ──► must begin at sequence 0
//! ```
//!
//! A producer that is not known (new here, or expired) may begin anywhere: this is Kafka's rule for
//! idempotent producers, and it means that a state which expired too soon can let a duplicate in.
//! That is why a channel's producers never expire ([`ProducerId::is_owned`]).
//!
//! Ages are counted from when a batch was appended here, not from its records' timestamps: a
//! producer that copies last year's records is used today. They go on only while the partition is
//! open, and not with the clock where somebody sets that: a producer whose batch is on its way is
//! known when it comes again.
//!
//! # Invariants
//! - PROD-1: a producer keeps at most five batches, of one epoch, in the order of their offsets.
//! - PROD-2: the sequences of its batches, as appended by the leader, follow each other without gap.
//! - PROD-3: a transaction is open exactly while its first offset is in the set of open ones.
//! - PROD-4: at most [`PRODUCERS_MAX`] producers are known, but for owned ones and for those with an
//!   open transaction.

mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use flumen_runtime::{clock::UnixMillis, ids::Offset};
use smallvec::SmallVec;

pub use self::snapshot::SnapshotError;
use super::messages::{ProducerStatus, ProducerTail, SequenceError};
use crate::broker::names::ProducerId;

/// Batches kept of each producer: a client has at most five requests in flight (KAFKA-5494).
pub const RECENT_MAX: usize = 5;

/// Most producers that are known: some 10 MiB of memory, and a little more in each snapshot.
pub const PRODUCERS_MAX: usize = 50_000;

/// Batches kept of each producer, or one fewer where a simulation plants that bug.
fn recent_max() -> usize {
    #[cfg(feature = "sim")]
    if flumen_runtime::sim::is_planted(flumen_runtime::sim::Planted::DedupeWindowOffByOne) {
        return RECENT_MAX - 1;
    }
    RECENT_MAX
}

/// Sequences are 0 to 2³¹ − 1, then 0 again.
const SEQUENCES: i64 = 1 << 31;

/// The sequence `by` records after `sequence`, which may be −1 (none).
#[must_use]
pub fn sequence_after(sequence: i32, by: u32) -> i32 {
    i32::try_from((i64::from(sequence) + i64::from(by)).rem_euclid(SEQUENCES)).expect("below 2^31")
}

/// The part of a batch that concerns its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// Who.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub first_sequence: i32,
    /// Records, less one.
    pub last_delta: u32,
    /// The largest timestamp of its records, as the log has it.
    pub timestamp_ms: i64,
    /// Whether it is part of a transaction.
    pub is_transactional: bool,
}

impl Produced {
    /// Sequence of the last record.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        sequence_after(self.first_sequence, self.last_delta)
    }
}

/// The end of a transaction, as its marker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Whose transaction.
    pub producer: ProducerId,
    /// The producer's epoch.
    pub epoch: i16,
    /// Epoch of the coordinator that decided.
    pub coordinator_epoch: i32,
    /// Whether it commits.
    pub is_commit: bool,
}

/// A batch that a producer appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recent {
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Records, less one.
    pub last_delta: u32,
    /// The largest timestamp of its records, as the log has it.
    pub timestamp_ms: i64,
}

impl Recent {
    /// Offset of its first record.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        Offset(self.last_offset.0.saturating_sub(u64::from(self.last_delta)))
    }
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is to be appended.
    New,
    /// It was appended before.
    Duplicate(Recent),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    epoch: i16,
    /// Of this epoch, oldest first (PROD-1).
    recent: SmallVec<[Recent; RECENT_MAX]>,
    /// −1 where no marker came yet.
    coordinator_epoch: i32,
    transaction_first: Option<Offset>,
    used_ms: UnixMillis,
}

impl State {
    fn new(epoch: i16, now_ms: UnixMillis) -> Self {
        let (recent, transaction_first) = (SmallVec::new(), None);
        Self { epoch, recent, coordinator_epoch: -1, transaction_first, used_ms: now_ms }
    }

    fn last_sequence(&self) -> i32 {
        self.recent.last().map_or(-1, |last| last.last_sequence)
    }

    fn judge(&self, batch: &Produced) -> Result<Verdict, SequenceError> {
        let producer = batch.producer;
        if batch.epoch < self.epoch {
            let (current, got) = (self.epoch, batch.epoch);
            return Err(SequenceError::Fenced { producer, current, got });
        }
        if batch.epoch == self.epoch {
            let is_same = |recent: &&Recent| {
                recent.last_delta == batch.last_delta
                    && recent.last_sequence == batch.last_sequence()
            };
            if let Some(recent) = self.recent.iter().find(is_same) {
                return Ok(Verdict::Duplicate(*recent));
            }
        }
        let last = if batch.epoch == self.epoch { self.last_sequence() } else { -1 };
        let (expected, got) = (sequence_after(last, 1), batch.first_sequence);
        if got != expected {
            return Err(SequenceError::OutOfOrder { producer, expected, got });
        }
        if self.transaction_first.is_some() && !batch.is_transactional {
            return Err(SequenceError::OutsideTransaction { producer });
        }
        Ok(Verdict::New)
    }

    fn enter_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.recent.clear();
        }
    }

    fn record(&mut self, batch: &Produced, base_offset: Offset, now_ms: UnixMillis) {
        self.enter_epoch(batch.epoch);
        if self.recent.len() == recent_max() {
            self.recent.remove(0);
        }
        let last_offset = base_offset.plus(u64::from(batch.last_delta));
        assert!(self.recent.last().is_none_or(|last| last.last_offset < base_offset), "PROD-1");
        let Produced { last_delta, timestamp_ms, .. } = *batch;
        let last_sequence = batch.last_sequence();
        self.recent.push(Recent { last_sequence, last_offset, last_delta, timestamp_ms });
        if batch.is_transactional && self.transaction_first.is_none() {
            self.transaction_first = Some(base_offset);
        }
        self.used_ms = self.used_ms.max(now_ms);
    }
}

/// All producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    states: BTreeMap<ProducerId, State>,
    /// First offsets of the transactions that are open (PROD-3).
    open: BTreeSet<(Offset, ProducerId)>,
}

/// The judgement of one request's batches, before any of them is appended.
#[derive(Debug)]
pub struct Trial<'a> {
    producers: &'a Producers,
    now_ms: UnixMillis,
    changed: SmallVec<[(ProducerId, State); 1]>,
}

impl Trial<'_> {
    /// Judges `batch`, which would get `base_offset`; later batches are judged as if it stood there.
    ///
    /// # Errors
    /// [`SequenceError`] where the producer's rules refuse it.
    pub fn judge(
        &mut self,
        batch: &Produced,
        base_offset: Offset,
    ) -> Result<Verdict, SequenceError> {
        let id = batch.producer;
        let at = match self.changed.iter().position(|(changed, _)| *changed == id) {
            Some(at) => at,
            None => {
                let known = self.producers.states.get(&id);
                if let Some(known) = known
                    && let duplicate @ Verdict::Duplicate(_) = known.judge(batch)?
                {
                    return Ok(duplicate);
                }
                let fresh = || State::new(batch.epoch, self.now_ms);
                let mut state = known.cloned().unwrap_or_else(fresh);
                state.record(batch, base_offset, self.now_ms);
                self.changed.push((id, state));
                return Ok(Verdict::New);
            }
        };
        let state = &mut self.changed[at].1;
        let verdict = state.judge(batch)?;
        if verdict == Verdict::New {
            state.record(batch, base_offset, self.now_ms);
        }
        Ok(verdict)
    }

    /// What [`Producers::accept`] takes once the batches are appended.
    #[must_use]
    pub fn finish(self) -> Tried {
        Tried(self.changed)
    }
}

/// The states after a trial.
#[derive(Debug)]
pub struct Tried(SmallVec<[(ProducerId, State); 1]>);

impl Producers {
    /// Begins to judge the batches of one request, at `now_ms`.
    #[must_use]
    pub fn trial(&self, now_ms: UnixMillis) -> Trial<'_> {
        Trial { producers: self, now_ms, changed: SmallVec::new() }
    }

    /// Takes over what a trial came to: its batches are in the log now.
    pub fn accept(&mut self, tried: Tried) {
        self.make_room();
        for (id, state) in tried.0 {
            if let Some(first) = state.transaction_first {
                self.open.insert((first, id));
            }
            self.states.insert(id, state);
        }
        self.check();
    }

    /// Takes a batch that is in the log: appended by another leader, or replayed. The leader judged
    /// it. A batch that the state holds already (from a snapshot) changes nothing.
    pub fn follow(&mut self, batch: &Produced, base_offset: Offset, now_ms: UnixMillis) {
        self.make_room();
        let state =
            self.states.entry(batch.producer).or_insert_with(|| State::new(batch.epoch, now_ms));
        if state.recent.last().is_some_and(|last| last.last_offset >= base_offset) {
            return;
        }
        state.record(batch, base_offset, now_ms);
        if let Some(first) = state.transaction_first {
            self.open.insert((first, batch.producer));
        }
        self.check();
    }

    /// Whether a coordinator may append `marker`.
    ///
    /// # Errors
    /// [`SequenceError`] where the producer or the coordinator has been superseded.
    pub fn judge_marker(&self, marker: &Marker) -> Result<(), SequenceError> {
        let Some(state) = self.states.get(&marker.producer) else { return Ok(()) };
        let producer = marker.producer;
        if marker.epoch < state.epoch {
            let (current, got) = (state.epoch, marker.epoch);
            return Err(SequenceError::Fenced { producer, current, got });
        }
        if marker.coordinator_epoch < state.coordinator_epoch {
            let (current, got) = (state.coordinator_epoch, marker.coordinator_epoch);
            return Err(SequenceError::CoordinatorFenced { producer, current, got });
        }
        Ok(())
    }

    /// Takes a marker that is in the log. Answers the first offset of the transaction it ended.
    pub fn end_transaction(&mut self, marker: &Marker, now_ms: UnixMillis) -> Option<Offset> {
        let fresh = || State::new(marker.epoch, now_ms);
        let state = self.states.entry(marker.producer).or_insert_with(fresh);
        state.enter_epoch(marker.epoch);
        state.coordinator_epoch = marker.coordinator_epoch;
        state.used_ms = state.used_ms.max(now_ms);
        let first = state.transaction_first.take()?;
        self.open.remove(&(first, marker.producer));
        self.check();
        Some(first)
    }

    /// First offset of the oldest transaction that is still open.
    #[must_use]
    pub fn first_open(&self) -> Option<Offset> {
        self.open.first().map(|(first, _)| *first)
    }

    /// The end of what `producer` has appended.
    #[must_use]
    pub fn tail(&self, producer: ProducerId) -> Option<ProducerTail> {
        let state = self.states.get(&producer)?;
        let last_offset = state.recent.last().map(|last| last.last_offset);
        Some(ProducerTail { epoch: state.epoch, last_sequence: state.last_sequence(), last_offset })
    }

    /// All producers, by their ids.
    #[must_use]
    pub fn describe(&self) -> Vec<ProducerStatus> {
        let describe = |(id, state): (&ProducerId, &State)| ProducerStatus {
            producer: *id,
            epoch: state.epoch,
            last_sequence: state.last_sequence(),
            used_ms: state.used_ms,
            coordinator_epoch: state.coordinator_epoch,
            transaction_first: state.transaction_first,
        };
        self.states.iter().map(describe).collect()
    }

    /// Makes room where there are as many producers as may be: an eighth of them go, those that were
    /// not used for longest (PROD-4). A client that draws a new id for each batch must not fill the
    /// memory.
    fn make_room(&mut self) {
        if self.states.len() < PRODUCERS_MAX {
            return;
        }
        let may_go = |(id, state): &(&ProducerId, &State)| {
            !id.is_owned() && state.transaction_first.is_none()
        };
        let by_use = |(id, state): (&ProducerId, &State)| (state.used_ms, *id);
        let mut used: Vec<_> = self.states.iter().filter(may_go).map(by_use).collect();
        used.sort_unstable();
        for (_, id) in used.into_iter().take(PRODUCERS_MAX / 8) {
            self.states.remove(&id);
        }
    }

    /// The last offset of the last batch of each.
    pub fn last_offsets(&self) -> impl Iterator<Item = Offset> {
        self.states.values().filter_map(|state| Some(state.recent.last()?.last_offset))
    }

    /// Takes `ms` out of every age: the clock went on by so much, and time did not.
    pub fn pass_over(&mut self, ms: i64) {
        for state in self.states.values_mut() {
            state.used_ms = state.used_ms.saturating_add(ms);
        }
    }

    /// The partition opens: ages go on from where they were when it was last seen.
    pub fn wake(&mut self, now_ms: UnixMillis) {
        let newest = self.states.values().map(|state| state.used_ms).max();
        let asleep = newest.map_or(0, |newest| now_ms.saturating_sub(newest));
        self.pass_over(asleep.max(0));
    }

    /// Forgets producers that were not used for `age_ms`: not those with an open transaction, nor
    /// those that a channel owns. Answers how many.
    pub fn expire(&mut self, now_ms: UnixMillis, age_ms: i64) -> usize {
        let before = self.states.len();
        self.states.retain(|id, state| {
            id.is_owned()
                || state.transaction_first.is_some()
                || now_ms.saturating_sub(state.used_ms) < age_ms
        });
        before - self.states.len()
    }

    /// Producers that are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    fn check(&self) {
        // The counts alone: this runs at every append, and the tests compare the sets.
        assert!(self.open.len() <= self.states.len(), "PROD-3");
    }
}
