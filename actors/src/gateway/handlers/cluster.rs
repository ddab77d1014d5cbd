//! DescribeCluster, DescribeTopicPartitions, DescribeLogDirs: what there is, for people and their
//! tools.

use std::sync::Arc;

use bytestring::ByteString;

use super::leading;
use crate::{
    broker::{
        Topic,
        names::{TopicName, TopicPartition},
        partition::messages::Status,
    },
    gateway::{
        Shared,
        context::{Operation, RequestContext, Resource, authorize},
        error_code::ErrorCode,
        messages::{
            describe_cluster::{
                DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
            },
            describe_log_dirs::{
                DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
                DescribeLogDirsResult, DescribeLogDirsTopic,
            },
            describe_topic_partitions::{
                Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
                DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
            },
        },
    },
};

/// Most partitions in one page, whatever the client allows.
const PAGE_MAX: usize = 2_000;
/// What kind of endpoint DescribeCluster can tell of.
const BROKERS: i8 = 1;

pub(in crate::gateway) async fn describe(
    shared: Arc<Shared>,
    context: RequestContext,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let mut response = DescribeClusterResponse {
        throttle_time_ms: context.throttle_time_ms(),
        cluster_id: shared.cluster.clone(),
        controller_id: shared.node.0,
        ..DescribeClusterResponse::default()
    };
    if request.endpoint_type != BROKERS {
        response.error_code = ErrorCode::UnsupportedEndpointType;
        let why = "clients reach brokers here; controllers have no listener of their own";
        response.error_message = Some(why.into());
        return response;
    }
    response.brokers.push(DescribeClusterBroker {
        broker_id: shared.node.0,
        host: ByteString::from(&*context.listener.host),
        port: i32::from(context.listener.port),
        rack: None,
        is_fenced: false,
    });
    response
}

pub(in crate::gateway) async fn topic_partitions(
    shared: Arc<Shared>,
    context: RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let topics = shared.broker.topics();
    let may_see = |name: &str| authorize(&context, Operation::Describe, Resource::Topic(name));
    let mut names: Vec<ByteString> = match request.topics.is_empty() {
        true => {
            let seen = topics.keys().map(TopicName::as_str).filter(|name| may_see(name));
            seen.map(Into::into).collect()
        }
        false => request.topics.into_iter().map(|topic| topic.name).collect(),
    };
    names.sort();
    names.dedup();
    let from = request.cursor.unwrap_or_default();
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(1);
    let mut left = limit.clamp(1, PAGE_MAX);
    let mut response = DescribeTopicPartitionsResponse {
        throttle_time_ms: context.throttle_time_ms(),
        ..DescribeTopicPartitionsResponse::default()
    };
    for name in names.into_iter().filter(|name| *name >= from.topic_name) {
        let first = if name == from.topic_name { from.partition_index.max(0) } else { 0 };
        if left == 0 {
            response.next_cursor = Some(Cursor { topic_name: name, partition_index: first });
            break;
        }
        let found = match (may_see(&name), name.parse::<TopicName>()) {
            (false, _) => Err(ErrorCode::TopicAuthorizationFailed),
            (true, Ok(topic)) => topics.get(&topic).ok_or(ErrorCode::UnknownTopicOrPartition),
            (true, Err(_)) => Err(ErrorCode::UnknownTopicOrPartition),
        };
        let topic = match found {
            Ok(topic) => topic,
            Err(error_code) => {
                response.topics.push(DescribeTopicPartitionsResponseTopic {
                    error_code,
                    name: Some(name),
                    ..DescribeTopicPartitionsResponseTopic::default()
                });
                continue;
            }
        };
        let page = page(&shared, topic, first, left);
        let next = first as usize + page.partitions.len();
        left -= page.partitions.len();
        response.topics.push(page);
        if next < topic.partitions.len() {
            let partition_index = i32::try_from(next).unwrap_or(i32::MAX);
            response.next_cursor = Some(Cursor { topic_name: name, partition_index });
            break;
        }
    }
    response
}

fn page(
    shared: &Shared,
    topic: &Topic,
    first: i32,
    most: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = topic.partitions.iter().zip(0..).skip(first as usize).take(most);
    let partitions = partitions.map(|(assigned, partition_index)| {
        let (leader_id, offline_replicas) = leading(shared, topic, partition_index);
        DescribeTopicPartitionsResponsePartition {
            // As in Kafka, also where nobody leads it.
            error_code: ErrorCode::None,
            partition_index,
            leader_id,
            leader_epoch: i32::try_from(assigned.leader_epoch.0).unwrap_or(i32::MAX),
            replica_nodes: vec![assigned.leader.0],
            isr_nodes: assigned.in_sync.iter().map(|node| node.0).collect(),
            // None, though they may be null: Kafka's clients for Java do not expect that.
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas,
        }
    });
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::None,
        name: Some(topic.name.as_str().into()),
        topic_id: topic.id,
        is_internal: topic.is_internal,
        partitions: partitions.collect(),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

pub(in crate::gateway) async fn log_dirs(
    shared: Arc<Shared>,
    context: RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let mut response = DescribeLogDirsResponse {
        throttle_time_ms: context.throttle_time_ms(),
        ..DescribeLogDirsResponse::default()
    };
    if !authorize(&context, Operation::Describe, Resource::Cluster) {
        response.error_code = ErrorCode::ClusterAuthorizationFailed;
        return response;
    }
    context.turn.begin(&shared.turns.gathered).await;
    let topics = shared.broker.topics();
    for directory in shared.broker.directories() {
        let mut result = DescribeLogDirsResult {
            log_dir: directory.path.display().to_string().into(),
            total_bytes: seen(directory.room.total()),
            usable_bytes: seen(directory.room.free()),
            ..DescribeLogDirsResult::default()
        };
        for topic in topics.values() {
            let asked = request
                .topics
                .as_ref()
                .map(|asked| asked.iter().filter(|one| *one.topic == *topic.name.as_str()));
            let numbers: Option<Vec<i32>> =
                asked.map(|asked| asked.flat_map(|one| one.partitions.iter().copied()).collect());
            let mut partitions = Vec::new();
            for (assigned, number) in topic.partitions.iter().zip(0..) {
                let is_asked = numbers.as_ref().is_none_or(|numbers| numbers.contains(&number));
                if assigned.directory == directory.id && is_asked {
                    partitions.push(size(&shared, topic, number).await);
                }
            }
            if !partitions.is_empty() {
                let name = topic.name.as_str().into();
                result.topics.push(DescribeLogDirsTopic { name, partitions });
            }
        }
        response.results.push(result);
    }
    response
}

/// Bytes of a file system as they are told (KIP-827): what is beyond all numbers was not looked at yet.
fn seen(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(-1)
}

async fn size(shared: &Shared, topic: &Topic, number: i32) -> DescribeLogDirsPartition {
    let partition = crate::broker::names::PartitionId(number.unsigned_abs());
    let name = TopicPartition { topic: topic.name.clone(), partition };
    let status = match shared.broker.partition(&name) {
        Some(address) => address.send(Status).await.ok(),
        None => None,
    };
    DescribeLogDirsPartition {
        partition_index: number,
        partition_size: status.map_or(0, |status| status.bytes as i64),
        offset_lag: 0,
        is_future_key: false,
    }
}
