//! Consumers on a whole broker, with a simulated disk and paused time.

use std::{collections::BTreeSet, future::Future, path::Path};

use bytes::BytesMut;
use flumen_runtime::{
    batch::{self, BatchBuilder, RecordRef},
    clock::ManualClock,
    disk::sim::{Faults, SimDisks},
    placement::{LocalPlacement, Services},
    rng::Rng,
    supervision::{SupervisorRef, SupervisorSpec},
};
use futures::StreamExt;
use uuid::Uuid;

use super::*;
use crate::broker::{
    BrokerSpec, DataDirectory, TopicSpec,
    group_coordinator::assignor::Assignor,
    names::PartitionId,
    partition::messages::{Append, TrimTo},
};

fn paused(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    tokio::task::LocalSet::new().block_on(&runtime.unwrap(), test);
}

struct Bench {
    broker: Broker,
    root: SupervisorRef,
}

fn tp(partition: u32) -> TopicPartition {
    TopicPartition { topic: topic(), partition: PartitionId(partition) }
}

fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

impl Bench {
    async fn new(partitions: u32) -> Self {
        let disks = SimDisks::new(&Rng::seeded(1), Faults::none());
        disks.install(Path::new("/data/.keep"), b"");
        let clock = Arc::new(ManualClock::at(1_000_000));
        let services = Services::new(clock, Rng::seeded(2), Arc::new(disks));
        let placement = LocalPlacement::new(2, services);
        let mut spec = BrokerSpec::new(DataDirectory::new(Uuid::from_u128(1), "/data"));
        spec.offsets_partitions = 2;
        let (child, broker) = crate::broker::start(spec);
        let root = SupervisorSpec::new("root").child(child).start(placement);
        broker.ready().await.unwrap();
        broker.create_topic(TopicSpec::new("t", partitions).unwrap()).await.unwrap();
        Self { broker, root }
    }

    fn lookup(&self) -> Arc<dyn Lookup> {
        Arc::new(self.broker.clone())
    }

    fn member(&self, assignor: Assignor) -> (Consumer, Deliveries) {
        let options = MemberOptions {
            assignor,
            session_timeout_ms: 6_000,
            rebalance_timeout_ms: 20_000,
            ..MemberOptions::new("g", vec![topic()])
        };
        Consumer::subscribe(self.lookup(), options)
    }

    /// A member with a lasting name, whose session is longer than any test.
    fn named(&self, name: &str, topics: Vec<TopicName>) -> (Consumer, Deliveries) {
        let instance_id = Some(name.into());
        let member = MemberOptions { instance_id, ..MemberOptions::new("g", topics) };
        Consumer::subscribe(self.lookup(), member)
    }

    async fn append(&self, partition: u32, values: &[&str]) {
        let mut builder = BatchBuilder::new(1_000_000);
        for value in values {
            let value = Some(value.as_bytes());
            builder.push(RecordRef { timestamp: 1_000_000, value, ..RecordRef::default() });
        }
        let batches: BytesMut = builder.build();
        let leader = self.broker.partition(&tp(partition)).unwrap();
        leader.send(Append::new(batches)).await.unwrap().unwrap();
    }

    fn alone(&self, start: Start, options: ConsumerOptions) -> (Consumer, Deliveries) {
        let reads = Reads::Partitions { partitions: vec![(tp(0), start)], group: None };
        Consumer::start(self.lookup(), reads, options)
    }
}

fn values(records: &Records) -> Vec<String> {
    let mut values = Vec::new();
    for bytes in &records.batches {
        for one in batch::split(bytes) {
            let (header, one) = one.unwrap();
            for record in batch::records(&bytes.slice_ref(one), &header).unwrap() {
                let record = record.unwrap();
                if record.offset >= records.position {
                    values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                }
            }
        }
    }
    values
}

async fn next(deliveries: &mut Deliveries) -> Delivery {
    let next = tokio::time::timeout(Duration::from_secs(60), deliveries.next());
    next.await.expect("something comes").expect("the stream goes on")
}

async fn assigned(deliveries: &mut Deliveries) -> Vec<Assigned> {
    match next(deliveries).await {
        Delivery::Assigned(assigned) => assigned,
        other => panic!("{other:?}"),
    }
}

async fn records(deliveries: &mut Deliveries) -> Records {
    match next(deliveries).await {
        Delivery::Records(records) => records,
        other => panic!("{other:?}"),
    }
}

async fn revoking(deliveries: &mut Deliveries) -> Revocation {
    match next(deliveries).await {
        Delivery::Revoking(revocation) => revocation,
        other => panic!("{other:?}"),
    }
}

async fn silent(deliveries: &mut Deliveries, ms: u64) {
    let waited = tokio::time::timeout(Duration::from_millis(ms), deliveries.next()).await;
    assert!(waited.is_err(), "{waited:?}");
}

#[test]
fn a_member_reads_everything_and_goes_on_where_the_last_one_committed() {
    paused(async {
        let bench = Bench::new(1).await;
        bench.append(0, &["a", "b"]).await;
        let (consumer, mut deliveries) = bench.member(Assignor::Range);
        let first = assigned(&mut deliveries).await;
        assert_eq!((first[0].position, &first[0].committed), (Offset(0), &None));
        let got = records(&mut deliveries).await;
        assert_eq!(
            (values(&got), got.next, got.high_watermark),
            (vec!["a".into(), "b".into()], Offset(2), Offset(2))
        );
        bench.append(0, &["c"]).await;
        assert_eq!(values(&records(&mut deliveries).await), ["c"], "without a poll in between");
        let position =
            ConsumedTo { metadata: "count=2".into(), ..ConsumedTo::new(tp(0), Offset(2)) };
        consumer.commit(vec![position]).await.unwrap();
        consumer.close().await;
        assert!(deliveries.next().await.is_none());

        let (_consumer, mut deliveries) = bench.member(Assignor::Range);
        let second = assigned(&mut deliveries).await;
        let committed = second[0].committed.as_ref().unwrap();
        assert_eq!((second[0].position, &*committed.metadata), (Offset(2), "count=2"));
        assert_eq!(values(&records(&mut deliveries).await), ["c"]);
    });
}

#[test]
fn a_partition_moves_only_after_its_holder_has_finished() {
    for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky] {
        paused(async move {
            let bench = Bench::new(2).await;
            bench.append(0, &["a", "b"]).await;
            bench.append(1, &["a", "b"]).await;
            let (first, mut firsts) = bench.member(assignor);
            assert_eq!(assigned(&mut firsts).await.len(), 2);
            records(&mut firsts).await;
            records(&mut firsts).await;

            let (_second, mut seconds) = bench.member(assignor);
            let revocation = revoking(&mut firsts).await;
            let expected = if assignor.is_cooperative() { vec![tp(1)] } else { vec![tp(0), tp(1)] };
            assert_eq!(revocation.partitions(), expected, "{assignor}");
            silent(&mut seconds, 3_000).await;
            // What was read before can still be committed, and is where the other begins.
            let read = |partition, offset| vec![ConsumedTo::new(tp(partition), Offset(offset))];
            first.commit([read(0, 1), read(1, 1)].concat()).await.unwrap();
            revocation.finish();
            let given = assigned(&mut seconds).await;
            assert_eq!((given.len(), given[0].position), (1, Offset(1)), "{assignor}");
            assert_eq!(values(&records(&mut seconds).await), ["b"]);

            let moved = given[0].partition.partition.0;
            let late = first.commit(read(moved, 2)).await;
            assert_eq!(late, Err(CommitError::NotAssigned(tp(moved))));
        });
    }
}

#[test]
fn cooperative_members_read_on_through_a_rebalance() {
    paused(async {
        let bench = Bench::new(2).await;
        let (first, mut firsts) = bench.member(Assignor::CooperativeSticky);
        assert_eq!(assigned(&mut firsts).await.len(), 2);
        let (_second, mut seconds) = bench.member(Assignor::CooperativeSticky);
        let revocation = revoking(&mut firsts).await;
        bench.append(0, &["a"]).await;
        assert_eq!(values(&records(&mut firsts).await), ["a"], "while the other waits");
        first.commit(vec![ConsumedTo::new(tp(0), Offset(1))]).await.unwrap();
        revocation.finish();
        assert_eq!(assigned(&mut seconds).await.len(), 1);
        bench.append(0, &["b"]).await;
        assert_eq!(values(&records(&mut firsts).await), ["b"]);
        first.commit(vec![ConsumedTo::new(tp(0), Offset(2))]).await.unwrap();
    });
}

#[test]
fn a_member_that_takes_too_long_loses_its_partitions_and_cannot_commit_any_more() {
    paused(async {
        let bench = Bench::new(1).await;
        bench.append(0, &["a"]).await;
        let (first, mut firsts) = bench.member(Assignor::Range);
        assigned(&mut firsts).await;
        records(&mut firsts).await;
        let (_second, mut seconds) = bench.member(Assignor::Range);
        let revocation = revoking(&mut firsts).await;
        assert_eq!(assigned(&mut seconds).await[0].position, Offset(0), "after 20 s");
        tokio::time::sleep(Duration::from_secs(2)).await;
        let late = first.commit(vec![ConsumedTo::new(tp(0), Offset(1))]).await;
        assert_eq!(late, Err(CommitError::NotAssigned(tp(0))));
        assert!(matches!(next(&mut firsts).await, Delivery::Lost(lost) if lost == [tp(0)]));
        drop(revocation);
    });
}

#[test]
fn a_leader_sees_new_partitions() {
    paused(async {
        let bench = Bench::new(1).await;
        let (_consumer, mut deliveries) = bench.member(Assignor::CooperativeSticky);
        assert_eq!(assigned(&mut deliveries).await.len(), 1);
        bench.broker.grow_topic(&topic(), 3).await.unwrap();
        let more = assigned(&mut deliveries).await;
        assert_eq!(more.iter().map(|one| one.partition.partition.0).collect::<Vec<_>>(), [1, 2]);
    });
}

fn partitions(assigned: &[Assigned]) -> Vec<u32> {
    assigned.iter().map(|one| one.partition.partition.0).collect()
}

/// What a member is assigned within a second, which is far less than a session.
async fn soon(deliveries: &mut Deliveries) -> Vec<Assigned> {
    let soon = tokio::time::timeout(Duration::from_secs(1), assigned(deliveries));
    soon.await.expect("nobody waits for the dead")
}

#[test]
fn members_with_lasting_names_take_their_places_at_once_after_a_crash() {
    paused(async {
        let bench = Bench::new(2).await;
        let (_first, mut firsts) = bench.named("g/0", vec![topic()]);
        assert_eq!(partitions(&assigned(&mut firsts).await), [0, 1]);
        let (_second, mut seconds) = bench.named("g/1", vec![topic()]);
        revoking(&mut firsts).await.finish();
        assert_eq!(partitions(&assigned(&mut seconds).await), [1]);
        // Neither says goodbye; the topic grows while nobody looks.
        drop((firsts, seconds));
        bench.broker.grow_topic(&topic(), 3).await.unwrap();
        let (_first, mut firsts) = bench.named("g/0", vec![topic()]);
        let (_second, mut seconds) = bench.named("g/1", vec![topic()]);
        assert_eq!(partitions(&soon(&mut firsts).await), [0]);
        assert_eq!(partitions(&soon(&mut seconds).await), [1]);
        assert_eq!(partitions(&soon(&mut firsts).await), [2], "a leader that came back sees it");
    });
}

#[test]
fn a_member_that_comes_back_reads_what_it_wants_now() {
    paused(async {
        let bench = Bench::new(1).await;
        let other = TopicName::new("u").unwrap();
        bench.broker.create_topic(TopicSpec::new("u", 1).unwrap()).await.unwrap();
        let (_first, mut firsts) = bench.named("g/0", vec![topic()]);
        assert_eq!(assigned(&mut firsts).await[0].partition, tp(0));
        drop(firsts);
        let (_first, mut firsts) = bench.named("g/0", vec![other.clone()]);
        assert_eq!(soon(&mut firsts).await[0].partition.topic, other);
    });
}

#[test]
fn a_member_with_a_lasting_name_that_leaves_is_not_waited_for() {
    paused(async {
        let bench = Bench::new(2).await;
        let (_first, mut firsts) = bench.named("g/0", vec![topic()]);
        assigned(&mut firsts).await;
        let (second, mut seconds) = bench.named("g/1", vec![topic()]);
        revoking(&mut firsts).await.finish();
        assigned(&mut seconds).await;
        second.leave().await;
        assert_eq!(partitions(&soon(&mut firsts).await), [1]);
    });
}

#[test]
fn members_outlive_their_coordinator_and_lose_nothing() {
    paused(async {
        let bench = Bench::new(2).await;
        let (consumer, mut deliveries) = bench.member(Assignor::CooperativeSticky);
        assigned(&mut deliveries).await;
        let number = GroupId::from("g").partition_of(2);
        for round in 0..3_u64 {
            bench.append(0, &["a"]).await;
            assert_eq!(records(&mut deliveries).await.next, Offset(round + 1));
            bench.broker.supervisor().inject_panic(&format!("coordinator/{number}")).await.unwrap();
            consumer.commit(vec![ConsumedTo::new(tp(0), Offset(round + 1))]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        consumer.close().await;
        let (_consumer, mut deliveries) = bench.member(Assignor::CooperativeSticky);
        assert_eq!(assigned(&mut deliveries).await[0].position, Offset(3));
    });
}

#[test]
fn what_is_delivered_and_not_let_go_of_is_bounded() {
    paused(async {
        let bench = Bench::new(1).await;
        for _ in 0..20 {
            bench.append(0, &["x".repeat(1000).as_str()]).await;
        }
        let small = ConsumerOptions { bytes_max: 3_500, fetch_bytes_max: 1, ..Default::default() };
        let (_consumer, mut deliveries) = bench.alone(Start::Earliest, small);
        assigned(&mut deliveries).await;
        let mut kept = Vec::new();
        for _ in 0..3 {
            kept.push(records(&mut deliveries).await);
        }
        silent(&mut deliveries, 5_000).await;
        kept.remove(0);
        kept.push(records(&mut deliveries).await);
        assert_eq!(kept[2].position, Offset(3));
        silent(&mut deliveries, 5_000).await;
    });
}

#[test]
fn a_consumer_without_a_group_begins_where_it_is_told_seeks_and_pauses() {
    paused(async {
        let bench = Bench::new(1).await;
        for value in ["a", "b", "c"] {
            bench.append(0, &[value]).await;
        }
        let (consumer, mut deliveries) = bench.alone(Start::Latest, ConsumerOptions::default());
        assert_eq!(assigned(&mut deliveries).await[0].position, Offset(3));
        consumer.pause(tp(0));
        // The fetch that is on its way when it is paused still gives what comes.
        bench.append(0, &["d"]).await;
        assert_eq!(values(&records(&mut deliveries).await), ["d"]);
        bench.append(0, &["e"]).await;
        silent(&mut deliveries, 2_000).await;
        consumer.resume(tp(0));
        assert_eq!(values(&records(&mut deliveries).await), ["e"]);
        consumer.seek(tp(0), Offset(1)).await;
        assert_eq!(records(&mut deliveries).await.position, Offset(1));
        let none = consumer.commit(vec![ConsumedTo::new(tp(0), Offset(1))]).await;
        assert_eq!(none, Err(CommitError::NoGroup));

        let (_late, mut deliveries) = bench.alone(Start::Timestamp(1), ConsumerOptions::default());
        assert_eq!(assigned(&mut deliveries).await[0].position, Offset(0));
    });
}

#[test]
fn more_than_was_delivered_cannot_be_committed() {
    paused(async {
        let bench = Bench::new(1).await;
        bench.append(0, &["a"]).await;
        let (consumer, mut deliveries) = bench.member(Assignor::Range);
        assigned(&mut deliveries).await;
        records(&mut deliveries).await;
        let ahead = consumer.commit(vec![ConsumedTo::new(tp(0), Offset(2))]).await;
        let (offset, delivered) = (Offset(2), Offset(1));
        assert_eq!(ahead, Err(CommitError::Ahead { partition: tp(0), offset, delivered }), "GRP-2");
        let long = "x".repeat(4097).as_str().into();
        let long = ConsumedTo { metadata: long, ..ConsumedTo::new(tp(0), Offset(1)) };
        let refused = consumer.commit(vec![long]).await;
        let bytes_max = 4096;
        let why = GroupError::OffsetMetadataTooLarge { bytes_max };
        assert_eq!(refused, Err(CommitError::Refused(why)));
    });
}

#[test]
fn a_position_that_retention_removed_is_left_for_the_first_that_is_there() {
    paused(async {
        let bench = Bench::new(1).await;
        for value in ["a", "b", "c"] {
            bench.append(0, &[value]).await;
        }
        let leader = bench.broker.partition(&tp(0)).unwrap();
        leader.send(TrimTo { offset: Offset(2) }).await.unwrap().unwrap();
        let at = Start::Offset(Offset(0));
        let (_consumer, mut deliveries) = bench.alone(at, ConsumerOptions::default());
        assigned(&mut deliveries).await;
        let got = records(&mut deliveries).await;
        assert_eq!((got.position, values(&got)), (Offset(2), vec!["c".into()]));
    });
}

#[test]
fn members_that_come_and_go_read_every_record_and_none_is_committed_twice() {
    for assignor in [Assignor::Range, Assignor::CooperativeSticky] {
        paused(async move {
            let bench = Bench::new(4).await;
            let mut finished = BTreeSet::new();
            let mut members = Vec::new();
            for round in 0..6_u32 {
                for partition in 0..4 {
                    bench.append(partition, &[&format!("{round}-{partition}")]).await;
                }
                if round % 3 == 2 {
                    members.remove(0);
                } else {
                    members.push(bench.member(assignor));
                }
                for _ in 0..40 {
                    for (consumer, deliveries) in &mut members {
                        work(consumer, deliveries, &mut finished).await;
                    }
                }
            }
            assert_eq!(finished.len(), 24, "{assignor}");
            bench.root.stop().await;
        });
    }
}

/// Takes what comes within a moment; what is committed must not have been before.
async fn work(consumer: &Consumer, deliveries: &mut Deliveries, finished: &mut BTreeSet<String>) {
    let soon = Duration::from_millis(50);
    while let Ok(delivery) = tokio::time::timeout(soon, deliveries.next()).await {
        if let Some(Delivery::Records(got)) = delivery {
            let position = ConsumedTo::new(got.partition.clone(), got.next);
            if consumer.commit(vec![position]).await.is_ok() {
                for value in values(&got) {
                    assert!(finished.insert(value), "CONS-2: {got:?} twice");
                }
            }
        }
    }
}
