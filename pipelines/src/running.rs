//! A pipeline that runs: how far it is, and how it stops.
//!
//! ```text
//!   drain:  sources ─► what they have read goes through: channels, then stages ─► stop
//!   stop:   sources, sinks, channels, then the stages, those that write before those that read it
//! ```

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flumen_actors::{
    agent::{
        AgentParts,
        channel::ChannelStatus,
        sink::{SinkState, SinkStatus},
        source::{SourceState, SourceStatus},
    },
    broker::{
        consumer::{ConsumerOptions, member::MemberOptions},
        group_coordinator::ids::InstanceId,
        names::TopicName,
    },
};
use flumen_runtime::{
    batch::RecordView,
    latency::Latency,
    mailbox::ActorName,
    supervision::{ChildSpec, SupervisorRef, SupervisorSpec},
};

use futures::{FutureExt as _, future};

use crate::{
    node::Node,
    pipeline::MakeOutlet,
    stream::worker::{self, Observer, Progress, StageOptions},
    topology::Topology,
};

/// How often a stage finishes and commits.
const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
/// How long a member may be silent. It has a lasting name, by which its next life takes its place at
/// once; this counts where it has none, because there are fewer members than before a crash. No network
/// is in between, so it is shorter than Kafka's 45 s.
const SESSION_TIMEOUT_MS: u32 = 10_000;
/// How often [`Running::drain`] looks whether everything is through.
const LOOK: Duration = Duration::from_millis(20);
/// How long [`Running::drain`] waits for that.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// A stage that reads a topic.
pub(crate) struct StageHandle {
    /// Also its group.
    name: ActorName,
    members: Vec<ActorName>,
    topic: TopicName,
    progress: Progress,
    latency: Arc<Mutex<Latency>>,
}

impl StageHandle {
    pub(crate) fn new(pipeline: &str, stage: &str, topic: TopicName) -> Self {
        Self {
            name: format!("{pipeline}/{stage}").into(),
            members: Vec::new(),
            topic,
            progress: Progress::default(),
            latency: Arc::new(Mutex::new(Latency::new())),
        }
    }

    /// Its actors: one, called like the stage, or several, called `<stage>/<number>`.
    pub(crate) fn members(
        &mut self,
        node: &Node,
        count: usize,
        outlet: &MakeOutlet,
        observer: Option<&Observer>,
    ) -> Vec<ChildSpec> {
        let named = |number| match count {
            1 => self.name.clone(),
            _ => format!("{}/{number}", self.name).into(),
        };
        self.members = (0..count).map(named).collect();
        let members = self.members.iter().zip(0..).map(|(name, number): (_, usize)| StageOptions {
            name: name.clone(),
            broker: node.broker().clone(),
            member: MemberOptions {
                instance_id: Some(InstanceId::from(format!("{}/{number}", self.name))),
                session_timeout_ms: SESSION_TIMEOUT_MS,
                ..MemberOptions::new(&*self.name, vec![self.topic.clone()])
            },
            consumer: ConsumerOptions::default(),
            commit_interval: COMMIT_INTERVAL,
            outlet: outlet.clone(),
            observer: Some(self.measure(node, observer.cloned())),
            progress: self.progress.clone(),
        });
        members.map(|options| worker::child_spec(options).0).collect()
    }

    fn measure(&self, node: &Node, also: Option<Observer>) -> Observer {
        let (clock, latency) = (node.services().clock.clone(), self.latency.clone());
        Arc::new(move |record: &RecordView<'_>| {
            let waited = u64::try_from(clock.now_ms() - record.timestamp).unwrap_or(0);
            let mut latency = latency.lock().unwrap_or_else(PoisonError::into_inner);
            latency.record(Duration::from_millis(waited));
            drop(latency);
            also.iter().for_each(|see| see(record));
        })
    }

    /// Records of its topic that it has not committed.
    async fn lag(&self, node: &Node) -> u64 {
        let (ends, committed) = (node.ends(&self.topic).await, self.progress.partitions());
        let at = |partition| committed.get(partition).copied().unwrap_or_default();
        ends.iter().map(|(partition, end)| end.since(at(partition))).sum()
    }
}

/// A source with its channels and sinks.
pub(crate) struct AgentHandle {
    supervisor: SupervisorRef,
    parts: AgentParts,
}

impl AgentHandle {
    pub(crate) fn make((spec, parts): (SupervisorSpec, AgentParts)) -> (ChildSpec, Self) {
        let (child, supervisor) = ChildSpec::supervisor(spec);
        (child, Self { supervisor, parts })
    }
}

/// How a running pipeline is.
#[derive(Clone, Debug, Default)]
pub struct PipelineStatus {
    /// Its sources, by name.
    pub sources: BTreeMap<String, SourceState>,
    /// Its channels, by name.
    pub channels: BTreeMap<String, ChannelStatus>,
    /// Its sinks, by name.
    pub sinks: BTreeMap<String, SinkState>,
    /// Records of its topic that each stage has not committed, by name.
    pub lag: BTreeMap<String, u64>,
}

/// What a drained pipeline leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Events that wait in each channel, and records that wait for each stage; nothing that is empty.
    /// All of it is on the disk but for channels in memory, and goes on at the next start.
    pub left: BTreeMap<String, u64>,
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.left.is_empty() {
            return f.write_str("all that was read is through");
        }
        let left: Vec<String> =
            self.left.iter().map(|(name, count)| format!("{count} before `{name}`")).collect();
        write!(f, "not all is through, the rest waits for the next start: {}", left.join(", "))
    }
}

/// A pipeline that runs. Dropping it leaves it running.
pub struct Running {
    node: Node,
    name: String,
    topology: Topology,
    /// Each behind those that read what it writes.
    stages: Vec<StageHandle>,
    agents: Vec<AgentHandle>,
}

impl Running {
    pub(crate) fn new(node: Node, name: String, topology: Topology) -> Self {
        Self { node, name, topology, stages: Vec::new(), agents: Vec::new() }
    }

    pub(crate) fn keep_stage(&mut self, stage: StageHandle) {
        self.stages.push(stage);
    }

    pub(crate) fn keep_agent(&mut self, agent: AgentHandle) {
        self.agents.push(agent);
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its graph.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// How it is.
    pub async fn status(&self) -> PipelineStatus {
        let mut status = PipelineStatus::default();
        for AgentHandle { parts, .. } in &self.agents {
            for (name, source) in &parts.sources {
                if let Ok(state) = source.send(SourceStatus).await {
                    status.sources.insert(name.to_string(), state);
                }
            }
            for channel in &parts.channels {
                if let Ok(state) = channel.status().await {
                    status.channels.insert(format!("{}/{}", self.name, channel.name()), state);
                }
            }
            for (name, sink) in &parts.sinks {
                if let Ok(state) = sink.send(SinkStatus).await {
                    status.sinks.insert(name.to_string(), state);
                }
            }
        }
        for stage in &self.stages {
            status.lag.insert(stage.name.to_string(), stage.lag(&self.node).await);
        }
        status
    }

    /// From a record's timestamp to its arrival in each stage, in milliseconds' steps.
    #[must_use]
    pub fn latency(&self) -> BTreeMap<String, Latency> {
        let of = |stage: &StageHandle| {
            stage.latency.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        self.stages.iter().map(|stage| (stage.name.to_string(), of(stage))).collect()
    }

    /// Stops the sources, lets everything that they have read through, and stops the rest. What does
    /// not get through within a minute waits for the next start.
    pub async fn drain(self) -> Drained {
        self.drain_unless(future::pending()).await
    }

    /// Drains, unless `enough` resolves before all is through.
    pub(crate) async fn drain_unless(self, enough: impl Future<Output = ()>) -> Drained {
        for AgentHandle { supervisor, parts } in &self.agents {
            for (name, _) in &parts.sources {
                // One that has ended is stopped.
                let _ = supervisor.stop_child(name).await;
            }
        }
        let limit = Box::pin(tokio::time::sleep(DRAIN_MAX));
        let enough = future::select(Box::pin(enough), limit).map(drop).shared();
        until_empty(|| self.in_channels(false), enough.clone()).await;
        let mut left = self.in_channels(true).await;
        left.retain(|_, count| *count > 0);
        self.stop_agents().await;
        left.append(&mut until_empty(|| self.before_stages(), enough).await);
        self.stop_stages().await;
        Drained { left }
    }

    /// Stops everything, each part after what it is at; what is in the channels and topics waits for
    /// the next start, but for channels in memory, which lose it.
    pub async fn stop(self) {
        self.stop_agents().await;
        self.stop_stages().await;
    }

    async fn stop_agents(&self) {
        for agent in self.agents.iter().rev() {
            let _ = self.node.pipelines().stop_child(agent.supervisor.name()).await;
        }
    }

    async fn stop_stages(&self) {
        for member in self.stages.iter().rev().flat_map(|stage| &stage.members) {
            let _ = self.node.pipelines().stop_child(member).await;
        }
        self.node.leave(&self.name);
    }

    /// Events that no sink has taken. What one has taken it delivers before it stops; a sink that
    /// cannot deliver is waited for only where `stuck` says so.
    async fn in_channels(&self, stuck: bool) -> BTreeMap<String, u64> {
        let mut waiting = BTreeMap::new();
        for AgentHandle { parts, .. } in &self.agents {
            let mut is_stuck = false;
            for (_, sink) in &parts.sinks {
                let state = sink.send(SinkStatus).await;
                is_stuck |= state.is_ok_and(|state| state.trouble.is_some());
            }
            for channel in parts.channels.iter().filter(|_| stuck || !is_stuck) {
                if let Ok(status) = channel.status().await {
                    let name = format!("{}/{}", self.name, channel.name());
                    waiting.insert(name, status.end.since(status.taken));
                }
            }
        }
        waiting
    }

    /// Records that stages have not committed: looked at in the direction of the flow, so that a look
    /// without a find is the end of it.
    async fn before_stages(&self) -> BTreeMap<String, u64> {
        let mut waiting = BTreeMap::new();
        for stage in self.stages.iter().rev() {
            waiting.insert(stage.name.to_string(), stage.lag(&self.node).await);
        }
        waiting
    }
}

/// Looks until nothing waits, or until it is `enough`; answers what waits then.
async fn until_empty<F: Future<Output = BTreeMap<String, u64>>>(
    look: impl Fn() -> F,
    enough: impl Future<Output = ()>,
) -> BTreeMap<String, u64> {
    let mut enough = std::pin::pin!(enough);
    loop {
        let mut waiting = look().await;
        waiting.retain(|_, count| *count > 0);
        if waiting.is_empty() {
            return waiting;
        }
        let pause = Box::pin(tokio::time::sleep(LOOK));
        if let future::Either::Left(_) = future::select(&mut enough, pause).await {
            return waiting;
        }
    }
}
