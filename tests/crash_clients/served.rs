//! The node that the clients use: the program itself, or this executable where syncs are to be lies.

use std::{
    fs::{self, File},
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use flumen::{
    node::{self, Listen, NodeError, NodeOptions},
    signals::Signals,
};
use flumen_runtime::{
    disk::{Engine, unsynced},
    log::LogConfig,
    rng::Rng,
};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// The variable that tells a child how to serve.
pub(crate) const SERVE: &str = "FLUMEN_TEST_SERVE";
/// The longest that a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a child serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Serving {
    pub(crate) data: PathBuf,
    pub(crate) address: String,
    pub(crate) is_ring: bool,
    /// Whether its disks lie about syncs.
    pub(crate) syncs_are_off: bool,
}

/// A port that stays free while its node is dead: below those that the system gives to whoever
/// connects, or a client that tries to reach the dead node may be given the very port.
pub(crate) fn address(rng: &mut Rng) -> String {
    loop {
        let address = format!("127.0.0.1:{}", 20_000 + rng.below(10_000));
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Signals(#[from] io::Error),
}

/// Serves until it is told to stop: what `flumen serve` does, with checkpoints thick enough that a
/// short run has many, and syncs switched off if that is asked for.
pub(crate) fn serve(serving: &Serving) {
    if serving.syncs_are_off {
        unsynced::turn_syncs_off();
    }
    let mut options = NodeOptions::new(&serving.data);
    options.engine = if serving.is_ring { Engine::Uring } else { Engine::Threads };
    options.log = LogConfig { checkpoint_bytes: 24 << 10, ..LogConfig::default() };
    options.listen.push(Listen { address: serving.address.clone(), advertise: None });
    let outcome = node::run(options, |_| async {
        eprintln!("listening on {}", serving.address);
        Signals::listen()?.told_to_stop().await;
        Ok::<_, ServeError>(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// A node's process.
pub(crate) struct Served {
    child: Child,
    errors: PathBuf,
}

impl Drop for Served {
    fn drop(&mut self) {
        // It has ended, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    /// Starts the program.
    pub(crate) fn program(program: &Path, serving: &Serving, errors: &Path) -> Self {
        let mut command = Command::new(program);
        let disk = if serving.is_ring { "uring" } else { "threads" };
        command.args(["serve", "--listen", &serving.address, "--disk", disk, "--data"]);
        command.arg(&serving.data);
        Self::start(command, errors)
    }

    /// Starts this executable, for its test `node` alone.
    pub(crate) fn this(node: &str, serving: &Serving, errors: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this is a program"));
        command.args([node, "--exact", "--ignored", "--nocapture"]);
        command.env(SERVE, serde_json::to_string(serving).expect("it is plain"));
        Self::start(command, errors)
    }

    fn start(mut command: Command, errors: &Path) -> Self {
        let errors = errors.to_owned();
        let child = command
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&errors).expect("a file can be made"))
            .spawn()
            .expect("it was built");
        Self { child, errors }
    }

    /// The last that it said.
    pub(crate) fn said(&self) -> String {
        let text = fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn wait(&mut self, what: &str, mut is: impl FnMut(&mut Self) -> bool) -> Result<(), String> {
        let began = Instant::now();
        while !is(self) {
            if began.elapsed() > PATIENCE {
                return Err(format!("waited in vain {what}; the node said:\n{}", self.said()));
            }
            // Real time: another process is waited for.
            thread::park_timeout(Duration::from_millis(10));
        }
        Ok(())
    }

    /// An error where it has ended by itself.
    pub(crate) fn is_well(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(format!("the node ended by itself, {status}; it said:\n{}", self.said()))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Waits until it takes connections.
    pub(crate) fn listens(&mut self) -> Result<(), String> {
        let is_listening = |node: &mut Self| node.said().contains("listening on");
        self.wait("for it to listen", |node| is_listening(node) || node.is_well().is_err())?;
        self.is_well()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(mut self) -> Result<(), String> {
        self.child.kill().and_then(|()| self.child.wait()).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Stops it in order.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        self.is_well()?;
        let told = kill_process(self.pid(), Signal::TERM);
        told.map_err(|error| error.to_string())?;
        let mut status: Option<ExitStatus> = None;
        self.wait("for its end", |node| {
            status = node.child.try_wait().ok().flatten();
            status.is_some()
        })?;
        match status {
            Some(status) if status.success() => Ok(()),
            other => Err(format!("it stopped with {other:?}; it said:\n{}", self.said())),
        }
    }
}
