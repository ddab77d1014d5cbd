//! A node whose disk is full: what is decided, and refused.

use super::*;

fn without_room() -> Faults {
    Faults { capacity: 0, ..Faults::none() }
}

/// Every sync finds the disk full.
fn without_syncs() -> Faults {
    Faults { sync_errors: 1_000, sync_error: 28, ..Faults::none() }
}

/// A topic of which the catalogue must say more than is left of a page.
fn large(number: u32) -> TopicSpec {
    TopicSpec::new(&format!("large-{number}"), 200).unwrap()
}

#[test]
fn a_full_disk_refuses_topics_however_often_one_asks_and_ends_no_node() {
    paused(async {
        let machine = Machine::new();
        let (_, broker) = machine.start().await;
        broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        append(&broker, &partition("t", 0), "x").await;
        machine.disks.set_faults(without_room());
        let mut refusals = 0;
        for number in 0..30 {
            if let Err(TopicError::Coordination(why)) = broker.create_topic(large(number)).await {
                let why = why.to_string();
                assert!(why.contains("the disk of `/data` is full"), "{why}");
                refusals += 1;
            }
            pass(Duration::from_secs(number.into())).await;
        }
        assert!(refusals > 20, "{refusals}");
        assert_eq!(read(&broker, &partition("t", 0)).await, ["x"]);
        machine.disks.set_faults(Faults::none());
        pass(Duration::from_secs(2)).await;
        broker.create_topic(TopicSpec::new("u", 1).unwrap()).await.unwrap();
        append(&broker, &partition("u", 0), "y").await;
    });
}

#[test]
fn old_journals_go_also_where_the_catalogue_found_no_room_at_first() {
    paused(async {
        let machine = Machine::new();
        let (_, broker) = machine.start().await;
        broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        for _ in 0..20 {
            append(&broker, &partition("t", 0), "x").await;
        }
        let old = machine.journals();
        assert!(!old.is_empty());
        machine.disks.crash();
        machine.disks.set_faults(without_syncs());
        let (_, broker) = machine.launch();
        broker.ready().await.unwrap_err();
        machine.disks.set_faults(Faults::none());
        pass(Duration::from_secs(3)).await;
        broker.ready().await.unwrap();
        assert_eq!(read(&broker, &partition("t", 0)).await, ["x"; 20]);
        pass(Duration::from_secs(1)).await;
        let left = machine.journals();
        assert!(old.iter().all(|path| !left.contains(path)), "{left:?}");
    });
}

#[test]
fn a_catalogue_of_which_a_sync_failed_is_changed_no_more_and_what_runs_goes_on() {
    for is_read_anew in [true, false] {
        paused(async {
            let machine = Machine::new();
            let (root, broker) = machine.start().await;
            broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
            append(&broker, &partition("t", 0), "x").await;
            if is_read_anew {
                machine.disks.set_faults(without_room());
                let mut number = 0;
                let refuses = |refused| matches!(refused, Err(TopicError::Coordination(_)));
                while !refuses(broker.create_topic(large(number)).await) {
                    number += 1;
                }
            }
            machine.disks.set_faults(without_syncs());
            let refused = broker.create_topic(large(1_000)).await.unwrap_err();
            assert!(matches!(refused, TopicError::Coordination(_)), "{refused}");
            pass(Duration::from_secs(3)).await;
            machine.disks.set_faults(Faults::none());
            pass(Duration::from_secs(600)).await;
            let why = broker.create_topic(large(1_001)).await.unwrap_err().to_string();
            assert!(why.contains("`/data/.catalogue` is offline"), "{why}");
            assert!(why.contains("start again"), "{why}");
            broker.ready().await.unwrap();
            broker.ensure_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
            append(&broker, &partition("t", 0), "y").await;
            assert_eq!(read(&broker, &partition("t", 0)).await, ["x", "y"]);
            root.stop().await;
            let (_, broker) = machine.start().await;
            broker.create_topic(TopicSpec::new("u", 1).unwrap()).await.unwrap();
            assert_eq!(read(&broker, &partition("t", 0)).await, ["x", "y"]);
        });
    }
}

#[test]
fn a_node_that_has_no_room_to_begin_says_where_stops_at_once_and_begins_when_there_is_some() {
    paused(async {
        let machine = Machine::new();
        machine.disks.set_faults(without_room());
        let (root, broker) = machine.launch();
        let why = broker.ready().await.unwrap_err().to_string();
        assert!(why.contains("the disk of `/data` is full") && why.contains("make room"), "{why}");
        let refused = broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap_err();
        assert_eq!(refused.to_string(), why);
        let began = tokio::time::Instant::now();
        root.stop().await;
        assert!(began.elapsed() < Duration::from_secs(1), "after {:?}", began.elapsed());

        let (_, broker) = machine.launch();
        broker.ready().await.unwrap_err();
        pass(Duration::from_secs(600)).await;
        machine.disks.set_faults(Faults::none());
        pass(Duration::from_secs(2)).await;
        broker.ready().await.unwrap();
        broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
        append(&broker, &partition("t", 0), "x").await;
    });
}
