//! What a partition is made with.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use flumen_runtime::{
    batch::{Codec, EXPANDED_BYTES_MAX},
    ids::{LeaderEpoch, LogId},
    journal::Journaled,
    log::{ClosedLog, LogConfig},
};
use serde::{Deserialize, Serialize};

use super::{messages::Role, probe::Probe, state::Rules, validate::Limits};
use crate::broker::{directories::DataDirectory, names::TopicPartition, traffic::Traffic};

/// A topic's settings, as one of its partitions sees them. They may change while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionConfig {
    /// How its log is kept.
    pub log: Arc<LogConfig>,
    /// How far ahead of the clock a timestamp may be (`message.timestamp.after.max.ms`).
    pub ahead_max: Duration,
    /// How far behind it (`message.timestamp.before.max.ms`); none: as far as it likes.
    pub behind_max: Option<Duration>,
    /// Whether records get the time of the append (`message.timestamp.type=LogAppendTime`).
    pub is_append_time: bool,
    /// How records are compressed (`compression.type`); none: as their producer did.
    pub codec: Option<Codec>,
    /// Most bytes of the records of one batch when they are decompressed
    /// (`max.decompressed.message.bytes`).
    pub expanded_bytes_max: usize,
    /// How many replicas must have what all of them are waited for with (`min.insync.replicas`).
    pub in_sync_min: u32,
    /// How long an unused producer's state is kept (`producer.id.expiration.ms`).
    pub producer_age: Duration,
}

impl Default for PartitionConfig {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3_600);
        Self {
            log: Arc::default(),
            ahead_max: HOUR,
            behind_max: None,
            is_append_time: false,
            codec: None,
            expanded_bytes_max: EXPANDED_BYTES_MAX,
            in_sync_min: 1,
            producer_age: 24 * HOUR,
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl PartitionConfig {
    /// What of it the core decides by.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            limits: Limits {
                batch_bytes_max: usize::try_from(self.log.batch_bytes_max).unwrap_or(usize::MAX),
                ahead_ms_max: millis(self.ahead_max),
                behind_ms_max: self.behind_max.map_or(i64::MAX, millis),
                is_append_time: self.is_append_time,
                needs_keys: self.log.compaction.is_some(),
                codec: self.codec,
                expanded_bytes_max: self.expanded_bytes_max,
            },
            is_lazy: self.log.is_lazy(),
            in_sync_min: self.in_sync_min,
            producer_age_ms: millis(self.producer_age),
        }
    }
}

/// What a cleanly stopped partition says of itself, so that it can be opened without reading its log.
/// Good for one opening, and only while nothing has been written since: whoever keeps it removes it
/// durably before the partition is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedPartition {
    /// Its log.
    pub log: ClosedLog,
    /// Its producers and aborted transactions, as in a `.snapshot` file.
    #[serde(with = "serde_bytes")]
    pub snapshot: Box<[u8]>,
}

/// What a partition is made with, in each of its lives.
pub struct PartitionOptions {
    /// Its name.
    pub partition: TopicPartition,
    /// The id of its log: the topic's id, and the partition's number.
    pub log: LogId,
    /// The data directory, whose disk actor it uses.
    pub directory: Arc<DataDirectory>,
    /// The directory of its log, below that; made where it is missing.
    pub dir: Arc<Path>,
    /// Its settings at the start.
    pub config: Arc<PartitionConfig>,
    /// Its role at the start.
    pub role: Role,
    /// The epoch of that role.
    pub epoch: LeaderEpoch,
    /// What the log said when it was closed by the last stop, if it was.
    pub closed: Option<ClosedPartition>,
    /// Batches of the commit journal that the log's segments may be short of.
    pub journaled: Vec<Journaled>,
    /// What goes into its topic and out of it.
    pub traffic: Arc<Traffic>,
    /// Who watches each step; nobody, as a rule.
    pub probe: Option<Arc<dyn Probe>>,
}

impl PartitionOptions {
    /// Those of a new leader, whose log is in `<partition>` of `directory`.
    #[must_use]
    pub fn new(partition: TopicPartition, log: LogId, directory: Arc<DataDirectory>) -> Self {
        Self {
            dir: directory.path.join(partition.to_string()).into(),
            partition,
            log,
            directory,
            config: Arc::default(),
            role: Role::Leader,
            epoch: LeaderEpoch::default(),
            closed: None,
            journaled: Vec::new(),
            traffic: Arc::default(),
            probe: None,
        }
    }
}

impl fmt::Debug for PartitionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionOptions")
            .field("partition", &self.partition)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}
