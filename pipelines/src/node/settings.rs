//! A node's settings under Kafka's names, as `flumen.toml` and the command line give them. Those that
//! topics have too are what a topic has that does not set them itself.

use std::{fmt::Display, str::FromStr, time::Duration};

use flumen_actors::broker::catalogue::{
    node_settings::name_on_topic,
    settings::{SETTINGS, SettingsError},
};

use super::NodeOptions;

/// A setting of the node itself.
pub struct NodeSetting {
    /// Kafka's name.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub doc: &'static str,
    get: fn(&NodeOptions) -> String,
    set: fn(&mut NodeOptions, &str) -> Result<(), String>,
}

impl NodeSetting {
    /// Its value in `options`.
    #[must_use]
    pub fn value(&self, options: &NodeOptions) -> String {
        (self.get)(options)
    }
}

/// A setting that cannot be.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum NodeSettingError {
    /// Neither the node nor its topics have it.
    #[error("there is no setting `{0}`; `flumen serve --settings` lists those there are")]
    Unknown(String),
    /// A value that does not fit.
    #[error("`{name}={value}` does not fit: {expected}")]
    Invalid {
        /// Which.
        name: String,
        /// What was given.
        value: String,
        /// What would fit.
        expected: String,
    },
}

/// A number of at least `min`.
fn number<T: FromStr + PartialOrd + Display>(text: &str, min: T) -> Result<T, String> {
    let found = text.parse::<T>().ok().filter(|number| *number >= min);
    found.ok_or_else(|| format!("a whole number of at least {min} is wanted"))
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

macro_rules! counted {
    ($($path:ident).+, $min:literal) => {
        (
            |options: &NodeOptions| options.$($path).+.to_string(),
            |options: &mut NodeOptions, text: &str| {
                options.$($path).+ = number(text, $min)?;
                Ok(())
            },
        )
    };
}

type Access = (fn(&NodeOptions) -> String, fn(&mut NodeOptions, &str) -> Result<(), String>);

const fn setting(name: &'static str, access: Access, doc: &'static str) -> NodeSetting {
    NodeSetting { name, doc, get: access.0, set: access.1 }
}

/// Every setting of a node, in the order of names.
pub const NODE_SETTINGS: &[NodeSetting] = &[
    setting(
        "auto.create.topics.enable",
        (
            |options| options.topic_defaults.auto_create_topics.to_string(),
            |options, text| {
                let value = text.parse().map_err(|_| "`true` or `false` is wanted".to_owned())?;
                options.topic_defaults.auto_create_topics = value;
                Ok(())
            },
        ),
        "whether a topic is made when a client asks for it",
    ),
    setting(
        "connections.max.idle.ms",
        (
            |options| millis(options.limits.idle_max),
            |options, text| {
                options.limits.idle_max = Duration::from_millis(number(text, 1)?);
                Ok(())
            },
        ),
        "how long a connection may be without a request",
    ),
    setting(
        "group.initial.rebalance.delay.ms",
        counted!(groups.initial_rebalance_delay_ms, 0),
        "how long the first rebalance of an empty group waits for more members",
    ),
    setting(
        "group.max.session.timeout.ms",
        counted!(groups.session_timeout_max_ms, 1),
        "longest session timeout that a member may ask for",
    ),
    setting("group.max.size", counted!(groups.members_max, 1), "most members of a group"),
    setting(
        "group.min.session.timeout.ms",
        counted!(groups.session_timeout_min_ms, 1),
        "shortest session timeout that a member may ask for",
    ),
    setting("max.connections", counted!(limits.connections_max, 1), "most connections in all"),
    setting(
        "max.connections.per.ip",
        counted!(limits.connections_per_address_max, 1),
        "most connections from one address",
    ),
    setting(
        "max.group.bytes",
        counted!(groups.group_bytes_max, 1),
        "most bytes of what the members of all groups of one coordinator say of themselves",
    ),
    setting(
        "max.groups",
        counted!(groups.groups_max, 1),
        "most groups of one coordinator, which is one partition of `__consumer_offsets`",
    ),
    setting(
        "max.partitions",
        counted!(partitions_max, 1),
        "most partitions of all topics together, those of groups' offsets not counted",
    ),
    setting(
        "num.partitions",
        counted!(topic_defaults.partitions, 1),
        "partitions of a topic that does not say how many",
    ),
    setting(
        "offset.metadata.max.bytes",
        counted!(groups.metadata_bytes_max, 0),
        "most bytes of metadata that a member keeps beside an offset",
    ),
    setting(
        "offsets.retention.minutes",
        (
            |options| (options.groups.offsets_retention_ms / 60_000).to_string(),
            |options, text| {
                let minutes = number::<i64>(text, 1)?;
                options.groups.offsets_retention_ms = minutes.saturating_mul(60_000);
                Ok(())
            },
        ),
        "how long offsets outlive their group's last member",
    ),
    setting(
        "offsets.topic.num.partitions",
        counted!(offsets_partitions, 1),
        "partitions of the topic that keeps groups' offsets, when it is made",
    ),
    setting(
        "producer.id.expiration.ms",
        (
            |options| millis(options.producer_age),
            |options, text| {
                options.producer_age = Duration::from_millis(number::<u32>(text, 1)?.into());
                Ok(())
            },
        ),
        "how long what is known of an idempotent producer is kept after its last batch",
    ),
    setting(
        "queued.max.request.bytes",
        counted!(limits.request_bytes_max, 1),
        "bytes of requests that all connections together may hold",
    ),
    setting(
        "socket.request.max.bytes",
        counted!(limits.frame_bytes_max, 1024),
        "most bytes of one request",
    ),
];

impl NodeOptions {
    /// Sets `name`, of the node or of the topics that do not set it themselves, to `value`. Those of
    /// topics have their names, or those that Kafka has for them in its brokers' configuration.
    ///
    /// # Errors
    /// [`NodeSettingError`].
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), NodeSettingError> {
        let invalid = |expected| NodeSettingError::Invalid {
            name: name.to_owned(),
            value: value.to_owned(),
            expected,
        };
        if let Some(own) = NODE_SETTINGS.iter().find(|own| own.name == name) {
            return (own.set)(self, value.trim()).map_err(invalid);
        }
        let of_topics = name_on_topic(name).unwrap_or(name);
        self.topic_settings.set(of_topics, value).map_err(|error| match error {
            SettingsError::Invalid { expected, .. } => invalid(expected),
            _ => NodeSettingError::Unknown(name.to_owned()),
        })
    }

    /// Whether what was set fits together.
    ///
    /// # Errors
    /// [`NodeSettingError::Invalid`].
    pub fn check(&self) -> Result<(), NodeSettingError> {
        let least = self.limits.frame_bytes_max.saturating_mul(2);
        if self.limits.request_bytes_max < least {
            return Err(NodeSettingError::Invalid {
                name: "queued.max.request.bytes".into(),
                value: self.limits.request_bytes_max.to_string(),
                expected: format!("at least {least}, twice `socket.request.max.bytes`, is wanted"),
            });
        }
        Ok(())
    }
}

/// Whether `name` is a setting of topics.
#[must_use]
pub fn is_of_topics(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.name == name)
}

#[cfg(test)]
mod tests {
    use flumen_actors::broker::catalogue::node_settings::OWN_SETTINGS;

    use super::*;

    #[test]
    fn what_may_change_later_may_be_given_at_the_start_and_begins_alike() {
        let options = NodeOptions::new("data");
        for later in OWN_SETTINGS {
            let found = NODE_SETTINGS.iter().find(|own| own.name == later.name);
            let own = found.unwrap_or_else(|| panic!("{} cannot be given", later.name));
            assert_eq!(own.value(&options), later.default, "{}", later.name);
        }
    }

    #[test]
    fn what_is_set_is_read_again_and_names_are_in_order() {
        assert!(NODE_SETTINGS.is_sorted_by(|a, b| a.name < b.name));
        let mut options = NodeOptions::new("data");
        for own in NODE_SETTINGS {
            let before = own.value(&options);
            options.set(own.name, &before).unwrap();
            assert_eq!(own.value(&options), before, "{}", own.name);
            assert!(!is_of_topics(own.name), "{} has one meaning", own.name);
        }
        options.set("num.partitions", "7").unwrap();
        options.set("retention.ms", "5000").unwrap();
        assert_eq!(options.topic_defaults.partitions, 7);
        assert_eq!(options.topic_settings.get("retention.ms"), Some("5000"));
        options.set("log.retention.ms", "6000").unwrap();
        assert_eq!(options.topic_settings.get("retention.ms"), Some("6000"), "Kafka's other name");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let mut options = NodeOptions::new("data");
        let refused = |options: &mut NodeOptions, name, value| {
            options.set(name, value).unwrap_err().to_string()
        };
        assert!(refused(&mut options, "num.partitions", "0").contains("at least 1"));
        assert!(refused(&mut options, "retention.ms", "soon").contains("`retention.ms=soon`"));
        assert!(refused(&mut options, "no.such", "1").contains("no setting `no.such`"));
        assert_eq!(options.check(), Ok(()));
        options.set("queued.max.request.bytes", "1024").unwrap();
        assert!(options.check().unwrap_err().to_string().contains("socket.request.max.bytes"));
    }
}
