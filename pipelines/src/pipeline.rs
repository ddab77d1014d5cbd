//! The builder: a pipeline as Rust code, its types checked by the compiler and its graph before it
//! starts.
//!
//! ```no_run
//! use flumen::{
//!     node::{self, NodeOptions},
//!     pipeline::{Buffer, Pipeline, PipelineError},
//!     typed::Raw,
//! };
//! use flumen_actors::broker::TopicSpec;
//!
//! let mut pipeline = Pipeline::new("access");
//! pipeline
//!     .tail("lines", ["/var/log/app/*.log"])
//!     .channel("buffer", Buffer::durable())
//!     .topic("publish", TopicSpec::new("access", 4)?);
//! pipeline
//!     .read("access", Raw)
//!     .filter("errors", |line| line.starts_with(b"ERROR"))
//!     .topic("keep", TopicSpec::new("errors", 1)?, Raw);
//! println!("{}", pipeline.topology());
//! node::run(NodeOptions::new("data"), |node| async move {
//!     // Until Ctrl-C; `start` gives it back as it runs, with its status, latency, drain and stop.
//!     Ok::<_, PipelineError>(pipeline.run(&node).await?)
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What one stage gives the next must take, or it does not compile. This does:
//!
//! ```
//! # use flumen::{pipeline::Pipeline, typed::Json};
//! # let mut pipeline = Pipeline::new("p");
//! let numbers = pipeline.read::<u32>("numbers", Json);
//! numbers.filter("large", |number: &u32| *number > 3).for_each("show", drop);
//! ```
//!
//! and this does not:
//!
//! ```compile_fail
//! # use flumen::{pipeline::Pipeline, typed::Json};
//! # let mut pipeline = Pipeline::new("p");
//! let numbers = pipeline.read::<u32>("numbers", Json);
//! numbers.filter("large", |text: &String| text.len() > 3).for_each("show", drop);
//! ```
//!
//! Every stage has a name of its own: it is what the stage's actor, its group and its position are
//! called, so a pipeline that is started again goes on where it was as long as its names stay.

mod agent;
mod stream;

use std::{io, sync::Arc};

use flumen_actors::broker::{Broker, TopicError, TopicSpec, names::TopicName};
use flumen_runtime::supervision::ChildSpec;

use self::agent::AgentPlan;
pub use self::{
    agent::{Buffer, Buffered, Collected},
    stream::Stream,
};
use crate::{
    node::{Node, NodeError},
    running::{AgentHandle, Drained, Running, StageHandle},
    signals::Signals,
    stream::{Operators, outlet::Outlet, worker::Observer},
    topology::{self, Kind, Topology, TopologyError},
    typed::Format,
};

pub(crate) type MakeOutlet = Arc<dyn Fn() -> Box<dyn Outlet> + Send + Sync>;

/// A stage that reads a topic, in the making.
struct StagePlan {
    name: String,
    topic: String,
    /// Members of its group that read on this node.
    members: usize,
    observer: Option<Observer>,
    /// Made once the broker is known.
    outlet: Box<dyn FnOnce(&Broker) -> MakeOutlet>,
}

/// Sources, channels, sinks, topics and operators, and how they hang together.
pub struct Pipeline {
    name: String,
    topology: Topology,
    topics: Vec<TopicSpec>,
    agents: Vec<AgentPlan>,
    stages: Vec<StagePlan>,
}

/// Why a pipeline did not start.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Its graph cannot run.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A topic of it cannot be made, or is not there.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// It reads a topic that nobody makes.
    #[error(
        "the pipeline `{pipeline}` reads the topic `{topic}`, which is not there: create it, or let a pipeline write it"
    )]
    NoTopic {
        /// The pipeline.
        pipeline: String,
        /// The topic.
        topic: String,
    },
    /// An actor of it did not start.
    #[error("`{what}` did not start: {reason}")]
    NotStarted {
        /// Which.
        what: String,
        /// Why.
        reason: String,
    },
    /// The node that it was to run on.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Nobody could tell it to stop.
    #[error("cannot listen for Ctrl-C and SIGTERM: {0}")]
    Signals(#[from] io::Error),
}

impl Pipeline {
    /// An empty pipeline; its stages are called `<name>/<stage>`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            topology: Topology::default(),
            topics: Vec::new(),
            agents: Vec::new(),
            stages: Vec::new(),
        }
    }

    /// A source that follows files: paths, or patterns as in `glob(7)`, a record a line.
    pub fn tail<P: Into<String>>(
        &mut self,
        name: &str,
        files: impl IntoIterator<Item = P>,
    ) -> Collected<'_> {
        let files: Vec<String> = files.into_iter().map(Into::into).collect();
        self.topology.add(Kind::Source, name, format!("tail {}", files.join(" ")));
        self.agents.push(AgentPlan::new(name, files));
        Collected::new(self, name)
    }

    /// The values of a topic, in `format`.
    pub fn read<T: 'static>(
        &mut self,
        topic: &str,
        format: impl Format<T> + Send + Sync,
    ) -> Stream<'_, T> {
        self.topology.add(Kind::Topic, topic, "");
        Stream::new(self, topic, Operators::read(format))
    }

    /// The graph, to be printed ([`std::fmt::Display`]), drawn ([`Topology::to_dot`]) or checked.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// A topic that is made when the pipeline starts, where there is none.
    fn writes(&mut self, from: &str, spec: TopicSpec) -> TopicName {
        let name = spec.name.clone();
        self.topology.add(Kind::Topic, name.as_str(), "");
        self.topology.connect(from, name.as_str());
        self.topics.push(spec);
        name
    }

    /// Starts it and lets it run until Ctrl-C or SIGTERM, then [drains](Running::drain) it; a second
    /// signal ends the draining, and what is not through waits on the disk.
    ///
    /// # Errors
    /// [`PipelineError`], where it does not start.
    pub async fn run(self, node: &Node) -> Result<Drained, PipelineError> {
        let mut signals = Signals::listen()?;
        let running = self.start(node).await?;
        signals.told_to_stop().await;
        Ok(running.drain_unless(signals.told_to_stop()).await)
    }

    /// Checks the graph, makes missing topics, and starts: first the stages that read topics, each
    /// behind those that read what it writes; then of each agent the channels, the sinks, the source.
    ///
    /// # Errors
    /// [`PipelineError`]; what had been started is stopped again then.
    pub async fn start(self, node: &Node) -> Result<Running, PipelineError> {
        let Self { name, topology, topics, agents, mut stages } = self;
        topology::check_name(&name)?;
        if topology.stages().next().is_none() {
            return Err(TopologyError::Empty(name).into());
        }
        topology.check()?;
        let order = topology.order()?;
        stages.sort_by_key(|stage| order.iter().position(|name| *name == stage.name));
        node.enter(&name, &topology)?;
        let mut running = Running::new(node.clone(), name, topology);
        match start_all(node, &mut running, topics, stages, agents).await {
            Ok(()) => Ok(running),
            Err(error) => {
                running.stop().await;
                Err(error)
            }
        }
    }
}

async fn start_all(
    node: &Node,
    running: &mut Running,
    topics: Vec<TopicSpec>,
    stages: Vec<StagePlan>,
    agents: Vec<AgentPlan>,
) -> Result<(), PipelineError> {
    for topic in topics {
        node.broker().ensure_topic(topic).await?;
    }
    let pipeline = running.name().to_owned();
    for plan in stages {
        let topic = readable(node, &pipeline, &plan.topic)?;
        let outlet = (plan.outlet)(node.broker());
        let mut stage = StageHandle::new(&pipeline, &plan.name, topic);
        let members = stage.members(node, plan.members, &outlet, plan.observer.as_ref());
        running.keep_stage(stage);
        for child in members {
            start_child(node, child).await?;
        }
    }
    for plan in agents {
        let (child, agent) = AgentHandle::make(plan.build(node, &pipeline));
        running.keep_agent(agent);
        start_child(node, child).await?;
    }
    Ok(())
}

async fn start_child(node: &Node, child: ChildSpec) -> Result<(), PipelineError> {
    let what = child.name().to_string();
    let started = node.pipelines().start_child(child).await;
    started.map_err(|error| PipelineError::NotStarted { what, reason: error.to_string() })
}

/// The topic that a stage reads.
fn readable(node: &Node, pipeline: &str, topic: &str) -> Result<TopicName, PipelineError> {
    let name = TopicName::new(topic).ok();
    name.filter(|name| node.broker().topics().contains_key(name)).ok_or_else(|| {
        PipelineError::NoTopic { pipeline: pipeline.to_owned(), topic: topic.to_owned() }
    })
}
