//! Settings as they are told: what each is, and where it comes from.

use super::inert::INERT;
use crate::{
    broker::{
        Broker, NodeId, Settings,
        catalogue::{
            node_settings::{
                NodeSettings, Nodes, OWN_SETTINGS, is_of_nodes, name_on_node, of_topics,
            },
            settings::{SETTINGS, Setting},
        },
    },
    gateway::{Shared, handlers::fetch::ANSWER_BYTES_MAX, listener::Bound},
};

/// Where a value comes from (`ConfigSource`).
const SET_ON_TOPIC: i8 = 1;
const SET_FOR_NODE: i8 = 2;
const SET_FOR_ALL: i8 = 3;
const GIVEN_AT_START: i8 = 4;
const DEFAULT: i8 = 5;

/// Kafka's numbers for what a value is (`ConfigType`).
const FLAG: i8 = 1;
const TEXT: i8 = 2;
const INT: i8 = 3;
const SHORT: i8 = 4;
const LONG: i8 = 5;
const LIST: i8 = 7;

/// A value that was set somewhere, under the name that it has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway::handlers) struct Layer {
    pub(in crate::gateway::handlers) name: &'static str,
    pub(in crate::gateway::handlers) value: String,
    pub(in crate::gateway::handlers) source: i8,
}

impl Layer {
    /// Whether it is a synonym. The default of what no node has a name for is none, as in Kafka
    /// (`ServerTopicConfigSynonyms`).
    pub(super) fn is_synonym(&self) -> bool {
        self.source != DEFAULT || is_of_nodes(self.name)
    }
}

/// One setting as it is told.
pub(in crate::gateway::handlers) struct Told {
    pub(in crate::gateway::handlers) name: &'static str,
    /// The value that counts.
    pub(in crate::gateway::handlers) counts: Layer,
    /// Whether there is a value at all.
    pub(super) has_value: bool,
    /// Those that would count if it were not.
    pub(super) below: Vec<Layer>,
    pub(super) doc: &'static str,
    pub(super) kind: i8,
    pub(super) is_fixed: bool,
}

impl Told {
    /// Of `layers`, the first of which counts.
    fn new(name: &'static str, setting: &Setting, mut layers: Vec<Layer>) -> Self {
        let below = layers.split_off(1);
        let counts = layers.pop().expect("every setting has a default");
        let (doc, kind) = (setting.doc, setting.type_number());
        Self { name, counts, has_value: true, below, doc, kind, is_fixed: false }
    }

    /// Of one that only a start can change.
    fn fixed(name: &'static str, kind: i8, value: String, doc: &'static str) -> Self {
        let counts = Layer { name, value, source: GIVEN_AT_START };
        Self { name, counts, has_value: true, below: Vec::new(), doc, kind, is_fixed: true }
    }

    /// Of one that has no meaning here.
    fn inert(name: &'static str, doc: &'static str) -> Self {
        let counts = Layer { name, value: String::new(), source: DEFAULT };
        Self { has_value: false, counts, ..Self::fixed(name, TEXT, String::new(), doc) }
    }
}

/// What was set of nodes under `name`.
fn set_of_nodes(nodes: &NodeSettings, node: NodeId, name: &'static str) -> Vec<Layer> {
    let of = |which, source| {
        let value = nodes.of(which).get(name)?.to_owned();
        Some(Layer { name, value, source })
    };
    let layers = [of(Nodes::One(node), SET_FOR_NODE), of(Nodes::All, SET_FOR_ALL)];
    layers.into_iter().flatten().collect()
}

/// All settings of a topic.
pub(in crate::gateway::handlers) fn of_topic(
    broker: &Broker,
    settings: &Settings,
    node: NodeId,
) -> Vec<Told> {
    let (nodes, given) = (broker.node_settings(), broker.topic_settings());
    let told = |setting: &Setting| {
        let name = setting.name;
        let on_node = name_on_node(name);
        let is_own = |(own, _): &(&str, &str)| *own == name;
        let own = settings.explicit().find(is_own).map(|(_, value)| value.to_owned());
        let own = own.map(|value| Layer { name, value, source: SET_ON_TOPIC });
        let mut layers: Vec<Layer> = own.into_iter().collect();
        layers.extend(on_node.into_iter().flat_map(|name| set_of_nodes(&nodes, node, name)));
        let given = given.explicit().find(is_own).map(|(_, value)| value.to_owned());
        // What the node gives its topics has the node's name for it.
        let name_there = on_node.unwrap_or(name);
        let given = given.map(|value| Layer { name: name_there, value, source: GIVEN_AT_START });
        layers.extend(given);
        let value = setting.default.to_owned();
        layers.push(Layer { name: name_there, value, source: DEFAULT });
        Told::new(name, setting, layers)
    };
    SETTINGS.iter().map(told).collect()
}

/// All settings of this node; or, where `which` are all nodes, what was set of them.
pub(super) fn of_node(shared: &Shared, which: Nodes) -> Vec<Told> {
    let (nodes, given) = (shared.broker.node_settings(), shared.broker.topic_settings());
    let known = OWN_SETTINGS.iter().map(|setting| (setting.name, setting)).chain(of_topics());
    let changeable = known.map(|(name, setting)| {
        let mut layers = set_of_nodes(&nodes, shared.node, name);
        let own = at_start(shared, name).filter(|value| value != setting.default);
        let of_topics = || given.explicit().find(|(of_topic, _)| *of_topic == setting.name);
        let value = own.or_else(|| of_topics().map(|(_, value)| value.to_owned()));
        layers.extend(value.map(|value| Layer { name, value, source: GIVEN_AT_START }));
        let value = setting.default.to_owned();
        layers.push(Layer { name, value, source: DEFAULT });
        if which == Nodes::All {
            layers.retain(|layer| layer.source == SET_FOR_ALL);
        }
        (!layers.is_empty()).then(|| Told::new(name, setting, layers))
    });
    let mut told: Vec<Told> = changeable.flatten().collect();
    if which != Nodes::All {
        told.extend(fixed(shared));
        let inert =
            INERT.iter().flat_map(|(why, names)| names.iter().map(move |name| (*name, *why)));
        told.extend(inert.map(|(name, why)| Told::inert(name, why)));
    }
    told.sort_by_key(|told| told.name);
    told
}

/// What the node was given at its start of what may change later.
fn at_start(shared: &Shared, name: &str) -> Option<String> {
    let (limits, groups) = (&shared.limits, shared.broker.group_options_at_start());
    Some(match name {
        "auto.create.topics.enable" => shared.defaults.auto_create_topics.to_string(),
        "group.initial.rebalance.delay.ms" => groups.initial_rebalance_delay_ms.to_string(),
        "group.max.session.timeout.ms" => groups.session_timeout_max_ms.to_string(),
        "group.max.size" => groups.members_max.min(i32::MAX as usize).to_string(),
        "group.min.session.timeout.ms" => groups.session_timeout_min_ms.to_string(),
        "max.connections" => limits.connections_max.to_string(),
        "max.connections.per.ip" => limits.connections_per_address_max.to_string(),
        "max.group.bytes" => groups.group_bytes_max.min(i32::MAX as usize).to_string(),
        "max.groups" => groups.groups_max.min(i32::MAX as usize).to_string(),
        "max.partitions" => shared.broker.partitions_max_at_start().to_string(),
        "num.partitions" => shared.defaults.partitions.to_string(),
        "offsets.retention.minutes" => (groups.offsets_retention_ms / 60_000).to_string(),
        "producer.id.expiration.ms" => {
            shared.broker.producer_age_at_start().as_millis().to_string()
        }
        _ => return None,
    })
}

/// What only a start can change.
fn fixed(shared: &Shared) -> Vec<Told> {
    let limits = &shared.limits;
    let directories =
        shared.broker.directories().iter().map(|each| each.path.display().to_string());
    let listening = |bound: &Bound| format!("{}://{}", bound.endpoint.name, bound.address());
    let listeners = shared.listeners.iter().map(listening);
    let advertised = shared.listeners.iter().map(|bound| bound.endpoint.to_string());
    let join = |all: Vec<String>| all.join(",");
    vec![
        Told::fixed(
            "advertised.listeners",
            LIST,
            join(advertised.collect()),
            "where clients are told to connect to, for each listener",
        ),
        Told::fixed("broker.id", INT, shared.node.0.to_string(), "this node's number"),
        Told::fixed(
            "connections.max.idle.ms",
            LONG,
            limits.idle_max.as_millis().to_string(),
            "how long a connection may be without a request",
        ),
        Told::fixed(
            "default.replication.factor",
            INT,
            "1".into(),
            "copies of a new topic; there is one node, so one",
        ),
        Told::fixed("delete.topic.enable", FLAG, "true".into(), "topics can be deleted"),
        Told::fixed(
            "fetch.max.bytes",
            INT,
            ANSWER_BYTES_MAX.to_string(),
            "most bytes of the records in an answer to a fetch, but for one batch that is larger",
        ),
        Told::fixed("listeners", LIST, join(listeners.collect()), "where the node listens"),
        Told::fixed("log.dirs", LIST, join(directories.collect()), "the data directories"),
        Told::fixed("node.id", INT, shared.node.0.to_string(), "this node's number"),
        Told::fixed(
            "offset.metadata.max.bytes",
            INT,
            shared.broker.group_options_at_start().metadata_bytes_max.to_string(),
            "most bytes of metadata that a member keeps beside an offset",
        ),
        Told::fixed(
            "offsets.topic.num.partitions",
            INT,
            shared.broker.offsets_partitions().to_string(),
            "partitions of the topic of groups' offsets, when it is made",
        ),
        Told::fixed(
            "offsets.topic.replication.factor",
            SHORT,
            "1".into(),
            "copies of the topic of groups' offsets; there is one node, so one",
        ),
        Told::fixed(
            "queued.max.request.bytes",
            LONG,
            limits.request_bytes_max.to_string(),
            "bytes of requests that all connections together may hold",
        ),
        Told::fixed(
            "socket.request.max.bytes",
            INT,
            limits.frame_bytes_max.to_string(),
            "most bytes of one request",
        ),
    ]
}
