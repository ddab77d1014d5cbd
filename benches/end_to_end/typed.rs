//! Events of a Rust type: encoded, appended, synced, delivered, decoded.

use std::collections::VecDeque;

use bytes::Bytes;
use flumen::{
    node::Node,
    typed::{Bincode, Format as _, Record, TYPE_HEADER, decode},
};
use flumen_actors::broker::{
    Broker,
    consumer::{ConsumerOptions, Delivery},
    names::TopicPartition,
    partition::messages::Append,
};
use flumen_runtime::{
    batch::{self, BatchBuilder, RecordRef},
    clock::{Clock as _, SystemClock},
    ids::ArbiterId,
    placement::Place,
};
use futures::{StreamExt as _, future};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{bench::run_at, consume};

const BATCH_BYTES: usize = 64 << 10;
/// As many as a consumer at the end finds in memory.
const IN_FLIGHT: usize = 48;

/// An access to a web server.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Access {
    number: u64,
    host: String,
    method: String,
    path: String,
    status: u16,
    bytes: u64,
    agent: String,
}

impl Record for Access {
    const TYPE: &'static str = "access";
    const VERSION: u16 = 1;
}

impl Access {
    fn example() -> Self {
        Self {
            number: 0,
            host: "203.0.113.195".into(),
            method: "GET".into(),
            path: "/articles/2026/11/how-rivers-carry".into(),
            status: 200,
            bytes: 5_120,
            agent: "Mozilla/5.0 (X11; Linux x86_64)".into(),
        }
    }

    /// Something of each field.
    fn sum(&self) -> u64 {
        let texts = [&self.host, &self.method, &self.path, &self.agent];
        let lengths: usize = texts.map(String::len).iter().sum();
        self.number + u64::from(self.status) + self.bytes + lengths as u64
    }
}

/// What a round came to.
pub(crate) struct Ran {
    /// Events a second.
    pub(crate) rate: f64,
    /// Events, and a sum over their fields.
    pub(crate) published: (u64, u64),
    pub(crate) decoded: (u64, u64),
}

/// Where the consumer stands. The publisher stands on the arbiter of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consumer {
    Beside,
    OnTheNext,
}

/// Sends `events` events through the partition.
pub(crate) async fn run(
    node: Node,
    partition: TopicPartition,
    events: u64,
    consumer: Consumer,
) -> Ran {
    let place = node.services().places.get(&*format!("partition/{partition}"));
    let beside = place.expect("the partition was opened");
    let consumers = match consumer {
        Consumer::Beside => beside,
        Consumer::OnTheNext => ArbiterId(1 - beside.0),
    };
    let began = Instant::now();
    let (broker, name) = (node.broker().clone(), partition.clone());
    let publish = move || async move { publish(&broker, &name, events).await };
    let publish = run_at(node.root(), Place::On(beside), publish);
    let broker = node.broker().clone();
    let decode = move || async move { decode_all(&broker, &partition, events).await };
    let decode = run_at(node.pipelines(), Place::On(consumers), decode);
    let (published, decoded) = future::join(publish, decode).await;
    Ran { rate: events as f64 / began.elapsed().as_secs_f64(), published, decoded }
}

/// What a processor core does with nothing in between; events a second.
pub(crate) fn bare(events: u64) -> f64 {
    let format = Bincode::<Access>::default();
    let (mut event, mut bytes, mut sum) = (Access::example(), Vec::new(), 0_u64);
    let began = Instant::now();
    for number in 0..events {
        event.number = number;
        bytes.clear();
        format.write(&event, &mut bytes).expect("it can be encoded");
        let read = decode::<Access>(&bytes).expect("it was encoded");
        sum = sum.wrapping_add(read.sum());
    }
    std::hint::black_box(sum);
    events as f64 / began.elapsed().as_secs_f64()
}

async fn publish(broker: &Broker, partition: &TopicPartition, events: u64) -> (u64, u64) {
    let writer = broker.partition(partition).expect("it was made");
    let format = Bincode::<Access>::default();
    let name = format.type_header().expect("a type has a name");
    let headers = [(TYPE_HEADER, Some(name.as_bytes()))];
    let (mut event, mut value, mut sum) = (Access::example(), Vec::new(), 0);
    let mut in_flight = VecDeque::new();
    let mut number = 0;
    while number < events {
        let timestamp = SystemClock.now_ms();
        let mut batch = BatchBuilder::with_capacity(timestamp, BATCH_BYTES);
        while number < events && batch.bytes() + 256 <= BATCH_BYTES {
            event.number = number;
            value.clear();
            format.write(&event, &mut value).expect("it can be encoded");
            batch.push(RecordRef { timestamp, key: None, value: Some(&value), headers: &headers });
            sum += event.sum();
            number += 1;
        }
        if in_flight.len() == IN_FLIGHT
            && let Some(oldest) = in_flight.pop_front()
        {
            synced(oldest).await;
        }
        in_flight.push_back(writer.send(Append::new(batch.build())));
    }
    for left in in_flight {
        synced(left).await;
    }
    (events, sum)
}

async fn decode_all(broker: &Broker, partition: &TopicPartition, events: u64) -> (u64, u64) {
    let (_consumer, mut deliveries) = consume(broker, partition, ConsumerOptions::default());
    let format = Bincode::<Access>::default();
    let mut decoded = (0, 0);
    while decoded.0 < events {
        match deliveries.next().await {
            Some(Delivery::Records(records)) => {
                records.batches.iter().for_each(|bytes| take(bytes, &format, &mut decoded));
            }
            Some(_) => {}
            None => break,
        }
    }
    decoded
}

async fn synced(ack: actix::dev::Request<flumen_actors::broker::partition::Partition, Append>) {
    ack.await.expect("the partition lives").expect("the disk takes it");
}

/// Decodes the events in `bytes`.
fn take(bytes: &Bytes, format: &Bincode<Access>, decoded: &mut (u64, u64)) {
    for split in batch::split(bytes) {
        let (header, whole) = split.expect("what was appended is whole");
        let mut records = batch::records(&bytes.slice_ref(whole), &header).expect("not compressed");
        while let Some(record) = records.lend() {
            let record = record.expect("it was encoded here");
            let value = record.value.expect("every event has a value");
            let event = format.read(value, record.header(TYPE_HEADER)).expect("it is an access");
            decoded.0 += 1;
            decoded.1 += event.sum();
        }
    }
}
