//! One partition, given as much as it takes.

use std::{
    collections::VecDeque,
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use actix::{Addr, dev::Request};
use bytes::{Bytes, BytesMut};
use flumen_actors::broker::{
    names::TopicPartition,
    partition::{
        Partition,
        messages::Append,
        probe::{Probe, Snapshot},
    },
};
use flumen_runtime::{
    batch::{self, BatchBuilder, BatchHeader, RecordRef},
    clock::{Clock as _, SystemClock},
    latency::Latency,
    log::LogConfig,
};
use tokio::time::Instant;

use crate::bench::{Lone, read_all};

const BATCH_BYTES: usize = 64 << 10;
/// Batches whose acks are waited for: 2 MiB.
const IN_FLIGHT: usize = 32;
const VALUE_BYTES: usize = 100;

/// What is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Copies of one batch.
    Encoded,
    /// Distinct records, put into batches in the run.
    Records,
}

/// What one round came to.
pub(crate) struct Round {
    pub(crate) per_second: f64,
    /// Bytes of the median sync.
    pub(crate) sync_bytes: u64,
    pub(crate) latency: Latency,
    /// Batches, and the sum of their records' numbers.
    pub(crate) appended: (u64, u64),
    pub(crate) read: (u64, u64),
}

/// Sees how many records each sync covers.
#[derive(Default)]
struct Syncs {
    durable_end: AtomicU64,
    records: Mutex<Vec<u64>>,
}

impl Probe for Syncs {
    fn partition(&self, _: &TopicPartition, snapshot: &Snapshot) {
        let end = snapshot.marks.durable_end.0;
        let before = self.durable_end.swap(end, Ordering::Relaxed);
        if end > before {
            self.records.lock().unwrap_or_else(PoisonError::into_inner).push(end - before);
        }
    }
}

impl Syncs {
    fn median(&self) -> u64 {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.sort_unstable();
        records[records.len() / 2]
    }
}

/// Appends `bytes` bytes to a new partition in `dir`, and reads them back.
pub(crate) fn run(dir: &Path, load: Load, bytes: u64) -> Round {
    fs::create_dir_all(dir).expect("the build's directory can be written");
    let syncs = Arc::new(Syncs::default());
    actix_rt::System::new().block_on(async {
        // As the raw loop's file: all of the segment has been written before, with zeros.
        let segment_bytes = bytes + (64 << 20);
        let log =
            LogConfig { segment_bytes, zero_fill_bytes: segment_bytes, ..LogConfig::default() };
        let lone = Lone::start(dir, log, syncs.clone()).await;
        let batches = bytes / BATCH_BYTES as u64;
        let mut round = lone.run(move |partition| append(partition, load, batches)).await;
        round.sync_bytes = syncs.median() * BATCH_BYTES as u64 / round.sync_bytes;
        lone.stop().await;
        round
    })
}

/// The round, with the records of a batch in place of the bytes of a sync.
async fn append(partition: Addr<Partition>, load: Load, batches: u64) -> Round {
    let mut source = Source::new(load);
    let mut in_flight: VecDeque<(Instant, Request<Partition, Append>)> = VecDeque::new();
    let (mut latency, mut sum, mut bytes) = (Latency::new(), 0_u64, 0_u64);
    let began = Instant::now();
    for _ in 0..batches {
        if in_flight.len() == IN_FLIGHT
            && let Some(oldest) = in_flight.pop_front()
        {
            answered(oldest, &mut latency).await;
        }
        let batch = source.next(&mut sum);
        bytes += batch.len() as u64;
        in_flight.push_back((Instant::now(), partition.send(Append::new(batch))));
    }
    for left in in_flight {
        answered(left, &mut latency).await;
    }
    let per_second = bytes as f64 / began.elapsed().as_secs_f64();
    let mut read = (0, 0_u64);
    read_all(&partition, |header, batch| {
        read.0 += 1;
        read.1 = read.1.wrapping_add(source.sum_of(header, &batch));
    })
    .await;
    let sync_bytes = source.records_in_batch;
    Round { per_second, sync_bytes, latency, appended: (batches, sum), read }
}

async fn answered((sent, ack): (Instant, Request<Partition, Append>), latency: &mut Latency) {
    ack.await.expect("the partition lives").expect("the disk takes it");
    latency.record(sent.elapsed());
}

/// Makes batches.
struct Source {
    load: Load,
    template: Bytes,
    records_in_batch: u64,
    number: u64,
    value: [u8; VALUE_BYTES],
}

impl Source {
    fn new(load: Load) -> Self {
        let (template, value) = (Bytes::new(), [0x61; VALUE_BYTES]);
        let mut source = Self { load, template, records_in_batch: 0, number: 0, value };
        source.template = source.encode(&mut 0).freeze();
        let header = BatchHeader::parse(&source.template).expect("it was just built");
        source.records_in_batch = header.record_count.into();
        source.number = 0;
        source
    }

    fn next(&mut self, sum: &mut u64) -> BytesMut {
        match self.load {
            Load::Records => self.encode(sum),
            Load::Encoded => {
                *sum = sum.wrapping_add(self.sum_of_template());
                BytesMut::from(&self.template[..])
            }
        }
    }

    fn encode(&mut self, sum: &mut u64) -> BytesMut {
        let timestamp = SystemClock.now_ms();
        let mut builder = BatchBuilder::with_capacity(timestamp, BATCH_BYTES);
        while builder.bytes() + VALUE_BYTES + 16 <= BATCH_BYTES {
            self.value[..8].copy_from_slice(&self.number.to_le_bytes());
            let value = Some(&self.value[..]);
            builder.push(RecordRef { timestamp, value, ..RecordRef::default() });
            *sum = sum.wrapping_add(self.number);
            self.number += 1;
        }
        builder.build()
    }

    /// Of equal batches it is enough to know that each is that one, which its checksum says.
    fn sum_of_template(&self) -> u64 {
        BatchHeader::parse(&self.template).map_or(0, |header| header.crc.into())
    }

    fn sum_of(&self, header: &BatchHeader, batch: &Bytes) -> u64 {
        if self.load == Load::Encoded {
            return header.crc.into();
        }
        let records = batch::records(batch, header).expect("it is not compressed");
        records.fold(0, |sum: u64, record| {
            let value = record.expect("it was encoded in this run").value.unwrap_or_default();
            sum.wrapping_add(u64::from_le_bytes(*value.first_chunk().expect("100 bytes")))
        })
    }
}
