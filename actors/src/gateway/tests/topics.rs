//! Topics and the places in them: metadata, making and deleting, offsets by time.

use super::*;
use crate::gateway::messages::{
    create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic},
    create_topics::{CreatableTopic, CreateTopicsRequest},
    delete_topics::DeleteTopicsRequest,
    list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
    metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse},
};

fn asking(names: &[&'static str]) -> MetadataRequest {
    let topic = |name: &&'static str| MetadataRequestTopic {
        name: Some((*name).into()),
        ..MetadataRequestTopic::default()
    };
    MetadataRequest {
        topics: Some(names.iter().map(topic).collect()),
        ..MetadataRequest::default()
    }
}

fn told(response: &MetadataResponse) -> Vec<(&str, ErrorCode, usize)> {
    let topics = response.topics.iter();
    topics.map(|t| (t.name.as_deref().unwrap(), t.error_code, t.partitions.len())).collect()
}

#[test]
fn metadata_tells_all_none_or_those_that_were_named() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let (all, none) = (MetadataRequest { topics: None, ..asking(&[]) }, asking(&[]));
        let t = ("t", ErrorCode::None, 3);
        assert_eq!(told(&client.ask(0, &none).await), [t], "version 0 has no null");
        for version in 1..=13 {
            assert_eq!(told(&client.ask(version, &all).await), [t]);
            let nothing = client.ask(version, &none).await;
            assert_eq!(told(&nothing), []);
            assert_eq!((nothing.brokers[0].node_id, nothing.controller_id), (1, 1));
            assert_eq!(
                (&*nothing.brokers[0].host, nothing.brokers[0].port),
                ("within", 0),
                "the way on which it was asked"
            );
        }
        let mut careful = asking(&["t", "u", "no such name!"]);
        careful.allow_auto_topic_creation = false;
        let (unknown, invalid) =
            (ErrorCode::UnknownTopicOrPartition, ErrorCode::InvalidTopicException);
        let answer = client.ask(9, &careful).await;
        assert_eq!(told(&answer), [t, ("u", unknown, 0), ("no such name!", invalid, 0)]);
        let answer = client.ask(9, &asking(&["u", "u", "t"])).await;
        let u = ("u", ErrorCode::None, 1);
        assert_eq!(told(&answer), [u, t], "it is made as it is asked for, and told once");
        assert!(!client.ask(10, &asking(&["u"])).await.topics[0].topic_id.is_nil());
    });
}

/// The topic of groups' offsets is the node's: whoever names it first must not decide how it is.
#[test]
fn a_client_that_names_the_topic_of_offsets_does_not_shape_it() {
    paused(async {
        let world = World::new().await;
        let mut client = world.connect().await;
        let answer = client.ask(9, &asking(&[broker::OFFSETS_TOPIC])).await;
        assert_eq!(told(&answer), [(broker::OFFSETS_TOPIC, ErrorCode::None, 3)]);
        assert!(answer.topics[0].is_internal);
        let name = broker::OFFSETS_TOPIC.parse().unwrap();
        let topics = world.broker.topics();
        let policy = topics[&name].settings.get("cleanup.policy").map(String::from);
        assert_eq!(policy.as_deref(), Some("compact"));
    });
}

#[test]
fn a_client_does_not_make_the_topic_of_offsets_in_its_own_way() {
    paused(async {
        let world = World::new().await;
        let mut client = world.connect().await;
        let made = client.ask(5, &creating(&[(broker::OFFSETS_TOPIC, 1)])).await;
        assert_eq!(made.topics[0].error_code, ErrorCode::InvalidTopicException);
        assert!(world.broker.topics().is_empty());
    });
}

fn creating(topics: &[(&'static str, i32)]) -> CreateTopicsRequest {
    let topic = |(name, num_partitions): &(&'static str, i32)| CreatableTopic {
        name: (*name).into(),
        num_partitions: *num_partitions,
        replication_factor: -1,
        ..CreatableTopic::default()
    };
    let topics = topics.iter().map(topic).collect();
    CreateTopicsRequest { topics, ..CreateTopicsRequest::default() }
}

#[test]
fn topics_are_made_and_deleted_each_with_its_own_error() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let request =
            creating(&[("a", 2), ("t", 1), ("b", 0), ("c", i32::MAX), ("d", 1), ("d", 1)]);
        let made = client.ask(5, &request).await;
        let codes: Vec<_> = made.topics.iter().map(|topic| topic.error_code).collect();
        use ErrorCode::{InvalidPartitions, InvalidRequest, None, TopicAlreadyExists};
        let twice = InvalidRequest;
        let wanted = [None, TopicAlreadyExists, InvalidPartitions, InvalidPartitions, twice, twice];
        assert_eq!(codes, wanted);
        assert_eq!(world.broker.topics().len(), 2);
        let names = ["a", "nowhere"].map(Into::into).to_vec();
        let delete = DeleteTopicsRequest { topic_names: names, ..DeleteTopicsRequest::default() };
        let deleted = client.ask(5, &delete).await;
        let codes: Vec<_> = deleted.responses.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [None, ErrorCode::UnknownTopicOrPartition]);
    });
}

/// In every way in which partitions come to be; only groups can still begin.
#[test]
fn more_partitions_than_a_node_may_have_are_refused_with_what_to_do() {
    paused(async {
        let world = World::made(Limits::default(), |spec| spec.partitions_max = 4).await;
        world.broker.create_topic(TopicSpec::new("t", 3).unwrap()).await.unwrap();
        let mut client = world.connect().await;
        for validate_only in [true, false] {
            let two = CreateTopicsRequest { validate_only, ..creating(&[("a", 2), ("b", 1)]) };
            let made = client.ask(5, &two).await;
            let codes = [&made.topics[0], &made.topics[1]].map(|topic| topic.error_code);
            assert_eq!(codes, [ErrorCode::PolicyViolation, ErrorCode::None]);
            let why = made.topics[0].error_message.as_deref().unwrap();
            assert!(why.contains("there are 3") && why.contains("raise it"), "{why}");
            assert!(why.contains("`max.partitions` is 4"), "{why}");
        }
        let more = CreatePartitionsTopic { name: "t".into(), count: 4, ..Default::default() };
        let more = CreatePartitionsRequest { topics: vec![more], ..Default::default() };
        for validate_only in [true, false] {
            let more = CreatePartitionsRequest { validate_only, ..more.clone() };
            let grown = client.ask(2, &more).await;
            assert_eq!(grown.results[0].error_code, ErrorCode::PolicyViolation);
        }
        let named = client.ask(9, &asking(&["c", broker::OFFSETS_TOPIC])).await;
        let codes = [&named.topics[0], &named.topics[1]].map(|topic| topic.error_code);
        assert_eq!(codes, [ErrorCode::PolicyViolation, ErrorCode::None]);
        assert_eq!(world.broker.topics().len(), 3, "t, b, and that of offsets");
    });
}

#[test]
fn offsets_are_found_by_place_and_by_time_in_every_version() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        client.ask(9, &produce(-1, vec![(0, batch(&["a", "b"]).freeze())])).await;
        for version in 1..=11 {
            let from = |first: i16, offset| match version < first {
                true => (ErrorCode::UnsupportedVersion, -1),
                false => (ErrorCode::None, offset),
            };
            for (timestamp, partition_index, found) in [
                (-1, 0, (ErrorCode::None, 2)),
                (-2, 0, (ErrorCode::None, 0)),
                (1_000_000, 0, (ErrorCode::None, 0)),
                (1_000_001, 0, (ErrorCode::None, -1)),
                (-1, 1, (ErrorCode::None, 0)),
                (-1, 3, (ErrorCode::UnknownTopicOrPartition, -1)),
                (-3, 0, from(7, 0)),
                (-4, 0, from(8, 0)),
                (-5, 0, from(9, -1)),
                (-6, 0, from(11, -1)),
                (-7, 0, (ErrorCode::UnsupportedVersion, -1)),
            ] {
                let partition = ListOffsetsPartition {
                    partition_index,
                    timestamp,
                    ..ListOffsetsPartition::default()
                };
                let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
                let request = ListOffsetsRequest {
                    replica_id: -1,
                    topics: vec![topic],
                    ..Default::default()
                };
                let answer = client.ask(version, &request).await;
                let part = &answer.topics[0].partitions[0];
                let what = format!("version {version} time {timestamp} of {partition_index}");
                assert_eq!((part.error_code, part.offset), found, "{what}");
            }
        }
    });
}
