//! How much a node takes at once. Asked beforehand: a node hangs up on whoever sends too large a request,
//! which looks as if it had stopped.

use super::{Client, ClientError, topics::Resource};

/// What a request has besides its batches: its header, and the name of the topic.
const REQUEST_OVERHEAD: usize = 512;
/// What it has besides each of them.
pub(super) const PARTITION_OVERHEAD: usize = 32;

/// The most bytes of something, and the setting that says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) bytes: usize,
    setting: &'static str,
}

impl Limit {
    /// Why a record of so many bytes is not taken, even alone in its batch.
    pub(super) fn too_large(self, bytes: usize) -> ClientError {
        ClientError::TooLarge { bytes, most: self.bytes, setting: self.setting }
    }
}

/// How much may be sent. Where it cannot be told it is any number, for then it is the node that says no.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Of a batch.
    pub(super) batch: Limit,
    /// Bytes of all batches of a request together.
    pub(super) request_bytes: usize,
}

impl Client {
    /// How much `topic` takes, and a node.
    pub(super) async fn limits(&mut self, topic: &str) -> Limits {
        let node = self.nodes.keys().next().copied().unwrap_or_default();
        let request = self.number(Resource::Node(node), "socket.request.max.bytes").await;
        let request_bytes = request.saturating_sub(REQUEST_OVERHEAD);
        let of_node = Limit {
            bytes: request_bytes.saturating_sub(PARTITION_OVERHEAD),
            setting: "the node's `socket.request.max.bytes`",
        };
        let of_topic = Limit {
            bytes: self.number(Resource::Topic(topic), "max.message.bytes").await,
            setting: "the topic's `max.message.bytes`",
        };
        let batch = if of_topic.bytes <= of_node.bytes { of_topic } else { of_node };
        Limits { batch, request_bytes }
    }

    async fn number(&mut self, of: Resource<'_>, name: &'static str) -> usize {
        let found = self.configs(of, Some(name)).await.ok();
        let found = found.and_then(|mut found| found.pop()?.value.parse().ok());
        found.unwrap_or(usize::MAX)
    }
}
