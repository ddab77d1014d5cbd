//! The high watermark of a partition never goes back, also over a restart.

use std::collections::BTreeMap;

use flumen_actors::broker::{
    names::{TopicName, TopicPartition},
    partition::marks::Marks,
};
use flumen_runtime::ids::Offset;

/// The furthest high watermark that was seen of each partition.
#[derive(Default)]
pub(crate) struct HighWatermarks(BTreeMap<TopicPartition, Offset>);

impl HighWatermarks {
    /// Those of the partitions of `topic`.
    pub(crate) fn of_topic(&self, topic: &TopicName) -> Vec<(TopicPartition, Offset)> {
        let those = self.0.iter().filter(|(partition, _)| partition.topic == *topic);
        those.map(|(partition, end)| (partition.clone(), *end)).collect()
    }

    /// All that were seen.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.0.keys()
    }

    /// `partition` has lost what it may lose, and ends at `end`.
    pub(crate) fn cut(&mut self, partition: &TopicPartition, end: Offset) {
        self.0.insert(partition.clone(), end);
    }

    /// The furthest of `partition`.
    pub(crate) fn of(&self, partition: &TopicPartition) -> Offset {
        self.0.get(partition).copied().unwrap_or_default()
    }

    /// Looks at the marks of a partition that is open.
    pub(crate) fn check(&mut self, partition: &TopicPartition, marks: &Marks) {
        let seen = self.0.entry(partition.clone()).or_default();
        assert!(
            marks.high_watermark >= *seen,
            "PART-2: the high watermark of {partition} went back from {seen} to {}",
            marks.high_watermark
        );
        *seen = marks.high_watermark;
    }
}
