//! Peaks are shaved and valleys filled (削峰填谷): what comes in bursts is read at a steady rate, and
//! what the reader has not come to waits on the disk.

use std::{cell::Cell, fs, time::Duration};

use flumen_actors::broker::{
    Broker,
    consumer::{ConsumerOptions, Delivery},
    names::TopicPartition,
    partition::messages::Append,
};
use flumen_runtime::{
    batch::{self, BatchBuilder, RecordRef},
    clock::{Clock as _, SystemClock},
};
use futures::{StreamExt as _, future};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    bench::{Line, chart_svg},
    consume,
};

const VALUE_BYTES: usize = 1_000;
const RECORDS_IN_BATCH: u64 = 50;
/// Batches a second in a burst.
const BATCHES: u64 = 1_000;
/// One second of so many is a burst.
const PERIOD: u64 = 3;
/// What the reader takes: a little more than comes on average.
const READ_PER_SECOND: f64 = 20_000.0;
const SAMPLE: Duration = Duration::from_millis(50);
const MIB: f64 = 1_048_576.0;

/// What the run came to; all sizes in MiB.
pub(crate) struct Ran {
    /// Records, and the sum of their numbers.
    pub(crate) published: (u64, u64),
    pub(crate) read: (u64, u64),
    pub(crate) backlog_max: f64,
    /// Resident memory, at most, beyond what it was at the start.
    pub(crate) memory_growth: f64,
    pub(crate) svg: String,
}

/// Records, the sum of their numbers, and their bytes.
#[derive(Clone, Copy, Default)]
struct Count {
    records: u64,
    sum: u64,
    bytes: u64,
}

struct Sample {
    seconds: f64,
    published: f64,
    read: f64,
    memory: f64,
}

/// Publishes in bursts for `seconds` seconds, and reads until all is read.
pub(crate) async fn run(broker: Broker, partition: TopicPartition, seconds: u64) -> Ran {
    let (published, read) = (Cell::new(Count::default()), Cell::new(Count::default()));
    let records = seconds.div_ceil(PERIOD) * BATCHES * RECORDS_IN_BATCH;
    let writing = publish(&broker, &partition, seconds, &published);
    let reading = read_steadily(&broker, &partition, records, &read);
    let is_through = || read.get().records == records;
    let sampling = sample(&published, &read, is_through);
    let (samples, (), ()) = future::join3(sampling, writing, reading).await;
    let most = |value: fn(&Sample) -> f64| samples.iter().map(value).fold(0.0, f64::max);
    let (published, read) = (published.get(), read.get());
    Ran {
        published: (published.records, published.sum),
        read: (read.records, read.sum),
        backlog_max: most(|sample| sample.published - sample.read),
        memory_growth: most(|sample| sample.memory) - samples[0].memory,
        svg: draw(&samples),
    }
}

async fn publish(broker: &Broker, to: &TopicPartition, seconds: u64, count: &Cell<Count>) {
    let writer = broker.partition(to).expect("it was made");
    let began = Instant::now();
    for second in (0..seconds).step_by(PERIOD as usize) {
        for number in 0..BATCHES {
            sleep_until(began + Duration::from_millis(second * 1000 + number)).await;
            let mut now = count.get();
            let timestamp = SystemClock.now_ms();
            let mut batch = BatchBuilder::new(timestamp);
            for _ in 0..RECORDS_IN_BATCH {
                let mut value = [0x61; VALUE_BYTES];
                value[..8].copy_from_slice(&now.records.to_le_bytes());
                let value = Some(&value[..]);
                batch.push(RecordRef { timestamp, value, ..RecordRef::default() });
                now.sum += now.records;
                now.records += 1;
            }
            now.bytes += batch.bytes() as u64;
            let appended = writer.send(Append::new(batch.build())).await;
            appended.expect("the partition lives").expect("the disk takes it");
            count.set(now);
        }
    }
}

async fn read_steadily(broker: &Broker, of: &TopicPartition, all: u64, count: &Cell<Count>) {
    // Little is fetched ahead: what waits, waits on the disk.
    let bytes_max = 256 << 10;
    let options =
        ConsumerOptions { bytes_max, fetch_bytes_max: bytes_max / 2, ..ConsumerOptions::default() };
    let (_consumer, mut deliveries) = consume(broker, of, options);
    while count.get().records < all {
        let Some(delivery) = deliveries.next().await else { return };
        let Delivery::Records(records) = delivery else { continue };
        let mut now = count.get();
        for bytes in &records.batches {
            now.bytes += bytes.len() as u64;
            for split in batch::split(bytes) {
                let (header, whole) = split.expect("what was appended is whole");
                let records = batch::records(&bytes.slice_ref(whole), &header);
                for record in records.expect("it is not compressed") {
                    let value = record.expect("it was encoded here").value.unwrap_or_default();
                    now.sum += u64::from_le_bytes(*value.first_chunk().expect("1,000 bytes"));
                    now.records += 1;
                }
            }
        }
        let taken = now.records - count.get().records;
        sleep(Duration::from_secs_f64(taken as f64 / READ_PER_SECOND)).await;
        count.set(now);
    }
}

async fn sample(
    published: &Cell<Count>,
    read: &Cell<Count>,
    is_through: impl Fn() -> bool,
) -> Vec<Sample> {
    let (began, mut samples) = (Instant::now(), Vec::new());
    loop {
        let is_last = is_through();
        samples.push(Sample {
            seconds: began.elapsed().as_secs_f64(),
            published: published.get().bytes as f64 / MIB,
            read: read.get().bytes as f64 / MIB,
            memory: resident().unwrap_or(0.0) / MIB,
        });
        if is_last {
            return samples;
        }
        sleep(SAMPLE).await;
    }
}

/// Bytes of this process in memory.
fn resident() -> Option<f64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as f64)
}

fn draw(samples: &[Sample]) -> String {
    let level = |value: fn(&Sample) -> f64| -> Vec<_> {
        samples.iter().map(|sample| (sample.seconds, value(sample))).collect()
    };
    // Over four samples: a rate over one would show the timer.
    let rate = |value: fn(&Sample) -> f64| -> Vec<_> {
        let over = |pair: &[Sample]| {
            let (from, to) = (&pair[0], &pair[pair.len() - 1]);
            (to.seconds, (value(to) - value(from)) / (to.seconds - from.seconds))
        };
        samples.windows(5).map(over).collect()
    };
    chart_svg(
        ("seconds", "MiB, or MiB a second"),
        &[
            Line { name: "published, a second", points: rate(|sample| sample.published) },
            Line { name: "read, a second", points: rate(|sample| sample.read) },
            Line { name: "waiting on disk", points: level(|s| s.published - s.read) },
            Line { name: "memory of the process", points: level(|sample| sample.memory) },
        ],
    )
}
