//! Tests of the broker as a whole, on simulated arbiters and a simulated disk.

mod compaction;
mod epochs;
mod full;
mod node_settings;
mod rest;
mod stopping;

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use flumen_runtime::{
    batch::{self, BatchBuilder, BatchHeader, RecordRef},
    clock::ManualClock,
    disk::sim::{Faults, SimDisks},
    ids::{LeaderEpoch, Offset},
    placement::{LocalPlacement, Services},
    rng::Rng,
};

use super::{
    group_coordinator::{
        error::GroupError,
        messages::{CommitOffsets, FetchOffsets, OffsetToCommit},
    },
    names::{PartitionId, ProducerId},
    partition::messages::{Append, Fetch},
    *,
};

/// Runs `test` on a paused clock, as the simulation does.
fn paused(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    tokio::task::LocalSet::new().block_on(&runtime.unwrap(), test);
}

/// Lets virtual time pass.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

struct Machine {
    disks: SimDisks,
    clock: ManualClock,
    more: Vec<Arc<DataDirectory>>,
    probe: Option<Arc<dyn Probe>>,
}

impl Machine {
    fn new() -> Self {
        Self::seeded(1)
    }

    /// `seed` draws what a power cut takes.
    fn seeded(seed: u64) -> Self {
        let disks = SimDisks::new(&Rng::seeded(seed), Faults::none());
        disks.install(Path::new("/data/.keep"), b"");
        Self { disks, clock: ManualClock::at(1_000_000), more: Vec::new(), probe: None }
    }

    /// The files of its commit journals.
    fn journals(&self) -> Vec<PathBuf> {
        let files = self.disks.files().into_iter();
        files.filter(|path| path.starts_with("/data/.journal")).collect()
    }

    /// A process that runs a broker on this machine.
    async fn start(&self) -> (SupervisorRef, Broker) {
        let (root, broker) = self.launch();
        broker.ready().await.expect("a sound machine starts");
        (root, broker)
    }

    /// The same, which may not come to anything.
    fn launch(&self) -> (SupervisorRef, Broker) {
        let maker = Arc::new(self.disks.clone());
        let services = Services::new(Arc::new(self.clock.clone()), Rng::seeded(2), maker);
        let placement = LocalPlacement::new(2, services);
        let mut spec = BrokerSpec::new(DataDirectory::new(Uuid::from_u128(1), "/data"));
        spec.offsets_partitions = 3;
        spec.directories.extend(self.more.clone());
        spec.probe.clone_from(&self.probe);
        let (child, broker) = start(spec);
        (SupervisorSpec::new("root").child(child).start(placement), broker)
    }
}

fn batch(value: &str) -> BytesMut {
    let mut builder = BatchBuilder::new(1_000_000);
    builder.push(RecordRef {
        timestamp: 1_000_000,
        value: Some(value.as_bytes()),
        ..RecordRef::default()
    });
    builder.build()
}

fn partition(topic: &str, number: u32) -> TopicPartition {
    TopicPartition { topic: TopicName::new(topic).unwrap(), partition: PartitionId(number) }
}

async fn append(broker: &Broker, to: &TopicPartition, value: &str) -> Offset {
    let address = broker.partition(to).expect("it runs");
    address.send(Append::new(batch(value))).await.unwrap().expect("it takes appends").base_offset
}

async fn read(broker: &Broker, from: &TopicPartition) -> Vec<String> {
    let address = broker.partition(from).expect("it runs");
    let fetched = address.send(Fetch::from(Offset(0))).await.unwrap().expect("it can be read");
    let mut values = Vec::new();
    for bytes in fetched.batches {
        let mut at = 0;
        while at < bytes.len() {
            let header = BatchHeader::parse(&bytes[at..]).unwrap();
            let whole = bytes.slice(at..at + header.batch_bytes as usize);
            at += whole.len();
            let records = batch::records(&whole, &header).unwrap();
            values.extend(
                records.map(|record| {
                    String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap()
                }),
            );
        }
    }
    values
}

#[test]
fn topics_and_records_are_there_after_a_clean_stop_and_after_a_kill() {
    paused(async {
        let machine = Machine::new();
        let (root, broker) = machine.start().await;
        broker.create_topic(TopicSpec::new("t", 2).unwrap()).await.unwrap();
        append(&broker, &partition("t", 1), "first").await;
        root.stop().await;
        let (_, broker) = machine.start().await;
        assert_eq!(broker.topics().len(), 1);
        assert_eq!(read(&broker, &partition("t", 1)).await, ["first"]);
        assert_eq!(append(&broker, &partition("t", 1), "second").await, Offset(1));
        machine.disks.kill();
        let (_, broker) = machine.start().await;
        assert_eq!(read(&broker, &partition("t", 1)).await, ["first", "second"]);
        machine.disks.crash();
        let (_, broker) = machine.start().await;
        assert_eq!(read(&broker, &partition("t", 1)).await, ["first", "second"]);
        assert!(read(&broker, &partition("t", 0)).await.is_empty());
    });
}

#[test]
fn a_broker_that_was_only_read_stops_at_once() {
    paused(async {
        let machine = Machine::new();
        let (root, broker) = machine.start().await;
        broker.create_topic(TopicSpec::new("t", 2).unwrap()).await.unwrap();
        append(&broker, &partition("t", 1), "first").await;
        root.stop().await;
        let (root, broker) = machine.start().await;
        assert_eq!(read(&broker, &partition("t", 1)).await, ["first"]);
        let began = tokio::time::Instant::now();
        root.stop().await;
        assert!(began.elapsed() < std::time::Duration::from_secs(1), "an actor was not drained");
    });
}

#[test]
fn a_deleted_topic_leaves_no_files_and_its_name_may_be_used_again() {
    paused(async {
        let machine = Machine::new();
        let (_, broker) = machine.start().await;
        let old = broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        append(&broker, &partition("t", 0), "old").await;
        broker.delete_topic(&old.name).await.unwrap();
        assert!(broker.partition(&partition("t", 0)).is_none());
        let is_left = machine.disks.files().iter().any(|path| path.starts_with("/data/t-0"));
        assert!(!is_left, "{:?}", machine.disks.files());
        let new = broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        assert_ne!(old.id, new.id);
        assert_eq!(append(&broker, &partition("t", 0), "new").await, Offset(0));
        machine.disks.crash();
        let (_, broker) = machine.start().await;
        assert_eq!(read(&broker, &partition("t", 0)).await, ["new"]);
    });
}

#[test]
fn a_failed_sync_ends_with_its_topic_whose_name_may_be_used_again() {
    paused(async {
        let machine = Machine::new();
        let (root, broker) = machine.start().await;
        let name = TopicName::new("t").unwrap();
        broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        machine.disks.set_faults(Faults { sync_errors: 1_000_000, ..Faults::none() });
        let address = broker.partition(&partition("t", 0)).expect("it runs");
        address.send(Append::new(batch("lost"))).await.unwrap().unwrap_err();
        machine.disks.set_faults(Faults::none());
        broker.delete_topic(&name).await.unwrap();
        broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        assert_eq!(append(&broker, &partition("t", 0), "anew").await, Offset(0));
        root.stop().await;
    });
}

#[test]
fn a_topic_grows_and_takes_other_settings_while_it_runs() {
    paused(async {
        let machine = Machine::new();
        let (_, broker) = machine.start().await;
        let topic = broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        broker.grow_topic(&topic.name, 3).await.unwrap();
        append(&broker, &partition("t", 2), "x").await;
        let small = Settings::default().with("max.message.bytes", "100").unwrap();
        broker.configure_topic(&topic.name, small).await.unwrap();
        let address = broker.partition(&partition("t", 0)).unwrap();
        let refused = address.send(Append::new(batch(&"y".repeat(200)))).await.unwrap();
        assert!(refused.unwrap_err().to_string().contains("max.message.bytes"));
    });
}

#[test]
fn a_controller_that_panics_is_made_anew_and_partitions_live_on() {
    paused(async {
        let machine = Machine::new();
        let (root, broker) = machine.start().await;
        broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        root.inject_panic("controller").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        append(&broker, &partition("t", 0), "x").await;
        broker.create_topic(TopicSpec::new("u", 1).unwrap()).await.unwrap();
        append(&broker, &partition("u", 0), "y").await;
        assert_eq!(read(&broker, &partition("t", 0)).await, ["x"]);
    });
}

#[test]
fn a_topic_whose_making_was_interrupted_anywhere_is_made_whole() {
    for turns in 0..60 {
        paused(async move {
            let machine = Machine::new();
            let (root, broker) = machine.start().await;
            let creating = broker.clone();
            let created = tokio::task::spawn_local(async move {
                creating.create_topic(TopicSpec::new("t", 3).unwrap()).await
            });
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            root.inject_panic("controller").await.unwrap();
            let _ = created.await;
            let topic = broker.ensure_topic(TopicSpec::new("t", 3).unwrap()).await.unwrap();
            for number in 0..3 {
                append(&broker, &partition("t", number), "x").await;
            }
            broker.delete_topic(&topic.name).await.unwrap();
            assert!(!machine.disks.files().iter().any(|path| path.starts_with("/data/t-1")));
        });
    }
}

#[test]
fn a_foreign_directory_holds_up_its_partition_alone_and_costs_no_journalled_record() {
    paused(async {
        let machine = Machine::new();
        let (_, broker) = machine.start().await;
        broker.create_topic(TopicSpec::new("t", 2).unwrap()).await.unwrap();
        for value in ["a", "b", "c"] {
            append(&broker, &partition("t", 0), value).await;
            append(&broker, &partition("t", 1), value).await;
        }
        machine.disks.crash();
        let path = Path::new("/data/t-0/partition.metadata");
        let own = machine.disks.content(path).expect("it was written");
        machine.disks.install(path, b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA\n");
        let (root, broker) = machine.start().await;
        assert!(broker.partition(&partition("t", 0)).is_none(), "another topic's records");
        assert_eq!(read(&broker, &partition("t", 1)).await, ["a", "b", "c"]);
        machine.disks.install(path, &own);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(read(&broker, &partition("t", 0)).await, ["a", "b", "c"], "it healed");
        machine.disks.install(path, b"version: 0\n");
        root.stop().await;
        let (root, _) = machine.start().await;
        root.stop().await;
        machine.disks.install(path, &own);
        let (_, broker) = machine.start().await;
        assert_eq!(read(&broker, &partition("t", 0)).await, ["a", "b", "c"]);
    });
}

#[test]
fn a_log_that_was_written_after_a_clean_stop_is_recovered_and_goes_on_behind_that() {
    paused(async {
        let machine = Machine::new();
        let (root, broker) = machine.start().await;
        broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        append(&broker, &partition("t", 0), "first").await;
        root.stop().await;
        let log = Path::new("/data/t-0/00000000000000000000.log");
        let mut second = batch("second");
        batch::stamp(&mut second, Offset(1), LeaderEpoch(0));
        let left = machine.disks.content(log).unwrap();
        machine.disks.install(log, &[&left[..], &second[..]].concat());
        let (_, broker) = machine.start().await;
        let address = broker.partition(&partition("t", 0)).unwrap();
        let mut refusals = 0;
        while let Err(refused) = address.send(Append::new(batch("third"))).await.unwrap() {
            assert!(refused.is_retryable() && refusals < 100, "{refused}");
            refusals += 1;
            pass(Duration::from_millis(50)).await;
        }
        assert!(refusals > 0, "the clean stop was trusted");
        assert_eq!(read(&broker, &partition("t", 0)).await, ["first", "second", "third"]);
    });
}

#[test]
fn a_clean_stop_of_a_later_version_is_refused_and_left_untouched() {
    paused(async {
        let machine = Machine::new();
        let (root, broker) = machine.start().await;
        broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        append(&broker, &partition("t", 0), "first").await;
        root.stop().await;
        let mark = Path::new("/data/flumen-clean-stop");
        let ours = machine.disks.content(mark).expect("a clean stop leaves it");
        let mut theirs = ours.to_vec();
        theirs[4] += 1;
        machine.disks.install(mark, &theirs);
        let (root, broker) = machine.launch();
        let refused = broker.ready().await.unwrap_err().to_string();
        assert!(refused.contains("flumen-clean-stop` has format version 2"), "{refused}");
        root.stop().await;
        assert_eq!(machine.disks.content(mark).expect("it is left"), theirs);
        machine.disks.install(mark, &ours);
        let (_, broker) = machine.start().await;
        assert_eq!(read(&broker, &partition("t", 0)).await, ["first"]);
    });
}

#[test]
fn what_was_journalled_outlives_a_clean_stop_of_a_node_that_could_not_start_its_partition() {
    paused(async {
        let machine = Machine::new();
        let (_, broker) = machine.start().await;
        broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        for value in ["a", "b", "c"] {
            append(&broker, &partition("t", 0), value).await;
        }
        machine.disks.crash();
        let path = Path::new("/data/t-0/partition.metadata");
        let own = machine.disks.content(path).expect("it was written");
        for _ in 0..3 {
            machine.disks.install(path, b"version: 0\ntopic_id: other\n");
            let (root, _) = machine.start().await;
            root.stop().await;
        }
        machine.disks.install(path, &own);
        let (_, broker) = machine.start().await;
        assert_eq!(read(&broker, &partition("t", 0)).await, ["a", "b", "c"]);
    });
}

#[test]
fn old_journals_go_once_every_log_has_taken_its_part() {
    paused(async {
        let machine = Machine::new();
        for round in 0..4 {
            let (_, broker) = machine.start().await;
            broker.ensure_topic(TopicSpec::new("t", 2).unwrap()).await.unwrap();
            append(&broker, &partition("t", 0), "x").await;
            append(&broker, &partition("t", 1), "x").await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let journals = machine.journals();
            assert!((1..=3).contains(&journals.len()), "round {round}: {journals:?}");
            machine.disks.crash();
        }
    });
}

#[test]
fn partitions_are_spread_over_directories_and_found_again_in_whatever_order_these_are_given() {
    paused(async {
        let mut machine = Machine::new();
        machine.disks.install(Path::new("/more/.keep"), b"");
        machine.more = vec![DataDirectory::new(Uuid::from_u128(2), "/more").into()];
        let (_, broker) = machine.start().await;
        let topic = broker.create_topic(TopicSpec::new("t", 4).unwrap()).await.unwrap();
        let in_more = topic.partitions.iter().filter(|p| p.directory == Uuid::from_u128(2));
        assert_eq!(in_more.count(), 2, "each directory has as many");
        for number in 0..4 {
            append(&broker, &partition("t", number), &number.to_string()).await;
        }
        machine.disks.crash();
        let (_, broker) = machine.start().await;
        for number in 0..4 {
            assert_eq!(read(&broker, &partition("t", number)).await, [number.to_string()]);
        }
        broker.delete_topic(&topic.name).await.unwrap();
        let is_left = |path: &PathBuf| path.starts_with("/more/t-") || path.starts_with("/data/t-");
        let left: Vec<_> = machine.disks.files().into_iter().filter(is_left).collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn groups_forget_a_deleted_topic_before_another_of_its_name_is_made() {
    paused(async {
        let machine = Machine::new();
        let (_, broker) = machine.start().await;
        let topic = broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        broker.create_topic(TopicSpec::new("u", 1).unwrap()).await.unwrap();
        let groups: Vec<GroupId> = (0..5).map(|n| GroupId::from(format!("g{n}"))).collect();
        for group in &groups {
            for name in ["t", "u"] {
                let commit = commit(group, partition(name, 0), 7);
                ask(&broker, group, commit).await.expect("it is committed");
            }
        }
        broker.delete_topic(&topic.name).await.unwrap();
        machine.disks.crash();
        let (_, broker) = machine.start().await;
        for group in &groups {
            let fetch = FetchOffsets { group: group.clone(), partitions: None };
            let fetched = ask(&broker, group, fetch).await;
            let left: Vec<_> = fetched.unwrap().partitions.into_iter().map(|(at, _)| at).collect();
            assert_eq!(left, [partition("u", 0)]);
        }
    });
}

/// Asks a group's coordinator, which may still be reading its log.
async fn ask<T, M>(broker: &Broker, group: &GroupId, request: M) -> Result<T, GroupError>
where
    T: Send + 'static,
    M: actix::Message<Result = Result<T, GroupError>> + Clone + Send + 'static,
    GroupCoordinator: actix::Handler<M>,
    actix::Context<GroupCoordinator>: actix::dev::ToEnvelope<GroupCoordinator, M>,
{
    let coordinator = broker.coordinator(group).await.unwrap();
    loop {
        match coordinator.send(request.clone()).await.unwrap() {
            Err(GroupError::CoordinatorLoadInProgress) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            answer => return answer,
        }
    }
}

fn commit(group: &GroupId, partition: TopicPartition, offset: u64) -> CommitOffsets {
    let offset = OffsetToCommit {
        partition,
        topic_id: None,
        offset: Offset(offset),
        leader_epoch: None,
        metadata: "".into(),
    };
    CommitOffsets {
        group: group.clone(),
        generation: None,
        member_id: None,
        instance_id: None,
        retention_ms: None,
        offsets: vec![offset],
    }
}

#[test]
fn a_producer_id_is_given_once_over_restarts() {
    paused(async {
        let machine = Machine::new();
        let (_, broker) = machine.start().await;
        let mut given: Vec<ProducerId> = Vec::new();
        for _ in 0..3 {
            given.push(broker.new_producer_id().await.unwrap());
        }
        machine.disks.crash();
        let (_, broker) = machine.start().await;
        let later = broker.new_producer_id().await.unwrap();
        assert!(!given.contains(&later), "{given:?} {later}");
    });
}

#[test]
fn the_first_group_makes_the_topic_of_offsets() {
    paused(async {
        let machine = Machine::new();
        let (_, broker) = machine.start().await;
        let group = GroupId::from("readers");
        broker.coordinator(&group).await.expect("its coordinator runs");
        let topics = broker.topics();
        let offsets = topics.get(&TopicName::new(OFFSETS_TOPIC).unwrap()).unwrap();
        assert_eq!((offsets.partitions.len(), offsets.is_internal), (3, true));
        machine.disks.crash();
        let (_, broker) = machine.start().await;
        broker.coordinator(&group).await.expect("and it runs after a crash");
    });
}
