//! After a crash: in a lazy topic others stand where records were that somebody read.

use futures::StreamExt as _;

use super::{
    super::{
        catalogue::settings::Settings,
        consumer::{ConsumedTo, Consumer, ConsumerOptions, Deliveries, Delivery, Reads, Start},
        partition::messages::FindEpochEnd,
    },
    *,
};

async fn create(broker: &Broker, name: &str, is_lazy: bool) {
    let flush_messages = if is_lazy { i64::MAX } else { 1 };
    let mut spec = TopicSpec::new(name, 1).unwrap();
    spec.settings =
        Settings::default().with("flush.messages", &flush_messages.to_string()).unwrap();
    broker.create_topic(spec).await.unwrap();
}

fn epoch(broker: &Broker, topic: &str) -> u32 {
    broker.topics()[&TopicName::new(topic).unwrap()].partitions[0].leader_epoch.0
}

fn reads(group: Option<&str>, options: ConsumerOptions, broker: &Broker) -> (Consumer, Deliveries) {
    let partitions = vec![(partition("lazy", 0), Start::Earliest)];
    let group = group.map(GroupId::from);
    Consumer::start(Arc::new(broker.clone()), Reads::Partitions { partitions, group }, options)
}

/// The position that a consumer begins at, and where what it is given first ends.
async fn first(deliveries: &mut Deliveries) -> (Offset, Offset) {
    let Some(Delivery::Assigned(assigned)) = deliveries.next().await else { panic!("it begins") };
    let Some(Delivery::Records(records)) = deliveries.next().await else { panic!("it reads") };
    assert_eq!(records.position, assigned[0].position);
    (records.position, records.next)
}

#[test]
fn a_log_that_was_not_closed_in_order_begins_another_epoch() {
    paused(async {
        let machine = Machine::new();
        let (_, broker) = machine.start().await;
        for (topic, is_lazy) in [("lazy", true), ("strict", false)] {
            create(&broker, topic, is_lazy).await;
            append(&broker, &partition(topic, 0), "lost, or not").await;
        }
        machine.disks.crash();
        let (root, broker) = machine.start().await;
        assert_eq!((epoch(&broker, "lazy"), epoch(&broker, "strict")), (1, 1));
        let lazy = partition("lazy", 0);
        // What was not synced may be there all the same.
        let end = Offset(read(&broker, &lazy).await.len() as u64);
        for offset in end.0..3 {
            assert_eq!(append(&broker, &lazy, "new").await, Offset(offset));
        }
        let asked = FindEpochEnd { of: LeaderEpoch(0), epoch: Some(LeaderEpoch(1)) };
        let ended = broker.partition(&lazy).unwrap().send(asked).await.unwrap().unwrap().unwrap();
        assert_eq!(ended.end, end);

        root.stop().await;
        let (_, broker) = machine.start().await;
        assert_eq!((epoch(&broker, "lazy"), epoch(&broker, "strict")), (1, 1), "all was in order");
        machine.disks.kill();
        let (_, broker) = machine.start().await;
        assert_eq!((epoch(&broker, "lazy"), epoch(&broker, "strict")), (2, 2));
    });
}

#[test]
fn a_full_disk_keeps_no_node_from_starting_after_a_crash() {
    paused(async {
        let machine = Machine::new();
        let (_, broker) = machine.start().await;
        // So many that what is to be written takes more than is left of a page.
        broker.create_topic(TopicSpec::new("strict", 100).unwrap()).await.unwrap();
        append(&broker, &partition("strict", 0), "kept").await;
        machine.disks.crash();
        machine.disks.set_faults(Faults { capacity: 0, ..Faults::none() });
        let (_, broker) = machine.start().await;
        assert_eq!(read(&broker, &partition("strict", 0)).await, ["kept"]);
        assert_eq!(epoch(&broker, "strict"), 0, "it could not be written");
        machine.disks.kill();
        machine.disks.set_faults(Faults::none());
        let (_, broker) = machine.start().await;
        assert_eq!(epoch(&broker, "strict"), 1);
        assert_eq!(append(&broker, &partition("strict", 0), "more").await, Offset(1));
    });
}

#[test]
fn a_group_that_read_what_a_power_cut_took_reads_what_stands_there_now() {
    let mut lost = 0;
    for seed in 1..=8 {
        paused(async {
            let machine = Machine::seeded(seed);
            let (_, broker) = machine.start().await;
            create(&broker, "lazy", true).await;
            let lazy = partition("lazy", 0);
            for value in ["a", "b", "c"] {
                append(&broker, &lazy, value).await;
            }
            let (consumer, mut deliveries) = reads(Some("g"), ConsumerOptions::default(), &broker);
            let (_, next) = first(&mut deliveries).await;
            assert_eq!(next, Offset(3), "it sees what is not on the disk");
            consumer.commit(vec![ConsumedTo::new(lazy.clone(), next)]).await.unwrap();
            machine.disks.crash();

            let (_, broker) = machine.start().await;
            let end = Offset(read(&broker, &lazy).await.len() as u64);
            lost += next.since(end);
            for value in ["d", "e", "f", "g"] {
                append(&broker, &lazy, value).await;
            }
            let (_consumer, mut deliveries) = reads(Some("g"), ConsumerOptions::default(), &broker);
            assert_eq!(first(&mut deliveries).await, (end, end.plus(4)));
        });
    }
    assert!(lost > 0, "no power cut took anything");
}

#[test]
fn who_reads_only_what_is_durable_has_a_lazy_log_synced() {
    paused(async {
        let machine = Machine::new();
        let (_, broker) = machine.start().await;
        create(&broker, "lazy", true).await;
        let durable = ConsumerOptions { durable_only: true, ..ConsumerOptions::default() };
        let (_consumer, mut deliveries) = reads(None, durable, &broker);
        let lazy = partition("lazy", 0);
        append(&broker, &lazy, "first").await;
        assert_eq!(first(&mut deliveries).await, (Offset(0), Offset(1)));
        append(&broker, &lazy, "second").await;
        let Some(Delivery::Records(records)) = deliveries.next().await else { panic!("it reads") };
        assert_eq!(records.next, Offset(2));
        machine.disks.crash();
        let (_, broker) = machine.start().await;
        assert_eq!(read(&broker, &lazy).await, ["first", "second"]);
    });
}
