//! A node with a thousand partitions, each of which is written lightly and steadily.
//!
//! The generator stands on a thread of its own, so that what it costs can be told from what the node
//! costs. Ten batches are due each millisecond. The first second, in which the node makes the files of
//! its journals, is not counted.

use std::{cell::RefCell, io, os::fd::OwnedFd, rc::Rc, thread, time::Duration};

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
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::oneshot,
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

fn cpu(clock: ClockId) -> Duration {
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

/// The processor time of all threads but this one.
fn cpu_of_others() -> Duration {
    cpu(ClockId::ProcessCPUTime).saturating_sub(cpu(ClockId::ThreadCPUTime))
}

/// Goes off each millisecond from when it is made. The runtime's own timer is up to two late, which would
/// be the generator's lateness, and none of the node's.
struct Ticks(AsyncFd<OwnedFd>);

impl Ticks {
    #[expect(unsafe_code, reason = "the runtime watches a descriptor that must stay the same")]
    fn start() -> Self {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).expect("timers are to be had");
        let millisecond = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let times = Itimerspec { it_interval: millisecond, it_value: millisecond };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times).expect("it is a time");
        // SAFETY: an `OwnedFd` answers with the same open descriptor for as long as it lives.
        let watched = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
        Self(watched.map_err(io::Error::from).expect("a runtime with I/O watches it"))
    }

    async fn until(&self, due: Instant) {
        while Instant::now() < due {
            let mut ready = self.0.readable().await.expect("its runtime lives");
            if rustix::io::read(ready.get_inner(), &mut [0; 8]).is_err() {
                ready.clear_ready();
            }
        }
    }
}

/// Writes to all partitions, for a second more than `seconds`.
fn generate(partitions: &[Addr<Partition>], seconds: u32) -> Generated {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("descriptors are to be had");
    let latency = Rc::new(RefCell::new(Latency::new()));
    let (mut records, mut sum) = (0, 0);
    let cores = LocalSet::new().block_on(&runtime, async {
        let (began, mut used) = (Instant::now(), Duration::ZERO);
        let ticks = Ticks::start();
        let mut acks = Vec::new();
        let at_once = partitions.len() / EVERY_MS as usize;
        for tick in 0..(1 + seconds) * 1000 {
            let due = began + Duration::from_millis(1) * tick;
            ticks.until(due).await;
            let is_warm = tick >= 1000;
            if tick == 1000 {
                used = cpu_of_others();
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
        (cpu_of_others() - used).as_secs_f64() / warm.as_secs_f64()
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
