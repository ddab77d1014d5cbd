//! The settings of nodes that may change while they run, under Kafka's names (`DynamicBrokerConfig`):
//! the defaults of topics, and limits of the node's own actors.
//!
//! They are set for one node or for all, and stand in the catalogue, so that they outlive a restart.
//! What counts is looked up in this order:
//!
//! | set | source in DescribeConfigs |
//! |---|---|
//! | on the topic | topic (1) |
//! | for this node | this broker, dynamic (2) |
//! | for all nodes | all brokers, dynamic (3) |
//! | at the node's start | this broker, given at its start (4) |
//! | nowhere | default (5) |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    settings::{SETTINGS, Setting, Settings, SettingsError, kind::Kind},
    state::NodeId,
};

/// What a topic's settings are called where they are the defaults of a node's topics; in the order of
/// the node's names.
const OF_TOPICS: &[(&str, &str)] = &[
    ("compression.gzip.level", "compression.gzip.level"),
    ("compression.lz4.level", "compression.lz4.level"),
    ("compression.type", "compression.type"),
    ("compression.zstd.level", "compression.zstd.level"),
    ("log.cleaner.delete.retention.ms", "delete.retention.ms"),
    ("log.cleaner.max.compaction.lag.ms", "max.compaction.lag.ms"),
    ("log.cleaner.min.cleanable.ratio", "min.cleanable.dirty.ratio"),
    ("log.cleaner.min.compaction.lag.ms", "min.compaction.lag.ms"),
    ("log.cleanup.policy", "cleanup.policy"),
    ("log.flush.interval.messages", "flush.messages"),
    ("log.flush.interval.ms", "flush.ms"),
    ("log.index.interval.bytes", "index.interval.bytes"),
    ("log.index.size.max.bytes", "segment.index.bytes"),
    ("log.local.retention.bytes", "local.retention.bytes"),
    ("log.local.retention.ms", "local.retention.ms"),
    ("log.message.timestamp.after.max.ms", "message.timestamp.after.max.ms"),
    ("log.message.timestamp.before.max.ms", "message.timestamp.before.max.ms"),
    ("log.message.timestamp.type", "message.timestamp.type"),
    ("log.preallocate", "preallocate"),
    ("log.remote.copy.lag.bytes", "remote.copy.lag.bytes"),
    ("log.remote.copy.lag.ms", "remote.copy.lag.ms"),
    ("log.retention.bytes", "retention.bytes"),
    ("log.retention.ms", "retention.ms"),
    ("log.roll.jitter.ms", "segment.jitter.ms"),
    ("log.roll.ms", "segment.ms"),
    ("log.segment.bytes", "segment.bytes"),
    ("log.segment.delete.delay.ms", "file.delete.delay.ms"),
    ("max.decompressed.message.bytes", "max.decompressed.message.bytes"),
    ("message.max.bytes", "max.message.bytes"),
    ("min.insync.replicas", "min.insync.replicas"),
    ("unclean.leader.election.enable", "unclean.leader.election.enable"),
];

const fn int(name: &'static str, default: &'static str, min: i32, doc: &'static str) -> Setting {
    Setting { name, default, doc, kind: Kind::Int { min, max: i32::MAX } }
}

/// Those of the node itself, in the order of names. Where the node was given another value at its
/// start, that counts instead of the default.
pub const OWN_SETTINGS: &[Setting] = &[
    Setting {
        name: "auto.create.topics.enable",
        default: "true",
        doc: "whether a topic is made when a client asks for it",
        kind: Kind::Flag,
    },
    int(
        "group.initial.rebalance.delay.ms",
        "0",
        0,
        "how long the first rebalance of an empty group waits for more members, in milliseconds",
    ),
    int(
        "group.max.session.timeout.ms",
        "1800000",
        1,
        "longest session timeout of a group's member",
    ),
    int("group.max.size", "10000", 1, "most members of a group"),
    int("group.min.session.timeout.ms", "6000", 1, "shortest session timeout of a group's member"),
    int("max.connections", "20000", 1, "most connections in all"),
    int("max.connections.per.ip", "10000", 1, "most connections from one address"),
    int(
        "max.group.bytes",
        "67108864",
        1,
        "most bytes of what the members of all groups of one coordinator say of themselves",
    ),
    int(
        "max.groups",
        "10000",
        1,
        "most groups of one coordinator, which is one partition of `__consumer_offsets`",
    ),
    int(
        "max.partitions",
        "100000",
        1,
        "most partitions of all topics together, those of groups' offsets not counted",
    ),
    int("num.partitions", "1", 1, "partitions of a topic that does not say how many"),
    int(
        "offsets.retention.minutes",
        "10080",
        1,
        "how long offsets outlive their group's last member",
    ),
    int(
        "producer.id.expiration.ms",
        "86400000",
        1,
        "how long what is known of an idempotent producer is kept after its last batch",
    ),
];

/// What was set of one node, or of all: each name with its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeValues(BTreeMap<String, String>);

/// Which nodes a setting is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Nodes {
    /// All that have none of their own.
    All,
    /// This one.
    One(NodeId),
}

/// What was set of all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSettings(BTreeMap<Nodes, NodeValues>);

/// The settings that are defaults of topics: the node's name of each, and the topic's setting.
pub fn of_topics() -> impl Iterator<Item = (&'static str, &'static Setting)> {
    OF_TOPICS.iter().filter_map(|(name, topic)| {
        Some((*name, SETTINGS.iter().find(|setting| setting.name == *topic)?))
    })
}

/// What a node calls the default of a topic's setting.
#[must_use]
pub fn name_on_node(topic: &str) -> Option<&'static str> {
    OF_TOPICS.iter().find(|(_, of)| *of == topic).map(|(name, _)| *name)
}

/// What a topic calls the setting that is its default on a node.
#[must_use]
pub fn name_on_topic(node: &str) -> Option<&'static str> {
    OF_TOPICS.iter().find(|(name, _)| *name == node).map(|(_, of)| *of)
}

fn find(name: &str) -> Option<(&'static str, &'static Setting)> {
    let own = OWN_SETTINGS.iter().map(|setting| (setting.name, setting));
    own.chain(of_topics()).find(|(known, _)| *known == name)
}

/// Whether nodes have a setting of this name that may change while they run.
#[must_use]
pub fn is_of_nodes(name: &str) -> bool {
    find(name).is_some()
}

impl NodeValues {
    /// Sets `name` to `value`.
    ///
    /// # Errors
    /// [`SettingsError`] where a running node has no such setting, or the value does not fit.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
        let known = find(name).ok_or_else(|| SettingsError::NotOfNodes { name: name.to_owned() });
        let (name, setting) = known?;
        let value = value.trim();
        setting.kind.check(value).map_err(|expected| SettingsError::Invalid {
            name,
            value: value.to_owned(),
            expected,
        })?;
        self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Takes `name` back.
    pub fn reset(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// What `name` was set to.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl NodeSettings {
    /// What was set of these nodes.
    #[must_use]
    pub fn of(&self, nodes: Nodes) -> NodeValues {
        self.0.get(&nodes).cloned().unwrap_or_default()
    }

    /// Replaces what was set of these nodes.
    pub(super) fn replace(&mut self, nodes: Nodes, values: NodeValues) {
        self.0.insert(nodes, values);
    }

    /// What counts for a node, and of which nodes it was set.
    #[must_use]
    pub fn get(&self, node: NodeId, name: &str) -> Option<(&str, Nodes)> {
        let of = |nodes| Some((self.0.get(&nodes)?.get(name)?, nodes));
        of(Nodes::One(node)).or_else(|| of(Nodes::All))
    }

    /// A number that counts for a node, where one was set.
    #[must_use]
    pub fn number(&self, node: NodeId, name: &str) -> Option<u32> {
        self.get(node, name)?.0.parse().ok()
    }

    /// A flag that counts for a node, where one was set.
    #[must_use]
    pub fn flag(&self, node: NodeId, name: &str) -> Option<bool> {
        Some(self.get(node, name)?.0 == "true")
    }

    /// What a node's topics have where nothing was set on them.
    #[must_use]
    pub fn topic_defaults(&self, node: NodeId) -> Settings {
        let mut defaults = Settings::default();
        for (name, setting) in of_topics() {
            if let Some((value, _)) = self.get(node, name) {
                // It was checked when it was set; a later version's rule may be another.
                if let Err(error) = defaults.set(setting.name, value) {
                    tracing::warn!(name, %error, "a setting of the node no longer fits");
                }
            }
        }
        defaults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_order_and_defaults_fit() {
        assert!(OF_TOPICS.is_sorted() && OWN_SETTINGS.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(of_topics().count(), OF_TOPICS.len(), "each is a topic's setting");
        for setting in OWN_SETTINGS {
            assert_eq!(setting.kind.check(setting.default), Ok(()), "{}", setting.name);
        }
    }

    #[test]
    fn what_is_set_for_one_node_counts_before_what_is_set_for_all() {
        let (mut one, mut all) = (NodeValues::default(), NodeValues::default());
        one.set("log.retention.ms", "1000").unwrap();
        all.set("log.retention.ms", "2000").unwrap();
        all.set("message.max.bytes", "3000").unwrap();
        all.set("num.partitions", "4").unwrap();
        let mut settings = NodeSettings::default();
        settings.replace(Nodes::One(NodeId(1)), one);
        settings.replace(Nodes::All, all);
        let defaults = settings.topic_defaults(NodeId(1));
        assert_eq!(defaults.get("retention.ms"), Some("1000"));
        assert_eq!(defaults.get("max.message.bytes"), Some("3000"));
        assert_eq!(settings.topic_defaults(NodeId(2)).get("retention.ms"), Some("2000"));
        assert_eq!(settings.number(NodeId(1), "num.partitions"), Some(4));
        assert_eq!(settings.number(NodeId(1), "max.connections"), None);
    }

    #[test]
    fn unknown_names_and_values_that_do_not_fit_are_refused() {
        let mut values = NodeValues::default();
        for name in ["nonsense", "retention.ms", "socket.request.max.bytes"] {
            let refused = values.set(name, "1").unwrap_err();
            assert!(matches!(refused, SettingsError::NotOfNodes { .. }), "{refused}");
        }
        for (name, value) in [("num.partitions", "0"), ("compression.type", "rar")] {
            let refused = values.set(name, value).unwrap_err();
            assert!(matches!(refused, SettingsError::Invalid { .. }), "{refused}");
        }
        assert_eq!(values, NodeValues::default());
    }
}
