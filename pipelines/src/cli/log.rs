//! `flumen log repair`: gives up the damaged end of a log that nothing else can restore.

use std::{path::PathBuf, rc::Rc, sync::Arc, time::Duration};

use clap::Subcommand;
use flumen_runtime::{
    disk::{DiskHandle, DiskMaker as _, Engine, RealDisks},
    era::{EraGate, take_over},
    ids::{ArbiterId, LogId},
    log::{self, LogPlace},
};

use super::{CliError, tell};
use crate::node::NodeError;

/// What can be done with a log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Cuts a damaged log before its first bad batch; what is cut off is kept beside it.
    Repair {
        /// Directory of the log: `<data>/<topic>-<partition>`. Its node must not run.
        dir: PathBuf,
    },
}

/// Runs it.
///
/// # Errors
/// [`CliError`].
pub fn run(LogCommand::Repair { dir }: LogCommand) -> Result<(), CliError> {
    let data = dir.parent().filter(|path| !path.as_os_str().is_empty());
    let data = data.map_or_else(|| PathBuf::from("."), std::path::Path::to_path_buf);
    // Two processes on one log would each undo what the other does.
    let _lock = flumen_runtime::data_dir::hold(&data).map_err(NodeError::from)?;
    actix_rt::System::new().block_on(async move {
        let disks = RealDisks::choose(Engine::Auto).map_err(NodeError::from)?;
        let driver = disks.make(ArbiterId(0), &data).map_err(flumen_runtime::log::RepairError::from)?;
        let disk = DiskHandle::start(Rc::clone(&driver));
        let gate: Arc<EraGate> = EraGate::new(&dir);
        let ticket = take_over(&gate, Duration::from_secs(1)).await.expect("nobody else writes it");
        let place = LogPlace { dir: dir.clone(), id: LogId::default(), ticket };
        match log::repair(disk, &place).await? {
            None => tell(format_args!("the log in `{}` is whole: nothing was changed", dir.display())),
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
