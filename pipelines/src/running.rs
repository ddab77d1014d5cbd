//! A pipeline that runs: how far it is, and how it stops.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flumen_actors::{
    agent::{AgentParts, channel::ChannelStatus, sink::SinkState, source::SourceState},
    broker::{
        consumer::{ConsumerOptions, member::MemberOptions},
        names::TopicName,
    },
};
use flumen_runtime::{batch::Record, latency::Latency, mailbox::ActorName, supervision::ChildSpec};
use tokio::time::Instant;

use crate::{
    node::Node,
    pipeline::PipelineError,
    stream::{
        outlet::Outlet,
        worker::{self, Progress, StageOptions},
    },
    topology::Topology,
};

/// How often [`Running::drain`] looks whether everything is through.
const LOOK: Duration = Duration::from_millis(20);

/// A stage that reads a topic.
pub(crate) struct StageHandle {
    name: ActorName,
    topic: TopicName,
    progress: Progress,
    latency: Arc<Mutex<Latency>>,
}

impl StageHandle {
    pub(crate) fn make(
        node: &Node,
        pipeline: &str,
        stage: &str,
        topic: TopicName,
        outlet: Arc<dyn Fn() -> Box<dyn Outlet> + Send + Sync>,
        commit_interval: Duration,
    ) -> (Self, ChildSpec) {
        let name: ActorName = format!("{pipeline}/{stage}").into();
        let (progress, latency) = (Progress::default(), Arc::new(Mutex::new(Latency::new())));
        let (clock, noted) = (node.services().clock.clone(), latency.clone());
        let observer = Arc::new(move |record: &Record| {
            let waited = u64::try_from(clock.now_ms() - record.timestamp).unwrap_or(0);
            let mut latency = noted.lock().unwrap_or_else(PoisonError::into_inner);
            latency.record(Duration::from_millis(waited));
        });
        let (child, _) = worker::child_spec(StageOptions {
            name: name.clone(),
            broker: node.broker().clone(),
            member: MemberOptions::new(&*name, vec![topic.clone()]),
            consumer: ConsumerOptions::default(),
            commit_interval,
            outlet,
            observer: Some(observer),
            progress: progress.clone(),
        });
        (Self { name, topic, progress, latency }, child)
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
    /// Records that each stage that reads a topic has still to read or commit.
    pub lag: BTreeMap<String, u64>,
}

/// A pipeline that runs. Dropping it leaves it running.
pub struct Running {
    node: Node,
    topology: Topology,
    stages: Vec<StageHandle>,
    agents: Vec<(ActorName, AgentParts)>,
}

impl Running {
    pub(crate) fn new(node: Node, topology: Topology) -> Self {
        Self { node, topology, stages: Vec::new(), agents: Vec::new() }
    }

    pub(crate) fn keep_stage(&mut self, stage: StageHandle) {
        self.stages.push(stage);
    }

    pub(crate) fn keep_agent(&mut self, name: ActorName, parts: AgentParts) {
        self.agents.push((name, parts));
    }

    /// Stops what was started, since the rest cannot be.
    pub(crate) async fn give_up(self, error: PipelineError) -> Result<Running, PipelineError> {
        self.stop().await;
        Err(error)
    }

    /// Its graph.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// How it is.
    pub async fn status(&self) -> PipelineStatus {
        let mut status = PipelineStatus::default();
        for (_, parts) in &self.agents {
            for (name, source) in &parts.sources {
                if let Ok(state) = source.send(flumen_actors::agent::source::SourceStatus).await {
                    status.sources.insert(name.to_string(), state);
                }
            }
            for channel in &parts.channels {
                if let Ok(state) = channel.status().await {
                    status.channels.insert(channel.name().to_string(), state);
                }
            }
            for (name, sink) in &parts.sinks {
                if let Ok(state) = sink.send(flumen_actors::agent::sink::SinkStatus).await {
                    status.sinks.insert(name.to_string(), state);
                }
            }
        }
        for stage in &self.stages {
            status.lag.insert(stage.name.to_string(), stage.progress.lag());
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

    /// Stops the sources, lets everything that they have read through, and stops the rest. What a
    /// stage cannot get through within a minute waits on the disk for the next start.
    pub async fn drain(self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        // An agent's sink empties its channel when it is stopped.
        self.stop_agents().await;
        while !self.is_through().await && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
        self.stop_stages().await;
    }

    /// Stops sources, sinks and channels, then the stages, each after what it is at; what is in the
    /// channels and topics waits for the next start.
    pub async fn stop(self) {
        self.stop_agents().await;
        self.stop_stages().await;
    }

    async fn stop_agents(&self) {
        for (name, _) in self.agents.iter().rev() {
            // One that has ended is stopped.
            let _ = self.node.pipelines().stop_child(name).await;
        }
    }

    async fn stop_stages(&self) {
        for stage in self.stages.iter().rev() {
            let _ = self.node.pipelines().stop_child(&stage.name).await;
        }
    }

    /// Whether every stage has committed all that its topic holds. One that writes what another
    /// reads comes before it in each round, so a round without a gap is the end.
    async fn is_through(&self) -> bool {
        for stage in &self.stages {
            let ends = self.node.ends(&stage.topic).await;
            let partitions = stage.progress.partitions();
            let committed =
                |partition| partitions.get(partition).map(|progress| progress.committed);
            if ends.iter().any(|(partition, end)| committed(partition).unwrap_or_default() < *end) {
                return false;
            }
        }
        true
    }
}
