//! An outlet that folds: small numbers by name, kept with the position.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use flumen_actors::broker::names::TopicPartition;
use flumen_runtime::{batch::RecordView, ids::Offset};
use futures::{FutureExt as _, future, future::LocalBoxFuture};

use super::{
    Operators,
    outlet::{Outlet, StageError, State},
};

/// Sums by name.
pub type Counts = BTreeMap<String, u64>;

/// What all members of a counting stage have committed, by partition. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<TopicPartition, Counts>>>);

impl Tally {
    /// The sum over all partitions.
    #[must_use]
    pub fn total(&self) -> Counts {
        let mut total = Counts::new();
        for counts in self.lock().values() {
            for (name, count) in counts {
                let sum = total.entry(name.clone()).or_default();
                *sum = sum.wrapping_add(*count);
            }
        }
        total
    }

    /// As if one partition had been counted.
    #[cfg(test)]
    pub(crate) fn set_all(&self, counts: Counts) {
        let topic = flumen_actors::broker::names::TopicName::new("t").unwrap();
        let partition = flumen_actors::broker::names::PartitionId(0);
        self.lock().insert(TopicPartition { topic, partition }, counts);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<TopicPartition, Counts>> {
        // Replaced entry by entry: a panic cannot leave it torn.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds up the results of `operators`: amounts by name. Sums wrap around at 2⁶⁴, so that checksums
/// may be summed too.
pub struct Fold {
    operators: Operators<(String, u64)>,
    counts: BTreeMap<TopicPartition, Counts>,
    tally: Tally,
}

impl Fold {
    /// Counts into `tally`.
    #[must_use]
    pub fn new(operators: Operators<(String, u64)>, tally: Tally) -> Self {
        Self { operators, counts: BTreeMap::new(), tally }
    }
}

impl Outlet for Fold {
    fn begin<'a>(
        &'a mut self,
        partition: &'a TopicPartition,
        _: Offset,
        state: Option<&'a str>,
    ) -> LocalBoxFuture<'a, Result<(), StageError>> {
        let counts = match state.filter(|state| !state.is_empty()) {
            None => Ok(Counts::new()),
            Some(state) => serde_json::from_str(state).map_err(|error| StageError::State {
                partition: partition.clone(),
                reason: error.to_string(),
            }),
        };
        let begun = counts.map(|counts: Counts| {
            self.tally.lock().insert(partition.clone(), counts.clone());
            self.counts.insert(partition.clone(), counts);
        });
        future::ready(begun).boxed_local()
    }

    fn take(
        &mut self,
        partition: &TopicPartition,
        record: &RecordView<'_>,
    ) -> Result<(), StageError> {
        let counts = self.counts.entry(partition.clone()).or_default();
        let taken = self.operators.run(record, &mut |item| {
            let (name, amount) = item.value;
            let sum: &mut u64 = counts.entry(name).or_default();
            *sum = sum.wrapping_add(amount);
        });
        taken.map_err(|error| StageError::Value {
            partition: partition.clone(),
            offset: record.offset,
            error,
        })
    }

    fn finish<'a>(
        &'a mut self,
        partition: &'a TopicPartition,
        _: Offset,
    ) -> LocalBoxFuture<'a, Result<State, StageError>> {
        let counts = self.counts.get(partition).cloned().unwrap_or_default();
        let state = serde_json::to_string(&counts).expect("names and numbers are JSON");
        future::ready(Ok(state)).boxed_local()
    }

    fn committed(&mut self, partition: &TopicPartition) {
        if let Some(counts) = self.counts.get(partition) {
            self.tally.lock().insert(partition.clone(), counts.clone());
        }
    }

    fn end(&mut self, partition: &TopicPartition) {
        self.counts.remove(partition);
    }
}
