//! `flumen log repair`: gives up the damaged end of a log that nothing else can restore.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use clap::Subcommand;
use flumen_actors::broker::DataDirectory;
use flumen_runtime::{
    disk::{DiskHandle, DiskMaker as _, Engine, RealDisks},
    era::{EraGate, take_over},
    ids::{ArbiterId, LogId},
    journal,
    log::{self, LogConfig, LogPlace, RepairError, Stateless},
};
use uuid::Uuid;

use super::{CliError, tell};
use crate::node::NodeError;

/// What can be done with a log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Cuts a damaged log before its first bad batch; what is cut off is kept beside it. Makes its recovery
    /// point anew where that is lost.
    Repair {
        /// Directory of the log: `<data>/<topic>-<partition>`. Its node must not run.
        dir: PathBuf,
    },
}

/// The data directory that the log in `dir` belongs to: a topic's lies right in it, a channel's deeper.
fn data_dir_of(dir: &Path) -> Result<PathBuf, CliError> {
    let no_log = |why| CliError::NoLog { dir: dir.to_owned(), why };
    let whole = dir.canonicalize().map_err(|_| no_log("it is not there"))?;
    let data = whole.ancestors().skip(1).find(|above| above.join("meta.properties").is_file());
    Ok(data.ok_or_else(|| no_log("it lies in no data directory"))?.to_owned())
}

/// Runs it.
///
/// # Errors
/// [`CliError`].
pub fn run(LogCommand::Repair { dir }: LogCommand) -> Result<(), CliError> {
    let data = data_dir_of(&dir)?;
    let dir = dir.canonicalize().unwrap_or(dir);
    // Two processes on one log would each undo what the other does.
    let _lock = flumen_runtime::data_dir::hold(&data).map_err(NodeError::from)?;
    actix_rt::System::new().block_on(async move {
        let disks = RealDisks::choose(Engine::Auto).map_err(NodeError::from)?;
        let driver = disks.make(ArbiterId(0), &data).map_err(RepairError::from)?;
        let disk = DiskHandle::start(Rc::clone(&driver));
        // What the last clean stop knew of this log is true no longer.
        DataDirectory::new(Uuid::nil(), &data).take_closed(&disk).await?;
        let gate: Arc<EraGate> = EraGate::new(dir.as_path());
        let ticket = take_over(&gate, Duration::from_secs(1)).await.expect("nobody else writes it");
        let place = LogPlace { dir: dir.as_path().into(), id: LogId::default(), ticket };
        let repaired = log::repair(disk.clone(), &place).await?;
        let given_up = give_up_behind_gap(&disk, &data, place).await?;
        if given_up > 0 {
            tell(format_args!("{given_up} entries of the journal that lay behind a gap were given up"));
        }
        if let Some(begins) = repaired.as_ref().and_then(|repaired| repaired.begins) {
            tell(format_args!(
                "files of its beginning were gone: the log begins at offset {begins} now"
            ));
        }
        if let Some(start) = repaired.as_ref().and_then(|repaired| repaired.forgot_start) {
            tell(format_args!(
                "where the log began was kept in the lost recovery point only: it begins at offset {start} \
                 now, and records of its first file that had been deleted are in it again; if any were, \
                 delete them once more with `flumen topics trim`"
            ));
        }
        match repaired {
            None if given_up > 0 => {}
            None => tell(format_args!("the log in `{}` is whole: nothing was changed", dir.display())),
            Some(repaired) if repaired.bytes_cut == 0 => tell(format_args!(
                "the recovery point in `{}` was made anew: the log ends at offset {}",
                dir.display(),
                repaired.end
            )),
            Some(repaired) => {
                tell(format_args!(
                    "`{}` was cut at byte {}: {} bytes were given up, and the log ends at offset {} now",
                    repaired.file.display(),
                    repaired.position,
                    repaired.bytes_cut,
                    repaired.end
                ));
                for file in &repaired.set_aside {
                    tell(format_args!("what was cut off is kept in `{}`", file.display()));
                }
            }
        }
        Ok(())
    })
}

/// The journal may go on behind what was lost of the log, which would not open for that.
async fn give_up_behind_gap(
    disk: &DiskHandle,
    data: &Path,
    place: LogPlace,
) -> Result<usize, CliError> {
    let dir = place.dir.clone();
    let Some(id) = DataDirectory::log_in(disk, &dir).await.map_err(RepairError::from)? else {
        return Ok(0);
    };
    let config = LogConfig::default();
    let (log, _) = log::open(disk.clone(), place, config, Vec::new(), &mut Stateless, 0).await?;
    Ok(journal::give_up(disk, data, id, log.end()).await?)
}
