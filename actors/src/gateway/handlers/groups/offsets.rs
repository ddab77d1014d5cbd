//! OffsetCommit, OffsetFetch, OffsetDelete: how far a group has come.
//!
//! From version 10 of the first two on topics are named by their ids only; what is kept is by name.

use std::{collections::BTreeMap, sync::Arc};

use bytestring::ByteString;
use flumen_runtime::ids::{LeaderEpoch, Offset};
use uuid::Uuid;

use super::{ask, generation, instance, member, partition, text};
use crate::{
    broker::{
        group_coordinator::{
            ids::GroupId,
            messages::{
                CommitOffsets, CommittedOffsets, DeleteOffsets, FetchOffsets, FetchedOffsets,
                OffsetToCommit,
            },
            records::CommittedOffset,
        },
        names::TopicPartition,
    },
    gateway::{
        Shared,
        context::{Operation, RequestContext, Resource, authorize},
        error_code::ErrorCode,
        large::Allowance,
        messages::{
            offset_commit::{
                OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
                OffsetCommitResponsePartition, OffsetCommitResponseTopic,
            },
            offset_delete::{
                OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
                OffsetDeleteResponseTopic,
            },
            offset_fetch::{
                OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
                OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
                OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
            },
        },
    },
};

/// First version in which topics are named by their ids.
const TOPIC_ID_FIRST: i16 = 10;
/// First version of OffsetFetch that asks for several groups.
const GROUPS_FIRST: i16 = 8;

/// Answers with so many offsets are not large: a consumer that begins waits for nobody's turn.
const FEW: usize = 100;

/// The name of a topic that the request names in the way of its version.
fn topic_name(
    shared: &Shared,
    version: i16,
    name: &ByteString,
    id: Uuid,
) -> Result<ByteString, ErrorCode> {
    if version < TOPIC_ID_FIRST {
        return Ok(name.clone());
    }
    let topics = shared.broker.topics();
    topics.by_id(id).map(|topic| text(topic.name.as_str())).ok_or(ErrorCode::UnknownTopicId)
}

fn may(context: &RequestContext, operation: Operation, topic: &str) -> Result<(), ErrorCode> {
    match authorize(context, operation, Resource::Topic(topic)) {
        true => Ok(()),
        false => Err(ErrorCode::TopicAuthorizationFailed),
    }
}

/// Whether the partition is there; offsets of what is not are not kept.
fn exists(shared: &Shared, partition: &TopicPartition) -> bool {
    let topics = shared.broker.topics();
    let topic = topics.get(&partition.topic);
    topic.is_some_and(|topic| (partition.partition.0 as usize) < topic.partitions.len())
}

// ---- Commit ------------------------------------------------------------------------------------

pub(in crate::gateway) async fn commit(
    shared: Arc<Shared>,
    context: RequestContext,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let mut refused: BTreeMap<(usize, usize), ErrorCode> = BTreeMap::new();
    let mut offsets = Vec::new();
    for (at, topic) in request.topics.iter().enumerate() {
        let named = commit_topic(&shared, &context, topic);
        for (within, part) in topic.partitions.iter().enumerate() {
            let checked = named.clone().and_then(|name| {
                let partition = partition(&name, part.partition_index)?;
                let offset = u64::try_from(part.committed_offset);
                let offset = offset.map_err(|_| ErrorCode::InvalidRequest)?;
                let is_there = exists(&shared, &partition);
                let there = is_there.then_some((partition, Offset(offset)));
                there.ok_or(ErrorCode::UnknownTopicOrPartition)
            });
            match checked {
                Ok((partition, offset)) => offsets.push(OffsetToCommit {
                    partition,
                    topic_id: (context.version >= TOPIC_ID_FIRST).then_some(topic.topic_id),
                    offset,
                    leader_epoch: u32::try_from(part.committed_leader_epoch).ok().map(LeaderEpoch),
                    metadata: part.committed_metadata.as_deref().unwrap_or_default().into(),
                }),
                Err(error) => drop(refused.insert((at, within), error)),
            }
        }
    }
    let commit = CommitOffsets {
        group: GroupId::from(&*request.group_id),
        generation: generation(request.generation_id_or_member_epoch),
        member_id: member(&request.member_id),
        instance_id: instance(request.group_instance_id.as_ref()),
        retention_ms: (request.retention_time_ms >= 0).then_some(request.retention_time_ms),
        offsets,
    };
    let committed = match commit.offsets.is_empty() {
        true => Ok(CommittedOffsets { partitions: Vec::new() }),
        false => ask(&shared, &context, Operation::Read, &request.group_id, commit).await,
    };
    let mut outcomes = match &committed {
        Ok(committed) => committed.partitions.iter(),
        Err(_) => [].iter(),
    };
    let mut code = |place: (usize, usize)| match (refused.get(&place), &committed) {
        (Some(error), _) => *error,
        (None, Err(error)) => *error,
        (None, Ok(_)) => match outcomes.next() {
            Some((_, Ok(()))) => ErrorCode::None,
            Some((_, Err(error))) => error.into(),
            None => ErrorCode::UnknownServerError,
        },
    };
    let topics = request.topics.iter().enumerate().map(|(at, topic)| {
        let parts = topic.partitions.iter().enumerate();
        let parts = parts.map(|(within, part)| OffsetCommitResponsePartition {
            partition_index: part.partition_index,
            error_code: code((at, within)),
        });
        OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: parts.collect(),
        }
    });
    OffsetCommitResponse { throttle_time_ms: context.throttle_time_ms(), topics: topics.collect() }
}

fn commit_topic(
    shared: &Shared,
    context: &RequestContext,
    topic: &OffsetCommitRequestTopic,
) -> Result<ByteString, ErrorCode> {
    let name = topic_name(shared, context.version, &topic.name, topic.topic_id)?;
    may(context, Operation::Read, &name).map(|()| name)
}

// ---- Fetch -------------------------------------------------------------------------------------

pub(in crate::gateway) async fn fetch(
    shared: Arc<Shared>,
    context: RequestContext,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let mut response = OffsetFetchResponse {
        throttle_time_ms: context.throttle_time_ms(),
        ..OffsetFetchResponse::default()
    };
    if named(&context, &request).is_none_or(|named| named > FEW) {
        context.turn.begin(&shared.turns.gathered).await;
    }
    if context.version >= GROUPS_FIRST {
        let mut allowance = Allowance::default();
        for group in &request.groups {
            response.groups.push(match allowance.is_left() {
                true => fetch_group(&shared, &context, group).await,
                // Clients take it for one that is to be asked for again.
                false => OffsetFetchResponseGroup {
                    group_id: group.group_id.clone(),
                    error_code: ErrorCode::CoordinatorLoadInProgress,
                    ..OffsetFetchResponseGroup::default()
                },
            });
            allowance.spend(response.groups.last().map_or(0, bytes));
        }
        return response;
    }
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            topic_id: Uuid::nil(),
            partition_indexes: topic.partition_indexes,
        });
        topics.collect()
    });
    let group = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics,
        ..OffsetFetchRequestGroup::default()
    };
    let fetched = fetch_group(&shared, &context, &group).await;
    response.error_code = fetched.error_code;
    // Version 1 has no place for an error of the whole.
    let whole = (context.version < 2).then_some(fetched.error_code);
    let topics = fetched.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(|part| old(part, whole)).collect(),
    });
    response.topics = topics.collect();
    response
}

/// How many offsets are asked for; none where all of a group are.
fn named(context: &RequestContext, request: &OffsetFetchRequest) -> Option<usize> {
    if context.version < GROUPS_FIRST {
        let topics = request.topics.as_ref()?.iter();
        return Some(topics.map(|topic| topic.partition_indexes.len()).sum());
    }
    let of_group = |group: &OffsetFetchRequestGroup| {
        let topics = group.topics.as_ref()?.iter();
        Some(topics.map(|topic| topic.partition_indexes.len()).sum::<usize>())
    };
    request.groups.iter().map(of_group).sum()
}

/// About what a group's offsets take in an answer.
fn bytes(group: &OffsetFetchResponseGroup) -> usize {
    let parts = group.topics.iter().flat_map(|topic| &topic.partitions);
    let metadata =
        |part: &OffsetFetchResponsePartitions| part.metadata.as_ref().map_or(0, |m| m.len());
    parts.map(|part| size_of_val(part) + metadata(part)).sum()
}

fn old(
    part: OffsetFetchResponsePartitions,
    whole: Option<ErrorCode>,
) -> OffsetFetchResponsePartition {
    let whole = whole.filter(|error| *error != ErrorCode::None);
    OffsetFetchResponsePartition {
        partition_index: part.partition_index,
        committed_offset: part.committed_offset,
        committed_leader_epoch: part.committed_leader_epoch,
        metadata: part.metadata,
        error_code: whole.unwrap_or(part.error_code),
    }
}

async fn fetch_group(
    shared: &Shared,
    context: &RequestContext,
    group: &OffsetFetchRequestGroup,
) -> OffsetFetchResponseGroup {
    let mut asked = Vec::new();
    for topic in group.topics.iter().flatten() {
        let Ok(name) = seen_topic(shared, context, topic) else { continue };
        let numbers = topic.partition_indexes.iter();
        asked.extend(numbers.filter_map(|index| partition(&name, *index).ok()));
    }
    let partitions = group.topics.is_some().then_some(asked);
    let fetch = FetchOffsets { group: GroupId::from(&*group.group_id), partitions };
    let found = ask(shared, context, Operation::Describe, &group.group_id, fetch).await;
    let (found, error_code) = match found {
        Ok(FetchedOffsets { partitions }) => (partitions, ErrorCode::None),
        Err(error) => (Vec::new(), error),
    };
    let found: BTreeMap<TopicPartition, Option<CommittedOffset>> = found.into_iter().collect();
    let topics = match &group.topics {
        Some(topics) => {
            topics.iter().map(|topic| asked_topic(shared, context, topic, &found)).collect()
        }
        None => all_topics(shared, context, &found),
    };
    OffsetFetchResponseGroup { group_id: group.group_id.clone(), topics, error_code }
}

fn seen_topic(
    shared: &Shared,
    context: &RequestContext,
    topic: &OffsetFetchRequestTopics,
) -> Result<ByteString, ErrorCode> {
    let name = topic_name(shared, context.version, &topic.name, topic.topic_id)?;
    may(context, Operation::Describe, &name).map(|()| name)
}

fn asked_topic(
    shared: &Shared,
    context: &RequestContext,
    topic: &OffsetFetchRequestTopics,
    found: &BTreeMap<TopicPartition, Option<CommittedOffset>>,
) -> OffsetFetchResponseTopics {
    let name = seen_topic(shared, context, topic);
    let parts = topic.partition_indexes.iter().map(|index| {
        let partition = name.clone().and_then(|name| partition(&name, *index));
        match partition {
            Ok(partition) => part(*index, found.get(&partition).and_then(Option::as_ref)),
            Err(error_code) => OffsetFetchResponsePartitions { error_code, ..part(*index, None) },
        }
    });
    OffsetFetchResponseTopics {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: parts.collect(),
    }
}

fn all_topics(
    shared: &Shared,
    context: &RequestContext,
    found: &BTreeMap<TopicPartition, Option<CommittedOffset>>,
) -> Vec<OffsetFetchResponseTopics> {
    let there = shared.broker.topics();
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    let may_see = |partition: &TopicPartition| {
        may(context, Operation::Describe, partition.topic.as_str()).is_ok()
    };
    for (partition, committed) in found.iter().filter(|(partition, _)| may_see(partition)) {
        let index = i32::try_from(partition.partition.0).unwrap_or(i32::MAX);
        let part = part(index, committed.as_ref());
        let name = partition.topic.as_str();
        match topics.last_mut().filter(|topic| &*topic.name == name) {
            Some(topic) => topic.partitions.push(part),
            None => topics.push(OffsetFetchResponseTopics {
                name: text(name),
                topic_id: there.get(&partition.topic).map_or(Uuid::nil(), |topic| topic.id),
                partitions: vec![part],
            }),
        }
    }
    topics
}

/// Offset −1 says that none is committed.
fn part(partition_index: i32, found: Option<&CommittedOffset>) -> OffsetFetchResponsePartitions {
    let none = OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        metadata: Some(ByteString::new()),
        ..OffsetFetchResponsePartitions::default()
    };
    let Some(committed) = found else { return none };
    let epoch = committed.leader_epoch.and_then(|epoch| i32::try_from(epoch.0).ok());
    OffsetFetchResponsePartitions {
        committed_offset: i64::try_from(committed.offset.0).unwrap_or(i64::MAX),
        committed_leader_epoch: epoch.unwrap_or(-1),
        metadata: Some(text(&committed.metadata)),
        ..none
    }
}

// ---- Delete ------------------------------------------------------------------------------------

pub(in crate::gateway) async fn delete(
    shared: Arc<Shared>,
    context: RequestContext,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let named = request.topics.iter().flat_map(|topic| {
        let numbers = topic.partitions.iter().map(|part| part.partition_index);
        let may_read = may(&context, Operation::Read, &topic.name);
        numbers.map(move |index| may_read.and_then(|()| partition(&topic.name, index)))
    });
    let named: Vec<_> = named.collect();
    let partitions = named.iter().filter_map(|named| named.clone().ok()).collect();
    let delete = DeleteOffsets { group: GroupId::from(&*request.group_id), partitions };
    let deleted = ask(&shared, &context, Operation::Delete, &request.group_id, delete).await;
    let mut response = OffsetDeleteResponse {
        throttle_time_ms: context.throttle_time_ms(),
        ..OffsetDeleteResponse::default()
    };
    let deleted = match deleted {
        Ok(deleted) => deleted.partitions,
        Err(error) => {
            response.error_code = error;
            return response;
        }
    };
    let (mut named, mut deleted) = (named.into_iter(), deleted.into_iter());
    let mut code = || match named.next() {
        Some(Err(error)) => error,
        _ => match deleted.next() {
            Some((_, Err(error))) => (&error).into(),
            _ => ErrorCode::None,
        },
    };
    let topics = request.topics.iter().map(|topic| OffsetDeleteResponseTopic {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|part| OffsetDeleteResponsePartition {
                partition_index: part.partition_index,
                error_code: code(),
            })
            .collect(),
    });
    response.topics = topics.collect();
    response
}
