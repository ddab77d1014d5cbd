//! What the world outside of the node knows: what producers were told, what readers have seen, and
//! what the probes have watched. It survives every crash of the node.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flumen_actors::broker::{
    names::TopicPartition,
    partition::probe::{Probe, Snapshot},
};

use crate::{
    coverage::Coverage,
    invariants::{
        coord_1::Changes, grp_7::Commits, log_2::DurableEnds, part_1, part_2::HighWatermarks,
    },
    oracle::{Ledger, Value},
};

#[derive(Default)]
pub(crate) struct Known {
    /// What the producers were told, by partition.
    pub(crate) ledgers: BTreeMap<TopicPartition, Ledger>,
    /// What readers have seen at each offset.
    pub(crate) read: BTreeMap<TopicPartition, BTreeMap<u64, Value>>,
    /// What the group's members were told.
    pub(crate) commits: Commits,
    /// What the administrator was told.
    pub(crate) changes: Changes,
    /// What the run has met.
    pub(crate) coverage: Coverage,
    pub(crate) high_watermarks: HighWatermarks,
    pub(crate) durable_ends: DurableEnds,
    /// The newest life of each partition's actor in this life of the process.
    lives: BTreeMap<TopicPartition, u64>,
}

impl Known {
    /// A new life of the process begins.
    pub(crate) fn process_begins(&mut self) {
        self.lives.clear();
    }

    /// A reader sees `value` at `offset`: what it sees there never changes.
    pub(crate) fn reads(&mut self, partition: &TopicPartition, offset: u64, value: Value) {
        let read = self.read.entry(partition.clone()).or_default();
        if let Some(before) = read.insert(offset, value) {
            assert_eq!(before, value, "LOG-2: {partition} gave another value at {offset} before");
        }
    }

    /// The final judgement of one partition: `found` is all that it holds, from `start` on.
    pub(crate) fn judge(&mut self, partition: &TopicPartition, start: u64, found: &[(u64, Value)]) {
        for (offset, value) in found {
            self.reads(partition, *offset, *value);
        }
        let end = start + found.len() as u64;
        if let Some((last, _)) = self.read.get(partition).and_then(BTreeMap::last_key_value) {
            assert!(*last < end, "LOG-2: {partition} gave offset {last}, and now ends at {end}");
        }
        if let Some(ledger) = self.ledgers.get(partition) {
            ledger.judge(start, found);
            self.coverage.met("acknowledged record", ledger.acknowledged() as u64);
        }
    }
}

/// What is known. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Book(Arc<Mutex<Known>>);

impl Book {
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        // After a failed assertion the run is over, and only its coverage is looked at.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Probe for Book {
    fn partition(&self, partition: &TopicPartition, snapshot: &Snapshot) {
        let mut known = self.known();
        part_1::check(&snapshot.marks);
        let before = known.lives.insert(partition.clone(), snapshot.life).unwrap_or(1);
        if snapshot.life < before {
            // A superseded life that comes back late: it may believe what it likes, and tell nobody.
            known.lives.insert(partition.clone(), before);
            known.coverage.met("late life", 1);
            return;
        }
        known.coverage.met("take-over", u64::from(snapshot.life > before));
        known.high_watermarks.check(partition, &snapshot.marks);
        known.durable_ends.check(partition, &snapshot.marks);
    }
}
