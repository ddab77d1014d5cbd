//! Partitions that rest after a clean stop, and what opens their logs.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::*;
use crate::broker::partition::{
    messages::{At, FindOffset, FoundOffset},
    probe::Snapshot,
};

const HOUR: Duration = Duration::from_secs(3_600);

/// Where the log of each partition that was opened begins: one at rest takes no step.
#[derive(Default)]
struct Opened(Mutex<BTreeMap<u32, Offset>>);

impl Opened {
    fn all(&self) -> BTreeMap<u32, Offset> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Probe for Opened {
    fn partition(&self, partition: &TopicPartition, snapshot: &Snapshot) {
        let mut opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        opened.insert(partition.partition.0, snapshot.marks.log_start);
    }
}

/// A machine whose topic `t` has three partitions, all but the last with a record of the time
/// 1,000,000; and the broker that was started on it after a clean stop.
async fn rested(retention_ms: &str) -> (Machine, Arc<Opened>, Broker) {
    let mut machine = Machine::new();
    let (root, broker) = machine.start().await;
    let topic = TopicSpec::new("t", 3).unwrap().set("retention.ms", retention_ms).unwrap();
    broker.create_topic(topic).await.unwrap();
    append(&broker, &partition("t", 0), "x").await;
    append(&broker, &partition("t", 1), "y").await;
    root.stop().await;
    let opened = Arc::new(Opened::default());
    machine.probe = Some(opened.clone());
    let (_, broker) = machine.start().await;
    (machine, opened, broker)
}

async fn find(broker: &Broker, number: u32, at: At) -> Option<FoundOffset> {
    let address = broker.partition(&partition("t", number)).expect("it runs");
    address.send(FindOffset::new(at)).await.unwrap().expect("it is found")
}

#[test]
fn settings_and_questions_whose_answers_are_known_open_no_log() {
    paused(async {
        let (_, opened, broker) = rested("-1").await;
        let small = Settings::default().with("max.message.bytes", "100").unwrap();
        broker.configure_topic(&TopicName::new("t").unwrap(), small).await.unwrap();
        assert_eq!(find(&broker, 0, At::Latest).await.map(|found| found.offset), Some(Offset(1)));
        assert_eq!(find(&broker, 0, At::Timestamp(1_000_001)).await, None, "it has none so new");
        assert_eq!(find(&broker, 2, At::MaxTimestamp).await, None, "it has none");
        assert!(opened.all().is_empty(), "{:?}", opened.all());

        let found = find(&broker, 0, At::Timestamp(1_000_000)).await.expect("it has one");
        assert_eq!((found.offset, found.timestamp_ms), (Offset(0), 1_000_000));
        let address = broker.partition(&partition("t", 1)).unwrap();
        let refused = address.send(Append::new(batch(&"y".repeat(200)))).await.unwrap();
        assert!(refused.unwrap_err().to_string().contains("max.message.bytes"));
        assert_eq!(opened.all().into_keys().collect::<Vec<_>>(), [0, 1]);
    });
}

#[test]
fn retention_opens_a_log_when_the_clock_says_so_however_that_was_set() {
    paused(async {
        let (machine, opened, broker) = rested("3600000").await;
        machine.clock.advance(-1_000_000);
        pass(2 * HOUR).await;
        assert!(opened.all().is_empty(), "by the clock, it is not even the time of its record");
        machine.clock.advance(1_000_000 + 3_600_000);
        pass(Duration::from_secs(60)).await;
        assert!(opened.all().is_empty(), "it is over age a millisecond later");
        machine.clock.advance(1);
        pass(Duration::from_secs(90)).await;
        let removed = BTreeMap::from([(0, Offset(1)), (1, Offset(1))]);
        assert_eq!(opened.all(), removed, "and not the one without a record");
        assert!(read(&broker, &partition("t", 2)).await.is_empty());
    });
}

#[test]
fn a_shorter_retention_opens_the_logs_that_it_is_about() {
    paused(async {
        let (machine, opened, broker) = rested("-1").await;
        machine.clock.advance(3_600_000);
        let name = TopicName::new("t").unwrap();
        for (hours_ms, expected) in [("7200000", 0), ("1800000", 2)] {
            let kept = Settings::default().with("retention.ms", hours_ms).unwrap();
            broker.configure_topic(&name, kept).await.unwrap();
            assert_eq!(opened.all().len(), expected, "{hours_ms}");
        }
        pass(Duration::from_secs(60)).await;
        assert_eq!(opened.all(), BTreeMap::from([(0, Offset(1)), (1, Offset(1))]));
    });
}
