//! A large log.

use std::{collections::VecDeque, fs, path::Path};

use bytes::BytesMut;
use flumen::node::{self, NodeError, NodeOptions};
use flumen_actors::broker::{
    TopicSpec,
    names::{PartitionId, TopicName, TopicPartition},
    partition::messages::Append,
};
use flumen_runtime::{
    batch::{BatchBuilder, RecordRef},
    clock::{Clock as _, SystemClock},
};
use rustix::fs::{Advice, fadvise};
use tokio::time::Instant;

const TOPIC: &str = "large";
const VALUE_BYTES: usize = 1 << 10;
const IN_FLIGHT: usize = 16;

/// Its only partition.
pub(crate) fn partition() -> TopicPartition {
    let topic = TopicName::new(TOPIC).expect("it is a name");
    TopicPartition { topic, partition: PartitionId(0) }
}

/// A batch of some `bytes` bytes.
pub(crate) fn batch(bytes: usize) -> BytesMut {
    let timestamp = SystemClock.now_ms();
    let mut batch = BatchBuilder::with_capacity(timestamp, bytes);
    let value = Some(&[0x61; VALUE_BYTES][..]);
    while batch.bytes() + VALUE_BYTES + 32 <= bytes {
        batch.push(RecordRef { timestamp, value, ..RecordRef::default() });
    }
    batch.build()
}

/// Writes a log of `bytes` bytes below `data` and closes it in order; how many records it has.
pub(crate) fn fill(data: &Path, bytes: u64) -> u64 {
    let filled = node::run(NodeOptions::new(data), |node| async move {
        let spec = TopicSpec::new(TOPIC, 1).expect("it is a name");
        node.broker().create_topic(spec).await.map_err(NodeError::from)?;
        let writer = node.broker().partition(&partition()).expect("it was made");
        let batch = batch(512 << 10);
        let (mut in_flight, mut records) = (VecDeque::new(), 0);
        for _ in 0..bytes / batch.len() as u64 {
            if in_flight.len() == IN_FLIGHT
                && let Some(oldest) = in_flight.pop_front()
            {
                records = appended(oldest).await;
            }
            in_flight.push_back(writer.send(Append::new(batch.clone())));
        }
        for left in in_flight {
            records = appended(left).await;
        }
        Ok::<_, NodeError>(records)
    });
    filled.expect("a node starts in a directory of its own")
}

/// How many records the log has after an append.
async fn appended(
    ack: actix::dev::Request<flumen_actors::broker::partition::Partition, Append>,
) -> u64 {
    let appended = ack.await.expect("the partition lives").expect("the disk takes it");
    appended.last_offset.0 + 1
}

/// Starts a node on `data`: milliseconds until the log serves, and how many records it has.
pub(crate) fn open(data: &Path) -> (f64, u64) {
    let began = Instant::now();
    let opened = node::run(NodeOptions::new(data), |node| async move {
        let status = node.status(&partition()).await.ok_or(NodeError::NoData)?;
        let milliseconds = began.elapsed().as_secs_f64() * 1e3;
        Ok::<_, NodeError>((milliseconds, status.marks.high_watermark.0))
    });
    opened.expect("what was closed in order opens")
}

/// Has the kernel let go of what it holds of the log in memory.
pub(crate) fn forget_cached(data: &Path) {
    let folder = data.join(partition().to_string());
    for entry in fs::read_dir(folder).expect("it was made") {
        let path = entry.expect("it is there").path();
        let file = fs::File::open(path).expect("nobody removes it");
        fadvise(&file, 0, None, Advice::DontNeed).expect("it is a plain file");
    }
}
