//! The actor, its log and a simulated disk together.

use std::{collections::BTreeSet, rc::Rc, sync::Mutex, time::Duration};

use actix::Addr;
use bytes::{Bytes, BytesMut};
use flumen_runtime::{
    batch::{self, BatchBuilder, RecordRef},
    credit::Credit,
    disk::{Space, sim::Faults},
    ids::ArbiterId,
    log::LogConfig,
    placement::Place,
    sim::{self, End, Process, World},
    supervision::{SupervisorRef, SupervisorSpec},
};

use super::{
    messages::{
        Append, AppendAsFollower, At, Fetch, Fetched, FindOffset, LastSequence, Status, TrimTo,
    },
    probe::Probe,
    *,
};
use crate::broker::names::{Acks, Isolation, PartitionId, ProducerId, TopicName, TopicPartition};

mod ahead;
mod asked;
mod full;
mod lost;

const DATA: &str = "/data";
const SECOND: Duration = Duration::from_secs(1);

fn options() -> PartitionOptions {
    let topic = TopicName::new("orders").unwrap();
    let name = TopicPartition { topic, partition: PartitionId(0) };
    let log = LogId { id: uuid::Uuid::from_u128(7), shard: 0 };
    PartitionOptions::new(name, log, DataDirectory::new(uuid::Uuid::from_u128(1), DATA).into())
}

/// A node of one partition.
struct Node {
    root: SupervisorRef,
    handle: PartitionHandle,
    partition: Addr<Partition>,
}

impl Node {
    async fn start(process: &Process, options: PartitionOptions) -> Node {
        let root = SupervisorSpec::new("node").start(process.placement.clone());
        let (spec, handle) = child_spec(options);
        root.start_child(spec).await.unwrap();
        Node { root, partition: handle.address.clone(), handle }
    }

    async fn append(&self, batch: BytesMut) -> Result<messages::Appended, AppendError> {
        self.partition.send(Append::new(batch)).await.unwrap()
    }

    async fn fetch(&self, fetch: Fetch) -> Fetched {
        self.partition.send(fetch).await.unwrap().unwrap()
    }

    async fn status(&self) -> PartitionStatus {
        self.partition.send(Status).await.unwrap()
    }

    async fn restarts(&self) -> u64 {
        self.root.children().await.unwrap()[0].restarts
    }

    /// Reads from `offset` to the end: the values.
    async fn read_all(&self, mut offset: Offset) -> Vec<Bytes> {
        let mut values = Vec::new();
        loop {
            let fetched = self.fetch(Fetch::from(offset)).await;
            if fetched.bytes() == 0 {
                return values;
            }
            for batches in &fetched.batches {
                for split in batch::split(batches) {
                    let (header, batch) = split.unwrap();
                    batch::check(batch, &header).unwrap();
                    let bytes = batches.slice_ref(batch);
                    let records = batch::records(&bytes, &header).unwrap();
                    values.extend(records.map(|record| record.unwrap().value.unwrap()));
                    offset = header.next_offset();
                }
            }
        }
    }
}

/// One record in one batch of an idempotent producer.
fn record(sequence: i32, value: &str) -> BytesMut {
    let mut batch = BatchBuilder::new(0).producer(7, 0, sequence);
    batch.push(RecordRef { value: Some(value.as_bytes()), ..RecordRef::default() });
    batch.build()
}

/// Runs lives of a node on one simulated machine, without faults unless the test asks for them.
fn simulate<F: Future<Output = ()>>(story: impl FnOnce(World) -> F) {
    let outcome = sim::run(1, &[], |world| {
        world.disks.set_faults(Faults::none());
        // A data directory is there, durably, before a node writes into it.
        world.disks.install(format!("{DATA}/meta.properties").as_ref(), b"");
        story(world)
    });
    outcome.result.unwrap();
}

/// One life of a node.
async fn life<T>(
    world: &World,
    options: PartitionOptions,
    end: End,
    story: impl AsyncFnOnce(&Node) -> T,
) -> T {
    world
        .process(2, async |process| {
            let node = Node::start(&process, options).await;
            // In virtual time: a test that waits for ever would go round in ticks.
            let ended = tokio::time::timeout(600 * SECOND, story(&node)).await;
            (end, ended.expect("it ends"))
        })
        .await
}

#[test]
fn what_is_acknowledged_is_read_back_from_memory_and_from_disk() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            for n in 0..10 {
                let appended = node.append(record(n, &format!("value {n}"))).await.unwrap();
                assert_eq!(appended.base_offset, Offset(n as u64));
            }
            let expected: Vec<_> = (0..10).map(|n| Bytes::from(format!("value {n}"))).collect();
            assert_eq!(node.read_all(Offset(0)).await, expected);
            assert_eq!(node.read_all(Offset(7)).await, expected[7..]);
            let marks = node.status().await.marks;
            assert_eq!((marks.high_watermark, marks.durable_end), (Offset(10), Offset(10)));
        })
        .await;
    });
}

#[test]
fn acknowledged_batches_survive_power_cuts_and_repeats_are_still_known() {
    simulate(async |world| {
        let appended = life(&world, options(), End::PowerCut, async |node| {
            node.append(record(0, "a")).await.unwrap();
            node.append(record(1, "b")).await.unwrap()
        })
        .await;
        life(&world, options(), End::Kill, async |node| {
            let again = node.append(record(1, "b")).await.unwrap();
            assert!(again.is_duplicate);
            assert_eq!(again.base_offset, appended.base_offset);
            node.append(record(2, "c")).await.unwrap();
            let refused = node.append(record(4, "e")).await;
            assert!(matches!(refused, Err(AppendError::Sequence(_))), "{refused:?}");
        })
        .await;
        life(&world, options(), End::Exit, async |node| {
            assert_eq!(node.read_all(Offset(0)).await, ["a", "b", "c"]);
        })
        .await;
    });
}

#[test]
fn a_clock_that_leaps_makes_no_producer_unknown_neither_in_a_life_nor_between_two() {
    const DAYS_MS: i64 = 3 * 86_400_000;
    simulate(async |world| {
        life(&world, options(), End::Kill, async |node| {
            node.append(record(0, "a")).await.unwrap();
            world.clock.jump(DAYS_MS);
            // Producers are looked at with the ticks.
            world.pass(5 * SECOND).await;
            assert!(node.append(record(0, "a")).await.unwrap().is_duplicate);
            world.clock.jump(-DAYS_MS);
            world.pass(5 * SECOND).await;
            assert!(node.append(record(0, "a")).await.unwrap().is_duplicate);
        })
        .await;
        world.clock.jump(DAYS_MS);
        life(&world, options(), End::Exit, async |node| {
            world.pass(5 * SECOND).await;
            assert!(node.append(record(0, "a")).await.unwrap().is_duplicate);
        })
        .await;
    });
}

#[test]
fn a_waiting_consumer_is_woken_by_the_append_and_not_before() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            let waiting = node.partition.send(Fetch::from(Offset(0)).wait(10 * SECOND));
            let waiting = actix_rt::spawn(waiting);
            world.pass(SECOND).await;
            assert!(!waiting.is_finished());
            assert_eq!(node.status().await.parked, 1);
            node.append(record(0, "a")).await.unwrap();
            let fetched = waiting.await.unwrap().unwrap().unwrap();
            assert_eq!(fetched.marks.high_watermark, Offset(1));
            assert!(fetched.bytes() > 0);

            let began = tokio::time::Instant::now();
            let fetched = node.fetch(Fetch::from(Offset(1)).wait(3 * SECOND)).await;
            assert_eq!(fetched.bytes(), 0, "the wait is over, with nothing");
            assert_eq!(began.elapsed(), 3 * SECOND);
            assert_eq!(node.status().await.parked, 0);
        })
        .await;
    });
}

#[test]
fn a_panic_makes_the_partition_anew_and_nothing_is_lost_or_doubled() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            node.append(record(0, "a")).await.unwrap();
            let waiting = node.partition.send(Fetch::from(Offset(1)).wait(10 * SECOND));
            let waiting = actix_rt::spawn(waiting);
            world.pass(SECOND).await;
            node.root.inject_panic("partition/orders-0").await.unwrap();
            // Sent to the broken life or the next one: the address is the same.
            assert!(node.append(record(0, "a")).await.unwrap().is_duplicate);
            node.append(record(1, "b")).await.unwrap();
            assert_eq!(waiting.await.unwrap(), Err(actix::MailboxError::Closed));
            assert_eq!(node.read_all(Offset(0)).await, ["a", "b"]);
            assert_eq!(node.restarts().await, 1);
        })
        .await;
    });
}

#[test]
fn when_an_arbiter_wedges_its_partitions_serve_elsewhere_and_what_is_late_is_fenced() {
    simulate(async |world| {
        let story = async |process: Rc<Process>| {
            let root = SupervisorSpec::new("node").start(process.placement.clone());
            let start = async |shard: u32| {
                let mut options = options();
                options.partition.partition = PartitionId(shard);
                options.log.shard = shard;
                options.dir = options.directory.path.join(options.partition.to_string()).into();
                let (spec, handle) = child_spec(options);
                root.start_child(spec.place(Place::On(ArbiterId(0)))).await.unwrap();
                handle.address.send(Append::new(record(0, "first"))).await.unwrap().unwrap();
                handle
            };
            let (handle, neighbour) = (start(0).await, start(1).await.address);
            let victim = handle.address.clone();
            process.wedge(ArbiterId(0), Some(&"partition/orders-0".into()));
            let held = actix_rt::spawn(victim.send(Append::new(record(1, "held"))));
            world.pass(SECOND / 10).await;
            let wedged = tokio::time::Instant::now();
            neighbour.send(Append::new(record(1, "b"))).await.unwrap().unwrap();
            assert!(wedged.elapsed() < 5 * SECOND, "after {:?}", wedged.elapsed());
            let again = victim.send(Append::new(record(1, "held"))).await.unwrap().unwrap();
            assert!(!again.is_duplicate, "what the wedged life holds is not in the log");

            process.release(ArbiterId(0));
            world.pass(SECOND).await;
            let late = held.await.unwrap();
            assert!(!matches!(late, Ok(Ok(_))), "a superseded life acknowledges nothing: {late:?}");
            let node = Node { root, handle, partition: victim };
            assert_eq!(node.read_all(Offset(0)).await, ["first", "held"]);
            (End::Exit, ())
        };
        world.process(2, story).await;
    });
}

#[test]
fn a_failed_sync_takes_the_partition_offline_for_good_and_restarts_nothing() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            node.append(record(0, "a")).await.unwrap();
            let parked = node.partition.send(Fetch::from(Offset(1)).wait(10 * SECOND));
            let parked = actix_rt::spawn(parked);
            world.disks.set_faults(Faults { sync_errors: 1_000_000, ..Faults::none() });
            let failed = node.append(record(1, "b")).await;
            assert!(
                matches!(&failed, Err(AppendError::Offline(why)) if !why.is_passing),
                "{failed:?}"
            );
            world.disks.set_faults(Faults::none());
            let still = node.append(record(1, "b")).await;
            assert!(matches!(still, Err(AppendError::Offline(_))), "no retry heals a sync");
            let parked = parked.await.unwrap().unwrap();
            assert!(matches!(parked, Err(FetchError::Offline(_))));
            let condition = node.status().await.condition;
            let Condition::Offline { reason, remedy } = condition else { panic!("{condition:?}") };
            assert!(!reason.is_empty() && !remedy.is_empty());
            world.pass(60 * SECOND).await;
            assert_eq!(node.restarts().await, 0);
            node.root.inject_panic("partition/orders-0").await.unwrap();
            world.pass(SECOND).await;
            assert_eq!(node.restarts().await, 1);
            let anew = node.append(record(1, "b")).await;
            assert!(matches!(anew, Err(AppendError::Offline(_))), "the cache is not believed");
        })
        .await;
        life(&world, options(), End::Exit, async |node| {
            assert_eq!(node.read_all(Offset(0)).await, ["a"], "what is on the disk, and no more");
        })
        .await;
    });
}

#[test]
fn damage_below_the_durable_mark_is_named_and_the_partition_stays_offline() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            node.append(record(0, "a")).await.unwrap();
            node.append(record(1, "b")).await.unwrap();
            node.root.stop().await;
        })
        .await;
        let segment = "/data/orders-0/00000000000000000000.log";
        assert!(world.disks.flip_bit(segment.as_ref(), 65, 3));
        life(&world, options(), End::Exit, async |node| {
            // A clean log is not read when it is opened: the damage shows where it is read.
            let fetched = node.partition.send(Fetch::from(Offset(0))).await.unwrap();
            let error = fetched.unwrap_err().to_string();
            assert!(error.contains("00000000000000000000.log"), "{error}");
            assert_eq!(node.restarts().await, 0);
        })
        .await;
    });
}

#[test]
fn an_append_holds_its_permit_until_it_is_committed_whatever_acks_says() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            node.append(record(0, "a")).await.unwrap();
            world.disks.set_faults(Faults { latency_ms: 50, ..Faults::none() });
            let credit = Credit::new(10, 1_000);
            for (sequence, acks) in [(1, Acks::None), (2, Acks::InSync)] {
                let permit = credit.try_acquire(1, 100).unwrap();
                let append = Append::new(record(sequence, "x")).acks(acks).permit(permit);
                let answer = actix_rt::spawn(node.partition.send(append));
                world.pass(Duration::from_micros(10)).await;
                assert_eq!(answer.is_finished(), acks == Acks::None);
                assert_eq!(credit.out().count, 1, "{acks:?}: on its way");
                answer.await.unwrap().unwrap().unwrap();
                world.pass(SECOND).await;
                assert_eq!(credit.out().count, 0, "{acks:?}: committed");
            }
        })
        .await;
    });
}

#[test]
fn the_end_of_a_producer_is_told_only_once_it_is_committed() {
    simulate(async |world| {
        life(&world, options(), End::PowerCut, async |node| {
            let producer = ProducerId(7);
            let nothing = node.partition.send(LastSequence { producer }).await.unwrap();
            assert_eq!(nothing, Ok(None));
            world.disks.set_faults(Faults { latency_ms: 50, ..Faults::none() });
            let append = actix_rt::spawn(node.partition.send(Append::new(record(0, "a"))));
            tokio::task::yield_now().await;
            let tail = node.partition.send(LastSequence { producer }).await.unwrap();
            let tail = tail.unwrap().expect("it has appended");
            assert_eq!(node.status().await.marks.durable_end, Offset(1));
            assert_eq!((tail.last_sequence, tail.last_offset), (0, Some(Offset(0))));
            append.await.unwrap().unwrap().unwrap();
        })
        .await;
    });
}

#[test]
fn a_drained_partition_is_opened_again_from_what_it_said_of_itself() {
    simulate(async |world| {
        let closed = life(&world, options(), End::Exit, async |node| {
            node.append(record(0, "a")).await.unwrap();
            node.root.stop().await;
            assert!(node.partition.send(Append::new(record(1, "b"))).await.is_err(), "it is gone");
            node.handle.closed()
        })
        .await;
        assert!(closed.is_some(), "a drained partition says what it is");
        let given = PartitionOptions { closed, ..options() };
        life(&world, given, End::Exit, async |node| {
            // Nothing of this opens its log, and opening it changes none of it.
            let latest = async || node.partition.send(FindOffset::new(At::Latest)).await.unwrap();
            let (end, at_rest) = (latest().await, node.status().await);
            assert_eq!((at_rest.marks.log_end, at_rest.producers), (Offset(1), 1));
            assert_eq!(node.read_all(Offset(0)).await, ["a"]);
            assert_eq!((latest().await, node.status().await), (end, at_rest));
            assert!(node.append(record(0, "a")).await.unwrap().is_duplicate);
            node.append(record(1, "b")).await.unwrap();
            assert_eq!(node.read_all(Offset(0)).await, ["a", "b"]);
        })
        .await;
    });
}

#[test]
fn aborted_records_are_named_to_committed_readers_also_after_restarts() {
    simulate(async |world| {
        let aborted = async |node: &Node| {
            let isolation = Isolation::Committed;
            let fetched = node.fetch(Fetch { isolation, ..Fetch::from(Offset(0)) }).await;
            let name = |aborted: &messages::AbortedTransaction| {
                (aborted.first_offset.0, aborted.last_offset.0)
            };
            fetched.aborted.iter().map(name).collect::<Vec<_>>()
        };
        let closed = life(&world, options(), End::Exit, async |node| {
            for n in 0..2 {
                let attributes = testing::TRANSACTIONAL;
                let producer = (8, 0, n);
                let spec = testing::Spec { attributes, producer, ..testing::Spec::default() };
                node.append(spec.build()).await.unwrap();
            }
            let isolation = Isolation::Committed;
            let open = node.fetch(Fetch { isolation, ..Fetch::from(Offset(0)) }).await;
            assert_eq!((open.bytes(), open.marks.last_stable), (0, Offset(0)), "undecided");
            let marker = Append::new(testing::marker((8, 0), false, 0)).as_coordinator();
            node.partition.send(marker).await.unwrap().unwrap();
            assert_eq!(aborted(node).await, [(0, 2)]);
            node.root.stop().await;
            node.handle.closed()
        })
        .await;
        let given = PartitionOptions { closed, ..options() };
        life(&world, given, End::PowerCut, async |node| {
            assert_eq!(aborted(node).await, [(0, 2)], "handed over");
            node.append(record(0, "after")).await.unwrap();
        })
        .await;
        life(&world, options(), End::Exit, async |node| {
            assert_eq!(aborted(node).await, [(0, 2)], "restored from the snapshot");
        })
        .await;
    });
}

#[test]
fn offsets_are_found_by_place_and_by_time() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            let now = flumen_runtime::clock::Clock::now_ms(&world.clock);
            for n in 0..3 {
                let mut batch = BatchBuilder::new(now + n * 100);
                let timestamp = now + n * 100;
                batch.push(RecordRef { timestamp, value: Some(b"x"), ..RecordRef::default() });
                node.append(batch.build()).await.unwrap();
            }
            let find = async |at| {
                let found = node.partition.send(FindOffset::new(at)).await.unwrap().unwrap();
                found.map(|found| found.offset.0)
            };
            assert_eq!(find(At::Earliest).await, Some(0));
            assert_eq!(find(At::Latest).await, Some(3));
            assert_eq!(find(At::Timestamp(now + 1)).await, Some(1));
            assert_eq!(find(At::Timestamp(now + 200)).await, Some(2));
            assert_eq!(find(At::Timestamp(now + 201)).await, None);
            assert_eq!(find(At::MaxTimestamp).await, Some(2));
        })
        .await;
    });
}

#[test]
fn trimmed_records_are_gone_and_stay_gone() {
    simulate(async |world| {
        life(&world, options(), End::PowerCut, async |node| {
            for n in 0..5 {
                node.append(record(n, "x")).await.unwrap();
            }
            let too_far = node.partition.send(TrimTo { offset: Offset(6) }).await.unwrap();
            assert!(matches!(too_far, Err(FetchError::OutOfRange { .. })));
            let start = node.partition.send(TrimTo { offset: Offset(3) }).await.unwrap();
            assert_eq!(start, Ok(Offset(3)));
            let gone = node.partition.send(Fetch::from(Offset(2))).await.unwrap();
            assert!(matches!(gone, Err(FetchError::OutOfRange { .. })));
        })
        .await;
        life(&world, options(), End::Exit, async |node| {
            assert_eq!(node.read_all(Offset(3)).await.len(), 2);
            assert_eq!(node.status().await.marks.log_start, Offset(3));
        })
        .await;
    });
}

#[test]
fn a_follower_copies_cuts_what_diverged_and_then_leads() {
    simulate(async |world| {
        let follower =
            PartitionOptions { role: Role::Follower, epoch: LeaderEpoch(1), ..options() };
        life(&world, follower, End::Exit, async |node| {
            let copy = async |offset: u64, sequence, high_watermark| {
                let mut batch = record(sequence, "x");
                batch::stamp(&mut batch, Offset(offset), LeaderEpoch(1));
                let append = AppendAsFollower {
                    batches: batch.freeze(),
                    leader_epoch: LeaderEpoch(1),
                    high_watermark: Offset(high_watermark),
                };
                node.partition.send(append).await.unwrap()
            };
            for n in 0..4 {
                copy(n, n as i32, 2).await.unwrap();
            }
            let committed = node.partition.send(TruncateTo { offset: Offset(1) }).await.unwrap();
            assert!(matches!(committed, Err(FetchError::OutOfRange { .. })), "PART-2");
            let truncated = node.partition.send(TruncateTo { offset: Offset(3) }).await.unwrap();
            assert_eq!(truncated, Ok(Offset(3)));
            assert_eq!(node.status().await.marks.high_watermark, Offset(2), "PART-2");
            copy(3, 3, 4).await.unwrap();

            let assume = Assume { role: Role::Leader, epoch: LeaderEpoch(2) };
            node.partition.send(assume).await.unwrap().unwrap();
            assert!(node.append(record(3, "x")).await.unwrap().is_duplicate, "its window is exact");
            assert_eq!(node.append(record(4, "y")).await.unwrap().base_offset, Offset(4));
            assert!(copy(5, 5, 5).await.is_err(), "a leader copies nobody");
            let stale = Assume { role: Role::Follower, epoch: LeaderEpoch(1) };
            assert!(node.partition.send(stale).await.unwrap().is_err());
            assert_eq!(node.read_all(Offset(0)).await.len(), 5);
        })
        .await;
    });
}

#[test]
fn a_full_disk_refuses_appends_and_serves_reads_until_there_is_room() {
    simulate(async |world| {
        let options = options();
        let room = options.directory.room.clone();
        life(&world, options, End::Exit, async |node| {
            node.append(record(0, "a")).await.unwrap();
            room.set(Space { free: 0, total: 1 << 30 });
            let refused = node.append(record(1, "b")).await;
            assert!(
                matches!(&refused, Err(error @ AppendError::DiskFull(_)) if error.is_retryable())
            );
            assert_eq!(node.read_all(Offset(0)).await, ["a"]);
            room.set(Space { free: 1 << 30, total: 1 << 30 });
            node.append(record(1, "b")).await.unwrap();
        })
        .await;
    });
}

#[test]
fn settings_change_while_it_runs_and_hold_after_a_restart() {
    simulate(async |world| {
        life(&world, options(), End::Exit, async |node| {
            let log = LogConfig { batch_bytes_max: 80, ..LogConfig::default() };
            let config = PartitionConfig { log: log.into(), ..PartitionConfig::default() };
            node.partition.send(Configure { config: config.into() }).await.unwrap().unwrap();
            let large = || record(0, "a value that is larger than eighty bytes with its header");
            assert!(matches!(node.append(large()).await, Err(AppendError::TooLarge { .. })));
            node.root.inject_panic("partition/orders-0").await.unwrap();
            assert!(matches!(node.append(large()).await, Err(AppendError::TooLarge { .. })));
            assert_eq!(node.restarts().await, 1);
        })
        .await;
    });
}

/// Remembers what it saw.
#[derive(Default)]
struct Seen(Mutex<Vec<Snapshot>>);

impl Probe for Seen {
    fn partition(&self, _: &TopicPartition, snapshot: &Snapshot) {
        self.0.lock().unwrap().push(*snapshot);
    }
}

#[test]
fn many_appends_at_once_share_few_syncs_and_a_probe_sees_every_step() {
    simulate(async |world| {
        let seen = Arc::new(Seen::default());
        let options = PartitionOptions { probe: Some(seen.clone()), ..options() };
        life(&world, options, End::Exit, async |node| {
            node.append(record(0, "first")).await.unwrap();
            world.disks.set_faults(Faults { latency_ms: 5, ..Faults::none() });
            let appends: Vec<_> = (1..=100)
                .map(|n| actix_rt::spawn(node.partition.send(Append::new(record(n, "x")))))
                .collect();
            for append in appends {
                append.await.unwrap().unwrap().unwrap();
            }
        })
        .await;
        let seen = seen.0.lock().unwrap();
        let durable: BTreeSet<_> = seen.iter().map(|seen| seen.marks.durable_end).collect();
        assert!(durable.len() < 20, "one hundred appends, {} syncs", durable.len());
        assert!(seen.iter().all(|seen| seen.acked_end <= seen.marks.high_watermark), "PART-7");
        assert_eq!(seen.last().unwrap().acked_end, Offset(101));
    });
}
