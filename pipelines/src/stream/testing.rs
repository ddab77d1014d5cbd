//! What the tests of sums and of their changelogs begin with.

use flumen_actors::broker::{
    TopicSpec,
    names::{PartitionId, TopicName, TopicPartition},
};

use super::fold::Counts;
use crate::node::{self, Node, NodeError, NodeOptions};

pub(super) fn partition(topic: &str, number: u32) -> TopicPartition {
    let topic = TopicName::new(topic).unwrap();
    TopicPartition { topic, partition: PartitionId(number) }
}

pub(super) fn counts<const N: usize>(counts: [(&str, u64); N]) -> Counts {
    counts.into_iter().map(|(name, sum)| (name.to_owned(), sum)).collect()
}

/// Runs `test` on a node that has the topic `t` of one partition.
pub(super) fn on_a_node(test: impl AsyncFnOnce(Node)) {
    let dir = tempfile::tempdir().unwrap();
    let ran = node::run(NodeOptions::new(dir.path()), |node| async move {
        node.broker().create_topic(TopicSpec::new("t", 1).unwrap()).await?;
        test(node).await;
        Ok::<_, NodeError>(())
    });
    ran.unwrap();
}
