//! The builder: a pipeline as Rust code, its types checked by the compiler and its graph before it
//! starts.
//!
//! ```no_run
//! use flumen::{
//!     node::{self, NodeError, NodeOptions},
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
//!     let running = pipeline.start(&node).await?;
//!     running.drain().await;
//!     Ok::<(), PipelineError>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Every stage has a name of its own: it is what the stage's actor, its group and its position are
//! called, so a pipeline that is started again goes on where it was as long as its names stay.

mod agent;
mod stream;

use std::{sync::Arc, time::Duration};

use flumen_actors::broker::{Broker, TopicError, TopicSpec, names::TopicName};
use flumen_runtime::supervision::ChildSpec;

use self::agent::AgentPlan;
pub use self::{
    agent::{Buffer, Buffered, Collected},
    stream::Stream,
};
use crate::{
    node::{Node, NodeError},
    running::{Running, StageHandle},
    stream::{Operators, outlet::Outlet},
    topology::{Kind, Topology, TopologyError},
    typed::Format,
};

/// How often a stage finishes and commits.
const COMMIT_INTERVAL: Duration = Duration::from_millis(200);

type MakeOutlet = Arc<dyn Fn() -> Box<dyn Outlet> + Send + Sync>;

/// A stage that reads a topic, in the making.
struct StagePlan {
    name: String,
    topic: String,
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

    /// Checks the graph, makes missing topics, and starts channels, then sinks, then sources, and the
    /// stages that read topics before all of them.
    ///
    /// # Errors
    /// [`PipelineError`]; what had been started is stopped again then.
    pub async fn start(self, node: &Node) -> Result<Running, PipelineError> {
        let Self { name, topology, topics, agents, stages } = self;
        if topology.stages().next().is_none() {
            return Err(TopologyError::Empty(name).into());
        }
        topology.check()?;
        for topic in topics {
            node.broker().ensure_topic(topic).await?;
        }
        let mut running = Running::new(node.clone(), topology);
        for plan in stages {
            match start_stage(node, &name, plan).await {
                Ok(stage) => running.keep_stage(stage),
                Err(error) => return running.give_up(error).await,
            }
        }
        for plan in agents {
            let (child, parts) = plan.build(node, &name);
            let agent = child.name().clone();
            match start_child(node, child).await {
                Ok(()) => running.keep_agent(agent, parts),
                Err(error) => return running.give_up(error).await,
            }
        }
        Ok(running)
    }
}

async fn start_child(node: &Node, child: ChildSpec) -> Result<(), PipelineError> {
    let what = child.name().to_string();
    let started = node.pipelines().start_child(child).await;
    started.map_err(|error| PipelineError::NotStarted { what, reason: error.to_string() })
}

async fn start_stage(
    node: &Node,
    pipeline: &str,
    plan: StagePlan,
) -> Result<StageHandle, PipelineError> {
    let no_topic =
        || PipelineError::NoTopic { pipeline: pipeline.to_owned(), topic: plan.topic.clone() };
    let topic = TopicName::new(&plan.topic).map_err(|_| no_topic())?;
    if !node.broker().topics().contains_key(&topic) {
        return Err(no_topic());
    }
    let (handle, child) = StageHandle::make(
        node,
        pipeline,
        &plan.name,
        topic,
        (plan.outlet)(node.broker()),
        COMMIT_INTERVAL,
    );
    start_child(node, child).await?;
    Ok(handle)
}
