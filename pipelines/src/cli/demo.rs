//! `flumen demo`: see [`crate::demo`].

use std::{io::Write as _, path::PathBuf, time::Duration};

use clap::Args;

use super::{CliError, tell};
use crate::demo::{self, DemoOptions};

/// Options of `flumen demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep everything in this directory; without it, in one that is removed afterwards.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How long the log is written, in seconds.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Lines a second, outside bursts.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// Print one JSON object as the last line, and no table.
    #[arg(long)]
    json: bool,
    /// Where the plot of the latencies goes.
    #[arg(long, default_value = "flumen-demo.svg", value_name = "FILE")]
    svg: PathBuf,
}

/// Runs it.
///
/// # Errors
/// [`CliError`]; [`CliError::Ledger`] where a record was lost or doubled.
pub fn run(args: DemoArgs) -> Result<(), CliError> {
    let temporary = tempfile::Builder::new().prefix("flumen-demo-").tempdir()?;
    let dir = match &args.data {
        Some(dir) => dir.clone(),
        None => temporary.path().to_owned(),
    };
    let options = DemoOptions {
        dir,
        duration: Duration::from_secs(args.seconds.max(1)),
        rate: args.rate.max(1),
        is_quiet: args.json,
    };
    let ledger = demo::run(options)?;
    std::fs::write(&args.svg, ledger.plot())?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", ledger.to_json())?;
    } else {
        writeln!(out, "{ledger}")?;
        tell(format_args!("the latencies are drawn in `{}`", args.svg.display()));
    }
    if ledger.is_clean() { Ok(()) } else { Err(CliError::Ledger) }
}
