//! What clients and tools are told of the node: what lies where, how much room there is, and who leads.

use super::*;
use crate::gateway::messages::{
    describe_log_dirs::DescribeLogDirsRequest,
    describe_topic_partitions::DescribeTopicPartitionsRequest,
    metadata::{MetadataRequest, MetadataRequestTopic},
};

#[test]
fn a_directory_is_told_with_its_partitions_and_the_room_on_its_file_system() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        // Until the node has looked once more.
        pass(Duration::from_secs(2)).await;
        let told = client.ask(4, &DescribeLogDirsRequest::default()).await.results;
        let [dir] = &told[..] else { panic!("{told:?}") };
        assert_eq!(&*dir.log_dir, "/data");
        assert_eq!(dir.topics[0].partitions.len(), 3);
        assert_eq!(dir.total_bytes, Faults::none().capacity as i64);
        let room = &world.broker.directories()[0].room;
        assert_eq!(dir.usable_bytes, room.free() as i64);
        assert!((1..dir.total_bytes).contains(&dir.usable_bytes), "{}", dir.usable_bytes);
    });
}

/// As in Kafka: a client waits until somebody leads it again, and sends nowhere meanwhile.
#[test]
fn nobody_leads_a_partition_that_is_offline_until_it_is_served_again() {
    paused(async {
        let disks = disks(Faults::none());
        let world = World::on(machine(&disks), Limits::default(), broker_spec()).await;
        world.broker.create_topic(TopicSpec::new("t", 2).unwrap()).await.unwrap();
        let mut client = world.connect().await;
        let topic_id = world.broker.topics()[&"t".parse().unwrap()].id;
        let by_id = MetadataRequestTopic { topic_id, name: None };
        let by_name = MetadataRequestTopic { name: Some("t".into()), ..Default::default() };
        // Of each partition: its error, who leads it, who is in sync, and on whom it is offline.
        let told = async |client: &mut Client| {
            let all = MetadataRequest { topics: None, ..Default::default() };
            let topics = client.ask(13, &all).await.topics;
            for one in [by_id.clone(), by_name.clone()] {
                let one = MetadataRequest { topics: Some(vec![one]), ..Default::default() };
                assert_eq!(client.ask(13, &one).await.topics, topics, "however it is named");
            }
            let metadata = topics[0].partitions.iter().map(|part| {
                let nodes = (part.isr_nodes.clone(), part.offline_replicas.clone());
                (part.error_code, part.leader_id, nodes)
            });
            let all = DescribeTopicPartitionsRequest::default();
            let described = client.ask(0, &all).await.topics[0].partitions.clone();
            let described = described.into_iter().map(|part| {
                let nodes = (part.isr_nodes, part.offline_replicas);
                (part.error_code, part.leader_id, nodes)
            });
            (metadata.collect::<Vec<_>>(), described.collect::<Vec<_>>())
        };
        let none = ErrorCode::None;
        let well = (none, 1, (vec![1], vec![]));
        let both_well = vec![well.clone(), well.clone()];
        assert_eq!(told(&mut client).await, (both_well.clone(), both_well.clone()));

        disks.set_faults(Faults { sync_errors: 1_000_000, ..Faults::none() });
        let refused = client.ask(9, &produce(-1, vec![(1, batch(&["a"]).freeze())])).await;
        let refused = &refused.responses[0].partition_responses[0];
        assert_eq!(refused.error_code, ErrorCode::KafkaStorageError);
        disks.set_faults(Faults::none());
        let gone = |error| (error, -1, (vec![1], vec![1]));
        let metadata = vec![well.clone(), gone(ErrorCode::LeaderNotAvailable)];
        assert_eq!(told(&mut client).await, (metadata, vec![well, gone(none)]));
        let still = client.ask(9, &produce(-1, vec![(1, batch(&["a"]).freeze())])).await;
        let still = &still.responses[0].partition_responses[0];
        assert_eq!(still.error_code, ErrorCode::KafkaStorageError, "who asks is told why");

        world.root.inject_panic("partition/t-1").await.unwrap();
        pass(Duration::from_secs(5)).await;
        assert_eq!(told(&mut client).await, (both_well.clone(), both_well));
        let served = client.ask(9, &produce(-1, vec![(1, batch(&["a"]).freeze())])).await;
        assert_eq!(served.responses[0].partition_responses[0].error_code, none);
    });
}

#[test]
fn a_partition_whose_directory_was_not_given_is_offline() {
    paused(async {
        let disks = disks(Faults::none());
        disks.install(Path::new("/more/.keep"), b"");
        let mut both = broker_spec();
        both.directories.push(Arc::new(DataDirectory::new(Uuid::from_u128(2), "/more")));
        let world = World::on(machine(&disks), Limits::default(), both).await;
        world.broker.create_topic(TopicSpec::new("t", 2).unwrap()).await.unwrap();
        world.root.stop().await;

        let world = World::on(machine(&disks), Limits::default(), broker_spec()).await;
        let mut client = world.connect().await;
        let all = MetadataRequest { topics: None, ..Default::default() };
        let told = client.ask(13, &all).await.topics;
        let leaders: Vec<_> = told[0].partitions.iter().map(|part| part.leader_id).collect();
        assert_eq!(leaders, [1, -1]);
    });
}
