//! CreateTopics, DeleteTopics, CreatePartitions: what topics there are.
//!
//! One node has one copy of everything: a replication factor of 1, or −1 for the default, is all that
//! can be asked for, and an assignment may name this node only.

use std::sync::Arc;

use bytestring::ByteString;
use flumen_runtime::ids::LeaderEpoch;

use super::configs;
use crate::{
    broker::{
        OFFSETS_TOPIC, Settings, Topic, TopicSpec,
        catalogue::state::Assigned,
        controller::Command,
        names::{TopicName, TopicNameError},
    },
    gateway::{
        Shared,
        context::{Operation, RequestContext, Resource, authorize},
        error_code::ErrorCode,
        large::Allowance,
        messages::{
            create_partitions::{
                CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
                CreatePartitionsTopicResult,
            },
            create_topics::{
                CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
                CreateTopicsResponse,
            },
            delete_topics::{
                DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
            },
        },
    },
};

/// About what a setting takes in the answer to who makes a topic.
const CONFIG_BYTES: usize = 200;

/// Why something was refused: the error, and a sentence for a person.
pub(super) type Refusal = (ErrorCode, String);

fn topic_name(name: &str) -> Result<TopicName, Refusal> {
    let invalid = |error: TopicNameError| (ErrorCode::InvalidTopicException, error.to_string());
    name.parse().map_err(invalid)
}

/// What `work` comes to, where that is known by the deadline of the request.
async fn in_time<T>(
    context: &RequestContext,
    work: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let late = "it was not done within the request's `timeout`: look whether it is by now";
    let late = || Err((ErrorCode::RequestTimedOut, late.to_owned()));
    context.in_time(work).await.unwrap_or_else(late)
}

fn allowed(context: &RequestContext, operation: Operation, topic: &str) -> Result<(), Refusal> {
    match authorize(context, operation, Resource::Topic(topic)) {
        true => Ok(()),
        false => Err((ErrorCode::TopicAuthorizationFailed, "not allowed".into())),
    }
}

/// Names that the request holds twice: which of the two is meant nobody can say.
pub(super) fn twice<N: Ord + Clone>(names: impl Iterator<Item = N>) -> Vec<N> {
    let mut names: Vec<_> = names.collect();
    names.sort();
    names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone()).collect()
}

// ---- Create ------------------------------------------------------------------------------------

pub(in crate::gateway) async fn create(
    shared: Arc<Shared>,
    context: RequestContext,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let context = context.within(request.timeout_ms);
    let twice = twice(request.topics.iter().map(|topic| topic.name.clone()));
    let mut allowance = Allowance::default();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let made = if twice.contains(&topic.name) {
            Err((ErrorCode::InvalidRequest, "the request names it twice".into()))
        } else {
            in_time(&context, create_one(&shared, &context, &topic, request.validate_only)).await
        };
        topics.push(created(&shared, topic.name, made, &mut allowance));
    }
    CreateTopicsResponse { throttle_time_ms: context.throttle_time_ms(), topics }
}

async fn create_one(
    shared: &Shared,
    context: &RequestContext,
    asked: &CreatableTopic,
    validate_only: bool,
) -> Result<Topic, Refusal> {
    let name = topic_name(&asked.name)?;
    allowed(context, Operation::Create, name.as_str())?;
    if name.as_str() == OFFSETS_TOPIC {
        let why = format!("`{OFFSETS_TOPIC}` is made by the node itself, with the first group");
        return Err((ErrorCode::InvalidTopicException, why));
    }
    let partitions = partitions(shared, asked)?;
    let mut settings = Settings::default();
    let invalid = |error| (ErrorCode::InvalidConfig, format!("{error}"));
    for config in &asked.configs {
        let Some(value) = &config.value else {
            return Err((ErrorCode::InvalidConfig, format!("`{}` has no value", config.name)));
        };
        settings.set(&config.name, value).map_err(invalid)?;
    }
    settings.check_together().map_err(invalid)?;
    let spec = TopicSpec { name: name.clone(), partitions, settings };
    let made = if validate_only {
        let TopicSpec { name, settings, .. } = spec.clone();
        let (id, leader_epoch) = (uuid::Uuid::nil(), LeaderEpoch(0));
        let (leader, in_sync) = (shared.node, vec![shared.node]);
        let tried = shared.broker.try_out(Command::Create(spec)).await;
        tried.map(|()| {
            let one = Assigned { leader, leader_epoch, in_sync, directory: id };
            let partitions = Arc::new(vec![one; partitions as usize]);
            Topic { id, name, partitions, settings, is_internal: false }
        })
    } else {
        shared.broker.create_topic(spec).await
    };
    made.map_err(|error| ((&error).into(), error.to_string()))
}

/// How many partitions are asked for, in one of the two ways.
fn partitions(shared: &Shared, asked: &CreatableTopic) -> Result<u32, Refusal> {
    if asked.assignments.is_empty() {
        if !matches!(asked.replication_factor, -1 | 1) {
            let why = format!(
                "a replication factor of {} needs as many nodes; there is one: ask for 1, or -1",
                asked.replication_factor
            );
            return Err((ErrorCode::InvalidReplicationFactor, why));
        }
        return match asked.num_partitions {
            -1 => Ok(shared.topic_defaults().partitions),
            count if count > 0 => Ok(count.unsigned_abs()),
            count => Err((ErrorCode::InvalidPartitions, format!("{count} partitions cannot be"))),
        };
    }
    let invalid = |why: &str| (ErrorCode::InvalidReplicaAssignment, why.to_owned());
    if asked.num_partitions != -1 || asked.replication_factor != -1 {
        let why = "with an assignment, partitions and replication factor are -1";
        return Err((ErrorCode::InvalidRequest, why.into()));
    }
    let mut numbers: Vec<i32> = asked.assignments.iter().map(|one| one.partition_index).collect();
    numbers.sort_unstable();
    if !numbers.iter().copied().eq(0..numbers.len() as i32) {
        return Err(invalid("partitions are numbered 0, 1, … without a gap"));
    }
    if asked.assignments.iter().any(|one| one.broker_ids != [shared.node.0]) {
        return Err(invalid("there is one node: only it can be assigned"));
    }
    u32::try_from(numbers.len()).map_err(|_| invalid("too many partitions"))
}

fn created(
    shared: &Shared,
    name: ByteString,
    made: Result<Topic, Refusal>,
    allowance: &mut Allowance,
) -> CreatableTopicResult {
    match made {
        Ok(topic) => {
            // Those of a topic are always the same many, and about as long.
            let configs = allowance.is_left().then(|| told_configs(shared, &topic));
            allowance.spend(configs.as_ref().map_or(0, |told| told.len() * CONFIG_BYTES));
            CreatableTopicResult {
                name,
                topic_id: topic.id,
                error_code: ErrorCode::None,
                num_partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
                replication_factor: 1,
                configs,
                ..CreatableTopicResult::default()
            }
        }
        Err((error_code, why)) => CreatableTopicResult {
            name,
            error_code,
            error_message: Some(why.into()),
            ..CreatableTopicResult::default()
        },
    }
}

fn told_configs(shared: &Shared, topic: &Topic) -> Vec<CreatableTopicConfigs> {
    let configs = configs::of_topic(&shared.broker, &topic.settings, shared.node).into_iter();
    let configs = configs.map(|config| CreatableTopicConfigs {
        name: config.name.into(),
        value: Some(config.counts.value.into()),
        read_only: false,
        config_source: config.counts.source,
        is_sensitive: false,
    });
    configs.collect()
}

// ---- Delete ------------------------------------------------------------------------------------

pub(in crate::gateway) async fn delete(
    shared: Arc<Shared>,
    context: RequestContext,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let context = context.within(request.timeout_ms);
    let by_name = request
        .topic_names
        .into_iter()
        .map(|name| DeleteTopicState { name: Some(name), ..DeleteTopicState::default() });
    let asked: Vec<_> = request.topics.into_iter().chain(by_name).collect();
    let mut responses = Vec::with_capacity(asked.len());
    for topic in asked {
        responses.push(match in_time(&context, delete_one(&shared, &context, &topic)).await {
            Ok(deleted) => DeletableTopicResult {
                name: Some(deleted.name.as_str().into()),
                topic_id: deleted.id,
                ..DeletableTopicResult::default()
            },
            Err((error_code, why)) => DeletableTopicResult {
                name: topic.name,
                topic_id: topic.topic_id,
                error_code,
                error_message: Some(why.into()),
            },
        });
    }
    DeleteTopicsResponse { throttle_time_ms: context.throttle_time_ms(), responses }
}

async fn delete_one(
    shared: &Shared,
    context: &RequestContext,
    asked: &DeleteTopicState,
) -> Result<Topic, Refusal> {
    let name = match &asked.name {
        Some(name) => topic_name(name)?,
        None => {
            let topics = shared.broker.topics();
            let unknown = || (ErrorCode::UnknownTopicId, "there is no topic of that id".to_owned());
            topics.by_id(asked.topic_id).ok_or_else(unknown)?.name.clone()
        }
    };
    allowed(context, Operation::Delete, name.as_str())?;
    let deleted = shared.broker.delete_topic(&name).await;
    deleted.map_err(|error| ((&error).into(), error.to_string()))
}

// ---- Grow --------------------------------------------------------------------------------------

pub(in crate::gateway) async fn grow(
    shared: Arc<Shared>,
    context: RequestContext,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let context = context.within(request.timeout_ms);
    let twice = twice(request.topics.iter().map(|topic| topic.name.clone()));
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let grown = if twice.contains(&topic.name) {
            Err((ErrorCode::InvalidRequest, "the request names it twice".into()))
        } else {
            in_time(&context, grow_one(&shared, &context, &topic, request.validate_only)).await
        };
        let (error_code, why) = grown
            .err()
            .map_or((ErrorCode::None, None), |(error, why)| (error, Some(ByteString::from(why))));
        results.push(CreatePartitionsTopicResult {
            name: topic.name,
            error_code,
            error_message: why,
        });
    }
    CreatePartitionsResponse { throttle_time_ms: context.throttle_time_ms(), results }
}

async fn grow_one(
    shared: &Shared,
    context: &RequestContext,
    asked: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), Refusal> {
    let name = topic_name(&asked.name)?;
    allowed(context, Operation::Alter, name.as_str())?;
    let topics = shared.broker.topics();
    let unknown = || (ErrorCode::UnknownTopicOrPartition, format!("there is no topic `{name}`"));
    let now = topics.get(&name).ok_or_else(unknown)?.partitions.len();
    let wanted = u32::try_from(asked.count).unwrap_or(0);
    if wanted as usize <= now {
        let why = format!("`{name}` has {now} partitions: it can only get more");
        return Err((ErrorCode::InvalidPartitions, why));
    }
    if let Some(assignments) = &asked.assignments {
        let here =
            |one: &crate::gateway::messages::create_partitions::CreatePartitionsAssignment| {
                one.broker_ids == [shared.node.0]
            };
        if assignments.len() != wanted as usize - now || !assignments.iter().all(here) {
            let why = "each new partition is assigned to this node, the only one";
            return Err((ErrorCode::InvalidReplicaAssignment, why.into()));
        }
    }
    let grown = if validate_only {
        shared.broker.try_out(Command::Grow(name, wanted)).await
    } else {
        shared.broker.grow_topic(&name, wanted).await.map(drop)
    };
    grown.map_err(|error| ((&error).into(), error.to_string()))
}
