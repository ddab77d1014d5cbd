//! A node with many partitions that hold little and do nothing.

use std::path::Path;

use flumen::node::{self, Node, NodeError, NodeOptions};
use flumen_actors::broker::{
    TopicSpec,
    names::{PartitionId, TopicName, TopicPartition},
    partition::messages::Append,
};
use flumen_runtime::{
    batch::{BatchBuilder, RecordRef},
    clock::{Clock as _, SystemClock},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rustix::process::{Resource, getrlimit, setrlimit};

const TOPIC: &str = "many";

/// Makes a topic of `partitions` partitions in `data`, with a record in each, and stops in order.
pub(crate) fn make_partitions(data: &Path, partitions: u32) {
    lift_limits();
    let made = node::run(NodeOptions::new(data), |node| async move {
        if partitions == 0 {
            return Ok(());
        }
        let spec = TopicSpec::new(TOPIC, partitions).expect("it is a name");
        node.broker().create_topic(spec).await.map_err(NodeError::from)?;
        stream::iter(0..partitions)
            .map(|partition| write_one(&node, partition))
            .buffer_unordered(256)
            .collect::<()>()
            .await;
        Ok::<_, NodeError>(())
    });
    made.expect("a node starts in a directory of its own");
}

async fn write_one(node: &Node, partition: u32) {
    let address = node.broker().partition(&name(partition)).expect("it was made");
    let timestamp = SystemClock.now_ms();
    let mut batch = BatchBuilder::new(timestamp);
    let value = Some(&b"something"[..]);
    batch.push(RecordRef { timestamp, value, ..RecordRef::default() });
    let appended = address.send(Append::new(batch.build())).await;
    appended.expect("the partition lives").expect("the disk takes it");
}

/// Resolves when all partitions of the topic are open; how many records they hold.
pub(crate) async fn opened(node: &Node) -> Result<u64, NodeError> {
    let topic = TopicName::new(TOPIC).expect("it is a name");
    let partitions = node.broker().topics().get(&topic).map_or(0, |topic| topic.partitions.len());
    stream::iter(0..partitions as u32)
        .map(|partition| async move {
            let status = node.status(&name(partition)).await.ok_or(NodeError::NoData)?;
            Ok(status.marks.high_watermark.0)
        })
        .buffer_unordered(partitions.max(1))
        .try_fold(0, |sum, records| async move { Ok(sum + records) })
        .await
}

fn name(partition: u32) -> TopicPartition {
    let topic = TopicName::new(TOPIC).expect("it is a name");
    TopicPartition { topic, partition: PartitionId(partition) }
}

/// As many open files as the system lets this process have.
pub(crate) fn lift_limits() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    // Where it may not be, the node says so as soon as it needs more.
    let _ = setrlimit(Resource::Nofile, files);
}
