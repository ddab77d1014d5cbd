//! The settings of a topic, under Kafka's names and with Kafka's meaning (`TopicConfig.java`,
//! `LogConfig.java`).
//!
//! A topic stores only what was set; a default that changes with a later version changes with it.
//! Three defaults differ from Kafka's: `flush.messages` is 1, so an acknowledged batch is on the disk;
//! `flush.ms` is a second, so a lazy topic may lose no more than that; and
//! `max.decompressed.message.bytes` is 64 MiB, so that memory is bounded.
//!
//! Kafka's names are all here. Those that have no meaning here are taken, checked and kept, and their
//! description says why they have none.

pub(in crate::broker) mod kind;
mod table;

use std::{collections::BTreeMap, time::Duration};

use flumen_runtime::{
    batch::{Codec, Compression},
    log::{BATCH_BYTES_LIMIT, Compaction, LogConfig},
};
use serde::{Deserialize, Serialize};

use self::kind::Kind;
pub(crate) use self::kind::words;
pub use self::table::SETTINGS;
use crate::broker::partition::options::PartitionConfig;

/// Kafka's "never by count": a topic with this `flush.messages` is *lazy*.
pub const FLUSH_NEVER: u64 = i64::MAX as u64;

/// The records of no batch are more when they are decompressed, whatever a topic allows.
const EXPANDED_BYTES_LIMIT: u64 = 1 << 30;

/// One setting that a topic may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Kafka's name.
    pub name: &'static str,
    /// Its value where none is set.
    pub default: &'static str,
    /// What it does, in a sentence.
    pub doc: &'static str,
    pub(in crate::broker) kind: Kind,
}

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
    /// There is none that a running node can change.
    #[error(
        "there is no setting `{name}` that a running node can change; what it is given at its start \
         stands in its configuration file or on its command line"
    )]
    NotOfNodes {
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
        self.kind.check(value)
    }

    /// Kafka's number for its type (`ConfigType`).
    #[must_use]
    pub fn type_number(&self) -> i8 {
        self.kind.type_number()
    }
}

fn find(name: &str) -> Result<&'static Setting, SettingsError> {
    SETTINGS
        .iter()
        .find(|setting| setting.name == name)
        .ok_or_else(|| SettingsError::Unknown { name: name.to_owned() })
}

impl Settings {
    /// Those of the topic that holds what groups committed: safely, also where the node's topics are lazy.
    ///
    /// # Panics
    /// Never: they are settings, and fit.
    #[must_use]
    pub fn offsets_topic() -> Self {
        let settings = Self::default().with("cleanup.policy", "compact");
        let settings = settings.and_then(|all| all.with("segment.bytes", "104857600"));
        settings.and_then(|all| all.with("flush.messages", "1")).expect("they fit")
    }

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

    /// Whether they fit each other, as `LogConfig.validateValues` demands.
    ///
    /// # Errors
    /// [`SettingsError::Invalid`].
    pub fn check_together(&self) -> Result<(), SettingsError> {
        const LEAST: &str = "min.compaction.lag.ms";
        const MOST: &str = "max.compaction.lag.ms";
        let (least, most) = (self.unsigned(LEAST), self.unsigned(MOST));
        if least <= most {
            return Ok(());
        }
        let expected = format!("at most `{MOST}`, which is {most}");
        Err(SettingsError::Invalid { name: LEAST, value: least.to_string(), expected })
    }

    /// These settings with `name` set to `value`.
    ///
    /// # Errors
    /// As [`Settings::set`].
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, SettingsError> {
        self.set(name, value)?;
        Ok(self)
    }

    /// These, and where one is not set what `below` says.
    #[must_use]
    pub fn over(&self, below: &Settings) -> Settings {
        let mut all = below.0.clone();
        all.extend(self.0.clone());
        Settings(all)
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
        kind::words(policies).any(|word| word == policy)
    }

    /// Whether only the last record of each key is kept.
    #[must_use]
    pub fn is_compacted(&self) -> bool {
        self.has_policy("compact")
    }

    /// Whether the last record of each key is kept whatever its age, and however many there are.
    #[must_use]
    pub fn keeps_last(&self) -> bool {
        self.is_compacted() && !self.has_policy("delete")
    }

    /// What a partition makes of these settings; `node` says what they do not of its log.
    #[must_use]
    pub fn partition_config(&self, node: &LogConfig) -> PartitionConfig {
        let millis = |name| Duration::from_millis(self.unsigned(name));
        PartitionConfig {
            log: self.log_config(node).into(),
            ahead_max: millis("message.timestamp.after.max.ms"),
            behind_max: Some(millis("message.timestamp.before.max.ms")),
            is_append_time: self.get("message.timestamp.type") == Some("LogAppendTime"),
            codec: self.codec(),
            expanded_bytes_max: self
                .unsigned("max.decompressed.message.bytes")
                .min(EXPANDED_BYTES_LIMIT) as usize,
            in_sync_min: self.unsigned("min.insync.replicas") as u32,
            ..PartitionConfig::default()
        }
    }

    /// How records are to be compressed; none: as their producer did.
    fn codec(&self) -> Option<Codec> {
        let level = |name| i32::try_from(self.number(name)).ok();
        let (compression, level) = match self.get("compression.type")? {
            "uncompressed" => (Compression::None, None),
            "gzip" => (Compression::Gzip, level("compression.gzip.level").filter(|l| *l > 0)),
            "snappy" => (Compression::Snappy, None),
            "lz4" => (Compression::Lz4, None),
            "zstd" => (Compression::Zstd, level("compression.zstd.level")),
            _ => return None,
        };
        Some(Codec { compression, level })
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
            batch_bytes_max: self.unsigned("max.message.bytes").min(BATCH_BYTES_LIMIT),
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
    fn records_cannot_be_kept_from_compaction_longer_than_it_may_wait() {
        let late = Settings::default().with("min.compaction.lag.ms", "9").unwrap();
        assert_eq!(late.check_together(), Ok(()));
        let refused = late.with("max.compaction.lag.ms", "8").unwrap().check_together();
        assert!(refused.unwrap_err().to_string().contains("at most `max.compaction.lag.ms`"));
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
    fn no_topic_takes_a_batch_that_its_log_would_not_read() {
        let most = i32::MAX.to_string();
        let greedy = Settings::default().with("max.message.bytes", &most).unwrap();
        let limits = greedy.partition_config(&LogConfig::default()).rules().limits;
        assert_eq!(limits.batch_bytes_max as u64, BATCH_BYTES_LIMIT);
    }

    #[test]
    fn a_topic_demands_a_codec_with_its_level_or_leaves_it_to_its_producers() {
        let codec = |settings: &[(&str, &str)]| {
            let mut all = Settings::default();
            settings.iter().for_each(|(name, value)| all.set(name, value).unwrap());
            all.partition_config(&LogConfig::default()).rules().limits.codec
        };
        let of = |compression, level| Some(Codec { compression, level });
        assert_eq!(codec(&[]), None);
        assert_eq!(codec(&[("compression.type", "uncompressed")]), of(Compression::None, None));
        assert_eq!(codec(&[("compression.type", "gzip")]), of(Compression::Gzip, None));
        let gzip = [("compression.type", "gzip"), ("compression.gzip.level", "7")];
        assert_eq!(codec(&gzip), of(Compression::Gzip, Some(7)));
        assert_eq!(codec(&[("compression.type", "snappy")]), of(Compression::Snappy, None));
        assert_eq!(codec(&[("compression.type", "lz4")]), of(Compression::Lz4, None));
        let zstd = [("compression.type", "zstd"), ("compression.zstd.level", "-5")];
        assert_eq!(codec(&zstd), of(Compression::Zstd, Some(-5)));
    }

    #[test]
    fn what_has_no_meaning_here_says_so_and_is_kept() {
        let inert: Vec<_> =
            SETTINGS.iter().filter(|s| s.doc.starts_with("no meaning here")).collect();
        assert_eq!(inert.len(), 16);
        let mut settings = Settings::default();
        settings.set("file.delete.delay.ms", "5").unwrap();
        assert_eq!(settings.get("file.delete.delay.ms"), Some("5"));
        assert!(settings.set("remote.storage.enable", "true").is_err(), "it cannot be had");
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
