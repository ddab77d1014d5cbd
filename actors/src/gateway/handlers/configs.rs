//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources: the settings of topics
//! and of nodes, under Kafka's names.

mod inert;
mod told;

use std::sync::Arc;

use bytestring::ByteString;

pub(super) use self::told::of_topic;
use self::told::{Told, of_node};
use super::topics::{Refusal, twice};
use crate::{
    broker::{
        Settings, Topic, TopicError, Topics,
        catalogue::{
            node_settings::{NodeValues, Nodes, name_on_topic},
            settings::{SettingsError, words},
        },
        names::TopicName,
    },
    gateway::{
        Shared,
        context::{Operation, RequestContext, Resource, authorize},
        error_code::ErrorCode,
        large::Allowance,
        messages::{
            alter_configs::{self, AlterConfigsRequest, AlterConfigsResponse},
            describe_configs::{
                DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
                DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
            },
            incremental_alter_configs::{
                self, AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
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

/// What has settings.
enum Of<'a> {
    Topic(&'a Topic),
    Nodes(Nodes),
}

fn find<'a>(
    shared: &Shared,
    topics: &'a Topics,
    context: &RequestContext,
    operation: Operation,
    (kind, name): (i8, &str),
) -> Result<Of<'a>, Refusal> {
    match kind {
        TOPIC => {
            let invalid = |error| (ErrorCode::InvalidTopicException, format!("{error}"));
            let name: TopicName = name.parse().map_err(invalid)?;
            if !authorize(context, operation, Resource::Topic(name.as_str())) {
                return Err((ErrorCode::TopicAuthorizationFailed, "not allowed".into()));
            }
            let unknown = (ErrorCode::UnknownTopicOrPartition, format!("there is no `{name}`"));
            topics.get(&name).map(Of::Topic).ok_or(unknown)
        }
        BROKER if name.is_empty() || name == shared.node.0.to_string() => {
            if !authorize(context, operation, Resource::Cluster) {
                return Err((ErrorCode::ClusterAuthorizationFailed, "not allowed".into()));
            }
            let nodes = if name.is_empty() { Nodes::All } else { Nodes::One(shared.node) };
            Ok(Of::Nodes(nodes))
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
    context.turn.begin(&shared.turns.at_hand).await;
    let (synonyms, docs) = (request.include_synonyms, request.include_documentation);
    let mut allowance = Allowance::default();
    let results = request.resources.into_iter().map(|resource| {
        if !allowance.is_left() {
            return left_out(resource);
        }
        let result = describe_one(&shared, &context, resource, synonyms, docs);
        allowance.spend(result.configs.iter().map(bytes).sum());
        result
    });
    DescribeConfigsResponse {
        throttle_time_ms: context.throttle_time_ms(),
        results: results.collect(),
    }
}

fn left_out(resource: DescribeConfigsResource) -> DescribeConfigsResult {
    DescribeConfigsResult {
        error_code: ErrorCode::PolicyViolation,
        error_message: Some(Allowance::OVER.into()),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        ..DescribeConfigsResult::default()
    }
}

/// About what a setting takes in an answer.
fn bytes(config: &DescribeConfigsResourceResult) -> usize {
    let length = |text: &Option<ByteString>| text.as_ref().map_or(0, |text| text.len());
    let own = size_of_val(config) + config.name.len() + length(&config.value);
    let synonyms = config.synonyms.iter();
    let synonyms = synonyms.map(|one| size_of_val(one) + one.name.len() + length(&one.value));
    own + length(&config.documentation) + synonyms.sum::<usize>()
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
        Ok(Of::Topic(topic)) => of_topic(&shared.broker, &topic.settings, shared.node),
        Ok(Of::Nodes(which)) => of_node(shared, which),
        Err((error, why)) => {
            (result.error_code, result.error_message) = (error, Some(why.into()));
            return result;
        }
    };
    let is_asked = |told: &Told| {
        // None named means all, be it as null or, as Kafka 4.4 takes it, as an empty list.
        let keys = resource.configuration_keys.as_deref().unwrap_or_default();
        keys.is_empty() || keys.iter().any(|key| **key == *told.name)
    };
    let configs = told.into_iter().filter(is_asked);
    result.configs = configs.map(|told| described(told, synonyms, docs)).collect();
    result
}

fn described(told: Told, synonyms: bool, docs: bool) -> DescribeConfigsResourceResult {
    let Told { name, counts, has_value, below, doc, kind, is_fixed } = told;
    let layers = std::iter::once(counts.clone()).chain(below);
    let layers = layers.filter(|layer| synonyms && has_value && layer.is_synonym());
    let known_as = layers.map(|layer| DescribeConfigsSynonym {
        name: layer.name.into(),
        value: Some(layer.value.into()),
        source: layer.source,
    });
    DescribeConfigsResourceResult {
        name: name.into(),
        synonyms: known_as.collect(),
        value: has_value.then(|| counts.value.into()),
        read_only: is_fixed,
        config_source: counts.source,
        is_sensitive: false,
        config_type: kind,
        documentation: docs.then(|| doc.into()),
    }
}

/// A change of one setting: set, reset, or of a list.
enum Edit {
    Set(ByteString),
    Reset,
    Append(ByteString),
    Subtract(ByteString),
}

/// What is set of a resource, while it is being changed.
enum Edited {
    Topic(Topic, Settings),
    Nodes(Nodes, NodeValues, NodeValues),
}

impl Edited {
    /// What counts now: a list that is added to begins with that.
    fn get(&self, shared: &Shared, name: &str) -> String {
        let (nodes, given) = (shared.broker.node_settings(), shared.broker.topic_settings());
        let defaults = nodes.topic_defaults(shared.node).over(given);
        let value = match self {
            Edited::Topic(_, settings) => settings.over(&defaults).get(name).map(str::to_owned),
            Edited::Nodes(_, _, values) => {
                let of_topics = || defaults.get(name_on_topic(name)?).map(str::to_owned);
                values.get(name).map(str::to_owned).or_else(of_topics)
            }
        };
        value.unwrap_or_default()
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
        match self {
            Edited::Topic(_, settings) => settings.set(name, value),
            Edited::Nodes(_, _, values) => values.set(name, value),
        }
    }

    fn reset(&mut self, name: &str) {
        match self {
            Edited::Topic(_, settings) => settings.reset(name),
            Edited::Nodes(_, _, values) => values.reset(name),
        }
    }

    async fn store(self, shared: &Shared) -> Result<(), TopicError> {
        match self {
            Edited::Topic(was, settings) => {
                shared.broker.reconfigure_topic(&was, settings).await.map(drop)
            }
            Edited::Nodes(nodes, was, values) => {
                shared.broker.reconfigure_nodes(nodes, was, values).await
            }
        }
    }
}

/// Changes what is set of a resource; where it `is_anew`, what was set before goes.
async fn alter(
    shared: &Shared,
    context: &RequestContext,
    which: (i8, &str),
    edits: Result<Vec<(ByteString, Edit)>, Refusal>,
    is_anew: bool,
    validate_only: bool,
) -> Result<(), Refusal> {
    let edits = edits?;
    loop {
        let edited = edited(shared, context, which, &edits, is_anew)?;
        if validate_only {
            return Ok(());
        }
        match edited.store(shared).await {
            // Another change came between: this one is made of what that has left.
            Err(TopicError::ChangedMeanwhile) => {}
            stored => return stored.map_err(|error| ((&error).into(), error.to_string())),
        }
    }
}

/// What a resource would have after the edits.
fn edited(
    shared: &Shared,
    context: &RequestContext,
    which: (i8, &str),
    edits: &[(ByteString, Edit)],
    is_anew: bool,
) -> Result<Edited, Refusal> {
    let topics = shared.broker.topics();
    let mut edited = match find(shared, &topics, context, Operation::Alter, which)? {
        Of::Topic(topic) => Edited::Topic(
            topic.clone(),
            if is_anew { Settings::default() } else { topic.settings.clone() },
        ),
        Of::Nodes(nodes) => {
            let was = shared.broker.node_settings().of(nodes);
            let values = if is_anew { NodeValues::default() } else { was.clone() };
            Edited::Nodes(nodes, was, values)
        }
    };
    let invalid = |error| (ErrorCode::InvalidConfig, format!("{error}"));
    for (name, edit) in edits {
        let value = match edit {
            Edit::Set(value) => value.to_string(),
            Edit::Append(value) => {
                let now = edited.get(shared, name);
                let mut all: Vec<&str> = words(&now).collect();
                all.extend(words(value).filter(|word| !words(&now).any(|has| has == *word)));
                all.join(",")
            }
            Edit::Subtract(value) => {
                let now = edited.get(shared, name);
                let left = words(&now).filter(|word| !words(value).any(|gone| gone == *word));
                left.collect::<Vec<_>>().join(",")
            }
            Edit::Reset => {
                edited.reset(name);
                continue;
            }
        };
        edited.set(name, &value).map_err(invalid)?;
    }
    if let Edited::Topic(_, settings) = &edited {
        settings.check_together().map_err(invalid)?;
    }
    Ok(edited)
}

/// Refuses a resource that `is_twice` in its request, or of which a setting is.
fn once(is_twice: bool, settings: impl Iterator<Item = ByteString>) -> Result<(), Refusal> {
    let refused = |why| Err((ErrorCode::InvalidRequest, why));
    match (is_twice, twice(settings).first()) {
        (true, _) => refused("the request names it twice".to_owned()),
        (false, Some(name)) => refused(format!("the request names `{name}` twice")),
        (false, None) => Ok(()),
    }
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
    let named = |resource: &alter_configs::AlterConfigsResource| {
        (resource.resource_type, resource.resource_name.clone())
    };
    let resources = twice(request.resources.iter().map(named));
    for resource in request.resources {
        let settings = resource.configs.iter().map(|config| config.name.clone());
        let edits = once(resources.contains(&named(&resource)), settings).map(|()| {
            let edit = |config: alter_configs::AlterableConfig| {
                (config.name, config.value.map_or(Edit::Reset, Edit::Set))
            };
            resource.configs.into_iter().map(edit).collect()
        });
        let which = (resource.resource_type, &*resource.resource_name);
        let outcome = alter(&shared, &context, which, edits, true, request.validate_only).await;
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
    let named =
        |resource: &AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
    let resources = twice(request.resources.iter().map(named));
    for resource in request.resources {
        let settings = resource.configs.iter().map(|config| config.name.clone());
        let edits = once(resources.contains(&named(&resource)), settings)
            .and_then(|()| resource.configs.into_iter().map(edit).collect());
        let which = (resource.resource_type, &*resource.resource_name);
        let outcome = alter(&shared, &context, which, edits, false, request.validate_only).await;
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
    if !authorize(&context, Operation::Describe, Resource::Cluster) {
        response.error_code = ErrorCode::ClusterAuthorizationFailed;
        return response;
    }
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
