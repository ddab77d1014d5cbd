//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources: the settings of topics,
//! under Kafka's names, and those of the node, which are given at its start.

use std::sync::Arc;

use bytestring::ByteString;

use super::topics::Refusal;
use crate::{
    broker::{
        Settings, Topic,
        catalogue::settings::{SETTINGS, Setting},
        names::TopicName,
    },
    gateway::{
        Shared,
        context::{Operation, RequestContext, Resource, authorize},
        error_code::ErrorCode,
        messages::{
            alter_configs::{self, AlterConfigsRequest, AlterConfigsResponse},
            describe_configs::{
                DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
                DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
            },
            incremental_alter_configs::{
                self, AlterableConfig, IncrementalAlterConfigsRequest,
                IncrementalAlterConfigsResponse,
            },
            list_config_resources::{
                ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
            },
        },
    },
};

/// Kinds of resources (`ConfigResource.Type`).
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Where a value comes from (`ConfigSource`).
const SET_ON_TOPIC: i8 = 1;
const GIVEN_AT_START: i8 = 4;
const DEFAULT: i8 = 5;

/// One setting as it is told.
pub(super) struct Told {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) source: i8,
    doc: &'static str,
    default: &'static str,
    kind: i8,
}

/// All settings of a topic.
pub(super) fn of_topic(settings: &Settings) -> impl Iterator<Item = Told> {
    SETTINGS.iter().map(|setting: &Setting| {
        let is_set = settings.explicit().any(|(name, _)| name == setting.name);
        Told {
            name: setting.name,
            value: settings.get(setting.name).unwrap_or(setting.default).to_owned(),
            source: if is_set { SET_ON_TOPIC } else { DEFAULT },
            doc: setting.doc,
            default: setting.default,
            kind: setting.type_number(),
        }
    })
}

/// The node's own settings that clients ask for.
fn of_node(shared: &Shared) -> Vec<Told> {
    let limits = &shared.limits;
    let given = |name, value: String, doc| Told {
        name,
        value,
        source: GIVEN_AT_START,
        doc,
        default: "",
        kind: 2,
    };
    vec![
        given(
            "auto.create.topics.enable",
            shared.defaults.auto_create_topics.to_string(),
            "whether a topic is made when a client asks for it",
        ),
        given("broker.id", shared.node.0.to_string(), "this node's number"),
        given(
            "connections.max.idle.ms",
            limits.idle_max.as_millis().to_string(),
            "how long a connection may be without a request",
        ),
        given(
            "default.replication.factor",
            "1".into(),
            "copies of a new topic; there is one node, so one",
        ),
        given("max.connections", limits.connections_max.to_string(), "most connections in all"),
        given(
            "max.connections.per.ip",
            limits.connections_per_address_max.to_string(),
            "most connections from one address",
        ),
        given(
            "num.partitions",
            shared.defaults.partitions.to_string(),
            "partitions of a topic that does not say how many",
        ),
        given(
            "queued.max.request.bytes",
            limits.request_bytes_max.to_string(),
            "bytes of requests that all connections together may hold",
        ),
        given(
            "socket.request.max.bytes",
            limits.frame_bytes_max.to_string(),
            "most bytes of one request",
        ),
    ]
}

fn find<'a>(
    shared: &Shared,
    topics: &'a std::collections::BTreeMap<TopicName, Topic>,
    context: &RequestContext,
    operation: Operation,
    (kind, name): (i8, &str),
) -> Result<Option<&'a Topic>, Refusal> {
    match kind {
        TOPIC => {
            let invalid = |error| (ErrorCode::InvalidTopicException, format!("{error}"));
            let name: TopicName = name.parse().map_err(invalid)?;
            if !authorize(context, operation, Resource::Topic(name.as_str())) {
                return Err((ErrorCode::TopicAuthorizationFailed, "not allowed".into()));
            }
            let unknown = (ErrorCode::UnknownTopicOrPartition, format!("there is no `{name}`"));
            topics.get(&name).map(Some).ok_or(unknown)
        }
        BROKER if name.is_empty() || name == shared.node.0.to_string() => {
            match authorize(context, operation, Resource::Cluster) {
                true => Ok(None),
                false => Err((ErrorCode::ClusterAuthorizationFailed, "not allowed".into())),
            }
        }
        BROKER => Err((ErrorCode::InvalidRequest, format!("there is no broker `{name}`"))),
        kind => {
            let why = format!(
                "resources of kind {kind} have no settings here: topics (2) and brokers (4) do"
            );
            Err((ErrorCode::InvalidRequest, why))
        }
    }
}

pub(in crate::gateway) async fn describe(
    shared: Arc<Shared>,
    context: RequestContext,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let (synonyms, docs) = (request.include_synonyms, request.include_documentation);
    let results = request
        .resources
        .into_iter()
        .map(|resource| describe_one(&shared, &context, resource, synonyms, docs));
    DescribeConfigsResponse {
        throttle_time_ms: context.throttle_time_ms(),
        results: results.collect(),
    }
}

fn describe_one(
    shared: &Shared,
    context: &RequestContext,
    resource: DescribeConfigsResource,
    synonyms: bool,
    docs: bool,
) -> DescribeConfigsResult {
    let topics = shared.broker.topics();
    let which = (resource.resource_type, &*resource.resource_name);
    let mut result = DescribeConfigsResult {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        ..DescribeConfigsResult::default()
    };
    let told: Vec<Told> = match find(shared, &topics, context, Operation::Describe, which) {
        Ok(Some(topic)) => of_topic(&topic.settings).collect(),
        Ok(None) => of_node(shared),
        Err((error, why)) => {
            (result.error_code, result.error_message) = (error, Some(why.into()));
            return result;
        }
    };
    let is_asked = |told: &Told| {
        let keys = resource.configuration_keys.as_ref();
        keys.is_none_or(|keys| keys.iter().any(|key| **key == *told.name))
    };
    let configs = told.into_iter().filter(is_asked);
    result.configs = configs.map(|told| described(told, synonyms, docs)).collect();
    result
}

fn described(told: Told, synonyms: bool, docs: bool) -> DescribeConfigsResourceResult {
    let mut known_as = Vec::new();
    if synonyms {
        let synonym = |value: &str, source| DescribeConfigsSynonym {
            name: told.name.into(),
            value: Some(value.into()),
            source,
        };
        known_as.push(synonym(&told.value, told.source));
        if told.source == SET_ON_TOPIC {
            known_as.push(synonym(told.default, DEFAULT));
        }
    }
    DescribeConfigsResourceResult {
        name: told.name.into(),
        value: Some(told.value.into()),
        read_only: told.source == GIVEN_AT_START,
        config_source: told.source,
        is_sensitive: false,
        synonyms: known_as,
        config_type: told.kind,
        documentation: docs.then(|| told.doc.into()),
    }
}

/// A change of one setting: set, reset, or of a list.
enum Edit {
    Set(ByteString),
    Reset,
    Append(ByteString),
    Subtract(ByteString),
}

async fn alter(
    shared: &Shared,
    context: &RequestContext,
    which: (i8, &str),
    edits: Result<Vec<(ByteString, Edit)>, Refusal>,
    from: impl FnOnce(&Topic) -> Settings,
    validate_only: bool,
) -> Result<(), Refusal> {
    let edits = edits?;
    let topics = shared.broker.topics();
    let Some(topic) = find(shared, &topics, context, Operation::Alter, which)? else {
        let why = "the node's settings are given at its start, in its configuration file or on its command line";
        return Err((ErrorCode::InvalidConfig, why.into()));
    };
    let mut settings = from(topic);
    for (name, edit) in edits {
        let value = match edit {
            Edit::Set(value) => value.to_string(),
            Edit::Append(value) => {
                let now = settings.get(&name).unwrap_or_default();
                let mut words: Vec<&str> = now.split(',').filter(|word| !word.is_empty()).collect();
                words.extend(value.split(',').filter(|word| !now.split(',').any(|w| w == *word)));
                words.join(",")
            }
            Edit::Subtract(value) => {
                let now = settings.get(&name).unwrap_or_default();
                let words = now.split(',').filter(|word| !value.split(',').any(|w| w == *word));
                words.collect::<Vec<_>>().join(",")
            }
            Edit::Reset => {
                settings.reset(&name);
                continue;
            }
        };
        let invalid = |error| (ErrorCode::InvalidConfig, format!("{error}"));
        settings.set(&name, &value).map_err(invalid)?;
    }
    if validate_only {
        return Ok(());
    }
    let changed = shared.broker.configure_topic(&topic.name, settings).await;
    changed.map(drop).map_err(|error| ((&error).into(), error.to_string()))
}

fn split(outcome: Result<(), Refusal>) -> (ErrorCode, Option<ByteString>) {
    outcome.err().map_or((ErrorCode::None, None), |(error, why)| (error, Some(why.into())))
}

/// Sets all settings of a resource anew: those that are not named go back to their defaults.
pub(in crate::gateway) async fn alter_all(
    shared: Arc<Shared>,
    context: RequestContext,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let edits = resource
            .configs
            .into_iter()
            .map(|config| (config.name, config.value.map_or(Edit::Reset, Edit::Set)));
        let edits = Ok(edits.collect());
        let which = (resource.resource_type, &*resource.resource_name);
        let anew = |_: &Topic| Settings::default();
        let outcome = alter(&shared, &context, which, edits, anew, request.validate_only).await;
        let (error_code, error_message) = split(outcome);
        responses.push(alter_configs::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        });
    }
    AlterConfigsResponse { throttle_time_ms: context.throttle_time_ms(), responses }
}

/// Changes single settings (KIP-339).
pub(in crate::gateway) async fn alter_some(
    shared: Arc<Shared>,
    context: RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let edits = resource.configs.into_iter().map(edit).collect();
        let which = (resource.resource_type, &*resource.resource_name);
        let as_set = |topic: &Topic| topic.settings.clone();
        let outcome = alter(&shared, &context, which, edits, as_set, request.validate_only).await;
        let (error_code, error_message) = split(outcome);
        responses.push(incremental_alter_configs::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        });
    }
    IncrementalAlterConfigsResponse { throttle_time_ms: context.throttle_time_ms(), responses }
}

fn edit(config: AlterableConfig) -> Result<(ByteString, Edit), Refusal> {
    let operation = config.config_operation;
    let value = config.value.ok_or(operation);
    let edit = match (operation, value) {
        (1, _) => Edit::Reset,
        (0, Ok(value)) => Edit::Set(value),
        (2, Ok(value)) => Edit::Append(value),
        (3, Ok(value)) => Edit::Subtract(value),
        (_, Ok(_)) => {
            return Err((ErrorCode::InvalidRequest, format!("there is no operation {operation}")));
        }
        (_, Err(_)) => {
            return Err((ErrorCode::InvalidRequest, format!("`{}` has no value", config.name)));
        }
    };
    Ok((config.name, edit))
}

pub(in crate::gateway) async fn list(
    shared: Arc<Shared>,
    context: RequestContext,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let mut response = ListConfigResourcesResponse {
        throttle_time_ms: context.throttle_time_ms(),
        ..ListConfigResourcesResponse::default()
    };
    // Version 0 asks for client metrics, of which there are none.
    if context.version == 0 {
        return response;
    }
    let kinds = request.resource_types;
    let is_asked = |kind: i8| kinds.is_empty() || kinds.contains(&kind);
    if is_asked(TOPIC) {
        let topics = shared.broker.topics();
        let topics = topics.keys().map(|name| ConfigResource {
            resource_name: name.as_str().into(),
            resource_type: TOPIC,
        });
        response.config_resources.extend(topics);
    }
    if is_asked(BROKER) {
        let resource_name = shared.node.0.to_string().into();
        let broker = ConfigResource { resource_name, resource_type: BROKER };
        response.config_resources.push(broker);
    }
    response
}
