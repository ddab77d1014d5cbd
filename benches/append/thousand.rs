//! A node with a thousand partitions, each of which is written lightly and steadily.
//!
//! The generator stands on a thread of its own, so that what it costs can be told from what the node
//! costs. Ten batches are due each millisecond. The first second, in which the node makes the files of
//! its journals, is not counted.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use actix::Addr;
use bytes::BytesMut;
use flumen::node::{self, NodeError, NodeOptions};
use flumen_actors::broker::{
    TopicSpec,
    names::TopicPartition,
    partition::{Partition, messages::Append},
};
use flumen_runtime::{
    batch::{self, BatchBuilder, RecordRef},
    clock::{Clock as _, SystemClock},
    latency::Latency,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    sync::{Notify, oneshot},
    task::LocalSet,
    time::Instant,
};

use crate::bench::read_all;

const PARTITIONS: u32 = 1_000;
const EVERY_MS: u32 = 100;
/// With header and framing a batch of 100 bytes.
const VALUE_BYTES: usize = 32;

/// What the run came to.
pub(crate) struct Ran {
    pub(crate) latency: Latency,
    /// Of the node, without the generator.
    pub(crate) cores: f64,
    pub(crate) records_sent: u64,
    pub(crate) records: u64,
    pub(crate) sum_sent: u64,
    pub(crate) sum: u64,
}

pub(crate) fn run(data: &tempfile::TempDir, seconds: u32) -> Ran {
    let ran = node::run(NodeOptions::new(data.path()), |node| async move {
        let spec = TopicSpec::new("lightly", PARTITIONS).expect("it is a name");
        let topic = node.broker().create_topic(spec).await.map_err(NodeError::from)?;
        let partitions: Vec<_> = topic
            .partition_ids()
            .map(|partition| TopicPartition { topic: topic.name.clone(), partition })
            .map(|name| node.broker().partition(&name).expect("it was made"))
            .collect();
        let writers = partitions.clone();
        // What the making of them left to be done is not measured.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (done, came) = oneshot::channel();
        thread::spawn(move || drop(done.send(generate(&writers, seconds))));
        let generated = came.await.expect("the generator does not panic");
        let Generated { latency, cores, records: records_sent, sum: sum_sent } = generated;
        let (mut records, mut sum) = (0, 0_u64);
        for partition in &partitions {
            read_all(partition, |header, batch| {
                for record in batch::records(&batch, header).expect("it is not compressed") {
                    let value = record.expect("it was encoded here").value.unwrap_or_default();
                    sum += u64::from_le_bytes(*value.first_chunk().expect("32 bytes"));
                    records += 1;
                }
            })
            .await;
        }
        Ok::<_, NodeError>(Ran { latency, cores, records_sent, records, sum_sent, sum })
    });
    ran.expect("a node starts in a directory of its own")
}

fn cpu_by(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// What the generator did and saw.
struct Generated {
    latency: Latency,
    /// Of the process, without the generator.
    cores: f64,
    records: u64,
    sum: u64,
}

/// A thread that wakes the generator each millisecond. The runtime's own timer is up to two late, which
/// would be the generator's lateness, and none of the node's.
struct Ticks {
    tick: Arc<Notify>,
    /// What the thread takes, in nanoseconds of a processor.
    cpu: Arc<AtomicU64>,
}

impl Ticks {
    /// From `began` on, until this is dropped.
    #[expect(clippy::disallowed_methods, reason = "no actor stands on that thread")]
    fn start(began: Instant) -> Self {
        let ticks = Self { tick: Arc::default(), cpu: Arc::default() };
        let (tick, cpu) = (Arc::downgrade(&ticks.tick), ticks.cpu.clone());
        thread::spawn(move || {
            let mut next = began;
            while let Some(tick) = tick.upgrade() {
                next += Duration::from_millis(1);
                thread::sleep(next.saturating_duration_since(Instant::now()));
                tick.notify_one();
                cpu.store(cpu_by(ClockId::ThreadCPUTime).as_nanos() as u64, Ordering::Relaxed);
            }
        });
        ticks
    }

    async fn until(&self, due: Instant) {
        while Instant::now() < due {
            self.tick.notified().await;
        }
    }

    /// The processor time of all threads but this one, which generates, and that one.
    fn cpu_of_others(&self) -> Duration {
        let ticking = Duration::from_nanos(self.cpu.load(Ordering::Relaxed));
        cpu_by(ClockId::ProcessCPUTime)
            .saturating_sub(cpu_by(ClockId::ThreadCPUTime))
            .saturating_sub(ticking)
    }
}

/// Writes to all partitions, for a second more than `seconds`.
fn generate(partitions: &[Addr<Partition>], seconds: u32) -> Generated {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without I/O and time needs nothing");
    let latency = Rc::new(RefCell::new(Latency::new()));
    let (mut records, mut sum) = (0, 0);
    let cores = LocalSet::new().block_on(&runtime, async {
        let (began, mut used) = (Instant::now(), Duration::ZERO);
        let ticks = Ticks::start(began);
        let mut acks = Vec::new();
        let at_once = partitions.len() / EVERY_MS as usize;
        for tick in 0..(1 + seconds) * 1000 {
            let due = began + Duration::from_millis(1) * tick;
            ticks.until(due).await;
            let is_warm = tick >= 1000;
            if tick == 1000 {
                used = ticks.cpu_of_others();
            }
            let first = (tick % EVERY_MS) as usize * at_once;
            for partition in &partitions[first..first + at_once] {
                let sent = partition.send(Append::new(batch(records)));
                let latency = latency.clone();
                acks.push(tokio::task::spawn_local(async move {
                    sent.await.expect("the partition lives").expect("the disk takes it");
                    if is_warm {
                        latency.borrow_mut().record(due.elapsed());
                    }
                }));
                sum += records;
                records += 1;
            }
        }
        for ack in acks {
            ack.await.expect("no ack panics");
        }
        let warm = began.elapsed() - Duration::from_secs(1);
        (ticks.cpu_of_others() - used).as_secs_f64() / warm.as_secs_f64()
    });
    let latency = latency.borrow().clone();
    Generated { latency, cores, records, sum }
}

fn batch(number: u64) -> BytesMut {
    let mut value = [0; VALUE_BYTES];
    value[..8].copy_from_slice(&number.to_le_bytes());
    let timestamp = SystemClock.now_ms();
    let mut builder = BatchBuilder::new(timestamp);
    builder.push(RecordRef { timestamp, value: Some(&value), ..RecordRef::default() });
    assert_eq!(builder.bytes(), 100, "the batch that the figure speaks of");
    builder.build()
}
