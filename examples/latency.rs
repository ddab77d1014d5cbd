//! Publishes at a steady rate and shows how long records take to a waiting reader, as percentiles.

use std::time::Duration;

use flumen::node::{self, NodeError, NodeOptions};
use flumen_actors::broker::{
    TopicSpec,
    names::{PartitionId, TopicPartition},
    partition::messages::{Append, Fetch},
};
use flumen_runtime::{
    batch::{BatchBuilder, RecordRef},
    ids::Offset,
    latency::Latency,
};
use tokio::time::Instant;

const RECORDS: u32 = 2_000;
const EVERY: Duration = Duration::from_millis(1);

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let latency = node::run(NodeOptions::new(dir.path()), |node| async move {
        let topic = TopicSpec::new("pings", 1).expect("a name");
        let topic = node.broker().ensure_topic(topic).await.map_err(NodeError::from)?;
        let partition = TopicPartition { topic: topic.name, partition: PartitionId(0) };
        let address = node.broker().partition(&partition).expect("it runs");
        let (epoch, writer) = (Instant::now(), address.clone());
        actix_rt::spawn(async move {
            for number in 0..RECORDS {
                let mut batch = BatchBuilder::new(0);
                batch.push(RecordRef { value: Some(b"ping"), ..RecordRef::default() });
                tokio::time::sleep_until(epoch + EVERY * number).await;
                drop(actix_rt::spawn(writer.send(Append::new(batch.build()))));
            }
        });
        // Latency counts from the moment a record was due, not from when it was sent.
        let mut latency = Latency::new();
        let mut next = Offset(0);
        while next.0 < RECORDS.into() {
            let fetch = Fetch::from(next).wait(Duration::from_secs(1));
            let Ok(Ok(fetched)) = address.send(fetch).await else { continue };
            let seen = fetched.marks.high_watermark;
            for offset in next.0..seen.0 {
                latency.record(epoch.elapsed().saturating_sub(EVERY * offset as u32));
            }
            next = seen;
        }
        Ok::<_, NodeError>(latency)
    })?;
    println!("synced before the ack, from due to read:\n{}", latency.table());
    Ok(())
}
