//! A client of Kafka's protocol: the gateway's own codec, spoken from the other side.
//!
//! ```text
//!   Client ─┬─ Link ── TCP ──► the node that was given          any request
//!           ├─ Link ── TCP ──► the nodes that it names          what only a leader or coordinator does
//!           └─ Link ── pipe ─► the gateway of this process      all of it
//! ```
//!
//! It asks one thing at a time and waits for the answer: the commands of a terminal want no more. What
//! stands in `offsets`, `groups` and `topics` is asked the same way of a node of any of these kinds.

mod error;
mod groups;
mod health;
mod limits;
mod link;
mod member;
mod offsets;
mod producer;
mod remote;
mod topics;

use std::{collections::BTreeMap, fmt, time::Duration};

use flumen_actors::gateway::{
    Gateway,
    codec::Request,
    messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse},
};
use tokio::time::Instant;

use self::link::Link;
pub use self::{
    error::{ClientError, check, is_passing},
    groups::{Committed, GroupDescription, GroupMember, ListedGroup},
    member::{Change, Membership},
    offsets::Place,
    producer::{Acks, Producer},
    remote::RemotePartition,
    topics::{ConfigChange, ConfigEntry, Partition, Topic},
};

/// Stands for the node that was given, whatever its number.
const ANY: i32 = -1;
/// How long what passes by itself is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before it is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// How nodes are reached.
enum Way {
    /// One of these addresses, and then what it names.
    Network(Vec<String>),
    /// Through a pipe.
    Within(Gateway),
    /// The same, for whoever looks at what clients do.
    Watching(Gateway),
}

/// See the module.
pub struct Client {
    way: Way,
    links: BTreeMap<i32, Link>,
    /// Where the nodes are, as one of them said last.
    nodes: BTreeMap<i32, String>,
}

impl Client {
    /// A client of the nodes at these addresses, of which the first that answers is asked.
    ///
    /// # Errors
    /// [`ClientError`] where none answers: what is wrong with each.
    pub async fn connect(addresses: Vec<String>) -> Result<Self, ClientError> {
        Self::by(Way::Network(addresses)).await
    }

    /// A client of the node in this process.
    ///
    /// # Errors
    /// [`ClientError::Stopped`].
    pub async fn within(gateway: Gateway) -> Result<Self, ClientError> {
        Self::by(Way::Within(gateway)).await
    }

    /// The same, and what it asks is not counted among what clients ask.
    ///
    /// # Errors
    /// [`ClientError::Stopped`].
    pub async fn watching(gateway: Gateway) -> Result<Self, ClientError> {
        Self::by(Way::Watching(gateway)).await
    }

    async fn by(way: Way) -> Result<Self, ClientError> {
        let mut client = Self { way, links: BTreeMap::new(), nodes: BTreeMap::new() };
        client.link(ANY).await?;
        Ok(client)
    }

    /// The connection to a node. Where there is but one, the address that was given is as good as the
    /// one it names, and better where that is an address for others.
    async fn link(&mut self, node: i32) -> Result<&mut Link, ClientError> {
        let node = if self.nodes.len() < 2 { ANY } else { node };
        if !self.links.contains_key(&node) {
            let link = self.open(node).await?;
            self.links.insert(node, link);
        }
        Ok(self.links.get_mut(&node).expect("it was put there"))
    }

    async fn open(&self, node: i32) -> Result<Link, ClientError> {
        match &self.way {
            Way::Within(gateway) | Way::Watching(gateway) => {
                let pipe = match &self.way {
                    Way::Watching(_) => gateway.connect_uncounted().await,
                    _ => gateway.connect().await,
                };
                let pipe = pipe.map_err(|_| ClientError::Stopped)?;
                Link::over(Box::new(pipe), "this process").await
            }
            Way::Network(_) if node != ANY => {
                let address = self.nodes.get(&node);
                let address =
                    address.ok_or_else(|| ClientError::NoLeader(format!("node {node}")))?;
                Link::connect(address).await
            }
            Way::Network(addresses) => {
                let mut errors = Vec::new();
                for address in addresses {
                    match Link::connect(address).await {
                        Ok(link) => return Ok(link),
                        Err(error) => errors.push(error),
                    }
                }
                let only = errors.pop_if(|_| addresses.len() == 1);
                Err(only.unwrap_or(ClientError::Nowhere(errors)))
            }
        }
    }

    /// Asks any node.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask<R: Request>(&mut self, request: &R) -> Result<R::Response, ClientError> {
        self.ask_node(ANY, request, Duration::ZERO).await
    }

    /// Asks the node of that number, which the request lets wait for `longer`.
    ///
    /// # Errors
    /// [`ClientError`]. A connection that broke is made anew by the next question.
    pub async fn ask_node<R: Request>(
        &mut self,
        node: i32,
        request: &R,
        longer: Duration,
    ) -> Result<R::Response, ClientError> {
        let answer = self.link(node).await?.ask(request, longer).await;
        if answer.is_err() {
            // Its answer may still come, and would be taken for that to the next question.
            self.hang_up(node);
        }
        answer
    }

    /// Tells the node of that number something that it does not answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tell_node<R: Request>(
        &mut self,
        node: i32,
        request: &R,
    ) -> Result<(), ClientError> {
        let told = self.link(node).await?.tell(request).await;
        if told.is_err() {
            self.hang_up(node);
        }
        told.map(drop)
    }

    /// Gives up all connections: what was asked on them is not waited for any more.
    pub fn hang_up_all(&mut self) {
        self.links.clear();
    }

    fn hang_up(&mut self, node: i32) {
        let node = if self.nodes.len() < 2 { ANY } else { node };
        self.links.remove(&node);
    }

    /// What a node knows of `topics`, or of all; what there is of nodes is remembered.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn metadata(
        &mut self,
        topics: Option<&[&str]>,
        may_create: bool,
    ) -> Result<MetadataResponse, ClientError> {
        let named = |name: &&str| MetadataRequestTopic {
            name: Some((*name).into()),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(named).collect()),
            allow_auto_topic_creation: may_create,
            ..MetadataRequest::default()
        };
        let told = self.ask(&request).await?;
        let nodes = told.brokers.iter();
        self.nodes = nodes.map(|at| (at.node_id, format!("{}:{}", at.host, at.port))).collect();
        Ok(told)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

/// How long something is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    until: Instant,
}

impl Default for Patience {
    fn default() -> Self {
        Self { until: Instant::now() + PATIENCE }
    }
}

impl Patience {
    /// Waits a little where the error may pass by itself and there is time left.
    ///
    /// # Errors
    /// The error, where waiting is no use.
    pub async fn with(self, error: ClientError) -> Result<(), ClientError> {
        if !error.is_passing() || Instant::now() >= self.until {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}
