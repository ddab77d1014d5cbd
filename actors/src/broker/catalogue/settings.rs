//! The settings of a topic, under Kafka's names and with Kafka's meaning (`TopicConfig.java`,
//! `LogConfig.java`).
//!
//! A topic stores only what was set; a default that changes with a later version changes with it.
//! One default differs from Kafka's, and says so: `flush.messages` is 1, so an acknowledged batch is
//! on the disk.

use std::{collections::BTreeMap, time::Duration};

use flumen_runtime::log::{Compaction, LogConfig};
use serde::{Deserialize, Serialize};

use crate::broker::partition::options::PartitionConfig;

/// Kafka's "never by count": a topic with this `flush.messages` is *lazy*.
pub const FLUSH_NEVER: u64 = i64::MAX as u64;

/// What kind of value a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A whole number from `min` on; -1 means unlimited where `unlimited`.
    Number { min: i64, max: i64, unlimited: bool },
    /// One of, or several of these joined by commas.
    Words(&'static [&'static str]),
    /// One of these.
    Word(&'static [&'static str]),
    /// A fraction from 0 to 1.
    Ratio,
}

/// One setting that a topic may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Kafka's name.
    pub name: &'static str,
    /// Its value where none is set.
    pub default: &'static str,
    /// What it does, in a sentence.
    pub doc: &'static str,
    kind: Kind,
}

const fn number(name: &'static str, default: &'static str, min: i64, doc: &'static str) -> Setting {
    Setting { name, default, doc, kind: Kind::Number { min, max: i64::MAX, unlimited: false } }
}

const fn limit(name: &'static str, default: &'static str, doc: &'static str) -> Setting {
    Setting { name, default, doc, kind: Kind::Number { min: 0, max: i64::MAX, unlimited: true } }
}

/// Every setting that a topic may have, in the order of names.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "cleanup.policy",
        default: "delete",
        doc: "what happens to old segments: `delete`, `compact`, or both",
        kind: Kind::Words(&["delete", "compact"]),
    },
    number(
        "delete.retention.ms",
        "86400000",
        0,
        "how long a tombstone stays readable in a compacted topic, in milliseconds",
    ),
    number(
        "flush.messages",
        "1",
        1,
        "1: a batch is synced before it is acknowledged; 9223372036854775807: never by count (lazy)",
    ),
    number(
        "flush.ms",
        "1000",
        1,
        "how long a lazy topic may leave a batch unsynced, in milliseconds",
    ),
    number("index.interval.bytes", "4096", 0, "bytes of log between two entries of its index"),
    number(
        "max.compaction.lag.ms",
        "9223372036854775807",
        1,
        "how long a record of a compacted topic may wait to be compacted, in milliseconds",
    ),
    Setting {
        name: "max.message.bytes",
        default: "1048588",
        doc: "most bytes of one record batch",
        kind: Kind::Number { min: 61, max: 1 << 30, unlimited: false },
    },
    number(
        "message.timestamp.after.max.ms",
        "3600000",
        0,
        "how far ahead of the clock a producer's timestamp may be, in milliseconds",
    ),
    number(
        "message.timestamp.before.max.ms",
        "9223372036854775807",
        0,
        "how far behind the clock a producer's timestamp may be, in milliseconds",
    ),
    Setting {
        name: "message.timestamp.type",
        default: "CreateTime",
        doc: "whose timestamps records have: their producer's, or the log's (`LogAppendTime`)",
        kind: Kind::Word(&["CreateTime", "LogAppendTime"]),
    },
    Setting {
        name: "min.cleanable.dirty.ratio",
        default: "0.5",
        doc: "which part of a compacted partition must be new before it is compacted, from 0 to 1",
        kind: Kind::Ratio,
    },
    number(
        "min.compaction.lag.ms",
        "0",
        0,
        "how long every record of a compacted topic stays readable, in milliseconds",
    ),
    number(
        "min.insync.replicas",
        "1",
        1,
        "replicas that must have a batch before acks=all answers",
    ),
    limit("retention.bytes", "-1", "bytes a partition keeps; -1: no limit"),
    limit("retention.ms", "604800000", "milliseconds a partition keeps its records; -1: no limit"),
    Setting {
        name: "segment.bytes",
        default: "1073741824",
        doc: "bytes of one segment file",
        kind: Kind::Number { min: 4096, max: i32::MAX as i64, unlimited: false },
    },
    number(
        "segment.ms",
        "604800000",
        1,
        "age at which the active segment is closed, in milliseconds",
    ),
];

/// The settings of one topic: only those that were set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings(BTreeMap<String, String>);

/// A setting that cannot be.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    /// There is no such setting.
    #[error("there is no topic setting `{name}`; the settings are {}", names())]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The value does not fit.
    #[error("`{name}={value}` does not fit: {expected}")]
    Invalid {
        /// The setting.
        name: &'static str,
        /// The value given.
        value: String,
        /// What would fit.
        expected: String,
    },
}

fn names() -> String {
    SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>().join(", ")
}

impl Setting {
    fn check(&self, value: &str) -> Result<(), String> {
        match self.kind {
            Kind::Number { min, max, unlimited } => {
                let number: i64 =
                    value.parse().map_err(|_| "a whole number is wanted".to_owned())?;
                if (min..=max).contains(&number) || (unlimited && number == -1) {
                    return Ok(());
                }
                Err(format!("a number from {min} to {max} is wanted"))
            }
            Kind::Ratio => match value.parse::<f64>() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(()),
                _ => Err("a fraction from 0 to 1 is wanted".to_owned()),
            },
            Kind::Word(words) if words.contains(&value) => Ok(()),
            Kind::Word(words) => Err(format!("one of {} is wanted", words.join(", "))),
            Kind::Words(words) => {
                if value.split(',').all(|word| words.contains(&word.trim())) {
                    return Ok(());
                }
                Err(format!("one or several of {} are wanted", words.join(", ")))
            }
        }
    }
}

fn find(name: &str) -> Result<&'static Setting, SettingsError> {
    SETTINGS
        .iter()
        .find(|setting| setting.name == name)
        .ok_or_else(|| SettingsError::Unknown { name: name.to_owned() })
}

impl Settings {
    /// Sets `name` to `value`.
    ///
    /// # Errors
    /// [`SettingsError`] where there is no such setting or the value does not fit.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
        let setting = find(name)?;
        let value = value.trim();
        setting.check(value).map_err(|expected| SettingsError::Invalid {
            name: setting.name,
            value: value.to_owned(),
            expected,
        })?;
        self.0.insert(setting.name.to_owned(), value.to_owned());
        Ok(())
    }

    /// These settings with `name` set to `value`.
    ///
    /// # Errors
    /// As [`Settings::set`].
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, SettingsError> {
        self.set(name, value)?;
        Ok(self)
    }

    /// Takes `name` back to its default.
    pub fn reset(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// The settings that were set, in the order of names.
    pub fn explicit(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of `name`, set or default; `None` where there is no such setting.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let setting = find(name).ok()?;
        Some(self.0.get(name).map_or(setting.default, String::as_str))
    }

    fn number(&self, name: &str) -> i64 {
        let value = self.get(name).expect("named in SETTINGS");
        value.parse().expect("checked when it was set")
    }

    fn unsigned(&self, name: &str) -> u64 {
        self.number(name).unsigned_abs()
    }

    fn limit(&self, name: &str) -> Option<u64> {
        u64::try_from(self.number(name)).ok()
    }

    /// Whether an acknowledged batch may still be lost in a power cut.
    #[must_use]
    pub fn is_lazy(&self) -> bool {
        self.unsigned("flush.messages") == FLUSH_NEVER
    }

    fn has_policy(&self, policy: &str) -> bool {
        let policies = self.get("cleanup.policy").expect("named in SETTINGS");
        policies.split(',').any(|word| word.trim() == policy)
    }

    /// Whether only the last record of each key is kept.
    #[must_use]
    pub fn is_compacted(&self) -> bool {
        self.has_policy("compact")
    }

    /// What a partition makes of these settings; `node` says what they do not of its log.
    #[must_use]
    pub fn partition_config(&self, node: &LogConfig) -> PartitionConfig {
        let millis = |name| Duration::from_millis(self.unsigned(name));
        PartitionConfig {
            log: self.log_config(node),
            ahead_max: millis("message.timestamp.after.max.ms"),
            behind_max: Some(millis("message.timestamp.before.max.ms")),
            is_append_time: self.get("message.timestamp.type") == Some("LogAppendTime"),
            ..PartitionConfig::default()
        }
    }

    fn compaction(&self) -> Option<Compaction> {
        let ratio: f64 = self.get("min.cleanable.dirty.ratio")?.parse().ok()?;
        self.is_compacted().then(|| Compaction {
            dirty_permille_min: (ratio * 1000.0).round() as u16,
            tombstone_age_ms: self.unsigned("delete.retention.ms"),
            lag_min_ms: self.unsigned("min.compaction.lag.ms"),
            lag_max_ms: match self.unsigned("max.compaction.lag.ms") {
                lag if lag == i64::MAX as u64 => u64::MAX,
                lag => lag,
            },
            ..Compaction::default()
        })
    }

    /// What the log of a partition makes of these settings; `node` says what they do not.
    #[must_use]
    pub fn log_config(&self, node: &LogConfig) -> LogConfig {
        let is_deleted = self.has_policy("delete");
        let compaction = self.compaction();
        // What is to be compacted in time must be in a closed segment in time.
        let lag_max_ms = compaction.map_or(u64::MAX, |compaction| compaction.lag_max_ms);
        LogConfig {
            segment_bytes: self.unsigned("segment.bytes"),
            segment_age_ms: self.unsigned("segment.ms").min(lag_max_ms),
            index_interval_bytes: self.unsigned("index.interval.bytes"),
            retention_bytes: self.limit("retention.bytes").filter(|_| is_deleted),
            retention_ms: self.limit("retention.ms").filter(|_| is_deleted),
            batch_bytes_max: self.unsigned("max.message.bytes"),
            sync_batches: match self.unsigned("flush.messages") {
                FLUSH_NEVER => u64::MAX,
                batches => batches,
            },
            sync_interval: self.is_lazy().then(|| Duration::from_millis(self.unsigned("flush.ms"))),
            compaction,
            ..node.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_fits_its_own_rule_and_names_are_in_order() {
        for setting in SETTINGS {
            assert_eq!(setting.check(setting.default), Ok(()), "{}", setting.name);
        }
        assert!(SETTINGS.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn a_wrong_name_or_value_is_told_apart() {
        let mut settings = Settings::default();
        assert!(matches!(settings.set("nonsense", "1"), Err(SettingsError::Unknown { .. })));
        for (name, value) in
            [("segment.bytes", "12"), ("retention.ms", "-2"), ("cleanup.policy", "shred")]
        {
            let error = settings.set(name, value).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        assert_eq!(settings, Settings::default(), "nothing was set");
    }

    #[test]
    fn a_topic_is_synced_before_the_ack_unless_it_is_lazy() {
        let strict = Settings::default();
        assert!(!strict.is_lazy());
        assert_eq!(strict.log_config(&LogConfig::default()).sync_batches, 1);
        let lazy = strict.with("flush.messages", &FLUSH_NEVER.to_string()).unwrap();
        assert!(lazy.is_lazy());
        assert_eq!(lazy.log_config(&LogConfig::default()).sync_batches, u64::MAX);
        assert_eq!(
            lazy.log_config(&LogConfig::default()).sync_interval,
            Some(Duration::from_secs(1))
        );
    }

    #[test]
    fn a_compacted_topic_is_not_deleted_by_age() {
        let settings = Settings::default().with("cleanup.policy", "compact").unwrap();
        assert!(settings.is_compacted());
        assert_eq!(settings.log_config(&LogConfig::default()).retention_ms, None);
        let both = settings.clone().with("cleanup.policy", "compact, delete").unwrap();
        assert!(both.log_config(&LogConfig::default()).retention_ms.is_some());
        let set = settings
            .with("min.cleanable.dirty.ratio", "0.2")
            .and_then(|set| set.with("delete.retention.ms", "7"))
            .and_then(|set| set.with("min.compaction.lag.ms", "8"))
            .and_then(|set| set.with("max.compaction.lag.ms", "9"))
            .unwrap();
        let config = set.log_config(&LogConfig::default());
        let compaction = config.compaction.expect("it is compacted");
        assert_eq!((compaction.dirty_permille_min, compaction.tombstone_age_ms), (200, 7));
        assert_eq!((compaction.lag_min_ms, compaction.lag_max_ms), (8, 9));
        assert_eq!(config.segment_age_ms, 9, "closed in time");
        assert_eq!(Settings::default().log_config(&config).compaction, None);
    }
}
