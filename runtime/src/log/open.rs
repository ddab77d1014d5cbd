//! Opening a log: a new one, one that was closed in order, or one that was not.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use super::{
    ClosedLog, Log, LogConfig, LogFailure, Mark, Replay, Running,
    checkpoint::{self, Checkpoint, CheckpointError},
    compact::{self, Compactor, SettleError},
    epochs::Epochs,
    index::IndexTail,
    io,
    recovery::{self, Recovered},
    segment::Segment,
    space::Room,
};
use crate::{
    batch::BatchError,
    disk::{DiskError, OpenMode, actor::DiskHandle},
    era::Ticket,
    ids::{LogId, Offset},
    journal::Journaled,
};

/// Where a log lives, what it is called in the journal, and under whose right it is written.
#[derive(Clone, Debug)]
pub struct LogPlace {
    /// Its directory, which holds nothing else but small files of its owner.
    pub dir: Arc<Path>,
    /// Its name in the journal.
    pub id: LogId,
    /// The right to write it.
    pub ticket: Ticket,
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Whether the log was made now.
    pub is_new: bool,
    /// What was cut off above the durable mark.
    pub cut: Option<Cut>,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Batches that came out of the journal.
    pub from_journal: usize,
}

/// The end of a log that a crash left unfinished, and that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Which file.
    pub file: PathBuf,
    /// Where the log ends now.
    pub position: u64,
    /// Bytes of the file after that, zeros included.
    pub bytes: u64,
    /// What is wrong with the first of them.
    pub reason: BatchError,
}

/// Why a log cannot be opened.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpenError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A sync of it has failed in this process.
    #[error(transparent)]
    Failed(#[from] LogFailure),
    /// What was durable is not whole.
    #[error("`{}` is damaged at byte {position}, below what was durable: {reason}; restore it from a copy, or give up what follows with `flumen log repair {}`", file.display(), file.parent().unwrap_or(file).display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Where.
        position: u64,
        /// What is wrong.
        reason: String,
    },
    /// Segments that held its beginning are gone.
    #[error("the log begins at offset {start}, and its first file is `{}`: those before it are gone; restore them from a copy, or give up what they held with `flumen log repair {}`", first.display(), first.parent().unwrap_or(first).display())]
    Lost {
        /// The first file that is there.
        first: PathBuf,
        /// Where the log begins.
        start: Offset,
    },
    /// A later version wrote it.
    #[error("`{}` is of format {version}, which this version does not know; it was left as it is: use the newer flumen", file.display())]
    Newer {
        /// Which file.
        file: PathBuf,
        /// Its version.
        version: u16,
    },
}

impl OpenError {
    /// Whether the disk had no room for what opening must write: the log may be opened again, from the
    /// beginning, once there is some.
    ///
    /// Also where the sync of a file found that: it has lost what it was to save, and another would say
    /// that all is well. But opening again rests on nothing that it left in the page cache: the recovery
    /// point, and what is read from there on, are dropped from it first, what else is synced is written
    /// anew, and a tail whose cut is lost is cut once more by the next recovery. Names are not made anew:
    /// where the sync of a directory fails, whatever the reason, the log is offline. So is one that this
    /// process has had open before: it may have shown readers what the sync has lost.
    #[must_use]
    pub fn lacks_room(&self) -> bool {
        matches!(self, OpenError::Disk(error) if error.is_full() || error.is_full_sync())
    }
}

impl From<SettleError> for OpenError {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Disk(error) => OpenError::Disk(error),
            SettleError::Damaged { file, position, reason } => {
                OpenError::Damaged { file, position, reason: reason.to_string() }
            }
        }
    }
}

/// Opens the log at `place`, making it where there is none.
///
/// `journaled` is what the journal holds of it, in order. `replay` takes in the owner's newest kept
/// state and the batches after it.
///
/// # Errors
/// [`OpenError`], in which case nothing was changed, but for what a crash left unfinished. Where the
/// disk [is full](OpenError::lacks_room), the same may be tried again once there is room.
pub async fn open(
    disk: DiskHandle,
    place: LogPlace,
    config: impl Into<Arc<LogConfig>>,
    journaled: Vec<Journaled>,
    replay: &mut dyn Replay,
    now_ms: i64,
) -> Result<(Log, Opened), OpenError> {
    let (gate, dir) = (place.ticket.gate.clone(), place.dir.to_path_buf());
    if let Some(error) = gate.failed_sync() {
        return Err(LogFailure { dir, error }.into());
    }
    match open_left(disk, place.into(), config.into(), journaled, replay, now_ms).await {
        // Readers of an earlier life would not notice that other records come to stand there.
        Err(OpenError::Disk(error)) if error.is_failed_sync() && gate.was_opened() => {
            gate.note_failed_sync(&error);
            Err(LogFailure { dir, error }.into())
        }
        opened => opened,
    }
}

/// Opens what is left of the log.
async fn open_left(
    disk: DiskHandle,
    place: Rc<LogPlace>,
    config: Arc<LogConfig>,
    journaled: Vec<Journaled>,
    replay: &mut dyn Replay,
    now_ms: i64,
) -> Result<(Log, Opened), OpenError> {
    // What an earlier life has put off, which only the journal has otherwise.
    disk.write_deferred(&place.ticket).await?;
    let found = match disk.list(&*place.dir).await {
        Err(error) if error.is_not_found() => Vec::new(),
        listed => listed?,
    };
    let found = compact::settle(&place, &disk, found).await?;
    let has_point = found.iter().any(|entry| entry.name == checkpoint::FILE);
    let has_segment = found.iter().any(|entry| recovery::is_log(&entry.name));
    // The recovery point is the last file that the making of a log writes: before it there is no log.
    if !has_point && !has_segment {
        let log = create(&disk, place, config, now_ms).await?;
        replay.restore(&[], Offset::ZERO);
        return Ok((log, Opened { is_new: true, ..Opened::default() }));
    }
    let point = read_checkpoint(&disk, &place, has_point).await?;
    let recovered =
        recovery::recover(&disk, &place, &config, &found, point, journaled, replay).await?;
    let opened = Opened {
        is_new: false,
        cut: recovered.cut.clone(),
        bytes_read: recovered.bytes_read,
        from_journal: recovered.from_journal,
    };
    if let Some(cut) = &opened.cut {
        tracing::warn!(
            file = %cut.file.display(), position = cut.position, bytes = cut.bytes,
            "the log was not closed in order; its unfinished end was cut off: {}", cut.reason
        );
    }
    Ok((Log::assemble(place, config, recovered, now_ms), opened))
}

async fn create(
    disk: &DiskHandle,
    place: Rc<LogPlace>,
    config: Arc<LogConfig>,
    now_ms: i64,
) -> Result<Log, OpenError> {
    disk.make_dir(&place.dir).await?;
    let zero_fill = config.zero_fill_bytes.min(config.segment_bytes);
    let (file, zeroed) = io::begin_segment(&place, disk, Offset::ZERO, zero_fill).await?;
    let point = Checkpoint::empty(Offset::ZERO);
    make_checkpoint(disk, &place, &point).await?;
    let recovered = Recovered {
        segments: vec![Segment::new(Offset::ZERO)],
        file: Some(file),
        filled: zeroed,
        ..Recovered::nothing(point)
    };
    Ok(Log::assemble(place, config, recovered, now_ms))
}

/// Makes the recovery point's file, durable by name.
pub(super) async fn make_checkpoint(
    disk: &DiskHandle,
    place: &LogPlace,
    point: &Checkpoint,
) -> Result<(), DiskError> {
    let file =
        disk.open_under(place.dir.join(checkpoint::FILE), OpenMode::Create, &place.ticket).await?;
    disk.truncate(&file, 2 * checkpoint::SLOT_BYTES as u64, &place.ticket).await?;
    io::write_checkpoint(place, disk, point).await?;
    disk.sync_dir(&*place.dir).await
}

async fn read_checkpoint(
    disk: &DiskHandle,
    place: &LogPlace,
    is_there: bool,
) -> Result<Option<Checkpoint>, OpenError> {
    let path = place.dir.join(checkpoint::FILE);
    if !is_there {
        return Ok(None);
    }
    let file = disk.open(&path, OpenMode::Read).await?;
    // A process that was killed may have left the point, and names, in the page cache only: what
    // recovery builds on must not be gone after a later power cut.
    disk.sync(&file).await?;
    disk.forget(&file, 0).await?;
    disk.sync_dir(&*place.dir).await?;
    let bytes = disk.read(&file, 0, 2 * checkpoint::SLOT_BYTES).await?;
    match Checkpoint::newest(&bytes) {
        Ok(point) => Ok(Some(point)),
        // A crash in the making of the log: there was never anything durable.
        Err(CheckpointError::Damaged) if bytes.iter().all(|byte| *byte == 0) => Ok(None),
        Err(CheckpointError::Damaged) => Err(OpenError::Damaged {
            file: path,
            position: 0,
            reason: "neither of its two slots is whole".to_owned(),
        }),
        Err(CheckpointError::Newer(version)) => Err(OpenError::Newer { file: path, version }),
    }
}

impl Log {
    /// Opens a log that was closed in order, without a look at its files: they are opened when they
    /// are needed first, so that a log which does nothing holds none open. Where the active one turns out
    /// not to be as long as it was, the log fails with [`DiskError::Changed`] before it writes anything,
    /// and must be [opened](open) instead.
    #[must_use]
    pub fn reopen(
        place: LogPlace,
        config: impl Into<Arc<LogConfig>>,
        closed: ClosedLog,
        now_ms: i64,
    ) -> Log {
        let (place, config) = (Rc::new(place), config.into());
        let active = closed.segments.last().cloned().unwrap_or_else(|| Segment::new(closed.start));
        let checkpoint = Checkpoint {
            number: closed.checkpoint_number,
            start: closed.start,
            end: active.end,
            segment: active.base,
            position: active.size,
            indexed: active.indexed,
            newest: active.newest.unwrap_or((-1, active.base)),
        };
        let recovered = Recovered {
            is_clean: true,
            filled: active.size,
            segments: closed.segments.into_vec(),
            epochs: closed.epochs,
            snapshots: closed.snapshots.into_vec(),
            ..Recovered::nothing(checkpoint)
        };
        Log::assemble(place, config, recovered, now_ms)
    }

    fn assemble(place: Rc<LogPlace>, config: Arc<LogConfig>, found: Recovered, now_ms: i64) -> Log {
        let mut closed: VecDeque<Segment> = found.segments.into();
        let mut active = closed.pop_back().expect("a log has an active segment");
        if !found.is_clean && !active.is_empty() {
            active.begun_ms = Some(active.begun_ms.map_or(now_ms, |begun| begun.min(now_ms)));
        }
        place.ticket.gate.note_opened();
        let end = Mark { offset: active.end, position: active.size };
        let newest =
            active.newest.map(|(timestamp, _)| timestamp).filter(|_| active.indexed.times > 0);
        let log = Log {
            place,
            config,
            start: found.checkpoint.start,
            end: end.offset,
            written: end,
            synced: end,
            durable_end: end.offset,
            closed,
            tail: found.tail.unwrap_or_else(|| IndexTail::resume(newest)),
            active,
            file: found.file,
            queue: VecDeque::new(),
            queued_bytes: 0,
            deferred: 0,
            filled: found.filled,
            reserved: 0,
            running: Running::default(),
            wanted: VecDeque::new(),
            checkpoint: found.checkpoint,
            next_checkpoint: None,
            must_checkpoint: false,
            snapshots: found.snapshots,
            epochs: Rc::new(found.epochs),
            // Epochs that recovery read from batches are not in the file yet.
            epochs_changed: true,
            unsynced_since_ms: None,
            is_awaited: false,
            ticked_ms: now_ms,
            checkpointed_ms: now_ms,
            written_since_tick: 0,
            written_last_tick: 0,
            resumes: Vec::new(),
            compactor: Compactor::default(),
            refused: None,
            room: Room::default(),
            is_clean: found.is_clean,
            is_closed: false,
            failed: None,
        };
        log.check();
        log
    }
}

impl Recovered {
    /// A log of which nothing is known but its recovery point.
    fn nothing(checkpoint: Checkpoint) -> Self {
        Recovered {
            segments: Vec::new(),
            file: None,
            filled: 0,
            tail: None,
            checkpoint,
            epochs: Epochs::default(),
            snapshots: Vec::new(),
            cut: None,
            bytes_read: 0,
            from_journal: 0,
            is_clean: false,
        }
    }
}
