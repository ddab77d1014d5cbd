//! The demonstration: the whole path at work while its actors are killed.
//!
//! ```text
//!   writer ─► access.log (rotating) ─► tail ─► buffer ─► publish ─► topic `access`, 4 partitions
//!                                                                     ├─► group `count`: 2 members, by status
//!                                                                     └─► group `files`: 1 member, part files
//! ```
//!
//! It is a pipeline like any other, so what it shows is what the builder gives. The writer keeps its
//! own account, and so does each group: at the end they are compared. Latency runs from the moment at
//! which a line was due to be written to the moment a group has read it.

mod kill;
mod ledger;
mod table;
mod writer;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use flumen_actors::broker::{TopicSpec, names::TopicName};
use flumen_runtime::{batch::RecordView, latency::Latency};
use futures::future::{self, Either};
use tokio::time::Instant;

pub use self::ledger::{GroupLedger, Ledger};
use self::{
    table::View,
    writer::{Line, Written},
};
use crate::{
    cli::{CliError, tell},
    node::{self, Node, NodeOptions},
    pipeline::{Buffer, Pipeline},
    running::Running,
    signals::Signals,
    stream::fold::Tally,
    typed::Raw,
};

/// How the demonstration runs.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Where everything goes: made where it is missing.
    pub dir: PathBuf,
    /// How long the log is written.
    pub duration: Duration,
    /// Lines a second, outside bursts.
    pub rate: u64,
    /// Whether nothing is shown on the way.
    pub is_quiet: bool,
}

/// How long the groups may take to catch up once the log is written.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);
const PIPELINE: &str = "demo";
const TOPIC: &str = "access";
const PARTITIONS: u32 = 4;
/// The two groups, each called like the stage that it reads for.
const GROUPS: [&str; 2] = ["count", "files"];

/// From when a line was due to when a group read it. Clones share it.
#[derive(Clone)]
struct Waited {
    epoch: Instant,
    latency: Arc<Mutex<Latency>>,
}

impl Waited {
    fn since(epoch: Instant) -> Self {
        Self { epoch, latency: Arc::new(Mutex::new(Latency::new())) }
    }

    fn latency(&self) -> Latency {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, record: &RecordView<'_>) {
        if let Some(line) = record.value.as_deref().and_then(Line::parse) {
            let waited = self.epoch.elapsed().saturating_sub(line.due);
            self.latency.lock().unwrap_or_else(PoisonError::into_inner).record(waited);
        }
    }

    fn observer(&self) -> impl Fn(&RecordView<'_>) + Send + Sync + 'static {
        let waited = self.clone();
        move |record| waited.note(record)
    }
}

/// Runs the demonstration, and returns its account.
///
/// # Errors
/// [`CliError`] where something that nobody killed fails.
pub fn run(options: DemoOptions) -> Result<Ledger, CliError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| CliError::File { path, error }
    };
    let (logs, parts) = (options.dir.join("logs"), options.dir.join("parts"));
    std::fs::create_dir_all(&logs).map_err(unusable(&logs))?;
    let mut node_options = NodeOptions::new(options.dir.join("data"));
    node_options.offsets_partitions = 4;
    node::run(node_options, |node| async move {
        let mut signals = Signals::listen()?;
        let (epoch, tally) = (Instant::now(), Tally::default());
        let waited = [Waited::since(epoch), Waited::since(epoch)];
        let log = logs.join("access.log");
        let pipeline = pipeline(&log, &parts, &waited, &tally)?;
        if !options.is_quiet {
            tell(format_args!("flumen: {}\n\n{}", node.about(), pipeline.topology()));
        }
        let running = pipeline.start(&node).await?;
        let written = Arc::new(Written::default());
        let writer = writer::start(log.clone(), epoch, &options, written.clone());
        let killer = kill::start(node.clone(), options.duration);
        let killed = killer.killed.clone();
        let view = View::new(&options, epoch, &written, &killed, &waited);
        let working = Box::pin(async {
            let ended = writer.await.map_err(io::Error::other).and_then(|ended| ended);
            ended.map_err(unusable(&log))?;
            killer.ended().await;
            catch_up(&node, &running, &written).await;
            Ok::<(), CliError>(())
        });
        let showing = Box::pin(view.show(&node, &running));
        let stopping = Box::pin(async {
            signals.told_to_stop().await;
            written.stop();
            killed.stop();
            signals.told_to_stop().await;
        });
        match future::select(future::select(working, showing), stopping).await {
            Either::Left((Either::Left((ended, _)), _)) => ended?,
            Either::Left((Either::Right((never, _)), _)) => match never {},
            Either::Right(_) => return Err(CliError::Stopped),
        }
        // What comes twice comes late: all that is on its way goes through before it is counted.
        running.drain().await;
        let [count, files] = waited.map(|waited| waited.latency());
        let in_files = ledger::of_files(&written, &parts, files).map_err(unusable(&parts))?;
        let groups = vec![ledger::of_counts(&written, &tally, count), in_files];
        Ok(Ledger::new(&written, killed.names(), groups))
    })
}

/// What is demonstrated.
fn pipeline(
    log: &Path,
    parts: &Path,
    waited: &[Waited; 2],
    tally: &Tally,
) -> Result<Pipeline, CliError> {
    let mut pipeline = Pipeline::new(PIPELINE);
    pipeline
        .tail("tail", [log.display().to_string()])
        .channel("buffer", Buffer::durable())
        .topic("publish", TopicSpec::new(TOPIC, PARTITIONS)?);
    let [count, files] = GROUPS;
    pipeline
        .read(TOPIC, Raw)
        .members(2)
        .observe(waited[0].observer())
        .flat_map("by-status", by_status)
        .sum(count, tally);
    pipeline.read(TOPIC, Raw).observe(waited[1].observer()).files(files, parts);
    Ok(pipeline)
}

fn by_status(value: Bytes) -> Vec<(String, u64)> {
    Line::parse(&value).map(sums_of).into_iter().flatten().collect()
}

/// One for the line's status, and under `numbers` its number, mixed: their sum tells a lost line and
/// a doubled one from none of both.
fn sums_of(line: Line) -> [(String, u64); 2] {
    [(line.status.to_string(), 1), ("numbers".into(), line.mixed())]
}

/// Records that the topic holds.
async fn published(node: &Node) -> u64 {
    let topic = TopicName::new(TOPIC).expect("it is a name");
    node.ends(&topic).await.values().map(|end| end.0).sum()
}

/// Waits until both groups have committed as much as was written; what is missing then is lost.
async fn catch_up(node: &Node, running: &Running, written: &Written) {
    let deadline = Instant::now() + CATCH_UP_MAX;
    while Instant::now() < deadline {
        let is_published = published(node).await >= written.lines();
        if is_published && running.status().await.lag.values().all(|lag| *lag == 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
