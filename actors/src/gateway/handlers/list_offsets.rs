//! ListOffsets: the ends of partitions, and the first offset of a time.

use std::sync::Arc;

use crate::{
    broker::{
        names::{Isolation, PartitionId, TopicName, TopicPartition},
        partition::messages::{At, FindOffset},
    },
    gateway::{
        Shared,
        context::{Operation, RequestContext, Resource, authorize},
        error_code::ErrorCode,
        messages::list_offsets::{
            ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest,
            ListOffsetsResponse, ListOffsetsTopicResponse,
        },
    },
};

/// What stands for a place instead of a time.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// The first offset on local disks, which here is the first of all (KIP-405).
const EARLIEST_LOCAL: i64 = -4;
/// The last offset in tiered storage, and the first that is not there yet: of a topic that is kept on
/// local disks alone Kafka knows neither, and there is no tiered storage here.
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// First version that tells the epoch of what was found.
const EPOCH_FIRST: i16 = 4;

pub(in crate::gateway) async fn handle(
    shared: Arc<Shared>,
    context: RequestContext,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation = match request.isolation_level {
        0 => Isolation::Uncommitted,
        _ => Isolation::Committed,
    };
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let asked = topic.partitions.iter();
        let asked = asked.map(|part| one(&shared, &context, &topic.name, part, isolation));
        let partitions = futures::future::join_all(asked).await;
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    ListOffsetsResponse { throttle_time_ms: context.throttle_time_ms(), topics }
}

async fn one(
    shared: &Shared,
    context: &RequestContext,
    topic: &str,
    part: &ListOffsetsPartition,
    isolation: Isolation,
) -> ListOffsetsPartitionResponse {
    let mut response = ListOffsetsPartitionResponse {
        partition_index: part.partition_index,
        ..ListOffsetsPartitionResponse::default()
    };
    match find(shared, context, topic, part, isolation).await {
        Ok(Some(found)) => {
            response.offset = i64::try_from(found.offset.0).unwrap_or(i64::MAX);
            response.timestamp = found.timestamp_ms;
            let epoch = found.epoch.filter(|_| context.version >= EPOCH_FIRST);
            response.leader_epoch = epoch.map_or(-1, |epoch| epoch.0 as i32);
        }
        Ok(None) => {}
        Err(error) => response.error_code = error,
    }
    response
}

async fn find(
    shared: &Shared,
    context: &RequestContext,
    topic: &str,
    part: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<Option<crate::broker::partition::messages::FoundOffset>, ErrorCode> {
    if !authorize(context, Operation::Describe, Resource::Topic(topic)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    // Each with the first version that has it, as in Kafka.
    let at = match (part.timestamp, context.version) {
        (LATEST, _) => At::Latest,
        (EARLIEST, _) | (EARLIEST_LOCAL, 8..) => At::Earliest,
        (MAX_TIMESTAMP, 7..) => At::MaxTimestamp,
        (LATEST_TIERED, 9..) | (EARLIEST_PENDING_UPLOAD, 11..) => return Ok(None),
        (time, _) if time >= 0 => At::Timestamp(time),
        _ => return Err(ErrorCode::UnsupportedVersion),
    };
    let name: TopicName = topic.parse().map_err(|_| ErrorCode::UnknownTopicOrPartition)?;
    let number = u32::try_from(part.partition_index);
    let number = number.map_err(|_| ErrorCode::UnknownTopicOrPartition)?;
    let topics = shared.broker.topics();
    let assigned = topics.get(&name).and_then(|topic| topic.partitions.get(number as usize));
    let assigned = assigned.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    super::check_epoch(part.current_leader_epoch, assigned.leader_epoch)?;
    let partition = TopicPartition { topic: name, partition: PartitionId(number) };
    let address = shared.broker.partition(&partition).ok_or(ErrorCode::NotLeaderOrFollower)?;
    match address.send(FindOffset { isolation, ..FindOffset::new(at) }).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err((&error).into()),
        Err(_) => Err(ErrorCode::NotLeaderOrFollower),
    }
}
