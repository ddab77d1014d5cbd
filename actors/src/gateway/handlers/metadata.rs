//! Metadata: the brokers, the topics, and who leads each partition.

use std::sync::Arc;

use bytestring::ByteString;

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
        None => all(&context, &shared.broker.topics()),
        Some(wanted) => {
            let mut topics = Vec::with_capacity(wanted.len());
            for topic in wanted {
                topics.push(one(&shared, &context, topic, may_create).await);
            }
            topics
        }
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

fn all(context: &RequestContext, topics: &Topics) -> Vec<MetadataResponseTopic> {
    let may_see = |topic: &&Topic| {
        authorize(context, Operation::Describe, Resource::Topic(topic.name.as_str()))
    };
    topics.values().filter(may_see).map(describe).collect()
}

async fn one(
    shared: &Shared,
    context: &RequestContext,
    wanted: MetadataRequestTopic,
    may_create: bool,
) -> MetadataResponseTopic {
    let refused = |error_code| MetadataResponseTopic {
        error_code,
        name: wanted.name.clone(),
        topic_id: wanted.topic_id,
        ..MetadataResponseTopic::default()
    };
    let topics = shared.broker.topics();
    if context.version < BY_ID_FIRST && (wanted.name.is_none() || !wanted.topic_id.is_nil()) {
        // Nor could an answer without a name be said; Kafka gives an empty one.
        let name = Some(wanted.name.clone().unwrap_or_default());
        return MetadataResponseTopic { name, ..refused(ErrorCode::InvalidRequest) };
    }
    let Some(name) = &wanted.name else {
        let found = topics.by_id(wanted.topic_id);
        return found.map_or_else(|| refused(ErrorCode::UnknownTopicId), describe);
    };
    let Ok(name) = name.parse::<TopicName>() else {
        return refused(ErrorCode::InvalidTopicException);
    };
    if !authorize(context, Operation::Describe, Resource::Topic(name.as_str())) {
        return refused(ErrorCode::TopicAuthorizationFailed);
    }
    if let Some(topic) = topics.get(&name) {
        return describe(topic);
    }
    if !may_create || !shared.topic_defaults().auto_create_topics {
        return refused(ErrorCode::UnknownTopicOrPartition);
    }
    if !authorize(context, Operation::Create, Resource::Topic(name.as_str())) {
        return refused(ErrorCode::TopicAuthorizationFailed);
    }
    match create(shared, name).await {
        Ok(topic) => describe(&topic),
        Err(TopicError::Create(CreateTopicError::Collides { .. })) => {
            refused(ErrorCode::InvalidTopicException)
        }
        Err(error) => {
            tracing::warn!(%error, "a topic that a client asked for was not made");
            refused((&error).into())
        }
    }
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

fn describe(topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().zip(0..);
    let partitions = partitions.map(|(assigned, partition_index)| MetadataResponsePartition {
        error_code: ErrorCode::None,
        partition_index,
        leader_id: assigned.leader.0,
        leader_epoch: i32::try_from(assigned.leader_epoch.0).unwrap_or(i32::MAX),
        replica_nodes: vec![assigned.leader.0],
        isr_nodes: assigned.in_sync.iter().map(|node| node.0).collect(),
        offline_replicas: Vec::new(),
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
