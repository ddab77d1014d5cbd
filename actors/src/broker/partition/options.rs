//! What a partition is made with.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use flumen_runtime::{
    batch::{Codec, EXPANDED_BYTES_MAX},
    credit::Credit,
    ids::{LeaderEpoch, LogId},
    journal::Journaled,
    log::{ClosedLog, LogConfig},
};
use serde::{Deserialize, Serialize};

use super::{messages::Role, probe::Probe, state::Rules, validate::Limits};
use crate::broker::{names::TopicPartition, traffic::Traffic};

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
    pub snapshot: Vec<u8>,
}

/// What goes between a partition and whoever starts and stops the node.
#[derive(Debug, Default)]
pub struct Handover {
    /// Batches of the commit journal that the log's segments may be short of.
    journaled: Mutex<Vec<Journaled>>,
    /// Boxed: a partition that runs holds none.
    closed: Mutex<Option<Box<ClosedPartition>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Replaced as a whole: a panic cannot leave it torn.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handover {
    /// What the journal had of the log when the node started, and what the log said when it was
    /// closed, if it was.
    #[must_use]
    pub fn new(journaled: Vec<Journaled>, closed: Option<ClosedPartition>) -> Arc<Self> {
        Arc::new(Self {
            journaled: Mutex::new(journaled),
            closed: Mutex::new(closed.map(Box::new)),
        })
    }

    /// What the partition said of itself when it was drained; `None` where it was not, or had failed.
    #[must_use]
    pub fn closed(&self) -> Option<ClosedPartition> {
        lock(&self.closed).as_deref().cloned()
    }

    /// A copy; the payloads are shared.
    pub(super) fn journaled(&self) -> Vec<Journaled> {
        lock(&self.journaled).clone()
    }

    /// The log holds them now.
    pub(super) fn journal_is_used(&self) {
        *lock(&self.journaled) = Vec::new();
    }

    pub(super) fn take_closed(&self) -> Option<ClosedPartition> {
        lock(&self.closed).take().map(|closed| *closed)
    }

    pub(super) fn set_closed(&self, closed: ClosedPartition) {
        *lock(&self.closed) = Some(Box::new(closed));
    }
}

/// Free bytes of a data directory's file system, as whoever watches it has seen last. Clones share
/// it: one look at the disk serves all logs.
#[derive(Clone, Debug)]
pub struct Room(Arc<AtomicU64>);

impl Default for Room {
    /// Room without end, until somebody looks.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

impl Room {
    /// `free` bytes are free.
    pub fn set(&self, free: u64) {
        self.0.store(free, Ordering::Relaxed);
    }

    /// Bytes that are free.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a partition is made with, in each of its lives.
#[derive(Clone)]
pub struct PartitionOptions {
    /// Its name.
    pub partition: TopicPartition,
    /// The id of its log: the topic's id, and the partition's number.
    pub log: LogId,
    /// The data directory, whose disk actor it uses.
    pub data_dir: Arc<Path>,
    /// The directory of its log, below that; made where it is missing.
    pub dir: Arc<Path>,
    /// Its settings at the start.
    pub config: PartitionConfig,
    /// Its role at the start.
    pub role: Role,
    /// The epoch of that role.
    pub epoch: LeaderEpoch,
    /// What is known of its log from the last stop, and what the next start may know.
    pub handover: Arc<Handover>,
    /// Room on the data directory's file system.
    pub room: Room,
    /// Logs that may be compacted at a time.
    pub cleaners: Credit,
    /// Logs that may be closed at a time.
    pub closers: Credit,
    /// What goes into its topic and out of it.
    pub traffic: Arc<Traffic>,
    /// Who watches each step; nobody, as a rule.
    pub probe: Option<Arc<dyn Probe>>,
}

impl PartitionOptions {
    /// Those of a new leader in the directory `<partition>` of `data_dir`.
    #[must_use]
    pub fn new(partition: TopicPartition, log: LogId, data_dir: impl Into<Arc<Path>>) -> Self {
        let data_dir: Arc<Path> = data_dir.into();
        Self {
            dir: data_dir.join(partition.to_string()).into(),
            partition,
            log,
            data_dir,
            config: PartitionConfig::default(),
            role: Role::Leader,
            epoch: LeaderEpoch::default(),
            handover: Arc::default(),
            room: Room::default(),
            cleaners: Credit::new(1, 0),
            closers: Credit::new(1, 0),
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
