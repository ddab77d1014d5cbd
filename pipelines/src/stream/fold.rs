//! An outlet that folds: sums by name, kept in a changelog.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flumen_actors::broker::{
    Broker,
    names::{TopicName, TopicPartition},
};
use flumen_runtime::{batch::RecordView, failpoint, ids::Offset};
use futures::{FutureExt as _, future::LocalBoxFuture};
use tracing::warn;

use super::{
    Operators, asking,
    changelog::{Changelog, entry_bytes},
    outlet::{Begin, Outlet, StageError, State},
};

/// Sums by name.
pub type Counts = BTreeMap<String, u64>;

/// So many sums are looked at before who counts may go on.
const LOOK_AT: usize = 1024;

/// The sums of one partition, as they are kept. Clones share them.
type Kept = Arc<Mutex<Counts>>;

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Replaced entry by entry: a panic cannot leave it torn.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all members of a counting stage have kept, by partition. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<TopicPartition, Kept>>>);

impl Tally {
    /// The sum over all partitions. Who counts goes on meanwhile: of what it finishes then some may be in
    /// it, and some not.
    #[must_use]
    pub fn total(&self) -> Counts {
        let partitions: Vec<Kept> = lock(&self.0).values().cloned().collect();
        let mut total = Counts::new();
        for counts in partitions {
            let mut from = Bound::Unbounded;
            loop {
                let some: Vec<(String, u64)> = lock(&counts)
                    .range((from, Bound::Unbounded))
                    .take(LOOK_AT)
                    .map(|(name, count)| (name.clone(), *count))
                    .collect();
                let Some((last, _)) = some.last() else { break };
                from = Bound::Excluded(last.clone());
                for (name, count) in some {
                    let sum = total.entry(name).or_default();
                    *sum = sum.wrapping_add(count);
                }
            }
        }
        total
    }

    /// Shows `counts` as those of `partition`.
    fn show(&self, partition: &TopicPartition, counts: Counts) -> Kept {
        let kept = Kept::new(Mutex::new(counts));
        lock(&self.0).insert(partition.clone(), kept.clone());
        kept
    }

    /// As if one partition had been counted.
    #[cfg(test)]
    pub(crate) fn set_all(&self, counts: Counts) {
        let topic = TopicName::new("t").unwrap();
        let partition = flumen_actors::broker::names::PartitionId(0);
        self.show(&TopicPartition { topic, partition }, counts);
    }
}

/// The sums of one partition.
struct Sums {
    log: Changelog,
    /// All records below it are in `kept`.
    next: Offset,
    kept: Kept,
    /// Those that have changed since the changelog was written.
    changed: Counts,
    /// At most so many bytes they take there.
    changed_bytes: usize,
}

impl Sums {
    fn add(&mut self, name: String, amount: u64) {
        let sum = match self.changed.entry(name) {
            Entry::Occupied(changed) => changed.into_mut(),
            Entry::Vacant(unchanged) => {
                self.changed_bytes += entry_bytes(unchanged.key());
                let before = lock(&self.kept).get(unchanged.key()).copied();
                unchanged.insert(before.unwrap_or(0))
            }
        };
        *sum = sum.wrapping_add(amount);
    }
}

/// Adds up the results of `operators`: amounts by name. Sums wrap around at 2⁶⁴, so that checksums
/// may be summed too.
pub struct Fold {
    stage: String,
    changelog: TopicName,
    operators: Operators<(String, u64)>,
    broker: Broker,
    sums: BTreeMap<TopicPartition, Sums>,
    tally: Tally,
}

impl Fold {
    /// Counts into `tally`; `stage` is the stage's lasting name, `<pipeline>/<stage>`, and `changelog`
    /// the topic in which it keeps what it has counted.
    #[must_use]
    pub fn new(
        stage: &str,
        changelog: TopicName,
        operators: Operators<(String, u64)>,
        broker: Broker,
        tally: Tally,
    ) -> Self {
        Self { stage: stage.to_owned(), changelog, operators, broker, sums: BTreeMap::new(), tally }
    }

    fn not_ours(partition: &TopicPartition) -> StageError {
        StageError::refused(&partition.topic, format!("{partition} is not this stage's"))
    }
}

/// The sums that were committed with the position of `partition`.
fn committed(partition: &TopicPartition, state: &str) -> Result<Counts, StageError> {
    serde_json::from_str(state).map_err(|error| StageError::State {
        partition: partition.clone(),
        reason: error.to_string(),
    })
}

impl Outlet for Fold {
    /// A sum outlasts a power cut, and so must the records that are in it: those that came in the place of
    /// lost ones would be summed beside them, or passed over.
    fn takes_durable_only(&self) -> bool {
        true
    }

    fn begin<'a>(
        &'a mut self,
        partition: &'a TopicPartition,
        Begin { position, state, is_cut }: Begin<'a>,
    ) -> LocalBoxFuture<'a, Result<Offset, StageError>> {
        async move {
            let opened = Changelog::open(&self.broker, &self.stage, &self.changelog, partition);
            let (mut log, kept) = opened.await?;
            let (known, sums, mut changed) = match (kept.next, state) {
                (Some(next), _) => (next, kept.sums, Counts::new()),
                // The group has committed, and nothing is kept: the changelog was deleted.
                (None, Some("")) => {
                    let (stage, changelog) = (&self.stage, &self.changelog);
                    warn!(%stage, %partition, %position, %changelog, "no sums are kept: all is summed anew");
                    (Offset::ZERO, Counts::new(), Counts::new())
                }
                (None, None) => (position, Counts::new(), Counts::new()),
                // Until there were changelogs, sums stood beside the position.
                (None, Some(state)) => {
                    let sums = committed(partition, state)?;
                    (position, sums.clone(), sums)
                }
            };
            let end = asking::end_of(&self.broker, partition).await?;
            let next = known.min(if is_cut { position } else { end });
            if known > next {
                // The topic lost records that are summed: only what was durable is, but a damaged log may
                // be cut. What it gets in their place is new, also for a life that begins when it has got
                // beyond where it was.
                warn!(stage = %self.stage, %partition, summed = %known, end = %next, "records are lost that are summed: what comes in their place is summed too");
                log.append(next, &changed).await?;
                changed.clear();
            }
            let changed_bytes = changed.keys().map(|name| entry_bytes(name)).sum();
            let kept = self.tally.show(partition, sums);
            self.sums.insert(partition.clone(), Sums { log, next, kept, changed, changed_bytes });
            Ok(next)
        }
        .boxed_local()
    }

    fn take(
        &mut self,
        partition: &TopicPartition,
        record: &RecordView<'_>,
    ) -> Result<usize, StageError> {
        let Self { operators, sums, .. } = self;
        let sums = sums.get_mut(partition).ok_or_else(|| Self::not_ours(partition))?;
        if record.offset < sums.next {
            return Err(StageError::Unreadable {
                partition: partition.clone(),
                offset: sums.next,
                reason: format!("offset {} came instead: records were lost", record.offset),
            });
        }
        let taken = operators.run(record, &mut |item| sums.add(item.value.0, item.value.1));
        taken.map(|()| sums.changed_bytes).map_err(|error| StageError::Value {
            partition: partition.clone(),
            offset: record.offset,
            error,
        })
    }

    fn finish<'a>(
        &'a mut self,
        partition: &'a TopicPartition,
        next: Offset,
    ) -> LocalBoxFuture<'a, Result<State, StageError>> {
        async move {
            let sums = self.sums.get_mut(partition).ok_or_else(|| Self::not_ours(partition))?;
            sums.log.append(next, &sums.changed).await?;
            failpoint::pass("fold: sums appended");
            sums.next = next;
            sums.changed_bytes = 0;
            lock(&sums.kept).extend(std::mem::take(&mut sums.changed));
            Ok(State::new())
        }
        .boxed_local()
    }

    fn end(&mut self, partition: &TopicPartition) {
        self.sums.remove(partition);
    }
}

#[cfg(test)]
mod tests;
