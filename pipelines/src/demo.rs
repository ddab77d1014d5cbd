//! The demonstration: the whole path at work while its actors are killed.
//!
//! ```text
//!   writer ─► access.log (rotating) ─► tail ─► buffer ─► publish ─► topic `access`, 4 partitions
//!                                                                     ├─► group `count`: 2 members, by status
//!                                                                     └─► group `files`: 1 member, part files
//! ```
//!
//! The writer keeps its own account, and so does each group: at the end they are compared. Latency
//! runs from the moment at which a line was due to be written to the moment a group has read it.

mod kill;
mod ledger;
mod table;
mod writer;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use flumen_actors::{
    agent::channel::Capacity,
    broker::{Topic, TopicSpec, consumer::ConsumerOptions, consumer::member::MemberOptions},
};
use flumen_runtime::{batch::Record, latency::Latency};
use tokio::time::Instant;

pub use self::ledger::{GroupLedger, Ledger};
use self::writer::{Line, Written};
use crate::{
    cli::{CliError, tail},
    node::{self, Node, NodeOptions},
    stream::{
        Operators,
        files::Files,
        fold::{Fold, Tally},
        outlet::Outlet,
        worker::{self, Progress, StageOptions},
    },
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
/// The agent's name.
const AGENT: &str = "access";
const TOPIC: &str = "access";
const PARTITIONS: u32 = 4;

/// What one group has read.
#[derive(Clone)]
struct Group {
    name: &'static str,
    progress: Vec<Progress>,
    latency: Arc<Mutex<Latency>>,
}

impl Group {
    fn new(name: &'static str, members: usize) -> Self {
        let progress = (0..members).map(|_| Progress::default()).collect();
        Self { name, progress, latency: Arc::new(Mutex::new(Latency::new())) }
    }

    /// Furthest committed position over all partitions, whoever committed it.
    fn committed(&self) -> u64 {
        let mut furthest = std::collections::BTreeMap::new();
        for (partition, progress) in self.progress.iter().flat_map(Progress::partitions) {
            let far: &mut u64 = furthest.entry(partition).or_default();
            *far = (*far).max(progress.committed.0);
        }
        furthest.values().sum()
    }

    fn latency(&self) -> Latency {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes when each line is read, against when it was due.
    fn observer(&self, epoch: Instant) -> worker::Observer {
        let latency = self.latency.clone();
        Arc::new(move |record: &Record| {
            let due = record.value.as_deref().and_then(Line::parse).map(|line| line.due);
            if let Some(due) = due {
                let waited = epoch.elapsed().saturating_sub(due);
                latency.lock().unwrap_or_else(PoisonError::into_inner).record(waited);
            }
        })
    }
}

/// Runs the demonstration, and returns its account.
///
/// # Errors
/// [`CliError`] where something that nobody killed fails.
pub fn run(options: DemoOptions) -> Result<Ledger, CliError> {
    let logs = options.dir.join("logs");
    let parts = options.dir.join("parts");
    std::fs::create_dir_all(&logs)?;
    let mut node_options = NodeOptions::new(options.dir.join("data"));
    node_options.offsets_partitions = 4;
    node::run(node_options, |node| async move {
        let topic = node.broker().ensure_topic(TopicSpec::new(TOPIC, PARTITIONS)?).await?;
        let epoch = Instant::now();
        let tally = Tally::default();
        let count = Group::new("count", 2);
        let files = Group::new("files", 1);
        start_agent(&node, &logs, &topic).await?;
        for member in 0..2 {
            let tally = tally.clone();
            let outlet = move || Box::new(Fold::new(by_status(), tally.clone())) as Box<dyn Outlet>;
            start_stage(&node, &count, member, epoch, Arc::new(outlet)).await?;
        }
        let dir = parts.clone();
        let outlet = move || Box::new(Files::new(Operators::read(Raw), &dir)) as Box<dyn Outlet>;
        start_stage(&node, &files, 0, epoch, Arc::new(outlet)).await?;

        let written = Arc::new(Written::default());
        let writing = writer::start(
            logs.join("access.log"),
            epoch,
            options.rate,
            options.duration,
            written.clone(),
        );
        let killing = actix_rt::spawn(kill::run(node.clone(), options.duration));
        let groups = [count, files];
        let showing = (!options.is_quiet)
            .then(|| actix_rt::spawn(table::show(written.clone(), groups.clone(), epoch)));
        writing
            .await
            .map_err(|error| CliError::Unreadable(format!("the writer ended: {error}")))??;
        let killed = killing.await.unwrap_or_default();
        catch_up(&written, &groups).await;
        if let Some(showing) = showing {
            showing.abort();
        }
        // The last commits of both groups are made before they are counted.
        let [count, files] = groups;
        let ledgers = vec![
            ledger::of_counts(&written, &tally, count.latency()),
            ledger::of_files(&written, &parts, files.latency())?,
        ];
        Ok(Ledger::new(&written, killed, ledgers))
    })
}

/// Status by status how many lines, and the sum of their numbers, which tells a lost line and a
/// doubled one from none of both.
fn by_status() -> Operators<(String, u64)> {
    Operators::read(Raw).flat_map(|value: Bytes| {
        let line = Line::parse(&value);
        line.into_iter()
            .flat_map(|line| [(line.status.to_string(), 1), ("numbers".into(), line.mixed())])
    })
}

async fn start_agent(node: &Node, logs: &std::path::Path, topic: &Topic) -> Result<(), CliError> {
    let files = vec![format!("{}/access.log", logs.display())];
    let capacity = Capacity { events: 10_000_000, bytes: 1 << 30 };
    let child = tail::agent(node, AGENT, files, topic, capacity, true);
    let started = node.pipelines().start_child(child).await;
    started.map_err(|error| CliError::Unreadable(format!("the agent did not start: {error}")))
}

async fn start_stage(
    node: &Node,
    group: &Group,
    member: usize,
    epoch: Instant,
    outlet: Arc<dyn Fn() -> Box<dyn Outlet> + Send + Sync>,
) -> Result<(), CliError> {
    let name = format!("{}/{member}", group.name);
    let topic = flumen_actors::broker::names::TopicName::new(TOPIC)?;
    let (child, _) = worker::child_spec(StageOptions {
        name: name.as_str().into(),
        broker: node.broker().clone(),
        member: MemberOptions::new(group.name, vec![topic]),
        consumer: ConsumerOptions::default(),
        commit_interval: Duration::from_millis(250),
        outlet,
        observer: Some(group.observer(epoch)),
        progress: group.progress[member].clone(),
    });
    let started = node.pipelines().start_child(child).await;
    started.map_err(|error| CliError::Unreadable(format!("`{name}` did not start: {error}")))
}

/// Waits until both groups have committed as much as was written; what is missing then is lost.
async fn catch_up(written: &Written, groups: &[Group]) {
    let deadline = Instant::now() + CATCH_UP_MAX;
    while Instant::now() < deadline {
        if groups.iter().all(|group| group.committed() >= written.lines()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A doubled record comes late: what follows the last expected one is waited for, too.
    tokio::time::sleep(Duration::from_secs(1)).await;
}
