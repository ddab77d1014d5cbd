//! Sends records in batches, each to the leader of its partition.
//!
//! With acks of all in sync it is idempotent, as Kafka's producers are: batches carry a producer's
//! number and a sequence, so one that is sent again after a broken connection is appended once.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use flumen_actors::gateway::{
    error_code::ErrorCode,
    messages::{
        init_producer_id::InitProducerIdRequest,
        produce::{
            PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
        },
    },
};
use flumen_runtime::batch::{self, BatchBuilder, BatchHeader, Compression, RecordRef};

use super::{Client, ClientError, Patience, Topic, is_passing};

/// Whose word is awaited before records count as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Of all in sync.
    All,
    /// Of the leader.
    Leader,
    /// Of nobody.
    None,
}

impl Acks {
    fn number(self) -> i16 {
        match self {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        }
    }
}

/// How long a node may take to append.
const WITHIN: Duration = Duration::from_secs(30);

/// A batch that waits to be sent.
#[derive(Debug)]
struct Batch {
    records: u64,
    bytes: Bytes,
}

/// The same batch, compressed.
fn compress(plain: Bytes, compression: Compression) -> Bytes {
    if compression == Compression::None {
        return plain;
    }
    let header = BatchHeader::parse(&plain).expect("it was built just now");
    let records = batch::records(&plain, &header).expect("it is plain");
    batch::recode(&header, &records, compression.into()).freeze()
}

impl Client {
    /// A number for an idempotent producer, and its epoch.
    ///
    /// # Errors
    /// [`ClientError`] where none is to be had.
    pub async fn new_producer(&mut self) -> Result<(i64, i16), ClientError> {
        let patience = Patience::default();
        loop {
            let told = self.ask(&InitProducerIdRequest::default()).await?;
            match super::check(told.error_code, None, || "no number for a producer".to_owned()) {
                Ok(()) => return Ok((told.producer_id, told.producer_epoch)),
                Err(error) => patience.with(error).await?,
            }
        }
    }

    /// Sends a batch as it is to a partition, once, and waits until all in sync have it.
    ///
    /// # Errors
    /// [`ClientError`], after which it may have been taken all the same.
    pub async fn append(
        &mut self,
        topic: &Topic,
        partition: i32,
        batch: Bytes,
    ) -> Result<PartitionProduceResponse, ClientError> {
        let leader = topic.partitions.get(&partition).and_then(|part| part.leader);
        let no_leader = || ClientError::NoLeader(format!("{}-{partition}", topic.name));
        let data = PartitionProduceData { index: partition, records: Some(batch) };
        let request = request(topic, Acks::All, vec![data]);
        let told = self.ask_node(leader.ok_or_else(no_leader)?, &request, WITHIN).await?;
        let told = told.responses.into_iter().flat_map(|topic| topic.partition_responses).next();
        let told = told.unwrap_or_default();
        verdict(topic, &told)?;
        Ok(told)
    }
}

fn request(topic: &Topic, acks: Acks, partition_data: Vec<PartitionProduceData>) -> ProduceRequest {
    let topic =
        TopicProduceData { name: topic.name.as_str().into(), topic_id: topic.id, partition_data };
    ProduceRequest {
        acks: acks.number(),
        timeout_ms: i32::try_from(WITHIN.as_millis()).unwrap_or(i32::MAX),
        topic_data: vec![topic],
        ..ProduceRequest::default()
    }
}

/// Whether a batch was taken.
fn verdict(topic: &Topic, part: &PartitionProduceResponse) -> Result<(), ClientError> {
    // It was taken the first time, and only the answer was lost.
    if part.error_code == ErrorCode::DuplicateSequenceNumber {
        return Ok(());
    }
    let message = part.record_errors.iter().find_map(|it| it.batch_index_error_message.clone());
    let message = message.or_else(|| part.error_message.clone());
    // What passes by itself is told in the words for that.
    let message = message.filter(|_| !is_passing(part.error_code));
    super::check(part.error_code, message.as_deref(), || {
        format!("cannot append to `{}-{}`", topic.name, part.index)
    })
}

/// See the module.
#[derive(Debug)]
pub struct Producer {
    topic: Topic,
    acks: Acks,
    compression: Compression,
    /// Number and epoch, where it is idempotent.
    identity: Option<(i64, i16)>,
    /// The next sequence number of each partition.
    sequences: BTreeMap<i32, i32>,
    open: BTreeMap<i32, BatchBuilder>,
    sent: u64,
}

impl Producer {
    /// A producer to `topic`.
    ///
    /// # Errors
    /// [`ClientError`] where no number is to be had for it.
    pub async fn new(client: &mut Client, topic: Topic, acks: Acks) -> Result<Self, ClientError> {
        let identity = match acks {
            Acks::All => Some(client.new_producer().await?),
            Acks::Leader | Acks::None => None,
        };
        let (sequences, open) = (BTreeMap::new(), BTreeMap::new());
        let compression = Compression::None;
        Ok(Self { topic, acks, compression, identity, sequences, open, sent: 0 })
    }

    /// The same, with batches compressed so.
    #[must_use]
    pub fn compressed(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Records that the node has taken, or that were sent where nobody's word is awaited.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Puts a record into the batch of `partition`; how many bytes that has now.
    pub fn push(&mut self, partition: i32, record: RecordRef<'_>) -> usize {
        let new = || BatchBuilder::new(record.timestamp);
        let batch = self.open.entry(partition).or_insert_with(new);
        batch.push(record);
        batch.bytes()
    }

    /// Sends all that was put into batches, and waits until it is taken.
    ///
    /// # Errors
    /// [`ClientError`] where a batch is refused, or cannot be sent for as long as patience lasts.
    pub async fn flush(&mut self, client: &mut Client) -> Result<(), ClientError> {
        let mut waiting = self.close();
        let patience = Patience::default();
        while !waiting.is_empty() {
            let Err(error) = self.send(client, &mut waiting).await else { continue };
            patience.with(error).await?;
            let name = self.topic.name.clone();
            match client.topic(&name, false).await {
                Ok(Some(topic)) => self.topic = topic,
                Ok(None) => {
                    let (what, code) = (format!("`{name}`"), ErrorCode::UnknownTopicOrPartition);
                    return Err(ClientError::Refused { what, code, message: None });
                }
                Err(error) => patience.with(error).await?,
            }
        }
        Ok(())
    }

    /// The batches, numbered and sealed: they are the same each time that they are sent.
    fn close(&mut self) -> BTreeMap<i32, Batch> {
        let mut closed = BTreeMap::new();
        for (partition, mut batch) in std::mem::take(&mut self.open) {
            let count = batch.count();
            if let Some((id, epoch)) = self.identity {
                let sequence = self.sequences.entry(partition).or_default();
                batch.set_producer(id, epoch, *sequence);
                *sequence = sequence.wrapping_add(count as i32) & i32::MAX;
            }
            let bytes = compress(batch.build().freeze(), self.compression);
            let batch = Batch { records: count.into(), bytes };
            closed.insert(partition, batch);
        }
        closed
    }

    /// Sends what waits to its leaders once, and takes out what was taken.
    async fn send(
        &mut self,
        client: &mut Client,
        waiting: &mut BTreeMap<i32, Batch>,
    ) -> Result<(), ClientError> {
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in waiting.keys() {
            let leader = self.topic.partitions.get(partition).and_then(|part| part.leader);
            let leader = leader
                .ok_or_else(|| ClientError::NoLeader(format!("{}-{partition}", self.topic.name)))?;
            by_leader.entry(leader).or_default().push(*partition);
        }
        // What was taken of an answer is counted, whatever became of the rest.
        let (mut passing, mut refused) = (None, None);
        for (leader, partitions) in by_leader {
            let request = self.request(&partitions, waiting);
            if self.acks == Acks::None {
                client.tell_node(leader, &request).await?;
                let told = partitions.iter().filter_map(|partition| waiting.remove(partition));
                self.sent += told.map(|batch| batch.records).sum::<u64>();
                continue;
            }
            let told = client.ask_node(leader, &request, WITHIN).await?;
            for part in told.responses.into_iter().flat_map(|topic| topic.partition_responses) {
                match verdict(&self.topic, &part) {
                    Ok(()) => {
                        let taken = waiting.remove(&part.index);
                        self.sent += taken.map_or(0, |batch| batch.records);
                    }
                    Err(error) if error.is_passing() => passing = Some(error),
                    Err(error) => drop(refused.get_or_insert(error)),
                }
            }
            if refused.is_some() {
                break;
            }
        }
        refused.or(passing).map_or(Ok(()), Err)
    }

    fn request(&self, partitions: &[i32], waiting: &BTreeMap<i32, Batch>) -> ProduceRequest {
        let data = partitions.iter().map(|partition| PartitionProduceData {
            index: *partition,
            records: waiting.get(partition).map(|batch| batch.bytes.clone()),
        });
        request(&self.topic, self.acks, data.collect())
    }
}
