//! A partition of another node, as one of this node's own is to the sink of an agent: it takes appends
//! and tells the last sequence of a producer.
//!
//! Each has a connection of its own, and asks one thing at a time. Nothing is tried again here: a sink
//! whose append failed asks what is there, and goes on behind that.
//!
//! # Failure
//! It keeps nothing but its connection, which is made anew by the next question.

use std::{cell::Cell, rc::Rc, time::Duration};

use actix::{Actor, Context, Handler, ResponseFuture};
use bytes::Bytes;
use flumen_actors::{
    agent::sink::topic::Target,
    broker::{
        names::{PartitionId, TopicName, TopicPartition},
        partition::messages::{
            Append, AppendError, Appended, InvalidBatch, LastSequence, OfflineError, ProducerTail,
        },
    },
};
use flumen_runtime::{batch, ids::Offset};
use futures::lock::Mutex;

use super::{Client, ClientError, Place, Topic};

/// How often it is looked whether what was appended is safe.
const LOOK: Duration = Duration::from_millis(20);

/// See the module.
pub struct RemotePartition {
    shared: Rc<Shared>,
}

struct Shared {
    name: TopicPartition,
    taken: Rc<Cell<u64>>,
    /// Taken by one question after the other, in their order.
    link: Mutex<Link>,
}

struct Link {
    client: Client,
    topic: Topic,
}

impl RemotePartition {
    /// Partition `number` of `topic`, asked by `client`; `taken` counts the records that it takes.
    ///
    /// # Panics
    /// Where the topic's name is none, or the number negative: nodes tell no such topics.
    #[must_use]
    pub fn start(client: Client, topic: Topic, number: i32, taken: Rc<Cell<u64>>) -> Target {
        let name = TopicName::new(&topic.name).expect("it was told by a node");
        let number = u32::try_from(number).expect("it was told by a node");
        let name = TopicPartition { topic: name, partition: PartitionId(number) };
        let link = Mutex::new(Link { client, topic });
        let address = Self { shared: Rc::new(Shared { name, taken, link }) }.start();
        Target::new(address.clone().recipient(), address.recipient())
    }
}

impl Shared {
    fn number(&self) -> i32 {
        i32::try_from(self.name.partition.0).unwrap_or(i32::MAX)
    }

    /// A node that does not answer is to a sink what a partition is that does not serve.
    fn offline(&self, error: &ClientError) -> OfflineError {
        OfflineError {
            partition: self.name.clone(),
            reason: error.to_string(),
            remedy: "it is tried again".into(),
            is_passing: error.is_passing(),
        }
    }

    /// Appends each of `batches` when the one before is safe: a request has one.
    async fn append(&self, batches: &Bytes) -> Result<Appended, AppendError> {
        let mut link = self.link.lock().await;
        let mut appended = None;
        for batch in batch::split(batches) {
            let (header, bytes) =
                batch.map_err(|error| AppendError::Corrupt { at: 0, reason: error.to_string() })?;
            let Link { client, topic } = &mut *link;
            let told = client.append(topic, self.number(), batches.slice_ref(bytes)).await;
            let told = match told {
                Ok(told) => told,
                Err(error) => {
                    link.look_again().await;
                    return Err(self.offline(&error).into());
                }
            };
            self.taken.set(self.taken.get() + u64::from(header.record_count));
            let offset = |offset: i64| Offset(u64::try_from(offset).unwrap_or_default());
            let base = offset(told.base_offset);
            appended = Some(Appended {
                base_offset: base,
                last_offset: base.plus(header.last_offset_delta.into()),
                timestamp_ms: header.max_timestamp,
                is_append_time: told.log_append_time_ms >= 0,
                log_start: offset(told.log_start_offset),
                is_duplicate: false,
            });
        }
        appended.ok_or(AppendError::Invalid(InvalidBatch::Empty))
    }

    /// The last sequence that is there for good: what is not safe yet is waited for.
    async fn last_sequence(&self, producer: i64) -> Result<Option<i32>, ClientError> {
        let mut link = self.link.lock().await;
        let found = link.last_sequence(self.number(), producer).await;
        if found.is_err() {
            link.look_again().await;
        }
        found
    }
}

impl Link {
    async fn last_sequence(
        &mut self,
        number: i32,
        producer: i64,
    ) -> Result<Option<i32>, ClientError> {
        let Self { client, topic } = self;
        let Some(last) = client.last_sequence(topic, number, producer).await? else {
            return Ok(None);
        };
        let end = client.log_end(topic, number).await?;
        loop {
            let safe = client.offsets(topic, &[number], Place::Latest).await?;
            match safe.get(&number).copied() {
                Some(Ok(Some(safe))) if safe >= end => return Ok(Some(last)),
                Some(Err(code)) => {
                    let what = format!("the end of `{}-{number}`", topic.name);
                    return Err(ClientError::Refused { what, code, message: None });
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Another may lead by now.
    async fn look_again(&mut self) {
        if let Ok(Some(topic)) = self.client.topic(&self.topic.name, false).await {
            self.topic = topic;
        }
    }
}

impl Actor for RemotePartition {
    type Context = Context<Self>;
}

impl Handler<Append> for RemotePartition {
    type Result = ResponseFuture<Result<Appended, AppendError>>;

    fn handle(&mut self, append: Append, _: &mut Self::Context) -> Self::Result {
        let shared = self.shared.clone();
        let batches = append.batches.freeze();
        Box::pin(async move { shared.append(&batches).await })
    }
}

impl Handler<LastSequence> for RemotePartition {
    type Result = ResponseFuture<Result<Option<ProducerTail>, OfflineError>>;

    fn handle(&mut self, asked: LastSequence, _: &mut Self::Context) -> Self::Result {
        let shared = self.shared.clone();
        Box::pin(async move {
            let last = shared.last_sequence(asked.producer.0).await;
            let last = last.map_err(|error| shared.offline(&error))?;
            let tail = |last_sequence| ProducerTail { epoch: 0, last_sequence, last_offset: None };
            Ok(last.map(tail))
        })
    }
}
