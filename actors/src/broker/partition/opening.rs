//! Opening a partition's log: take it over, recover it, replay it.

use std::{rc::Rc, sync::Arc, time::Duration};

use flumen_runtime::{
    disk::{DiskError, actor::DiskHandle},
    era::{self, TakeOverError},
    log::{self, Log, LogConfig, LogPlace, OpenError},
    placement::Local,
};

use super::{Shared, at_rest::AtRest, replay::Replayed};

/// How long writes of a superseded life may still be in flight before the process must end.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(5);

/// What opening came to.
pub(super) enum Opened {
    /// The log was closed in order, and need not be opened yet.
    AtRest(Box<AtRest>),
    /// It is open.
    Log(Box<OpenedLog>),
}

/// An open log, and what replaying it gave.
pub(super) struct OpenedLog {
    pub(super) log: Log,
    pub(super) replayed: Replayed,
    pub(super) disk: DiskHandle,
}

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpeningError {
    /// An earlier life still writes.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// There is no disk actor for the data directory, or it could not look at the log's files.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log itself.
    #[error(transparent)]
    Log(#[from] OpenError),
}

impl OpeningError {
    /// What would mend it by itself: where the disk was full, or no more files could be open.
    pub(super) fn lacks(&self) -> Option<&'static str> {
        match self {
            OpeningError::Log(error) if error.lacks_room() => Some("make room on its disk"),
            OpeningError::Log(OpenError::Disk(error)) | OpeningError::Disk(error)
                if error.is_out_of_files() =>
            {
                Some("let the process open more files (`ulimit -n`)")
            }
            _ => None,
        }
    }

    /// What a person can do.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            OpeningError::Log(OpenError::Damaged { .. } | OpenError::Lost { .. }) => {
                "run `flumen log repair` on its directory, then start again"
            }
            OpeningError::Log(OpenError::Newer { .. }) => "use the newer flumen",
            OpeningError::Log(OpenError::Disk(_) | OpenError::Failed(_))
            | OpeningError::TakeOver(_)
            | OpeningError::Disk(_) => "see to the disk, then start again",
        }
    }
}

/// Opens the log. A future of its own: what it comes to is one step of the actor.
pub(super) async fn open(
    shared: Arc<Shared>,
    config: Arc<LogConfig>,
    local: Rc<Local>,
) -> Result<Opened, OpeningError> {
    let gate = local.gates().gate_at(&shared.dir);
    let ticket = era::take_over(&gate, TAKE_OVER_WITHIN).await?;
    let disk = local.metered_disk(&shared.directory.path, "partition")?;
    let place = LogPlace { dir: shared.dir.clone(), id: shared.log, ticket };
    let now_ms = local.clock().now_ms();
    if let Some(closed) = shared.handover.take_closed() {
        match closed.log.is_as_left(&disk, &shared.dir).await {
            Ok(false) => {}
            Ok(true) => {
                if let Some(at_rest) = AtRest::new(closed, &place.ticket, &disk) {
                    return Ok(Opened::AtRest(Box::new(at_rest)));
                }
            }
            Err(error) => {
                // Nobody knows: it is good for another look.
                shared.handover.set_closed(closed);
                return Err(error.into());
            }
        }
    }
    let mut replayed = Replayed::new(now_ms);
    let journaled = shared.handover.journaled();
    let (log, _) = log::open(disk.clone(), place, config, journaled, &mut replayed, now_ms).await?;
    shared.handover.journal_is_used();
    Ok(Opened::Log(Box::new(OpenedLog { log, replayed, disk })))
}
