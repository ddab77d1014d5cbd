//! Requests that say how long they may take, while a disk is stuck.

use tokio::time::Instant;

use super::*;
use crate::{
    broker::{
        names::{PartitionId, TopicPartition},
        partition::messages::Status,
    },
    gateway::messages::{
        create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic},
        create_topics::{CreatableTopic, CreateTopicsRequest},
        delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
        delete_topics::DeleteTopicsRequest,
    },
};

/// So slow that nobody is answered in time.
const STUCK: Faults = Faults { latency_ms: 10_000_000, ..Faults::none() };

/// A node with a topic `t`, and its disks.
async fn world() -> (World, SimDisks) {
    let disks = disks(Faults::none());
    let world = World::on(machine(&disks), Limits::default(), broker_spec()).await;
    world.broker.create_topic(TopicSpec::new("t", 1).unwrap()).await.unwrap();
    (world, disks)
}

/// What each partition was answered.
async fn outcomes(client: &mut Client, request: &ProduceRequest) -> Vec<(i32, ErrorCode, i64)> {
    let response = client.ask(9, request).await;
    let parts = response.responses.into_iter().flat_map(|topic| topic.partition_responses);
    parts.map(|part| (part.index, part.error_code, part.base_offset)).collect()
}

#[test]
fn what_is_not_acknowledged_in_time_is_told_and_is_appended_once_all_the_same() {
    paused(async {
        let (world, disks) = world().await;
        let mut client = world.connect().await;
        disks.set_faults(STUCK);
        let sent = |timeout_ms| {
            let parts = vec![(0, numbered(0, &["a"]).freeze()), (9, batch(&["b"]).freeze())];
            ProduceRequest { timeout_ms, ..produce(-1, parts) }
        };
        let late = (0, ErrorCode::RequestTimedOut, -1);
        let unknown = (9, ErrorCode::UnknownTopicOrPartition, -1);
        // The time that the client gives, or the most that the node does.
        for (timeout_ms, most_ms) in [(50, 50), (i32::MAX, 300_000), (0, 300_000), (-1, 300_000)] {
            let begin = Instant::now();
            assert_eq!(outcomes(&mut client, &sent(timeout_ms)).await, [late, unknown]);
            assert_eq!(begin.elapsed().as_millis() / 10, most_ms / 10, "{timeout_ms}");
        }
        disks.set_faults(Faults::none());
        let again = async |client: &mut Client| outcomes(client, &sent(0)).await[0];
        let mut told = again(&mut client).await;
        while told == late {
            told = again(&mut client).await;
        }
        assert_eq!(told, (0, ErrorCode::None, 0));
        let next = produce(-1, vec![(0, numbered(1, &["c"]).freeze())]);
        assert_eq!(
            outcomes(&mut client, &next).await,
            [(0, ErrorCode::None, 1)],
            "it is there once"
        );
    });
}

/// With acks=0 a client waits for nothing, so nothing comes too late.
#[test]
fn an_append_that_nobody_waits_for_is_not_late() {
    paused(async {
        let (world, disks) = world().await;
        let mut client = world.connect().await;
        disks.set_faults(STUCK);
        let silent = produce(0, vec![(0, batch(&["a"]).freeze())]);
        client.send(9, &ProduceRequest { timeout_ms: 50, ..silent }).await;
        pass(Duration::from_secs(1)).await;
        let loud = produce(1, vec![(9, batch(&["b"]).freeze())]);
        let unknown = (9, ErrorCode::UnknownTopicOrPartition, -1);
        assert_eq!(outcomes(&mut client, &loud).await, [unknown], "the connection is open");
    });
}

#[test]
fn a_change_that_is_not_done_in_time_is_told_and_none_is_begun_too_late() {
    paused(async {
        let (world, disks) = world().await;
        world.broker.create_topic(TopicSpec::new("old", 1).unwrap()).await.unwrap();
        let mut client = world.connect().await;
        client.ask(9, &produce(-1, vec![(0, batch(&["a", "b"]).freeze())])).await;
        disks.set_faults(Faults { latency_ms: 100_000, ..Faults::none() });
        let (late, timeout_ms) = (ErrorCode::RequestTimedOut, 5);

        let topic = |name: &'static str| CreatableTopic {
            name: name.into(),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let topics = vec![topic("new"), topic("newer")];
        let create = CreateTopicsRequest { topics, timeout_ms, ..Default::default() };
        let made = client.ask(7, &create).await;
        assert_eq!([&made.topics[0], &made.topics[1]].map(|made| made.error_code), [late, late]);

        let topics = vec![CreatePartitionsTopic { name: "t".into(), count: 2, assignments: None }];
        let grow = CreatePartitionsRequest { topics, timeout_ms, validate_only: false };
        assert_eq!(client.ask(3, &grow).await.results[0].error_code, late);

        let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 1 }];
        let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions }];
        let trim = DeleteRecordsRequest { topics, timeout_ms };
        let trimmed = client.ask(2, &trim).await;
        assert_eq!(trimmed.topics[0].partitions[0].error_code, late);

        let topic_names = vec!["old".into()];
        let delete = DeleteTopicsRequest { topic_names, timeout_ms, ..Default::default() };
        assert_eq!(client.ask(5, &delete).await.responses[0].error_code, late);

        disks.set_faults(Faults::none());
        pass(Duration::from_secs(3_600)).await;
        let topics = world.broker.topics();
        let told: Vec<_> =
            topics.values().map(|topic| (topic.name.as_str(), topic.partitions.len())).collect();
        assert_eq!(told, [("new", 1), ("t", 2)], "what was begun is done, and no more");
        let partition = TopicPartition { topic: "t".parse().unwrap(), partition: PartitionId(0) };
        let status = world.broker.partition(&partition).unwrap().send(Status).await.unwrap();
        assert_eq!(status.marks.log_start.0, 1);

        // Who gives no time is answered when it is done.
        let mut client = world.connect().await;
        let patient = CreateTopicsRequest { topics: vec![topic("newer")], ..create };
        for timeout_ms in [0, -1] {
            let patient = CreateTopicsRequest { timeout_ms, ..patient.clone() };
            let outcome = client.ask(7, &patient).await.topics[0].error_code;
            let is_first = timeout_ms == 0;
            let wanted = if is_first { ErrorCode::None } else { ErrorCode::TopicAlreadyExists };
            assert_eq!(outcome, wanted);
        }
    });
}
