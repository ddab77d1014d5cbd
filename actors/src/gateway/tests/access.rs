//! Each API under rules that allow nothing, or nothing to topics; and what a client is told that is
//! throttled.

use std::{collections::BTreeMap, fmt::Debug};

use tokio::time::Instant;

use super::*;
use crate::gateway::{
    api::ApiKey,
    context::{
        Operation, Resource,
        rules::{self, Rules},
    },
    messages::{
        self,
        metadata::MetadataRequest,
        offset_commit::{
            OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
        },
    },
};

/// What each API answered, as it is printed.
#[derive(Default)]
struct Told(BTreeMap<ApiKey, String>);

impl Told {
    /// Asks in the newest version that is served.
    async fn ask<R: Request>(&mut self, client: &mut Client, request: &R)
    where
        R::Response: Debug,
    {
        let version = R::API.versions().unwrap().advertised_last;
        let answer = format!("{:?}", client.ask(version, request).await);
        self.0.insert(R::API, answer);
    }

    /// The APIs whose answers do not have one of these words.
    fn without(&self, words: &[&str]) -> Vec<ApiKey> {
        let lacks = |told: &str| !words.iter().any(|word| told.contains(word));
        self.0.iter().filter(|(_, told)| lacks(told)).map(|(api, _)| *api).collect()
    }
}

/// Everything that can be asked of `t`, whose id is `topic_id`, and of a group `g`.
async fn ask_all(world: &World, topic_id: Uuid) -> Told {
    let (mut client, mut told) = (world.connect().await, Told::default());
    ask_of_groups(&mut client, &mut told, topic_id).await;
    ask_of_settings(&mut client, &mut told).await;
    ask_of_records(&mut client, &mut told, topic_id).await;
    ask_of_topics(&mut client, &mut told, topic_id).await;
    told
}

fn committing(topic_id: Uuid) -> OffsetCommitRequest {
    let partitions = vec![OffsetCommitRequestPartition::default()];
    let topics = vec![OffsetCommitRequestTopic { topic_id, partitions, ..Default::default() }];
    OffsetCommitRequest { group_id: "g".into(), topics, ..Default::default() }
}

async fn ask_of_groups(client: &mut Client, told: &mut Told, topic_id: Uuid) {
    use messages::{
        delete_groups::DeleteGroupsRequest, describe_groups::DescribeGroupsRequest,
        find_coordinator::FindCoordinatorRequest, heartbeat::HeartbeatRequest,
        join_group::JoinGroupRequest, leave_group::*, list_groups::ListGroupsRequest,
        offset_delete::*, offset_fetch::*, sync_group::SyncGroupRequest,
    };
    let (group_id, groups) = (|| "g".into(), || vec!["g".into()]);
    let coordinator_keys = groups();
    let found = FindCoordinatorRequest { coordinator_keys, ..Default::default() };
    told.ask(client, &found).await;
    let (session_timeout_ms, rebalance_timeout_ms) = (6_000, 6_000);
    let group = JoinGroupRequest { group_id: group_id(), ..Default::default() };
    let join = JoinGroupRequest { session_timeout_ms, rebalance_timeout_ms, ..group };
    told.ask(client, &join).await;
    let group = group_id();
    told.ask(client, &SyncGroupRequest { group_id: group, ..Default::default() }).await;
    let group = group_id();
    told.ask(client, &HeartbeatRequest { group_id: group, ..Default::default() }).await;
    let members = vec![MemberIdentity::default()];
    let leave = LeaveGroupRequest { group_id: group_id(), members, ..Default::default() };
    told.ask(client, &leave).await;
    let groups_asked = DescribeGroupsRequest { groups: groups(), ..Default::default() };
    told.ask(client, &groups_asked).await;
    told.ask(client, &ListGroupsRequest::default()).await;

    told.ask(client, &committing(topic_id)).await;
    let partition_indexes = vec![0];
    let topics = OffsetFetchRequestTopics { topic_id, partition_indexes, ..Default::default() };
    let group = OffsetFetchRequestGroup { group_id: group_id(), ..Default::default() };
    let group = OffsetFetchRequestGroup { topics: Some(vec![topics]), ..group };
    told.ask(client, &OffsetFetchRequest { groups: vec![group], ..Default::default() }).await;
    let partitions = vec![OffsetDeleteRequestPartition { partition_index: 0 }];
    let topics = vec![OffsetDeleteRequestTopic { name: "t".into(), partitions }];
    told.ask(client, &OffsetDeleteRequest { group_id: group_id(), topics }).await;
    told.ask(client, &DeleteGroupsRequest { groups_names: groups() }).await;
}

async fn ask_of_settings(client: &mut Client, told: &mut Told) {
    use messages::{
        alter_configs, describe_configs::*, incremental_alter_configs as incremental,
        list_config_resources::ListConfigResourcesRequest,
    };
    let (resource_type, resource_name) = (2, || "t".into());
    let resource = DescribeConfigsResource { resource_type, ..Default::default() };
    let resource = DescribeConfigsResource { resource_name: resource_name(), ..resource };
    let describe = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    told.ask(client, &describe).await;
    let (resource_name, configs) = ("t".into(), Vec::new());
    let resource = alter_configs::AlterConfigsResource { resource_type, resource_name, configs };
    let alter =
        alter_configs::AlterConfigsRequest { resources: vec![resource], ..Default::default() };
    told.ask(client, &alter).await;
    let (resource_name, configs) = ("t".into(), Vec::new());
    let resource = incremental::AlterConfigsResource { resource_type, resource_name, configs };
    let alter = incremental::IncrementalAlterConfigsRequest {
        resources: vec![resource],
        ..Default::default()
    };
    told.ask(client, &alter).await;
    told.ask(client, &ListConfigResourcesRequest::default()).await;
}

async fn ask_of_records(client: &mut Client, told: &mut Told, topic_id: Uuid) {
    use messages::{
        delete_records::*, describe_producers::*, init_producer_id::InitProducerIdRequest,
        list_offsets::*, offset_for_leader_epoch::*,
    };
    told.ask(client, &InitProducerIdRequest::default()).await;
    told.ask(client, &produce(-1, vec![(0, batch(&["a"]).freeze())])).await;
    let mut read = fetch(&[(0, 0)]);
    read.topics[0].topic_id = topic_id;
    told.ask(client, &read).await;
    let name = || "t".into();
    let partitions = vec![ListOffsetsPartition { timestamp: -1, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: name(), partitions }];
    told.ask(client, &ListOffsetsRequest { topics, ..Default::default() }).await;
    let partitions = vec![OffsetForLeaderPartition::default()];
    let topics = vec![OffsetForLeaderTopic { topic: name(), partitions }];
    told.ask(client, &OffsetForLeaderEpochRequest { topics, ..Default::default() }).await;
    let topics = vec![TopicRequest { name: name(), partition_indexes: vec![0] }];
    told.ask(client, &DescribeProducersRequest { topics }).await;
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 0 }];
    let topics = vec![DeleteRecordsTopic { name: name(), partitions }];
    told.ask(client, &DeleteRecordsRequest { topics, timeout_ms: 0 }).await;
}

async fn ask_of_topics(client: &mut Client, told: &mut Told, topic_id: Uuid) {
    use messages::{
        api_versions::ApiVersionsRequest, create_partitions::*, create_topics::*, delete_topics::*,
        describe_cluster::DescribeClusterRequest, describe_log_dirs::DescribeLogDirsRequest,
        describe_topic_partitions::*, metadata::*,
    };
    told.ask(client, &ApiVersionsRequest::default()).await;
    told.ask(client, &DescribeClusterRequest::default()).await;
    told.ask(client, &DescribeLogDirsRequest::default()).await;
    let topics = vec![TopicRequest { name: "t".into() }];
    told.ask(client, &DescribeTopicPartitionsRequest { topics, ..Default::default() }).await;
    let topics = Some(vec![MetadataRequestTopic { topic_id, name: None }]);
    told.ask(client, &MetadataRequest { topics, ..Default::default() }).await;
    let topic = CreatableTopic { name: "u".into(), num_partitions: 1, ..Default::default() };
    let topics = vec![CreatableTopic { replication_factor: 1, ..topic }];
    told.ask(client, &CreateTopicsRequest { topics, ..Default::default() }).await;
    let topics = vec![CreatePartitionsTopic { name: "t".into(), count: 4, assignments: None }];
    told.ask(client, &CreatePartitionsRequest { topics, ..Default::default() }).await;
    let topics = vec![DeleteTopicState { topic_id, name: None }];
    told.ask(client, &DeleteTopicsRequest { topics, ..Default::default() }).await;
}

fn is_topic(resource: Resource<'_>) -> bool {
    matches!(resource, Resource::Topic(_))
}

fn ruled(allow: fn(Operation, Resource<'_>) -> bool) -> impl Drop {
    rules::set(Rules { allow, ..rules::NONE })
}

#[test]
fn every_api_asks_whether_it_may() {
    paused(async {
        let world = World::with_topic().await;
        let topic_id = world.broker.topics()[&"t".parse().unwrap()].id;
        let mut client = world.connect().await;
        // With a group of which there is something to delete.
        world.broker.coordinator(&"g".into()).await.unwrap();
        pass(Duration::from_secs(1)).await;
        let committed = client.ask(10, &committing(topic_id)).await;
        assert_eq!(committed.topics[0].partitions[0].error_code, ErrorCode::None);

        let rules = ruled(|_, _| false);
        let told = ask_all(&world, topic_id).await;
        let asked: Vec<_> = told.0.keys().copied().collect();
        let served: Vec<_> = ApiKey::advertised().map(|(api, _)| api).collect();
        assert_eq!(asked, served, "all of them are asked");
        // Where there is no single thing that is not allowed, nothing is told.
        let refused = ["AuthorizationFailed", "groups: []"];
        assert_eq!(told.without(&refused), [ApiKey::ApiVersions, ApiKey::DescribeCluster]);
        let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
        assert_eq!(client.ask(13, &all).await.topics, []);
        let all = messages::describe_topic_partitions::DescribeTopicPartitionsRequest::default();
        assert_eq!(client.ask(0, &all).await.topics, []);
        drop(rules);

        let rules = ruled(|_, resource| !is_topic(resource));
        let told = ask_all(&world, topic_id).await;
        let about_topics: Vec<_> = told
            .0
            .iter()
            .filter(|(_, told)| told.contains("TopicAuthorizationFailed"))
            .map(|(api, _)| *api)
            .collect();
        use ApiKey::*;
        let wanted = [
            Produce,
            Fetch,
            ListOffsets,
            Metadata,
            OffsetCommit,
            OffsetFetch,
            CreateTopics,
            DeleteTopics,
            DeleteRecords,
            OffsetForLeaderEpoch,
            DescribeConfigs,
            AlterConfigs,
            CreatePartitions,
            IncrementalAlterConfigs,
            OffsetDelete,
            DescribeProducers,
            DescribeTopicPartitions,
        ];
        assert_eq!(about_topics, wanted);
        drop(rules);

        let told = ask_all(&world, topic_id).await;
        assert_eq!(told.without(&["AuthorizationFailed"]), served, "it was for the rules");
    });
}

/// Also one that is not answered: nothing else would hold back who produces without acks.
#[test]
fn a_client_that_is_to_hold_back_is_told_so_and_is_not_read_from_meanwhile() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        let pause = Duration::from_secs(2);
        let _rules = rules::set(Rules { pause, ..rules::NONE });
        let begin = Instant::now();
        let acked = client.ask(9, &produce(1, vec![(0, batch(&["a"]).freeze())])).await;
        let told = client.ask(9, &MetadataRequest::default()).await;
        assert_eq!((acked.throttle_time_ms, told.throttle_time_ms), (2_000, 2_000));
        assert_eq!(begin.elapsed().as_secs(), 2, "the second was read when that was over");
        pass(pause).await;

        let begin = Instant::now();
        client.send(9, &produce(0, vec![(0, batch(&["a"]).freeze())])).await;
        pass(Duration::from_millis(10)).await;
        client.ask(9, &MetadataRequest::default()).await;
        assert_eq!(begin.elapsed().as_secs(), 2);
    });
}
