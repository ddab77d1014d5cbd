//! The command line: one file a command.

pub mod consume;
pub mod demo;
pub mod log;
pub mod serve;
pub mod tail;
pub mod time;
pub mod topics;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use flumen_actors::broker::{
    Broker, CleanStopError, Topic, TopicError,
    names::{TopicName, TopicNameError},
};
use flumen_runtime::{
    disk::Engine,
    journal::ReplayError,
    log::{OpenError, RepairError},
};

use crate::{
    node::{NodeError, NodeOptions},
    pipeline::PipelineError,
};

/// Collects, buffers and delivers: a log broker and its agents in one program.
#[derive(Debug, Parser)]
#[command(name = "flumen", version)]
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
    /// Prints the values of a topic, one a line, up to its end.
    Consume(consume::ConsumeArgs),
    /// Lists the topics, or describes one.
    Topics(topics::TopicsArgs),
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
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
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
    /// The node.
    #[error(transparent)]
    Node(#[from] NodeError),
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
        name: TopicName,
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
        name: TopicName,
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
        expected: &'static str,
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
    /// There is nothing to be read.
    #[error(
        "there is no data directory `{}`: look for a slip in the path, or write something into it first, \
         as `flumen tail` does", dir.display()
    )]
    NoData {
        /// What was given.
        dir: PathBuf,
    },
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

/// The topic called `name`.
///
/// # Errors
/// [`CliError::UnknownTopic`], which names those there are.
pub fn find_topic(broker: &Broker, name: &TopicName) -> Result<Topic, CliError> {
    let topics = broker.topics();
    if let Some(topic) = topics.get(name) {
        return Ok(topic.clone());
    }
    let names: Vec<&str> =
        topics.values().filter(|t| !t.is_internal).map(|t| t.name.as_str()).collect();
    let there = match names.as_slice() {
        [] => "there are no topics in this data directory yet".to_owned(),
        names => format!("the topics here are {}", names.join(", ")),
    };
    Err(CliError::UnknownTopic { name: name.clone(), there })
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("FLUMEN_LOG")
        // The demonstration kills actors on purpose: that is no news.
        .unwrap_or_else(|_| {
            let is_demo = matches!(cli.command, Command::Demo(_));
            tracing_subscriber::EnvFilter::new(if is_demo { "error" } else { "warn" })
        });
    let is_seen = io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(is_seen)
        .init();
    let outcome = match cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Consume(args) => consume::run(args),
        Command::Topics(args) => topics::run(args),
        Command::Log(command) => log::run(command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has had enough: that is no failure.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            tell(format_args!("flumen: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says something to the person at the terminal.
pub fn tell(what: impl std::fmt::Display) {
    // Where nobody can be told, nothing is lost by not telling.
    let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("{what}\n"));
}
