//! A commit that was acknowledged is what the next reader begins with, or a later one (GRP-7); and
//! in their log the commits of a partition never go back (CONS-2), since nobody seeks here.

use std::collections::{BTreeMap, BTreeSet};

use flumen_actors::broker::names::TopicPartition;
use flumen_runtime::ids::Offset;

/// How far a group has come in each partition.
#[derive(Default)]
pub(crate) struct Commits {
    acknowledged: BTreeMap<TopicPartition, Offset>,
    logged: BTreeMap<TopicPartition, Offset>,
    /// Partitions that have lost their ends: whoever had read them begins again.
    cut: BTreeSet<TopicPartition>,
}

impl Commits {
    /// A member was told that `offset` is committed.
    pub(crate) fn acknowledged(&mut self, partition: &TopicPartition, offset: Offset) {
        if self.cut.contains(partition) {
            return;
        }
        let so_far = self.acknowledged.entry(partition.clone()).or_default();
        *so_far = offset.max(*so_far);
    }

    /// `partition` has lost records that the group had read: nothing is promised of its commits.
    pub(crate) fn cut(&mut self, partition: &TopicPartition) {
        self.acknowledged.remove(partition);
        self.cut.insert(partition.clone());
    }

    /// A member begins to read at `position`, told so by the coordinator.
    pub(crate) fn check(&self, partition: &TopicPartition, position: Offset) {
        let acknowledged = self.acknowledged.get(partition).copied().unwrap_or_default();
        assert!(
            position >= acknowledged,
            "GRP-7: {partition} was committed up to {acknowledged}, and is read from {position}"
        );
    }

    /// The next commit in the log.
    pub(crate) fn check_logged(&mut self, partition: &TopicPartition, offset: Offset) {
        let before = self.logged.insert(partition.clone(), offset).unwrap_or_default();
        assert!(
            offset >= before || self.cut.contains(partition),
            "CONS-2: a commit of {partition} went back from {before} to {offset}"
        );
    }

    /// The log was read to its end: it has every acknowledged commit, or later ones.
    pub(crate) fn check_all_logged(&self) {
        for (partition, acknowledged) in &self.acknowledged {
            let logged = self.logged.get(partition).copied().unwrap_or_default();
            assert!(
                logged >= *acknowledged,
                "GRP-7: {partition} was committed up to {acknowledged}, the log says {logged}"
            );
        }
    }

    /// The log will be read from its start again.
    pub(crate) fn read_again(&mut self) {
        self.logged.clear();
    }
}
