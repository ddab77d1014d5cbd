//! What was durable once is there ever after, whatever happened in between.

use std::collections::BTreeMap;

use flumen_actors::broker::{
    names::{TopicName, TopicPartition},
    partition::marks::Marks,
};
use flumen_runtime::ids::Offset;

/// The furthest durable end that was seen of each partition.
#[derive(Default)]
pub(crate) struct DurableEnds(BTreeMap<TopicPartition, Offset>);

impl DurableEnds {
    /// Records of `topic` that were seen to be durable.
    pub(crate) fn records_of(&self, topic: &TopicName) -> u64 {
        let ends = self.0.iter().filter(|(partition, _)| partition.topic == *topic);
        ends.map(|(_, end)| end.0).sum()
    }

    /// A bit of `partition` has turned above the mark below which the log would refuse it.
    pub(crate) fn cut(&mut self, partition: &TopicPartition, end: Offset) {
        self.0.insert(partition.clone(), end);
    }

    /// Looks at the marks of a partition that is open.
    pub(crate) fn check(&mut self, partition: &TopicPartition, marks: &Marks) {
        let durable = self.0.entry(partition.clone()).or_default();
        assert!(
            marks.log_end >= *durable,
            "LOG-2: {partition} was durable up to {durable} and now ends at {}",
            marks.log_end
        );
        *durable = marks.durable_end.max(*durable);
    }
}
