//! The command line: one file a command.

pub mod consume;
pub mod demo;
pub mod dump_log;
pub mod groups;
pub mod log;
pub mod place;
pub mod print;
pub mod produce;
pub mod progress;
pub mod serve;
pub mod session;
pub mod tail;
pub mod time;
pub mod topics;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use flumen_actors::broker::{CleanStopError, TopicError, names::TopicNameError};
use flumen_runtime::{
    data_dir::DataDirError,
    disk::Engine,
    journal::ReplayError,
    log::{OpenError, RepairError},
};
use tracing_subscriber::{
    filter::{ParseError, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    client::ClientError,
    node::{NodeError, NodeOptions, settings::NodeSettingError},
    pipeline::PipelineError,
};

/// Collects, buffers and delivers: a log broker and its agents in one program.
#[derive(Debug, Parser)]
#[command(
    name = "flumen",
    version,
    after_help = "Environment:\n  FLUMEN_LOG  How much is logged to the standard error: off, error, warn, \
                  info, debug or trace\n              [default: warn; demo: error], and others for parts, as in \
                  `warn,flumen_actors::agent=debug`"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows all of it at work on a log that is written, rotated and followed while actors are killed.
    Demo(demo::DemoArgs),
    /// Runs a broker that Kafka's clients connect to, until it is stopped.
    Serve(serve::ServeArgs),
    /// Follows files into a topic, a record for each line, until it is stopped.
    Tail(tail::TailArgs),
    /// Prints the records of a topic, one a line, up to its end or for ever.
    Consume(consume::ConsumeArgs),
    /// Sends lines to a topic, a record for each.
    Produce(produce::ProduceArgs),
    /// Lists topics, describes them, makes, changes and deletes them.
    Topics(topics::TopicsArgs),
    /// Lists consumer groups, describes them with their lag, moves them and deletes them.
    Groups(groups::GroupsArgs),
    /// Shows what is in the files of a log: batches, records, indexes, producers.
    DumpLog(dump_log::DumpLogArgs),
    /// Looks after the files of a log.
    #[command(subcommand)]
    Log(log::LogCommand),
}

/// Where a node keeps its data.
#[derive(Clone, Debug, Args)]
pub struct DataArgs {
    /// Directory of the node's data; may be given more than once, for several disks.
    #[arg(long, value_name = "DIR", required = true)]
    data: Vec<PathBuf>,
    /// Disk driver: io_uring where it is allowed, or threads.
    #[arg(long, value_enum, default_value = "auto")]
    disk: DiskArg,
}

/// The names of disk drivers on the command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskArg {
    /// io_uring where it is allowed, else threads.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// Threads.
    Threads,
}

impl DataArgs {
    /// A node on these directories, which are there already: who only reads makes none.
    ///
    /// # Errors
    /// [`CliError::NoData`].
    pub fn node_that_is_there(&self) -> Result<NodeOptions, CliError> {
        match self.data.iter().find(|dir| !dir.is_dir()) {
            Some(dir) => Err(CliError::NoData { dir: dir.clone() }),
            None => Ok(self.node()),
        }
    }

    /// A node on these directories, which are made where they are missing.
    #[must_use]
    pub fn node(&self) -> NodeOptions {
        let engine = match self.disk {
            DiskArg::Auto => Engine::Auto,
            DiskArg::Uring => Engine::Uring,
            DiskArg::Threads => Engine::Threads,
        };
        NodeOptions { data: self.data.clone(), engine, ..NodeOptions::new("") }
    }
}

/// Why a command failed; what is printed is a sentence with what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// It was told to stop before its end, and has said how far it came.
    #[error("it was told to stop")]
    Interrupted,
    /// The node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The configuration file says something that cannot be.
    #[error("`{}` line {line}: {why}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// What is wrong there.
        why: String,
    },
    /// A setting that cannot be.
    #[error(transparent)]
    Setting(#[from] NodeSettingError),
    /// A node needs somewhere to keep its data.
    #[error(
        "no data directory is given: name one with `--data DIR`, or as `data` in the configuration file"
    )]
    NoDataGiven,
    /// A node cannot be asked, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The node that uses a data directory cannot be asked.
    #[error("{0}; a node that listens (`flumen serve`) could be asked while it runs")]
    NotListening(DataDirError),
    /// A pipeline.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A topic cannot be made or changed.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// What the last clean stop left is of a later version.
    #[error(transparent)]
    CleanStop(#[from] CleanStopError),
    /// A text that is no topic's name.
    #[error(transparent)]
    TopicName(#[from] TopicNameError),
    /// There is no such topic.
    #[error("there is no topic `{name}`; {there}")]
    UnknownTopic {
        /// What was asked for.
        name: String,
        /// What there is.
        there: String,
    },
    /// There is no such group.
    #[error("there is no group `{name}`; {there}")]
    UnknownGroup {
        /// What was asked for.
        name: String,
        /// What there is.
        there: String,
    },
    /// A topic that is there has another number of partitions than was asked for.
    #[error(
        "topic `{name}` has a partition count of {there}, and `--partitions {asked}` does not change it: \
         leave the option out, or give another topic"
    )]
    Partitions {
        /// Which.
        name: String,
        /// What was asked for.
        asked: u32,
        /// How many it has.
        there: usize,
    },
    /// A partition that cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// An option that does not fit.
    #[error("`{option} {value}` does not fit: {expected}")]
    Option {
        /// Which.
        option: &'static str,
        /// What was given.
        value: String,
        /// What is wanted.
        expected: String,
    },
    /// Nothing could be written to standard output, or no signal be heard.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
    /// A file or directory that a command needs.
    #[error("cannot use `{}`: {error}; see to its permissions and to the room on its disk", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The demonstration was stopped before its account could be made.
    #[error("stopped before all was read, so there is no account")]
    Stopped,
    /// The demonstration's account does not come out even.
    #[error("records were lost or doubled: see the account above; please report it")]
    Ledger,
    /// What was given as the directory of a log is none.
    #[error(
        "there is no log in `{}`: {why}; give the directory of a log, `<data>/<topic>-<partition>`",
        dir.display()
    )]
    NoLog {
        /// What was given.
        dir: PathBuf,
        /// Why it is none.
        why: &'static str,
    },
    /// What was given as a file of a log is none.
    #[error(
        "`{}` is no file of a log: give one that ends in `.log`, `.index`, `.timeindex` or `.snapshot`, \
         or the directory of a log, `<data>/<topic>-<partition>`",
        path.display()
    )]
    NoLogFile {
        /// What was given.
        path: PathBuf,
    },
    /// Files that were shown are damaged.
    #[error("{0} damaged, as said above; `flumen log repair` gives up what cannot be read")]
    Damaged(String),
    /// There is nothing to be read.
    #[error(
        "there is no data directory `{}`: look for a slip in the path, or write something into it first, \
         as `flumen produce` does", dir.display()
    )]
    NoData {
        /// What was given.
        dir: PathBuf,
    },
    /// Nothing was given to keep positions in.
    #[error(
        "the node at `{0}` is reached over the network: say with `--state DIR` where the positions in \
         the files, and the lines that wait, are kept; give the same directory each time"
    )]
    NoState(String),
    /// Files are to be followed in a directory that is not there.
    #[error(
        "cannot follow `{pattern}`: there is no directory `{}`; make it first, or look for a slip in \
         the path", dir.display()
    )]
    NoDirectory {
        /// What was given.
        pattern: String,
        /// What is missing.
        dir: PathBuf,
    },
    /// The environment asks for log lines in words that are no filter.
    #[error(
        "FLUMEN_LOG={asked} is no filter: give a level (off, error, warn, info, debug, trace), and others for parts, as in `warn,flumen_actors::agent=debug`"
    )]
    LogFilter {
        /// What stands in the environment.
        asked: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// A log cannot be repaired.
    #[error(transparent)]
    Repair(#[from] RepairError),
    /// A log that was repaired cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The journals of a data directory cannot be read.
    #[error(transparent)]
    Journal(#[from] ReplayError),
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = start_logging(matches!(cli.command, Command::Demo(_))) {
        tell(format_args!("flumen: {error}"));
        return ExitCode::FAILURE;
    }
    let outcome = match cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Consume(args) => consume::run(args),
        Command::Produce(args) => produce::run(args),
        Command::Topics(args) => topics::run(args),
        Command::Groups(args) => groups::run(args),
        Command::DumpLog(args) => dump_log::run(args),
        Command::Log(command) => log::run(command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has had enough: that is no failure.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        // As shells say it of Ctrl-C: 128, and the number of SIGINT. SIGTERM ends it in the same way.
        Err(CliError::Interrupted) => ExitCode::from(130),
        Err(error) => {
            tell(format_args!("flumen: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes what the node notices to the standard error, as much of it as `FLUMEN_LOG` asks for.
fn start_logging(is_demo: bool) -> Result<(), CliError> {
    let asked = match std::env::var_os("FLUMEN_LOG") {
        Some(asked) => asked.to_string_lossy().into_owned(),
        // The demonstration kills actors on purpose: that is no news.
        None if is_demo => "error".to_owned(),
        None => "warn".to_owned(),
    };
    let targets: Targets = asked.parse().map_err(|source| CliError::LogFilter { asked, source })?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(lines).with(targets).init();
    Ok(())
}

/// Says something to the person at the terminal.
pub fn tell(what: impl std::fmt::Display) {
    // Where nobody can be told, nothing is lost by not telling.
    let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("{what}\n"));
}
