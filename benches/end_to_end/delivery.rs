//! One record after the other, at a steady rate.

use bytes::Bytes;
use flumen_actors::broker::{
    Broker,
    consumer::{ConsumerOptions, Delivery},
    names::TopicPartition,
    partition::messages::Append,
};
use flumen_runtime::{
    batch::{self, BatchBuilder, BatchHeader, RecordRef},
    clock::{Clock as _, SystemClock},
    latency::Latency,
};
use futures::{StreamExt as _, future};

use crate::{bench::Pace, consume};

const PER_SECOND: u32 = 10_000;
const VALUE_BYTES: usize = 100;

/// What the run came to.
pub(crate) struct Ran {
    pub(crate) latency: Latency,
    /// Records, and the sum of their numbers.
    pub(crate) published: (u64, u64),
    pub(crate) delivered: (u64, u64),
}

/// Publishes `records` records and waits for all of them.
pub(crate) async fn run(broker: Broker, partition: TopicPartition, records: u32) -> Ran {
    let (_consumer, mut deliveries) = consume(&broker, &partition, ConsumerOptions::default());
    let writer = broker.partition(&partition).expect("it was made");
    // Nothing is timed before the consumer waits at the end of the log.
    while !matches!(deliveries.next().await, Some(Delivery::Assigned(_))) {}
    let pace = Pace::per_second(PER_SECOND);
    let publish = async {
        let mut sum = 0;
        for number in 0..records {
            pace.wait(number).await;
            let mut value = [0x61; VALUE_BYTES];
            value[..4].copy_from_slice(&number.to_le_bytes());
            let (timestamp, value) = (SystemClock.now_ms(), Some(&value[..]));
            let mut batch = BatchBuilder::with_capacity(timestamp, 2 * VALUE_BYTES);
            batch.push(RecordRef { timestamp, value, ..RecordRef::default() });
            let appended = writer.send(Append::new(batch.build())).await;
            appended.expect("the partition lives").expect("the disk takes it");
            sum += u64::from(number);
        }
        (u64::from(records), sum)
    };
    let deliver = async {
        let (mut latency, mut delivered) = (Latency::new(), (0, 0));
        while delivered.0 < u64::from(records) {
            let Some(Delivery::Records(records)) = deliveries.next().await else { break };
            for number in records.batches.iter().flat_map(numbers) {
                latency.record(pace.due(number).elapsed());
                delivered.0 += 1;
                delivered.1 += u64::from(number);
            }
        }
        (latency, delivered)
    };
    let (published, (latency, delivered)) = future::join(publish, deliver).await;
    Ran { latency, published, delivered }
}

/// The numbers of the records in `bytes`.
fn numbers(bytes: &Bytes) -> Vec<u32> {
    let mut numbers = Vec::new();
    for split in batch::split(bytes) {
        let (header, whole): (BatchHeader, _) = split.expect("what was appended is whole");
        let records = batch::records(&bytes.slice_ref(whole), &header).expect("not compressed");
        for record in records {
            let value = record.expect("it was encoded here").value.unwrap_or_default();
            numbers.push(u32::from_le_bytes(*value.first_chunk().expect("100 bytes")));
        }
    }
    numbers
}
