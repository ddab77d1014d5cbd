//! The agent's side of the builder: source → interceptors → channels → sinks.

use std::{path::PathBuf, sync::Arc};

use flumen_actors::{
    agent::{
        AgentParts, AgentSpec,
        channel::{
            Capacity, Channel, durable::DurableChannelOptions, memory::MemoryChannelOptions,
        },
        interceptor::Interceptor,
        selector::Replicating,
        sink::{
            SinkOptions,
            file_roll::FileRoll,
            logger::Logger,
            null::Null,
            topic::{TopicSink, TopicSinkOptions},
        },
        source::{feed::FeedOptions, taildir::TaildirOptions},
    },
    broker::{
        TopicSpec,
        names::{TopicName, TopicPartition},
    },
};
use flumen_runtime::supervision::SupervisorSpec;

use super::Pipeline;
use crate::{node::Node, topology::Kind};

/// What a channel is made of, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    is_durable: bool,
    capacity: Capacity,
}

impl Buffer {
    /// On the disk: what is in it outlives crashes and power cuts. Up to 1 GiB.
    #[must_use]
    pub fn durable() -> Self {
        Self { is_durable: true, capacity: Capacity { events: 10_000_000, bytes: 1 << 30 } }
    }

    /// In memory: quick, and lost with the process. Up to 64 MiB.
    #[must_use]
    pub fn memory() -> Self {
        Self { is_durable: false, capacity: Capacity::default() }
    }

    /// With room for this many bytes; a full channel holds its source back.
    #[must_use]
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.capacity.bytes = bytes;
        self
    }

    /// With room for this many events.
    #[must_use]
    pub fn events(mut self, events: usize) -> Self {
        self.capacity.events = events;
        self
    }
}

type MakeInterceptor = Arc<dyn Fn() -> Box<dyn Interceptor> + Send + Sync>;

enum SinkPlan {
    Topic(TopicName),
    Elsewhere(Box<TopicSinkOptions>),
    Files(PathBuf),
    Logger,
    Null,
}

struct ChannelPlan {
    name: String,
    buffer: Buffer,
    /// Its name, and where it delivers; missing until it is given.
    sink: Option<(String, SinkPlan)>,
}

/// An agent in the making.
pub(super) struct AgentPlan {
    source: String,
    files: Vec<String>,
    interceptors: Vec<MakeInterceptor>,
    channels: Vec<ChannelPlan>,
}

impl AgentPlan {
    pub(super) fn new(source: &str, files: Vec<String>) -> Self {
        let source = source.to_owned();
        Self { source, files, interceptors: Vec::new(), channels: Vec::new() }
    }

    /// What supervises the agent, and what it consists of. Its actors are called `<pipeline>/<stage>`.
    pub(super) fn build(self, node: &Node, pipeline: &str) -> (SupervisorSpec, AgentParts) {
        let mut agent = AgentSpec::new(pipeline);
        let mut required = Vec::new();
        for ChannelPlan { name: channel_name, buffer, sink } in self.channels {
            let channel = if buffer.is_durable {
                let place = node.data().join("channels").join(pipeline).join(&channel_name);
                agent.durable_channel(DurableChannelOptions {
                    dir: place,
                    ..DurableChannelOptions::new(channel_name, node.data(), buffer.capacity)
                })
            } else {
                agent.memory_channel(MemoryChannelOptions::new(channel_name, buffer.capacity))
            };
            if let Some((sink_name, plan)) = sink {
                add_sink(&mut agent, node, &sink_name, &channel, plan);
            }
            required.push(channel);
        }
        let interceptors = self.interceptors;
        let feed = FeedOptions {
            source: self.source.into(),
            selector: Replicating { required, optional: Vec::new() },
            interceptors: Arc::new(move || interceptors.iter().map(|make| make()).collect()),
        };
        let name = format!("{pipeline}/{}:agent", feed.source);
        agent.taildir(TaildirOptions::new(self.files, feed));
        let (spec, parts) = agent.build();
        (SupervisorSpec { name: name.into(), ..spec }, parts)
    }
}

fn add_sink(agent: &mut AgentSpec, node: &Node, name: &str, channel: &Channel, plan: SinkPlan) {
    let options = SinkOptions::default();
    match plan {
        SinkPlan::Topic(topic) => {
            let topics = node.broker().topics();
            let partitions: Vec<_> = topics
                .get(&topic)
                .into_iter()
                .flat_map(|found| found.partition_ids())
                .filter_map(|partition| {
                    node.broker().partition(&TopicPartition { topic: topic.clone(), partition })
                })
                .collect();
            let target = TopicSinkOptions::new(topic.as_str(), &partitions);
            agent.sink(name, channel, options, move || TopicSink::new(target.clone()));
        }
        SinkPlan::Elsewhere(target) => {
            agent.sink(name, channel, options, move || TopicSink::new((*target).clone()));
        }
        SinkPlan::Files(dir) => {
            agent.sink(name, channel, options, move || FileRoll::new(dir.clone()));
        }
        SinkPlan::Logger => agent.sink(name, channel, options, Logger::default),
        SinkPlan::Null => agent.sink(name, channel, options, Null::default),
    }
}

/// What a source brings in, on its way to channels. Every channel gets every event.
pub struct Collected<'p> {
    pipeline: &'p mut Pipeline,
    /// The stage that the next channel is fed by.
    last: String,
}

impl<'p> Collected<'p> {
    pub(super) fn new(pipeline: &'p mut Pipeline, source: &str) -> Self {
        Self { pipeline, last: source.to_owned() }
    }

    fn plan(&mut self) -> &mut AgentPlan {
        self.pipeline.agents.last_mut().expect("a source was added before")
    }

    /// Changes or drops events on their way.
    #[must_use]
    pub fn intercept<I: Interceptor + 'static>(
        mut self,
        name: &str,
        make: impl Fn() -> I + Send + Sync + 'static,
    ) -> Self {
        self.pipeline.topology.add(Kind::Interceptor, name, "");
        self.pipeline.topology.connect(&self.last, name);
        self.plan().interceptors.push(Arc::new(move || Box::new(make())));
        self.last = name.to_owned();
        self
    }

    /// A channel that gets every event; its sink comes next.
    #[must_use = "a channel needs a sink"]
    pub fn channel(mut self, name: &str, buffer: Buffer) -> Buffered<'p> {
        let detail = if buffer.is_durable { "on disk" } else { "in memory" };
        self.pipeline.topology.add(Kind::Channel, name, detail);
        self.pipeline.topology.connect(&self.last, name);
        self.plan().channels.push(ChannelPlan { name: name.to_owned(), buffer, sink: None });
        Buffered { collected: self, channel: name.to_owned() }
    }
}

/// A channel that waits for its sink. Each sink gives the source back, for another channel beside.
pub struct Buffered<'p> {
    collected: Collected<'p>,
    channel: String,
}

impl<'p> Buffered<'p> {
    fn sink(mut self, name: &str, detail: impl std::fmt::Display, plan: SinkPlan) -> Collected<'p> {
        let topology = &mut self.collected.pipeline.topology;
        topology.add(Kind::Sink, name, detail);
        topology.connect(&self.channel, name);
        let channel = self.collected.plan().channels.last_mut().expect("it was added before");
        channel.sink = Some((name.to_owned(), plan));
        self.collected
    }

    /// Delivers into a topic, each event once; the topic is made where there is none.
    pub fn topic(self, name: &str, topic: TopicSpec) -> Collected<'p> {
        let plan = SinkPlan::Topic(topic.name.clone());
        let collected = self.sink(name, "", plan);
        collected.pipeline.writes(name, topic);
        collected
    }

    /// Delivers into a topic of another node, whose partitions `to` has.
    pub fn topic_elsewhere(self, name: &str, to: TopicSinkOptions) -> Collected<'p> {
        let detail = format!("topic {} of another node", to.topic);
        self.sink(name, detail, SinkPlan::Elsewhere(Box::new(to)))
    }

    /// Delivers into files below `dir`, each event once.
    pub fn files(self, name: &str, dir: impl Into<PathBuf>) -> Collected<'p> {
        let dir = dir.into();
        self.sink(name, dir.display(), SinkPlan::Files(dir.clone()))
    }

    /// Delivers into the node's own log, for a look at what comes.
    pub fn logger(self, name: &str) -> Collected<'p> {
        self.sink(name, "", SinkPlan::Logger)
    }

    /// Delivers nowhere, and counts.
    pub fn null(self, name: &str) -> Collected<'p> {
        self.sink(name, "", SinkPlan::Null)
    }
}
