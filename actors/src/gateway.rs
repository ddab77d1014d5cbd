//! The gateway: Kafka's wire protocol, so that existing clients connect unchanged.
//!
//! ```text
//!   gateway (supervisor, one-for-one)
//!     ├─ listener/<name>                   accepts; one an address
//!     └─ connections (supervisor)          connection/<n>, one actor each, on the arbiters in turn
//!
//!   bytes ── Intake ──► codec::RequestFrame ── decode ──► messages::*Request ──► handlers
//!                                                                                   │ messages to the
//!   bytes ◄─ Outgoing ◄── codec::Output ◄───── respond ── messages::*Response ◄─────┘ broker's actors
//! ```
//!
//! [`codec`] reads and writes messages; [`messages`] describes each; [`api`] lists the APIs with their
//! versions, and [`error_code`] what may go wrong.

pub mod api;
#[macro_use]
pub mod codec;
mod connection;
pub mod context;
mod counters;
pub mod error_code;
mod errors;
pub mod frame;
mod handlers;
mod home;
mod large;
pub mod limits;
pub mod listener;
pub mod messages;
mod requests;
mod slots;
mod within;

use std::{fmt, sync::Arc};

use bytestring::ByteString;
use flumen_runtime::{
    credit::Credit,
    supervision::{ChildSpec, Intensity, SupervisorRef, SupervisorSpec},
};

pub use self::connection::{BadLength, Frame, Intake, Taken};
pub use self::counters::ApiCounts;
use self::{
    counters::Counters, home::Homes, large::Turns, limits::Limits, listener::Bound, slots::Slots,
};
use crate::broker::{Broker, NodeId};

/// What a gateway is made with.
#[derive(Clone, Debug)]
pub struct GatewaySpec {
    /// The addresses, bound already.
    pub listeners: Vec<Bound>,
    /// What it takes from its clients.
    pub limits: Limits,
    /// This node's number, which answers name.
    pub node: NodeId,
    /// The cluster's name, which answers name.
    pub cluster: String,
    /// How topics that clients merely name are made.
    pub defaults: TopicDefaults,
}

/// What a topic is made with that nobody described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicDefaults {
    /// Whether a topic is made when a client asks for it (`auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// Its partitions (`num.partitions`).
    pub partitions: u32,
}

impl Default for TopicDefaults {
    fn default() -> Self {
        Self { auto_create_topics: true, partitions: 1 }
    }
}

/// What all listeners and connections share.
struct Shared {
    broker: Broker,
    node: NodeId,
    cluster: ByteString,
    defaults: TopicDefaults,
    limits: Arc<Limits>,
    slots: Slots,
    request_room: connection::Room,
    answer_room: Credit,
    /// Turns of answers that are not in that room yet.
    turns: Turns,
    /// Partitions that fetch sessions may follow.
    session_room: Credit,
    /// Partitions that fetches may wait for.
    waiting_room: Credit,
    connections: SupervisorRef,
    counters: Arc<Counters>,
    homes: Homes,
    listeners: Arc<[Bound]>,
}

/// How much there is room for, and how much of it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// That which is taken.
    pub taken: usize,
    /// All of it.
    pub whole: usize,
}

/// The node's room for what its clients want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rooms {
    /// Bytes of requests, with what they are decoded to.
    pub requests: Room,
    /// Of these, bytes of what requests are decoded to.
    pub decoded: Room,
    /// Bytes of answers that are not sent yet.
    pub answers: Room,
    /// Partitions that fetch sessions follow.
    pub sessions: Room,
    /// Partitions that fetches wait for.
    pub waiting: Room,
}

impl Shared {
    /// How topics that clients merely name are made now.
    fn topic_defaults(&self) -> TopicDefaults {
        let set = self.broker.node_settings();
        let TopicDefaults { auto_create_topics, partitions } = self.defaults;
        TopicDefaults {
            auto_create_topics: set
                .flag(self.node, "auto.create.topics.enable")
                .unwrap_or(auto_create_topics),
            partitions: set.number(self.node, "num.partitions").unwrap_or(partitions),
        }
    }

    /// The most connections now, in all and from one address.
    fn connections_max(&self) -> (usize, usize) {
        let set = self.broker.node_settings();
        let number = |name| set.number(self.node, name).map(|number| number as usize);
        let Limits { connections_max, connections_cap, connections_per_address_max, .. } =
            *self.limits;
        (
            number("max.connections").unwrap_or(connections_max).min(connections_cap),
            number("max.connections.per.ip").unwrap_or(connections_per_address_max),
        )
    }
}

/// A handle of the gateway.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
    listeners: Arc<[Bound]>,
}

/// A gateway to `broker`, under supervision, and its handle.
#[must_use]
pub fn start(spec: GatewaySpec, broker: Broker) -> (ChildSpec, Gateway) {
    let mut connections = SupervisorSpec::new("connections");
    // One that breaks is not made anew, so no number of them is too many.
    connections.intensity = Intensity { restarts_max: u32::MAX, ..connections.intensity };
    let (connections_child, connections) = ChildSpec::supervisor(connections);
    let limits = Arc::new(spec.limits);
    let listeners: Arc<[Bound]> = spec.listeners.into();
    let shared = Arc::new(Shared {
        broker,
        node: spec.node,
        cluster: spec.cluster.into(),
        defaults: spec.defaults,
        slots: Slots::default(),
        request_room: connection::Room::new(limits.request_bytes_max),
        answer_room: Credit::new(usize::MAX, limits.answer_bytes_max),
        turns: Turns::default(),
        session_room: Credit::new(limits.session_partitions_max, 0),
        waiting_room: Credit::new(limits.session_partitions_max, 0),
        limits,
        connections,
        counters: Arc::default(),
        homes: Homes::default(),
        listeners: listeners.clone(),
    });
    let mut tree = SupervisorSpec::new("gateway").child(connections_child);
    for bound in &*listeners {
        tree = tree.child(listener::child_spec(shared.clone(), bound.clone()));
    }
    let (child, _) = ChildSpec::supervisor(tree);
    (child, Gateway { shared, listeners })
}

impl Gateway {
    /// The addresses that it listens on.
    #[must_use]
    pub fn listeners(&self) -> &[Bound] {
        &self.listeners
    }

    /// What was counted of each API since the node began.
    #[must_use]
    pub fn counts(&self) -> Vec<ApiCounts> {
        self.shared.counters.all()
    }

    /// How much of the node's room is taken.
    #[must_use]
    pub fn rooms(&self) -> Rooms {
        let bytes = |of: &Credit| Room { taken: of.out().bytes, whole: of.whole().bytes };
        let count = |of: &Credit| Room { taken: of.out().count, whole: of.whole().count };
        let Shared { request_room, answer_room, session_room, waiting_room, .. } = &*self.shared;
        Rooms {
            requests: Room { taken: request_room.out().1, whole: request_room.whole() },
            decoded: bytes(request_room.decoded()),
            answers: bytes(answer_room),
            sessions: count(session_room),
            waiting: count(waiting_room),
        }
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.slots.taken()
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
