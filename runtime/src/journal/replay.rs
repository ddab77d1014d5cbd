//! What the journals of earlier runs hold for each log, at start.
//!
//! ```text
//!   replay ──► logs are opened with their entries, and synced ──► retire ──► the old files are gone
//! ```
//!
//! Old files are kept until then, and files of this run have other names, so that a crash on the way
//! replays both. What belongs to a log that could not be opened is kept in a file of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};

use super::{
    FOLDER, Journals,
    format::{self, FileError, Header, Record, What},
};
use crate::{
    codec::UnsealError,
    disk::{DiskError, OpenMode, actor::DiskHandle},
    era::Ticket,
    ids::{LeaderEpoch, LogId, Offset},
};

/// More than any file that is written here has.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Most bytes that are read at a time.
const READ_BYTES: usize = 4 << 20;

/// Batches that were made durable here, and that the log's segments may lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journaled {
    /// The epoch under which they were appended.
    pub epoch: LeaderEpoch,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset after the last record that counts: batches that reach beyond it are void.
    pub end_offset: Offset,
    /// Whole batches, one after the other.
    pub payload: Bytes,
}

/// Why the journals cannot be replayed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReplayError {
    /// A file or the folder cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A later version wrote a file.
    #[error("journal `{}`: its header {error}", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// What it says of itself.
        error: UnsealError,
    },
    /// A file is damaged.
    #[error(
        "journal `{}` cannot be replayed: {error}; it may hold acknowledged batches: bring it back \
         from a copy, or move it away and lose those that no segment holds", path.display()
    )]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: FileError,
    },
}

/// What earlier runs left.
#[derive(Debug)]
pub struct Replayed {
    /// For each log its entries in the order of its offsets (JRN-6).
    pub logs: BTreeMap<LogId, Vec<Journaled>>,
    journals: Journals,
    old: Vec<PathBuf>,
}

/// Reads the journals of the data directory `data`, whichever arbiters they were of.
///
/// # Errors
/// [`ReplayError`]: nothing was changed then.
pub async fn replay(disk: &DiskHandle, data: &Path) -> Result<Replayed, ReplayError> {
    let folder = data.join(FOLDER);
    let entries = match disk.list(&folder).await {
        Err(error) if error.is_not_found() => Vec::new(),
        entries => entries?,
    };
    let (mut boot, mut records, mut old) = (0, Vec::new(), Vec::new());
    for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
        let path = folder.join(&entry.name);
        // A name is never given twice, not even one of a file to which nothing was committed.
        boot = boot.max(boot_of(&entry.name));
        if entry.name.ends_with(".tmp") {
            // Of a `keep` that was interrupted: what it copied is still in the others.
            old.push(path);
            continue;
        }
        let bytes = read(disk, &path).await?;
        match format::parse_file(&bytes) {
            Err(FileError::Header(error @ UnsealError::Newer { .. })) => {
                return Err(ReplayError::Newer { path, error });
            }
            Err(error) => return Err(ReplayError::File { path, error }),
            Ok(None) => {}
            Ok(Some((of_boot, of_file))) => {
                boot = boot.max(of_boot);
                records.extend(of_file.into_iter().map(|record| (of_boot, record)));
            }
        }
        old.push(path);
    }
    let count = records.len() as u64;
    Ok(Replayed { logs: arrange(records), journals: Journals::new(data, boot + 1, count), old })
}

/// Gives up what the journals of `data` hold of `log` behind a gap: what does not follow on `end`,
/// where a log was cut that nothing else could mend. Tells how many entries went.
///
/// # Errors
/// [`ReplayError`]: nothing was given up then.
pub async fn give_up(
    disk: &DiskHandle,
    data: &Path,
    log: LogId,
    end: Offset,
) -> Result<usize, ReplayError> {
    let mut replayed = replay(disk, data).await?;
    let Some(entries) = replayed.logs.get_mut(&log) else { return Ok(0) };
    let (mut reached, mut kept) = (end, 0);
    while let Some(entry) = entries.get(kept).filter(|entry| entry.base_offset <= reached) {
        reached = reached.max(entry.end_offset);
        kept += 1;
    }
    let given_up = entries.len() - kept;
    if given_up > 0 {
        entries.truncate(kept);
        let all = replayed.logs.keys().copied().collect();
        replayed.retire(disk, &all).await?;
    }
    Ok(given_up)
}

/// Removes all journals: at a clean stop, when every log has been closed, and so synced.
///
/// # Errors
/// [`DiskError`]: some are still there then, which does no harm.
pub async fn clear(disk: &DiskHandle, data: &Path) -> Result<(), DiskError> {
    let folder = data.join(FOLDER);
    match disk.list(&folder).await {
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
        Ok(_) => {
            disk.remove_dir(&folder).await?;
            disk.sync_dir(data).await
        }
    }
}

impl Replayed {
    /// What the journals of this run share: for
    /// [`start_journal`](crate::disk::actor::DiskHandle::start_journal) on each arbiter.
    #[must_use]
    pub fn journals(&self) -> Journals {
        self.journals.clone()
    }

    /// Removes what earlier runs left, when every log has taken its entries and synced them, but for
    /// those of `unsettled` logs, which could not be opened.
    ///
    /// # Errors
    /// [`DiskError`]: the old files are still there then, and are replayed once more.
    pub async fn retire(
        &self,
        disk: &DiskHandle,
        unsettled: &BTreeSet<LogId>,
    ) -> Result<(), DiskError> {
        if self.old.is_empty() {
            return Ok(());
        }
        let kept = self.logs.iter().filter(|(log, _)| unsettled.contains(log));
        let kept =
            kept.flat_map(|(log, entries)| entries.iter().map(|entry| (*log, entry.clone())));
        let kept: Vec<_> =
            (0..).zip(kept).map(|(seq, (log, entry))| entry.record(log, seq)).collect();
        if !kept.is_empty() {
            self.keep(disk, &kept).await?;
        }
        for path in &self.old {
            disk.remove(path).await?;
        }
        disk.sync_dir(&self.journals.0.dir).await
    }

    /// Writes a file of what must outlive the old ones, which sorts before all else of this run.
    async fn keep(&self, disk: &DiskHandle, records: &[Record]) -> Result<(), DiskError> {
        let boot = self.journals.0.boot;
        let path = self.journals.0.dir.join(format!("{boot}-kept"));
        let mut bytes = BytesMut::from(&format::header(&Header { boot, salt: boot })[..]);
        let mut number = 0;
        for record in records {
            number += 1;
            format::put_group(boot, number, std::iter::once(record), &mut bytes);
        }
        let ticket = Ticket::unshared(&path);
        disk.write_atomically(&path, bytes.freeze(), &ticket).await
    }
}

impl Journaled {
    fn record(self, log: LogId, seq: u64) -> Record {
        let Journaled { epoch, base_offset: base, end_offset: end, payload } = self;
        Record { log, seq, what: What::Append { epoch, base, end, payload: vec![payload] } }
    }
}

fn boot_of(name: &str) -> u64 {
    name.split('-').next().and_then(|boot| boot.parse().ok()).unwrap_or(0)
}

async fn read(disk: &DiskHandle, path: &Path) -> Result<Bytes, DiskError> {
    let file = disk.open(path, OpenMode::Read).await?;
    let len = disk.len(&file).await?.min(FILE_BYTES_MAX);
    let mut bytes = BytesMut::new();
    while (bytes.len() as u64) < len {
        let part = disk.read(&file, bytes.len() as u64, READ_BYTES).await?;
        if part.is_empty() {
            break;
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.freeze())
}

/// Orders the records of all files, and leaves out what later ones void.
fn arrange(mut records: Vec<(u64, Record)>) -> BTreeMap<LogId, Vec<Journaled>> {
    records.sort_by_key(|(boot, record)| (*boot, record.seq));
    // An entry whose file was set aside is also in the next one.
    records.dedup_by_key(|(boot, record)| (*boot, record.seq));
    let mut logs: BTreeMap<LogId, Vec<Journaled>> = BTreeMap::new();
    for (_, Record { log, what, .. }) in records {
        match what {
            What::Append { epoch, base, end, payload } => {
                let payload = payload.into_iter().next().unwrap_or_default();
                let entry = Journaled { epoch, base_offset: base, end_offset: end, payload };
                logs.entry(log).or_default().push(entry);
            }
            What::TruncatedTo(end) => {
                let entries = logs.entry(log).or_default();
                entries.retain(|entry| entry.base_offset < end);
                entries.iter_mut().for_each(|entry| entry.end_offset = entry.end_offset.min(end));
            }
            What::Deleted => drop(logs.remove(&log)),
        }
    }
    logs.retain(|_, entries| !entries.is_empty());
    logs
}
