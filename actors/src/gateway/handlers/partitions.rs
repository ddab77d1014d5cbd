//! DeleteRecords, OffsetForLeaderEpoch, DescribeProducers: questions to single partitions.

use std::sync::Arc;

use actix::Addr;
use bytestring::ByteString;
use flumen_runtime::ids::{LeaderEpoch, Offset};

use crate::{
    broker::{
        OFFSETS_TOPIC,
        names::{PartitionId, TopicName, TopicPartition},
        partition::{
            Partition,
            messages::{self, FetchError, FindEpochEnd, Status, TrimTo},
        },
    },
    gateway::{
        Shared,
        context::{Operation, RequestContext, Resource, authorize},
        error_code::ErrorCode,
        large::Allowance,
        messages::{
            delete_records::{
                DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
                DeleteRecordsResponse, DeleteRecordsTopicResult,
            },
            describe_producers::{
                DescribeProducersRequest, DescribeProducersResponse, PartitionResponse,
                ProducerState, TopicResponse,
            },
            offset_for_leader_epoch::{
                EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
                OffsetForLeaderPartition, OffsetForLeaderTopicResult,
            },
        },
    },
};

/// The actor in charge of a partition that the client may do `operation` to.
fn find(
    shared: &Shared,
    context: &RequestContext,
    operation: Operation,
    topic: &str,
    number: i32,
) -> Result<Addr<Partition>, ErrorCode> {
    if !authorize(context, operation, Resource::Topic(topic)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let topic: TopicName = topic.parse().map_err(|_| ErrorCode::UnknownTopicOrPartition)?;
    let number = u32::try_from(number).map_err(|_| ErrorCode::UnknownTopicOrPartition)?;
    let topics = shared.broker.topics();
    let known = topics.get(&topic).is_some_and(|topic| (number as usize) < topic.partitions.len());
    if !known {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    let partition = TopicPartition { topic, partition: PartitionId(number) };
    shared.broker.partition(&partition).ok_or(ErrorCode::NotLeaderOrFollower)
}

// ---- DeleteRecords -----------------------------------------------------------------------------

pub(in crate::gateway) async fn delete_records(
    shared: Arc<Shared>,
    context: RequestContext,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let context = context.within(request.timeout_ms);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for part in &topic.partitions {
            let trimmed = context.in_time(trim(&shared, &context, &topic.name, part)).await;
            let (low_watermark, error_code) = match trimmed {
                Some(Ok(start)) => (start.0 as i64, ErrorCode::None),
                Some(Err(error)) => (-1, error),
                None => (-1, ErrorCode::RequestTimedOut),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: part.partition_index,
                low_watermark,
                error_code,
            });
        }
        topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    DeleteRecordsResponse { throttle_time_ms: context.throttle_time_ms(), topics }
}

/// Offset −1 stands for the high watermark: everything that is committed goes.
async fn trim(
    shared: &Shared,
    context: &RequestContext,
    topic: &str,
    part: &DeleteRecordsPartition,
) -> Result<Offset, ErrorCode> {
    let partition = find(shared, context, Operation::Delete, topic, part.partition_index)?;
    // What groups have committed stands nowhere else.
    if topic == OFFSETS_TOPIC {
        return Err(ErrorCode::InvalidTopicException);
    }
    // Refused as by Kafka: who reads such a topic takes the last record of each key to be there.
    let (topics, topic) = (shared.broker.topics(), topic.parse::<TopicName>());
    if topic.is_ok_and(|topic| topics.get(&topic).is_some_and(|topic| topic.settings.keeps_last()))
    {
        return Err(ErrorCode::PolicyViolation);
    }
    let offset = match u64::try_from(part.offset) {
        Ok(offset) => Offset(offset),
        Err(_) if part.offset == -1 => {
            let status = partition.send(Status).await;
            status.map_err(|_| ErrorCode::NotLeaderOrFollower)?.marks.high_watermark
        }
        Err(_) => return Err(ErrorCode::OffsetOutOfRange),
    };
    match partition.send(TrimTo { offset }).await {
        Ok(Ok(start)) => Ok(start),
        Ok(Err(error)) => Err((&error).into()),
        Err(_) => Err(ErrorCode::NotLeaderOrFollower),
    }
}

// ---- OffsetForLeaderEpoch ----------------------------------------------------------------------

pub(in crate::gateway) async fn epoch_ends(
    shared: Arc<Shared>,
    context: RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for part in &topic.partitions {
            partitions.push(epoch_end(&shared, &context, &topic.topic, part).await);
        }
        topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    OffsetForLeaderEpochResponse { throttle_time_ms: context.throttle_time_ms(), topics }
}

async fn epoch_end(
    shared: &Shared,
    context: &RequestContext,
    topic: &ByteString,
    part: &OffsetForLeaderPartition,
) -> EpochEndOffset {
    let mut end = EpochEndOffset { partition: part.partition, ..EpochEndOffset::default() };
    let asked = async {
        let partition = find(shared, context, Operation::Describe, topic, part.partition)?;
        let of = u32::try_from(part.leader_epoch).map_err(|_| ErrorCode::InvalidRequest)?;
        let epoch = u32::try_from(part.current_leader_epoch).ok().map(LeaderEpoch);
        let found = partition.send(FindEpochEnd { of: LeaderEpoch(of), epoch }).await;
        match found {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(FetchError::NotLeader(current))) if current.is_leader => {
                Err(match epoch.is_some_and(|epoch| epoch > current.epoch) {
                    true => ErrorCode::UnknownLeaderEpoch,
                    false => ErrorCode::FencedLeaderEpoch,
                })
            }
            Ok(Err(error)) => Err((&error).into()),
            Err(_) => Err(ErrorCode::NotLeaderOrFollower),
        }
    };
    match asked.await {
        Ok(Some(found)) => {
            end.leader_epoch = i32::try_from(found.epoch.0).unwrap_or(i32::MAX);
            end.end_offset = found.end.0 as i64;
        }
        Ok(None) => {}
        Err(error) => end.error_code = error,
    }
    end
}

// ---- DescribeProducers -------------------------------------------------------------------------

pub(in crate::gateway) async fn producers(
    shared: Arc<Shared>,
    context: RequestContext,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    context.turn.begin(&shared.turns.gathered).await;
    let mut allowance = Allowance::default();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for partition_index in topic.partition_indexes {
            if !allowance.is_left() {
                partitions.push(PartitionResponse {
                    partition_index,
                    error_code: ErrorCode::PolicyViolation,
                    error_message: Some(Allowance::OVER.into()),
                    ..PartitionResponse::default()
                });
                continue;
            }
            let found = producers_of(&shared, &context, &topic.name, partition_index).await;
            allowance.spend(size_of_val(&*found.active_producers));
            partitions.push(found);
        }
        topics.push(TopicResponse { name: topic.name, partitions });
    }
    DescribeProducersResponse { throttle_time_ms: context.throttle_time_ms(), topics }
}

async fn producers_of(
    shared: &Shared,
    context: &RequestContext,
    topic: &str,
    partition_index: i32,
) -> PartitionResponse {
    let mut response = PartitionResponse { partition_index, ..PartitionResponse::default() };
    let partition = match find(shared, context, Operation::Read, topic, partition_index) {
        Ok(partition) => partition,
        Err(error) => {
            response.error_code = error;
            return response;
        }
    };
    match partition.send(messages::DescribeProducers).await {
        Ok(Ok(producers)) => {
            let states = producers.into_iter().map(|one| ProducerState {
                producer_id: one.producer.0,
                producer_epoch: i32::from(one.epoch),
                last_sequence: one.last_sequence,
                last_timestamp: one.used_ms,
                coordinator_epoch: one.coordinator_epoch,
                current_txn_start_offset: one.transaction_first.map_or(-1, |at| at.0 as i64),
            });
            response.active_producers = states.collect();
        }
        Ok(Err(error)) => {
            response.error_code = (&error).into();
            response.error_message = Some(error.to_string().into());
        }
        Err(_) => response.error_code = ErrorCode::NotLeaderOrFollower,
    }
    response
}
