//! The data directories of a node: which partition lives where, what a clean stop left, and how much
//! room there is.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use flumen_runtime::{
    codec::{self, UnsealError},
    credit::Credit,
    data_dir,
    disk::{DiskError, DiskHandle, OpenMode, Space},
    era::{self, Ticket},
    ids::LogId,
    placement::Local,
};
use uuid::Uuid;

use super::partition::options::ClosedPartition;

/// What a clean stop says of the logs of a directory: good once, and removed before any is opened.
const CLOSED_FILE: &str = "flumen-clean-stop";
const CLOSED_KIND: [u8; 4] = *b"FLCL";
const CLOSED_VERSION: u16 = 1;
/// Logs of a directory that are closed at a time: enough that their syncs share the disk's flushes.
const CLOSERS: usize = 256;
/// Bytes of a directory's logs that are read before they are asked for: so many consumers, each of which
/// takes the usual MiB at a time, go on without a wait for the disk.
const READ_AHEAD_BYTES: usize = 16 << 20;
/// Most bytes of a `partition.metadata` that are looked at: it has two short lines.
pub(super) const METADATA_BYTES_MAX: usize = 256;
const TAKE_OVER_MAX: Duration = Duration::from_secs(5);

/// Why what a clean stop left cannot be taken.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CleanStopError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A later version left it, and may have changed the logs too.
    #[error("`{}` {error}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// What it says of itself.
        error: UnsealError,
    },
}

/// Room on a data directory's file system, as whoever watches it has seen last. Clones share it: one look
/// at the disk serves all logs.
#[derive(Clone, Debug)]
pub struct Room(Arc<Seen>);

#[derive(Debug)]
struct Seen {
    free: AtomicU64,
    total: AtomicU64,
}

impl Default for Room {
    /// Room without end, until somebody looks.
    fn default() -> Self {
        let endless = || AtomicU64::new(u64::MAX);
        Self(Arc::new(Seen { free: endless(), total: endless() }))
    }
}

impl Room {
    /// So much was seen.
    pub fn set(&self, seen: Space) {
        self.0.free.store(seen.free, Ordering::Relaxed);
        self.0.total.store(seen.total, Ordering::Relaxed);
    }

    /// Bytes that are free.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.0.free.load(Ordering::Relaxed)
    }

    /// Bytes in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.total.load(Ordering::Relaxed)
    }
}

/// A directory that holds logs.
#[derive(Clone, Debug)]
pub struct DataDirectory {
    /// `directory.id` of its `meta.properties`.
    pub id: Uuid,
    /// Where it is.
    pub path: Arc<Path>,
    /// Room on its file system.
    pub room: Room,
    /// Logs that may be compacted at a time: each remembers keys, and takes time from its disk.
    pub cleaners: Credit,
    /// Logs that may be closed at a time: each holds files open, of which a process has not many, and
    /// all of them at once would have the last wait for the disk until its deadline.
    pub closers: Credit,
    /// Bytes that may be read ahead of whoever reads one part of a log after the other.
    pub read_ahead: Credit,
}

impl DataDirectory {
    /// The directory `id` at `path`.
    #[must_use]
    pub fn new(id: Uuid, path: impl Into<PathBuf>) -> Self {
        Self {
            id,
            path: path.into().into(),
            room: Room::default(),
            cleaners: Credit::new(1, 0),
            closers: Credit::new(CLOSERS, 0),
            read_ahead: Credit::new(usize::MAX, READ_AHEAD_BYTES),
        }
    }

    /// What the journals call the log of a partition in `dir`, by its `partition.metadata` and its
    /// name; `None` where it is no partition's.
    ///
    /// # Errors
    /// [`DiskError`].
    pub async fn log_in(disk: &DiskHandle, dir: &Path) -> Result<Option<LogId>, DiskError> {
        let file = match disk.open(dir.join("partition.metadata"), OpenMode::Read).await {
            Err(error) if error.is_not_found() => return Ok(None),
            opened => opened?,
        };
        let bytes = disk.read(&file, 0, METADATA_BYTES_MAX).await?;
        let text = String::from_utf8_lossy(&bytes);
        let id = text.lines().find_map(|line| line.strip_prefix("topic_id: "));
        let name = dir.file_name().and_then(|name| name.to_str());
        let shard = name.and_then(|name| name.rsplit_once('-')).map(|(_, number)| number.parse());
        let id = id.and_then(|id| data_dir::from_kafka_id(id.trim()));
        Ok(id.zip(shard.and_then(Result::ok)).map(|(id, shard)| LogId { id, shard }))
    }

    /// Takes out what the last clean stop left of the directory's logs: it is gone, durably, when this
    /// returns. Nothing where the last stop was none.
    ///
    /// # Errors
    /// [`CleanStopError`].
    pub async fn take_closed(
        &self,
        disk: &DiskHandle,
    ) -> Result<BTreeMap<LogId, ClosedPartition>, CleanStopError> {
        let path = self.path.join(CLOSED_FILE);
        let file = match disk.open(&path, OpenMode::Read).await {
            Err(error) if error.is_not_found() => return Ok(BTreeMap::new()),
            opened => opened?,
        };
        let len = disk.len(&file).await?.min(codec::VALUE_BYTES_MAX as u64);
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < len {
            let want = (len - bytes.len() as u64).min(1 << 20) as usize;
            let chunk = disk.read(&file, bytes.len() as u64, want).await?;
            if chunk.is_empty() {
                break;
            }
            bytes.extend_from_slice(&chunk);
        }
        let closed = codec::unseal(CLOSED_KIND, CLOSED_VERSION, &bytes);
        if let Err(error @ UnsealError::Newer { .. }) = closed {
            return Err(CleanStopError::Newer { path, error });
        }
        disk.remove(&path).await?;
        disk.sync_dir(&*self.path).await?;
        // Not readable means not known: the logs are recovered then, which needs no such file.
        Ok(closed.unwrap_or_else(|error| {
            tracing::warn!(file = %path.display(), %error, "the mark of the clean stop is not readable");
            BTreeMap::new()
        }))
    }

    /// Leaves what the next start may know of the directory's logs.
    ///
    /// # Errors
    /// [`DiskError`].
    pub async fn leave_closed(
        &self,
        local: &Local,
        disk: &DiskHandle,
        closed: &BTreeMap<LogId, ClosedPartition>,
    ) -> Result<(), DiskError> {
        let path = self.path.join(CLOSED_FILE);
        match codec::seal(CLOSED_KIND, CLOSED_VERSION, closed) {
            Ok(bytes) => disk.write_atomically(&path, bytes, &ticket(local, &path).await).await,
            Err(error) => {
                tracing::warn!(%error, "too many logs for the mark of a clean stop; they will be recovered");
                Ok(())
            }
        }
    }
}

/// The right to write `what`, taken from whoever had it. Where that cannot be had, the process ends,
/// and the ticket is one that writes nothing.
pub(super) async fn ticket(local: &Local, what: &Path) -> Ticket {
    let gate = local.gates().gate(what);
    match era::take_over(&gate, TAKE_OVER_MAX).await {
        Ok(ticket) => ticket,
        Err(error) => {
            local.fatal(error);
            Ticket::void(gate)
        }
    }
}
