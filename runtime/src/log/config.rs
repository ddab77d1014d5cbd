//! How one log is kept.

use std::time::Duration;

/// Settings of a log; see each for its unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Bytes after which the active segment is rolled; a single larger batch still fits.
    pub segment_bytes: u64,
    /// Milliseconds after which the active segment is rolled, counted from its first batch.
    pub segment_age_ms: u64,
    /// Bytes of log between two entries of an index.
    pub index_interval_bytes: u64,
    /// Bytes that are kept; whole closed segments beyond that are removed.
    pub retention_bytes: Option<u64>,
    /// Milliseconds for which records are kept, by the largest timestamp of their segment.
    pub retention_ms: Option<u64>,
    /// Most bytes of one batch; a larger claim in a file is damage.
    pub batch_bytes_max: u64,
    /// Batches after which a sync is due: 1, so that each is durable before it is acknowledged, or
    /// `u64::MAX`, which leaves it to [`LogConfig::sync_interval`].
    pub sync_batches: u64,
    /// Longest time that a written batch stays unsynced, where `sync_batches` does not say sooner.
    pub sync_interval: Option<Duration>,
    /// Bytes after which a log syncs although nobody waits for it, and fewer near the end of a segment: a
    /// roll has to wait for what is left, and a recovery has to read it.
    pub unsynced_bytes_max: u64,
    /// Whether small batches of a lightly written log are made durable by the shared journal.
    pub journal: bool,
    /// Bytes of each new segment that are filled with zeros when it is made.
    pub zero_fill_bytes: u64,
    /// Bytes between two ticks from which a log counts as busy: it syncs for itself, its small writes go on
    /// with zeros, and if it is lazy, its blocks are found ahead.
    pub busy_bytes: u64,
    /// Bytes of synced log after which the recovery point moves.
    pub checkpoint_bytes: u64,
    /// Bytes that must stay free on the file system: below that, the log is full.
    pub free_floor_bytes: u64,
    /// How only the last record of each key is kept; `None`: all are.
    pub compaction: Option<Compaction>,
}

/// How a log is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// Which part of what could be compacted must be new before that is done, in thousandths.
    pub dirty_permille_min: u16,
    /// Milliseconds for which a tombstone stays, from when it was met first.
    pub tombstone_age_ms: u64,
    /// Milliseconds for which every record stays, by the largest timestamp of its segment.
    pub lag_min_ms: u64,
    /// Milliseconds after which a segment is compacted, however little is new.
    pub lag_max_ms: u64,
    /// Most bytes of keys that are remembered at a time.
    pub keys_bytes_max: usize,
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            dirty_permille_min: 500,
            tombstone_age_ms: 24 * 60 * 60 * 1000,
            lag_min_ms: 0,
            lag_max_ms: u64::MAX,
            keys_bytes_max: 16 << 20,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        const DAYS_7_MS: u64 = 7 * 24 * 60 * 60 * 1000;
        Self {
            segment_bytes: 1 << 30,
            segment_age_ms: DAYS_7_MS,
            index_interval_bytes: 4096,
            retention_bytes: None,
            retention_ms: None,
            batch_bytes_max: 1024 * 1024 + 12,
            sync_batches: 1,
            sync_interval: None,
            unsynced_bytes_max: 256 << 20,
            journal: true,
            zero_fill_bytes: 0,
            busy_bytes: 1 << 20,
            checkpoint_bytes: 32 << 20,
            free_floor_bytes: 64 << 20,
            compaction: None,
        }
    }
}

impl LogConfig {
    /// Whether an appended batch counts before it is durable.
    #[must_use]
    pub fn is_lazy(&self) -> bool {
        self.sync_batches == u64::MAX
    }
}
