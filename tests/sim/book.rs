//! What the world outside of the node knows: what producers were told, what readers have seen, and
//! what the probes have watched. It survives every crash of the node.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flumen_actors::broker::{
    names::{TopicName, TopicPartition},
    partition::probe::{Probe, Snapshot},
};
use flumen_runtime::{disk::sim::SimDisks, ids::Offset, sim::End};

use crate::{
    coverage::Coverage,
    damage::Flip,
    invariants::{
        coord_1::Changes, era_1, grp_7::Commits, log_2::DurableEnds, part_1,
        part_2::HighWatermarks, tsk_2,
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
    /// Topics whose acknowledgement does not wait for the disk.
    pub(crate) lazy: BTreeSet<TopicName>,
    /// The lowest end that each partition came back with after a loss that it may suffer.
    cut_to: BTreeMap<TopicPartition, Offset>,
    /// Partitions that may have lost their end since they were seen last.
    may_have_lost: BTreeSet<TopicPartition>,
    /// The partition of which a bit was turned.
    flip: Option<(TopicPartition, Flip)>,
    /// What the node's disks are.
    disks: Option<SimDisks>,
    /// The head file of the channel, and the topic that its events go to.
    pub(crate) heads: Option<(PathBuf, TopicName)>,
    /// The newest life of each partition's actor in this life of the process.
    lives: BTreeMap<TopicPartition, u64>,
}

impl Known {
    /// A new life of the process begins, on `disks`.
    pub(crate) fn process_begins(&mut self, disks: &SimDisks) {
        self.lives.clear();
        self.disks = Some(disks.clone());
    }

    /// What can be seen from outside at any moment.
    pub(crate) fn look(&self) {
        let Some(disks) = &self.disks else { return };
        era_1::check(&disks.seen());
        if let Some((file, topic)) = &self.heads
            && let Some(head) = disks.content(file)
        {
            tsk_2::check(&head, self.durable_ends.records_of(topic));
        }
    }

    /// A life of the process has ended so. A power cut takes what a lazy topic had not synced; a kill
    /// takes nothing, for the page cache stays.
    pub(crate) fn process_ends(&mut self, how: End) {
        if how == End::PowerCut {
            let lazy = |partition: &&TopicPartition| self.lazy.contains(&partition.topic);
            let those = self.high_watermarks.partitions().filter(lazy).cloned();
            self.may_have_lost.extend(those);
        }
    }

    /// A bit of `partition` was turned. What was not known to be durable may be gone for it.
    pub(crate) fn turned(&mut self, partition: &TopicPartition, flip: Flip) {
        if !flip.is_durable {
            self.may_have_lost.insert(partition.clone());
        }
        self.flip = Some((partition.clone(), flip));
    }

    /// The turned bit of `partition`, if there is one.
    pub(crate) fn flip_of(&self, partition: &TopicPartition) -> Option<Flip> {
        let flip = self.flip.as_ref().filter(|(of, _)| of == partition);
        flip.map(|(_, flip)| flip.clone())
    }

    /// Where `partition` ended after the worst of its losses; none where it lost nothing.
    pub(crate) fn cut_to(&self, partition: &TopicPartition) -> Option<Offset> {
        self.cut_to.get(partition).copied()
    }

    /// `partition` comes back and ends at `end`: what was told of it beyond that is void.
    fn comes_back(&mut self, partition: &TopicPartition, end: Offset) {
        let before = self.high_watermarks.of(partition);
        if end >= before {
            return;
        }
        let lowest = self.cut_to.entry(partition.clone()).or_insert(end);
        *lowest = end.min(*lowest);
        self.high_watermarks.cut(partition, end);
        self.commits.cut(partition);
        if let Some(read) = self.read.get_mut(partition) {
            read.split_off(&end.0);
        }
        if let Some(ledger) = self.ledgers.get_mut(partition) {
            ledger.cut(end.0);
        }
        let what = match self.flip_of(partition) {
            Some(flip) if !flip.is_durable => {
                self.durable_ends.cut(partition, end);
                "bit flip cut"
            }
            _ => "lazy loss",
        };
        self.coverage.met(what, 1);
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
        part_1::check(&snapshot.marks, known.lazy.contains(&partition.topic));
        let before = known.lives.insert(partition.clone(), snapshot.life).unwrap_or(1);
        if snapshot.life < before {
            // A superseded life that comes back late: it may believe what it likes, and tell nobody.
            known.lives.insert(partition.clone(), before);
            known.coverage.met("late life", 1);
            return;
        }
        known.coverage.met("take-over", u64::from(snapshot.life > before));
        if known.may_have_lost.remove(partition) {
            // What it recovered is durable; what it took in since is not, in its first step.
            known.comes_back(partition, snapshot.marks.durable_end);
        }
        let is_ahead = snapshot.marks.high_watermark > snapshot.marks.durable_end;
        known.coverage.met("ahead of the disk", is_ahead.into());
        known.high_watermarks.check(partition, &snapshot.marks);
        known.durable_ends.check(partition, &snapshot.marks);
        known.look();
    }
}
