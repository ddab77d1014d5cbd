//! Starts the node, gives it work, ends it in some way, and holds what it says against the ledger.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use flumen_runtime::rng::Rng;
use rustix::process::Pid;
use tokio::time::Instant;

use crate::{
    ledger::{LINES_A_FILE, Ledger, Verdict},
    talk::{self, Ask, LIFE, Life, Say},
};

/// How often the harness looks around.
const LOOK: Duration = Duration::from_millis(2);
/// The longest that a node may take for what it must do: start, reach a point, deliver everything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most new batches of one producer in a life that ends at a random time.
const BATCHES_MAX: u32 = 40;

/// How a life ends.
pub(crate) enum End<'a> {
    /// The node dies at this named point, when it comes by for the nth time.
    Point(&'a str, u32),
    /// The node is killed after this time, and just before that the power of this process is cut, if
    /// this is how.
    After(Duration, Option<&'a mut dyn FnMut(Pid)>),
    /// Everything is delivered, and the node stops in order.
    Stop,
}

/// See the module.
pub(crate) struct Harness {
    pub(crate) ledger: Ledger,
    pub(crate) rng: Rng,
    pub(crate) life: Life,
    /// The test of this executable that is the node.
    node: &'static str,
    log: PathBuf,
    errors: PathBuf,
    rotations: u64,
}

/// A node that runs.
struct Running {
    child: Child,
    stream: UnixStream,
    said: Receiver<Say>,
    is_ready: bool,
    batches: u32,
    /// Whether what it is asked may fail: its disk is gone.
    is_cut: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Harness {
    /// With the node's data in `data`, and the followed files in `logs`, which nothing destroys.
    pub(crate) fn new(
        node: &'static str,
        is_ring: bool,
        data: &Path,
        logs: &Path,
        seed: u64,
    ) -> Self {
        let life = Life {
            data: data.join("data").display().to_string(),
            logs: logs.join("app.log*").display().to_string(),
            parts: data.join("parts").display().to_string(),
            is_ring,
            point: None,
            syncs_are_off: false,
        };
        let (log, errors) = (logs.join("app.log"), logs.join("node.err"));
        let (ledger, rng) = (Ledger::new(), Rng::seeded(seed));
        Self { ledger, rng, life, node, log, errors, rotations: 0 }
    }

    /// One life of the node, up to `end`.
    pub(crate) fn live(&mut self, mut end: End<'_>) -> Verdict {
        self.life.point = match &end {
            End::Point(point, nth) => Some(((*point).to_owned(), *nth)),
            _ => None,
        };
        // What the last life left: a cut disk is mounted again by now.
        self.ledger.lines_kept(Path::new(&self.life.parts))?;
        self.ledger.begin_life();
        let mut node = self.start();
        let outcome = self.until(&mut node, &mut end);
        outcome.map_err(|why| format!("{why}\nthe node said:\n{}", self.last_errors()))
    }

    fn start(&self) -> Running {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair can be made");
        let errors = File::create(&self.errors).expect("a file can be made");
        let child = Command::new(std::env::current_exe().expect("this is a program"))
            .args([self.node, "--exact", "--ignored", "--nocapture"])
            .env(LIFE, talk::line(&self.life))
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .expect("this program can be started again");
        let (says, said) = channel();
        let reading = BufReader::new(ours.try_clone().expect("a descriptor can be doubled"));
        thread::spawn(move || {
            // The last line of a killed node may be cut.
            let whole = |line: &String| line.ends_with('}') || line.ends_with('"');
            for line in reading.lines().map_while(Result::ok).filter(whole) {
                let Ok(say) = serde_json::from_str(&line) else { break };
                if says.send(say).is_err() {
                    break;
                }
            }
        });
        Running { child, stream: ours, said, is_ready: false, batches: 0, is_cut: false }
    }

    fn until(&mut self, node: &mut Running, end: &mut End<'_>) -> Verdict {
        let started = Instant::now();
        let mut is_stopping = false;
        loop {
            let has_ended = self.hear(node)?;
            match end {
                End::After(after, cut) if started.elapsed() >= *after => {
                    if let Some(cut) = cut {
                        cut(Pid::from_child(&node.child));
                        node.is_cut = true;
                    }
                    node.child.kill().expect("a child can be killed");
                    return self.hear_out(node);
                }
                End::Stop if !is_stopping && node.is_ready && self.is_through()? => {
                    node.ask(&Ask::Stop);
                    is_stopping = true;
                }
                _ => {}
            }
            if has_ended {
                return self.ended(node, end);
            }
            if started.elapsed() > PATIENCE {
                return Err(match end {
                    End::Point(point, nth) => {
                        format!("the point `{point}` was not reached {nth} times")
                    }
                    _ => format!(
                        "lost, or late: {} of {} lines are kept, all read: {}",
                        self.ledger.lines_kept(Path::new(&self.life.parts))?,
                        self.ledger.lines,
                        self.ledger.is_read()
                    ),
                });
            }
            if node.is_ready {
                let is_endless = matches!(end, End::Point(..));
                self.give_work(node, is_endless, matches!(end, End::Stop));
            }
        }
    }

    /// Takes in what the node said within a moment; whether it has ended.
    fn hear(&mut self, node: &mut Running) -> Result<bool, String> {
        loop {
            match node.said.recv_timeout(LOOK) {
                Ok(say) => self.take(node, say)?,
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => return Ok(true),
            }
        }
    }

    /// Takes in what a dead node had said before.
    fn hear_out(&mut self, node: &mut Running) -> Verdict {
        while let Ok(say) = node.said.recv() {
            self.take(node, say)?;
        }
        wait(node).map(drop)
    }

    fn take(&mut self, node: &mut Running, say: Say) -> Verdict {
        match say {
            Say::Held { partition, records } => self.ledger.on_held(partition, records),
            Say::Ready => {
                self.ledger.on_ready()?;
                node.is_ready = true;
            }
            Say::Appended { producer, sequence, offset, .. } => {
                return self.ledger.on_appended(producer, sequence, offset);
            }
            Say::Refused { producer, why, .. } => {
                if !node.is_cut {
                    return Err(format!("an append was refused: {why}"));
                }
                self.ledger.on_refused(producer);
            }
            Say::Assigned { partition, position } => {
                return self.ledger.on_assigned(partition, position);
            }
            Say::Delivered { partition, records } => {
                return self.ledger.on_delivered(partition, &records);
            }
            Say::Committed { partition, next } => self.ledger.on_committed(partition, next),
            Say::Failed { why } if node.is_cut => tracing::debug!(why, "as it must"),
            Say::Failed { why } => return Err(format!("the node failed: {why}")),
        }
        Ok(())
    }

    fn ended(&self, node: &mut Running, end: &End<'_>) -> Verdict {
        let status = wait(node)?;
        match end {
            End::Point(..) if status.signal() == Some(libc::SIGKILL) => Ok(()),
            End::Stop if status.success() => Ok(()),
            _ => Err(format!("the node ended by itself: {status}")),
        }
    }

    /// Whether everything that was written is delivered and committed.
    fn is_through(&self) -> Result<bool, String> {
        let kept = self.ledger.lines_kept(Path::new(&self.life.parts))?;
        Ok(kept == self.ledger.lines && self.ledger.is_read())
    }

    /// A few lines, and for each producer a batch, where it may send one.
    fn give_work(&mut self, node: &mut Running, is_endless: bool, is_last: bool) {
        if !is_last {
            let lines = self.rng.below(4);
            self.write_lines(lines);
        }
        let may_be_new = !is_last && (is_endless || node.batches < BATCHES_MAX);
        node.batches += 1;
        let Self { ledger, rng, .. } = self;
        for producer in &mut ledger.producers {
            if !may_be_new && !producer.has_unsent() {
                continue;
            }
            let pads = || {
                // Now and then one that is too large to be journalled.
                let pad = if rng.chance(1, 16) { 9_000 } else { 200 };
                (0..=rng.below(6)).map(|_| rng.below(pad) as usize).collect()
            };
            if let Some(ask) = producer.next_ask(pads) {
                node.ask(&ask);
            }
        }
    }

    /// Appends lines to the followed file, which is renamed away now and then.
    fn write_lines(&mut self, lines: u64) {
        for _ in 0..lines {
            let pad = self.rng.below(120) as usize;
            let file = OpenOptions::new().append(true).create(true).open(&self.log);
            let line = format!("line {:08} {:y<pad$}\n", self.ledger.lines, "");
            file.and_then(|mut file| file.write_all(line.as_bytes()))
                .expect("a log can be written");
            self.ledger.lines += 1;
            if self.ledger.lines.is_multiple_of(LINES_A_FILE) {
                self.rotations += 1;
                let aside = self.log.with_extension(format!("log.{}", self.rotations));
                fs::rename(&self.log, aside).expect("a log can be rotated");
            }
        }
    }

    fn last_errors(&self) -> String {
        let text = fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Running {
    fn ask(&mut self, ask: &Ask) {
        // A node that has died is heard of.
        let _ = self.stream.write_all(talk::line(ask).as_bytes());
    }
}

fn wait(node: &mut Running) -> Result<ExitStatus, String> {
    node.child.wait().map_err(|error| format!("the node cannot be waited for: {error}"))
}
