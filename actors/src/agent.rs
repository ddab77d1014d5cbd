//! Agents: what collects events from where they arise, keeps them safe, and brings them on.
//!
//! ```text
//!   source ─► interceptors ─► selector ─┬─► channel ─► sink
//!                                       └─► channel ─► sink
//! ```
//!
//! Terms and rules are Flume's. A source puts events into channels; a channel holds them until its
//! sink has delivered them and said so; a full channel holds its sources back.
//!
//! An agent is one supervisor: channels, then sinks, then sources, rest-for-one. So they start in the
//! order in which each needs the one before, a channel that is made anew takes its sinks and sources
//! with it, and a stop goes the other way: the sources put what they have read, the sinks deliver what
//! they have taken, the channels close their logs.
//!
//! # Failure
//! All of them are permanent, with back-off: state comes from the channels' logs. Over budget, the
//! agent fails to whoever supervises it.

pub mod channel;
pub mod event;
pub mod interceptor;
pub mod selector;
pub mod sink;
pub mod source;

use std::sync::Arc;

use actix::Recipient;
use flumen_runtime::{
    mailbox::ActorName,
    placement::Place,
    supervision::{ChildSpec, Strategy, SupervisorSpec},
};

use crate::agent::{
    channel::{
        Channel,
        durable::{DurableChannel, DurableChannelOptions},
        memory::{MemoryChannel, MemoryChannelOptions},
    },
    sink::{Delivery, Sink, SinkOptions, SinkStatus},
    source::{
        SourceStatus,
        taildir::{FollowedFiles, Taildir, TaildirOptions},
    },
};

/// An agent in the making. Channels first: sinks and sources are given theirs.
pub struct AgentSpec {
    name: ActorName,
    place: Place,
    channels: Vec<ChildSpec>,
    sinks: Vec<ChildSpec>,
    sources: Vec<ChildSpec>,
    parts: AgentParts,
}

/// What an agent consists of, to ask how it is.
#[derive(Clone, Default)]
pub struct AgentParts {
    /// Its channels.
    pub channels: Vec<Channel>,
    /// Its sinks, by name.
    pub sinks: Vec<(ActorName, Recipient<SinkStatus>)>,
    /// Its sources, by name.
    pub sources: Vec<(ActorName, Recipient<SourceStatus>)>,
}

impl AgentSpec {
    /// An agent called `name`, which is also what the names of its actors begin with.
    #[must_use]
    pub fn new(name: impl Into<ActorName>) -> Self {
        Self {
            name: name.into(),
            place: Place::Any,
            channels: Vec::new(),
            sinks: Vec::new(),
            sources: Vec::new(),
            parts: AgentParts::default(),
        }
    }

    /// Where it is put, all of it together: next to the partitions that it delivers to, for
    /// instance.
    #[must_use]
    pub fn place(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// The name that its actor `component` has under supervision: `<agent>/<component>`.
    #[must_use]
    pub fn name_of(&self, component: &str) -> ActorName {
        format!("{}/{component}", self.name).into()
    }

    /// Adds a channel in memory.
    pub fn memory_channel(&mut self, options: MemoryChannelOptions) -> Channel {
        let name = options.name.clone();
        let (child, address) = ChildSpec::actor(self.name_of(&name), move |incarnation| {
            Ok(MemoryChannel::new(options.clone(), incarnation))
        });
        self.add_channel(child, Channel::new(name, &address))
    }

    /// Adds a durable channel.
    pub fn durable_channel(&mut self, options: DurableChannelOptions) -> Channel {
        let name = options.name.clone();
        let (child, address) = ChildSpec::actor(self.name_of(&name), move |incarnation| {
            Ok(DurableChannel::new(options.clone(), incarnation))
        });
        self.add_channel(child, Channel::new(name, &address))
    }

    fn add_channel(&mut self, child: ChildSpec, channel: Channel) -> Channel {
        self.channels.push(child);
        self.parts.channels.push(channel.clone());
        channel
    }

    /// Adds the sink of `channel`, which has one; `delivery` makes how it delivers, anew for each
    /// life.
    pub fn sink<D: Delivery>(
        &mut self,
        name: &str,
        channel: &Channel,
        options: SinkOptions,
        delivery: impl Fn() -> D + Send + Sync + 'static,
    ) {
        let (name, channel) = (self.name_of(name), channel.clone());
        let (child, address) = ChildSpec::actor(name.clone(), move |incarnation| {
            Ok(Sink::new(channel.clone(), options, delivery(), incarnation))
        });
        self.sinks.push(child);
        self.parts.sinks.push((name, address.recipient()));
    }

    /// Adds a source that follows files; its name is that of its feed.
    pub fn taildir<F: FollowedFiles>(&mut self, options: TaildirOptions<F>) {
        let name = self.name_of(&options.feed.source);
        let options = Arc::new(options);
        let (child, address) = ChildSpec::actor(name.clone(), move |incarnation| {
            Ok(Taildir::new(options.clone(), incarnation))
        });
        self.sources.push(child);
        self.parts.sources.push((name, address.recipient()));
    }

    /// What supervises it, and what it consists of.
    #[must_use]
    pub fn build(self) -> (SupervisorSpec, AgentParts) {
        let mut spec = SupervisorSpec::new(self.name);
        spec.strategy = Strategy::RestForOne;
        let children = self.channels.into_iter().chain(self.sinks).chain(self.sources);
        let mut place = self.place;
        for child in children {
            let beside = Place::With(child.name().clone());
            spec = spec.child(child.place(place));
            place = beside;
        }
        (spec, self.parts)
    }
}
