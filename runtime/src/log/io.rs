//! What a log wants done on the disk: each piece of work is a value, run by one function that knows
//! nothing of the log, and its outcome is a value that the log applies in one step.

use std::{path::PathBuf, rc::Rc};

use bytes::Bytes;

use super::{
    LogPlace,
    checkpoint::{self, Checkpoint},
    compact::{self, Job, JobDone},
    epochs,
    index::{OFFSET_ENTRY, TIME_ENTRY},
    newest,
    read::Extent,
    segment::{Indexed, Kind},
    truncate::{self, Truncated, Truncation},
};
use crate::{
    disk::{self, DiskError, File, OpenMode, actor::DiskHandle},
    failpoint,
    ids::Offset,
    journal::JournalEntry,
};

/// A piece of work.
#[derive(Debug)]
pub struct LogIo {
    pub(super) place: Rc<LogPlace>,
    pub(super) work: Work,
}

/// The outcome of a piece of work, for [`Log::on_io`](super::Log::on_io).
#[derive(Debug)]
pub struct LogIoDone(pub(super) Result<Outcome, DiskError>, pub(super) Lane);

/// Which of a log's lanes of work a piece belongs to; in each, one runs at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Write,
    Sync,
    Maintenance,
    Space,
}

/// Index entries to be added to the files of a segment.
#[derive(Debug)]
pub(super) struct IndexWrite {
    pub(super) segment: Offset,
    pub(super) at: Indexed,
    pub(super) offsets: Bytes,
    pub(super) times: Bytes,
    /// Nothing follows: the files are there, and end with these entries.
    pub(super) is_last: bool,
}

/// What is written when the recovery point moves.
#[derive(Debug)]
pub(super) struct CheckpointWork {
    pub(super) checkpoint: Checkpoint,
    pub(super) index: IndexWrite,
    pub(super) added: Indexed,
    /// The owner's state at `checkpoint.end`.
    pub(super) snapshot: Option<Bytes>,
    /// Snapshots that the new one makes superfluous.
    pub(super) stale: Vec<Offset>,
    /// The text of `leader-epoch-checkpoint`, where it changed.
    pub(super) epochs: Option<String>,
}

#[derive(Debug)]
pub(super) enum Work {
    /// Opens the segment that is written to, which a clean stop left with so many bytes.
    OpenActive {
        base: Offset,
        left: u64,
    },
    Write {
        file: File,
        position: u64,
        bufs: Vec<Bytes>,
        ahead: Ahead,
        end: Offset,
    },
    Sync {
        file: File,
        end: Offset,
        position: u64,
    },
    Commit {
        entry: JournalEntry,
        end: Offset,
        /// Where the active segment ends then.
        position: u64,
    },
    /// Makes the writes that were put off.
    WriteDeferred,
    /// Ends the active segment at `size` and begins the one at `base`. The recovery point stays:
    /// the owner's state is ahead of it already.
    Roll {
        file: File,
        size: u64,
        base: Offset,
        zero_fill: u64,
        index: IndexWrite,
        added: Indexed,
    },
    Checkpoint {
        sync: Option<File>,
        work: Box<CheckpointWork>,
    },
    /// Gives back the blocks behind `size`.
    GiveBack {
        file: File,
        size: u64,
    },
    /// Ends the active segment at `size`, for a clean stop.
    Close {
        file: File,
        size: u64,
        work: Box<CheckpointWork>,
    },
    /// Removes segments, after the new log start is durable.
    Remove {
        checkpoint: Checkpoint,
        segments: Vec<Offset>,
    },
    Truncate(Box<Truncation>),
    /// A piece of a compaction.
    Clean(Job),
    /// Asks how much room there is.
    Space,
    /// Looks how new a closed segment is.
    Newest(Box<Extent>),
}

/// What a write prepares for those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    Nothing,
    /// So many bytes of zeros behind it.
    Zeros(u64),
    /// Blocks for so many bytes from its position on.
    Blocks(u64),
}

/// A write that found no room, to be made again, with nothing ahead.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) position: u64,
    pub(super) bufs: Vec<Bytes>,
    pub(super) end: Offset,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    Opened {
        file: File,
    },
    Written {
        end: Offset,
        zeros: u64,
    },
    Synced {
        end: Offset,
        position: u64,
    },
    Committed {
        end: Offset,
        position: u64,
    },
    /// It is put off, and not durable: there was no room for it.
    NotCommitted {
        end: Offset,
        position: u64,
    },
    DeferredWritten,
    /// What was put off stays so: there was no room for it.
    DeferredRefused,
    Rolled {
        file: File,
        base: Offset,
        zeroed: u64,
        added: Indexed,
    },
    Checkpointed {
        work: Box<CheckpointWork>,
    },
    Closed {
        work: Box<CheckpointWork>,
    },
    Removed {
        checkpoint: Checkpoint,
        segments: Vec<Offset>,
    },
    Truncated(Box<Truncated>),
    Cleaned(JobDone),
    GivenBack,
    /// There was no room for it.
    Refused(Refused),
    Space {
        free: u64,
    },
    Newest {
        segment: Offset,
        newest: (i64, Offset),
    },
}

impl LogIo {
    pub(super) fn lane(&self) -> Lane {
        match self.work {
            Work::Write { .. } | Work::WriteDeferred => Lane::Write,
            Work::Sync { .. } | Work::Commit { .. } => Lane::Sync,
            Work::Space => Lane::Space,
            _ => Lane::Maintenance,
        }
    }

    /// Carries the work out. The outcome must be given to the log that made it, even when it failed.
    pub async fn run(self, disk: DiskHandle) -> LogIoDone {
        let lane = self.lane();
        LogIoDone(run(&self.place, self.work, &disk).await, lane)
    }
}

async fn run(place: &LogPlace, work: Work, disk: &DiskHandle) -> Result<Outcome, DiskError> {
    let ticket = &place.ticket;
    match work {
        Work::OpenActive { base, left } => {
            open_left(disk, Kind::Log.path(&place.dir, base), left).await
        }
        Work::Write { file, position, bufs, ahead, end } => {
            write(place, disk, &file, Refused { position, bufs, end }, ahead).await
        }
        Work::Sync { file, end, position } => {
            disk.sync(&file).await?;
            failpoint::pass("log: synced");
            Ok(Outcome::Synced { end, position })
        }
        Work::Commit { entry, end, position } => match disk.commit(entry, ticket).await {
            Ok(()) => Ok(Outcome::Committed { end, position }),
            Err(error) if error.is_full() => Ok(Outcome::NotCommitted { end, position }),
            Err(error) => Err(error),
        },
        Work::WriteDeferred => write_deferred(place, disk).await,
        Work::Roll { file, size, base, zero_fill, index, added } => {
            disk.truncate(&file, size, ticket).await?;
            disk.sync(&file).await?;
            write_index(place, disk, &index).await?;
            failpoint::pass("log: segment ended");
            let (file, zeroed) = begin_segment(place, disk, base, zero_fill).await?;
            failpoint::pass("log: segment begun");
            Ok(Outcome::Rolled { file, base, zeroed, added })
        }
        Work::Checkpoint { sync, work } => {
            if let Some(file) = sync {
                disk.sync(&file).await?;
            }
            move_checkpoint(place, disk, &work).await?;
            Ok(Outcome::Checkpointed { work })
        }
        Work::GiveBack { file, size } => {
            disk.truncate(&file, size, ticket).await?;
            Ok(Outcome::GivenBack)
        }
        Work::Close { file, size, work } => {
            disk.truncate(&file, size, ticket).await?;
            disk.sync(&file).await?;
            move_checkpoint(place, disk, &work).await?;
            Ok(Outcome::Closed { work })
        }
        Work::Remove { checkpoint, segments } => {
            write_checkpoint(place, disk, &checkpoint).await?;
            remove(place, disk, &segments).await?;
            Ok(Outcome::Removed { checkpoint, segments })
        }
        Work::Truncate(work) => {
            Ok(Outcome::Truncated(Box::new(truncate::run(place, disk, *work).await?)))
        }
        Work::Clean(job) => Ok(Outcome::Cleaned(compact::run(place, disk, job).await?)),
        Work::Space => {
            // A look that failed says nothing.
            let free = disk.space(&*place.dir).await.map_or(u64::MAX, |space| space.free);
            Ok(Outcome::Space { free })
        }
        Work::Newest(extent) => {
            let newest = newest::look(place, disk, &extent).await?;
            Ok(Outcome::Newest { segment: extent.base, newest })
        }
    }
}

/// Opens a file that was left with `left` bytes. One that has more, or fewer, is not what the log takes
/// it for: what was appended would lie over somebody's batches, or behind a hole.
async fn open_left(disk: &DiskHandle, path: PathBuf, left: u64) -> Result<Outcome, DiskError> {
    let file = match disk.open(&path, OpenMode::ReadWrite).await {
        Err(error) if error.is_not_found() => {
            return Err(DiskError::Changed { path, len: 0, left });
        }
        opened => opened?,
    };
    match disk.len(&file).await? {
        len if len == left => Ok(Outcome::Opened { file }),
        len => Err(DiskError::Changed { path, len, left }),
    }
}

/// Makes a write and what is to be ahead of it, or has it made again when there is room.
async fn write(
    place: &LogPlace,
    disk: &DiskHandle,
    file: &File,
    wanted: Refused,
    ahead: Ahead,
) -> Result<Outcome, DiskError> {
    let zeros = match ahead {
        Ahead::Nothing => 0,
        Ahead::Zeros(zeros) => zeros,
        Ahead::Blocks(len) => {
            let reserved = disk.reserve(file, wanted.position, len, &place.ticket).await;
            if reserved.is_err() {
                // It may have found some of them, and somebody else needs those.
                match disk.truncate(file, wanted.position, &place.ticket).await {
                    Err(error) if error.is_full() => return Ok(Outcome::Refused(wanted)),
                    given_back => given_back?,
                }
            }
            0
        }
    };
    let bufs = wanted.bufs.iter().cloned().chain(disk::zeros(zeros)).collect();
    match disk.write(file, wanted.position, bufs, &place.ticket).await {
        Ok(()) => {
            failpoint::pass("log: written");
            Ok(Outcome::Written { end: wanted.end, zeros })
        }
        // A disk too full for the zeros may still take the batches.
        Err(error) if error.is_full() => Ok(Outcome::Refused(wanted)),
        Err(error) => Err(error),
    }
}

async fn write_deferred(place: &LogPlace, disk: &DiskHandle) -> Result<Outcome, DiskError> {
    match disk.write_deferred(&place.ticket).await {
        Ok(()) => {
            failpoint::pass("log: put-off writes made");
            Ok(Outcome::DeferredWritten)
        }
        Err(error) if error.is_full() => Ok(Outcome::DeferredRefused),
        Err(error) => Err(error),
    }
}

/// Makes the file of a segment, durable by name, and tells how much of it is zeros.
pub(super) async fn begin_segment(
    place: &LogPlace,
    disk: &DiskHandle,
    base: Offset,
    zero_fill: u64,
) -> Result<(File, u64), DiskError> {
    let file =
        disk.open_under(Kind::Log.path(&place.dir, base), OpenMode::Create, &place.ticket).await?;
    let mut zeroed = 0;
    if zero_fill > 0 {
        match disk.zero(&file, 0, zero_fill, &place.ticket).await {
            Ok(()) => zeroed = zero_fill,
            Err(error) if error.is_full() => {}
            Err(error) => return Err(error),
        }
    }
    disk.sync(&file).await?;
    disk.sync_dir(&*place.dir).await?;
    Ok((file, zeroed))
}

/// Adds entries to the index files of a segment, and makes them durable.
pub(super) async fn write_index(
    place: &LogPlace,
    disk: &DiskHandle,
    index: &IndexWrite,
) -> Result<(), DiskError> {
    for (kind, at, bytes) in [
        (Kind::Index, u64::from(index.at.offsets) * OFFSET_ENTRY as u64, &index.offsets),
        (Kind::TimeIndex, u64::from(index.at.times) * TIME_ENTRY as u64, &index.times),
    ] {
        if bytes.is_empty() && !index.is_last {
            continue;
        }
        let path = kind.path(&place.dir, index.segment);
        let file = disk.open_under(path, OpenMode::Create, &place.ticket).await?;
        // Entries of a life that crashed may stand there.
        disk.truncate(&file, at, &place.ticket).await?;
        if !bytes.is_empty() {
            disk.write(&file, at, vec![bytes.clone()], &place.ticket).await?;
        }
        disk.sync(&file).await?;
    }
    Ok(())
}

/// Writes what a recovery from the new point needs, and only then the point.
async fn move_checkpoint(
    place: &LogPlace,
    disk: &DiskHandle,
    work: &CheckpointWork,
) -> Result<(), DiskError> {
    write_index(place, disk, &work.index).await?;
    if let Some(snapshot) = &work.snapshot {
        let path = Kind::Snapshot.path(&place.dir, work.checkpoint.end);
        disk.write_atomically(&path, snapshot.clone(), &place.ticket).await?;
        failpoint::pass("log: snapshot written");
    }
    if let Some(text) = &work.epochs {
        let path = place.dir.join(epochs::FILE);
        disk.write_atomically(&path, text.clone().into(), &place.ticket).await?;
    }
    if work.index.is_last || work.index.at == Indexed::default() {
        disk.sync_dir(&*place.dir).await?;
    }
    write_checkpoint(place, disk, &work.checkpoint).await?;
    remove_snapshots(place, disk, &work.stale).await
}

pub(super) async fn write_checkpoint(
    place: &LogPlace,
    disk: &DiskHandle,
    checkpoint: &Checkpoint,
) -> Result<(), DiskError> {
    let (position, slot) = checkpoint.slot();
    let file = disk.open(place.dir.join(checkpoint::FILE), OpenMode::ReadWrite).await?;
    disk.write(&file, position, vec![slot], &place.ticket).await?;
    failpoint::pass("log: recovery point written");
    disk.sync(&file).await?;
    failpoint::pass("log: recovery point synced");
    Ok(())
}

/// Removes segments, but not the owner's states that are called like them.
pub(super) async fn remove(
    place: &LogPlace,
    disk: &DiskHandle,
    segments: &[Offset],
) -> Result<(), DiskError> {
    for base in segments {
        for kind in Kind::OF_SEGMENT {
            disk.remove_under(kind.path(&place.dir, *base), &place.ticket).await?;
        }
    }
    disk.sync_dir(&*place.dir).await
}

/// Removes states of the owner.
pub(super) async fn remove_snapshots(
    place: &LogPlace,
    disk: &DiskHandle,
    stale: &[Offset],
) -> Result<(), DiskError> {
    for at in stale {
        disk.remove_under(Kind::Snapshot.path(&place.dir, *at), &place.ticket).await?;
    }
    Ok(())
}

/// The last of the `times` entries of a segment's time index; `None` where the file is not usable.
pub(super) async fn last_time(
    place: &LogPlace,
    disk: &DiskHandle,
    segment: Offset,
    times: u32,
) -> Result<Option<(i64, u32)>, DiskError> {
    let Some(last) = times.checked_sub(1) else { return Ok(None) };
    let path = Kind::TimeIndex.path(&place.dir, segment);
    let file = match disk.open(path, OpenMode::Read).await {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    let bytes = disk.read(&file, u64::from(last) * TIME_ENTRY as u64, TIME_ENTRY).await?;
    Ok(super::index::TimeEntry::parse(&bytes).map(|entry| (entry.timestamp, entry.last)))
}
