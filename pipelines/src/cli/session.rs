//! Which node a command speaks with: one of a network, the one that uses a data directory, or, where
//! nobody uses it, one that is started on it for as long as the command runs. A command sees no
//! difference: it has a client.

use std::{future::Future, path::PathBuf};

use clap::Args;
use flumen_actors::{
    broker::{
        names::{PartitionId, TopicName, TopicPartition},
        partition::messages::{Condition, Fetch},
    },
    gateway::error_code::ErrorCode,
};
use flumen_runtime::{
    data_dir::{self, DataDirError},
    ids::Offset,
};

use super::{CliError, DataArgs, DiskArg};
use crate::{
    client::{Client, ClientError, Topic},
    node::{self, Node, NodeError, NodeOptions},
};

/// Where a node listens that was not told where to.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:9092";

/// Which node to speak with.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// Address of a node, or several with commas between them; each is tried in turn, and the first
    /// that answers is asked. Without this and without `--data`: 127.0.0.1:9092.
    #[arg(
        long,
        short = 'b',
        value_name = "HOST:PORT",
        value_delimiter = ',',
        value_parser = address,
        global = true,
        conflicts_with = "data"
    )]
    bootstrap: Vec<String>,
    /// Data directory of a node: the one that runs on it, where it listens; otherwise its files are
    /// opened for as long as this takes.
    #[arg(long, value_name = "DIR", global = true)]
    data: Vec<PathBuf>,
    /// Disk driver, where files are opened: io_uring where it is allowed, or threads.
    #[arg(long, value_enum, default_value = "auto", global = true)]
    disk: DiskArg,
    /// Whether data directories are made where they are missing: who only reads makes none.
    #[arg(skip)]
    makes: bool,
}

/// An address; there may be blanks around it where it stands in a list.
fn address(text: &str) -> Result<String, &'static str> {
    match text.trim() {
        "" => Err("an address is empty: give HOST:PORT, and commas only between addresses"),
        address => Ok(address.to_owned()),
    }
}

/// How a node is reached.
pub(super) enum Way {
    /// Over the network, at one of these addresses.
    Network(Vec<String>),
    /// Its files are opened.
    Here(Box<NodeOptions>),
}

impl NodeArgs {
    /// The same, for a command that writes.
    #[must_use]
    pub fn or_new(self) -> Self {
        Self { makes: true, ..self }
    }

    /// A node of this command's own in `dir`, which is made where it is missing.
    #[must_use]
    pub fn apart(&self, dir: PathBuf) -> NodeOptions {
        DataArgs { data: vec![dir], disk: self.disk }.node()
    }

    /// How the node is reached.
    pub(super) fn way(&self) -> Result<Way, CliError> {
        if self.data.is_empty() {
            let addresses = self.bootstrap.clone();
            let none = addresses.is_empty();
            return Ok(Way::Network(if none { vec![DEFAULT_ADDRESS.into()] } else { addresses }));
        }
        let here = DataArgs { data: self.data.clone(), disk: self.disk };
        let options = if self.makes { here.node() } else { here.node_that_is_there()? };
        for dir in &self.data {
            let reached = data_dir::reached_at(dir).map_err(NodeError::from)?;
            if let Some(addresses) = reached {
                return Ok(Way::Network(addresses.iter().map(ToString::to_string).collect()));
            }
        }
        Ok(Way::Here(Box::new(options)))
    }
}

/// A node, and the client that speaks with it.
pub struct Session {
    /// What asks it.
    pub client: Client,
    /// The node, where it runs in this process: it can say more than the protocol can.
    node: Option<Node>,
}

/// Runs `program` with a client of the node that `args` name.
///
/// # Errors
/// [`CliError`].
pub fn run<T, F>(args: &NodeArgs, program: impl FnOnce(Session) -> F) -> Result<T, CliError>
where
    F: Future<Output = Result<T, CliError>>,
{
    match args.way()? {
        Way::Network(addresses) => actix_rt::System::new().block_on(async {
            let client = Client::connect(addresses).await?;
            program(Session { client, node: None }).await
        }),
        Way::Here(options) => {
            let ran = node::run(*options, |node| async move {
                let client = Client::within(node.gateway().clone()).await?;
                program(Session { client, node: Some(node) }).await
            });
            ran.map_err(|error| match error {
                CliError::Node(NodeError::DataDir(error @ DataDirError::InUse { .. })) => {
                    CliError::NotListening(error)
                }
                error => error,
            })
        }
    }
}

impl Session {
    /// Whether the node runs in this process.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.node.is_some()
    }

    /// The topic called `name`.
    ///
    /// # Errors
    /// [`CliError::UnknownTopic`], which names those there are.
    pub async fn topic(&mut self, name: &str) -> Result<Topic, CliError> {
        TopicName::new(name)?;
        if let Some(topic) = self.client.topic(name, false).await? {
            return Ok(topic);
        }
        let topics = self.client.topics().await?;
        let names: Vec<&str> =
            topics.iter().filter(|topic| !topic.is_internal).map(|topic| &*topic.name).collect();
        let there = match names.as_slice() {
            [] => "there are no topics yet; `flumen topics create` makes one".to_owned(),
            names => format!("the topics here are {}", names.join(", ")),
        };
        Err(CliError::UnknownTopic { name: name.to_owned(), there })
    }

    /// Why a partition answers with an error, as far as that can be known.
    pub async fn why(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        code: ErrorCode,
    ) -> CliError {
        match self.wrong(topic, partition, offset).await {
            Some(told) => CliError::Unreadable(told),
            None => {
                let what = format!("`{topic}-{partition}` cannot be read");
                ClientError::Refused { what, code, message: None }.into()
            }
        }
    }

    /// What a node says is wrong with a partition; none where it cannot be asked, or finds nothing.
    pub async fn wrong(&mut self, topic: &str, partition: i32, offset: i64) -> Option<String> {
        match self.told_by_node(topic, partition, offset).await {
            Some(told) => Some(format!("`{topic}-{partition}` {told}")),
            None => self.client.told_wrong(topic, partition).await,
        }
    }

    /// What the node itself says is wrong with a partition; none where it is not in this process, or
    /// finds nothing.
    async fn told_by_node(&self, topic: &str, partition: i32, offset: i64) -> Option<String> {
        let node = self.node.as_ref()?;
        let partition = PartitionId(u32::try_from(partition).ok()?);
        let name = TopicPartition { topic: TopicName::new(topic).ok()?, partition };
        let Some(status) = node.status(&name).await else {
            return Some("is in a data directory that was not given with `--data`".to_owned());
        };
        if let Condition::Offline { reason, remedy } = status.condition {
            return Some(format!("is offline: {reason}; {remedy}"));
        }
        let offset = Offset(u64::try_from(offset).ok()?);
        let read = node.broker().partition(&name)?.send(Fetch::from(offset)).await;
        let error = read.ok()?.err()?;
        Some(format!("cannot be read at offset {offset}: {error}"))
    }
}
