//! Metadata: the brokers, the topics, and who leads each partition.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytestring::ByteString;

use super::leading;
use crate::{
    broker::{
        OFFSETS_TOPIC, Topic, TopicError, TopicSpec, Topics, catalogue::state::CreateTopicError,
        names::TopicName,
    },
    gateway::{
        Shared,
        context::{Operation, RequestContext, Resource, authorize},
        error_code::ErrorCode,
        messages::metadata::{
            MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
            MetadataResponsePartition, MetadataResponseTopic,
        },
    },
};

/// First version in which topics may be asked for by their ids; earlier ones only have the field.
const BY_ID_FIRST: i16 = 12;

pub(in crate::gateway) async fn handle(
    shared: Arc<Shared>,
    context: RequestContext,
    request: MetadataRequest,
) -> MetadataResponse {
    let may_create = request.allow_auto_topic_creation || context.version < 4;
    // Version 0 has no null: an empty list asks for all.
    let wanted = request.topics.filter(|topics| context.version > 0 || !topics.is_empty());
    let topics = match wanted {
        None => {
            context.turn.begin(&shared.turns.at_hand).await;
            all(&shared, &context)
        }
        Some(wanted) => named(&shared, &context, wanted, may_create).await,
    };
    MetadataResponse {
        throttle_time_ms: context.throttle_time_ms(),
        brokers: vec![MetadataResponseBroker {
            node_id: shared.node.0,
            host: ByteString::from(&*context.listener.host),
            port: i32::from(context.listener.port),
            rack: None,
        }],
        cluster_id: Some(shared.cluster.clone()),
        controller_id: shared.node.0,
        topics,
        ..MetadataResponse::default()
    }
}

/// Those that are named, each once, as Kafka does: so the answer is no larger than all topics are.
async fn named(
    shared: &Shared,
    context: &RequestContext,
    mut wanted: Vec<MetadataRequestTopic>,
    may_create: bool,
) -> Vec<MetadataResponseTopic> {
    let mut seen = BTreeSet::new();
    wanted.retain(|topic| seen.insert((topic.name.clone(), topic.topic_id)));
    // First, for it takes its time, in which nobody should wait for a turn.
    let mut not_made = BTreeMap::new();
    for name in wanted.iter().filter_map(|topic| topic.name.as_ref()).filter(|_| may_create) {
        if let Err(error) = make_missing(shared, context, name).await {
            not_made.insert(name.clone(), error);
        }
    }
    context.turn.begin(&shared.turns.at_hand).await;
    let topics = shared.broker.topics();
    wanted.into_iter().map(|topic| one(shared, context, &topics, topic, &not_made)).collect()
}

fn all(shared: &Shared, context: &RequestContext) -> Vec<MetadataResponseTopic> {
    let topics = shared.broker.topics();
    let may_see = |topic: &&Topic| {
        authorize(context, Operation::Describe, Resource::Topic(topic.name.as_str()))
    };
    topics.values().filter(may_see).map(|topic| describe(shared, topic)).collect()
}

fn one(
    shared: &Shared,
    context: &RequestContext,
    topics: &Topics,
    wanted: MetadataRequestTopic,
    not_made: &BTreeMap<ByteString, ErrorCode>,
) -> MetadataResponseTopic {
    let refused = |error_code| MetadataResponseTopic {
        error_code,
        name: wanted.name.clone(),
        topic_id: wanted.topic_id,
        ..MetadataResponseTopic::default()
    };
    if context.version < BY_ID_FIRST && (wanted.name.is_none() || !wanted.topic_id.is_nil()) {
        // Nor could an answer without a name be said; Kafka gives an empty one.
        let name = Some(wanted.name.clone().unwrap_or_default());
        return MetadataResponseTopic { name, ..refused(ErrorCode::InvalidRequest) };
    }
    let may_see = |name: &str| authorize(context, Operation::Describe, Resource::Topic(name));
    let Some(name) = &wanted.name else {
        return match topics.by_id(wanted.topic_id) {
            Some(topic) if may_see(topic.name.as_str()) => describe(shared, topic),
            Some(_) => refused(ErrorCode::TopicAuthorizationFailed),
            None => refused(ErrorCode::UnknownTopicId),
        };
    };
    let Ok(topic) = name.parse::<TopicName>() else {
        return refused(ErrorCode::InvalidTopicException);
    };
    if !may_see(name) {
        return refused(ErrorCode::TopicAuthorizationFailed);
    }
    let unknown = || not_made.get(name).copied().unwrap_or(ErrorCode::UnknownTopicOrPartition);
    topics.get(&topic).map_or_else(|| refused(unknown()), |topic| describe(shared, topic))
}

/// Makes the topic of that name, where there is none, there could be one, and the client may.
async fn make_missing(
    shared: &Shared,
    context: &RequestContext,
    name: &str,
) -> Result<(), ErrorCode> {
    let Ok(topic) = name.parse::<TopicName>() else { return Ok(()) };
    let may = |operation| authorize(context, operation, Resource::Topic(name));
    let is_missing = !shared.broker.topics().contains_key(&topic);
    if !is_missing || !may(Operation::Describe) || !shared.topic_defaults().auto_create_topics {
        return Ok(());
    }
    if !may(Operation::Create) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let made = create(shared, topic).await;
    made.map(drop).map_err(|error| match error {
        TopicError::Create(CreateTopicError::Collides { .. }) => ErrorCode::InvalidTopicException,
        error => {
            tracing::warn!(%error, "a topic that a client asked for was not made");
            (&error).into()
        }
    })
}

/// Makes a topic that a client named (`auto.create.topics.enable`).
async fn create(shared: &Shared, name: TopicName) -> Result<Topic, TopicError> {
    if name.as_str() == OFFSETS_TOPIC {
        return shared.broker.ensure_offsets_topic().await;
    }
    let partitions = shared.topic_defaults().partitions;
    let settings = crate::broker::Settings::default();
    shared.broker.ensure_topic(TopicSpec { name, partitions, settings }).await
}

fn describe(shared: &Shared, topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().zip(0..);
    let partitions = partitions.map(|(assigned, partition_index)| {
        let (leader_id, offline_replicas) = leading(shared, topic, partition_index);
        MetadataResponsePartition {
            error_code: match offline_replicas.is_empty() {
                true => ErrorCode::None,
                false => ErrorCode::LeaderNotAvailable,
            },
            partition_index,
            leader_id,
            leader_epoch: i32::try_from(assigned.leader_epoch.0).unwrap_or(i32::MAX),
            replica_nodes: vec![assigned.leader.0],
            isr_nodes: assigned.in_sync.iter().map(|node| node.0).collect(),
            offline_replicas,
        }
    });
    MetadataResponseTopic {
        error_code: ErrorCode::None,
        name: Some(topic.name.as_str().into()),
        topic_id: topic.id,
        is_internal: topic.is_internal,
        partitions: partitions.collect(),
        ..MetadataResponseTopic::default()
    }
}
