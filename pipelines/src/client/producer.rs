//! Sends records in batches, each to the leader of its partition.
//!
//! With acks of all in sync it is idempotent, as Kafka's producers are: batches carry a producer's
//! number and a sequence, so one that is sent again after a broken connection is appended once.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

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

use super::{
    Client, ClientError, Patience, Topic, is_passing,
    limits::{Limits, PARTITION_OVERHEAD},
};

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

/// The same batch, compressed; but as it is where only so it is as small as it must be.
fn compress(plain: Bytes, compression: Compression, bytes_max: usize) -> Bytes {
    if compression == Compression::None {
        return plain;
    }
    let header = BatchHeader::parse(&plain).expect("it was built just now");
    let records = batch::records(&plain, &header).expect("it is plain");
    let compressed = batch::recode(&header, &records, compression.into()).freeze();
    if compressed.len() > bytes_max && plain.len() <= bytes_max { plain } else { compressed }
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
        let leader = topic.leader(partition)?;
        let data = PartitionProduceData { index: partition, records: Some(batch) };
        let request = request(topic, Acks::All, vec![data]);
        let told = self.ask_node(leader, &request, WITHIN).await?;
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
    limits: Limits,
    /// Batches of each partition, all but the last of them full.
    open: BTreeMap<i32, Vec<BatchBuilder>>,
    sent: u64,
}

/// Batches of each partition that wait, the one that is sent next in front.
type Waiting = BTreeMap<i32, VecDeque<Batch>>;

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
        let limits = client.limits(&topic.name).await;
        let (sequences, open) = (BTreeMap::new(), BTreeMap::new());
        let compression = Compression::None;
        Ok(Self { topic, acks, compression, identity, sequences, limits, open, sent: 0 })
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

    /// Puts a record into the batch of `partition`, or into a new one where it would make that larger
    /// than the topic takes; how many bytes its batches have now.
    ///
    /// # Errors
    /// [`ClientError::TooLarge`] where the record is, even alone.
    pub fn push(&mut self, partition: i32, record: RecordRef<'_>) -> Result<usize, ClientError> {
        let most = self.limits.batch.bytes;
        let has_room = |batch: &&mut BatchBuilder| batch.bytes_with(&record) <= most;
        let last = self.open.get_mut(&partition).and_then(|batches| batches.last_mut());
        if let Some(batch) = last.filter(has_room) {
            batch.push(record);
        } else {
            let alone = self.alone(record)?;
            self.open.entry(partition).or_default().push(alone);
        }
        let batches = self.open.get(&partition).into_iter().flatten();
        Ok(batches.map(BatchBuilder::bytes).sum())
    }

    /// A batch of one record, which is no larger than it may be once it is compressed.
    fn alone(&self, record: RecordRef<'_>) -> Result<BatchBuilder, ClientError> {
        let batch = |record: RecordRef<'_>| {
            let mut batch = BatchBuilder::new(record.timestamp);
            batch.push(record);
            batch
        };
        let (alone, limit) = (batch(record), self.limits.batch);
        if alone.bytes() > limit.bytes {
            let plain = batch(record).build().freeze();
            let bytes = compress(plain, self.compression, limit.bytes).len();
            if bytes > limit.bytes {
                return Err(limit.too_large(bytes));
            }
        }
        Ok(alone)
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
    fn close(&mut self) -> Waiting {
        let mut closed = Waiting::new();
        for (partition, batches) in std::mem::take(&mut self.open) {
            for mut batch in batches {
                let count = batch.count();
                if let Some((id, epoch)) = self.identity {
                    let sequence = self.sequences.entry(partition).or_default();
                    batch.set_producer(id, epoch, *sequence);
                    *sequence = sequence.wrapping_add(count as i32) & i32::MAX;
                }
                let plain = batch.build().freeze();
                let bytes = compress(plain, self.compression, self.limits.batch.bytes);
                let batch = Batch { records: count.into(), bytes };
                closed.entry(partition).or_default().push_back(batch);
            }
        }
        closed
    }

    /// The first batch of a partition was taken.
    fn taken(&mut self, partition: i32, waiting: &mut Waiting) {
        let Some(batches) = waiting.get_mut(&partition) else { return };
        self.sent += batches.pop_front().map_or(0, |batch| batch.records);
        if batches.is_empty() {
            waiting.remove(&partition);
        }
    }

    /// Sends the first that waits for each partition to its leader once, and takes out what was taken.
    async fn send(
        &mut self,
        client: &mut Client,
        waiting: &mut Waiting,
    ) -> Result<(), ClientError> {
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in waiting.keys() {
            by_leader.entry(self.topic.leader(*partition)?).or_default().push(*partition);
        }
        // What was taken of an answer is counted, whatever became of the rest.
        let (mut passing, mut refused) = (None, None);
        for (leader, partitions) in by_leader {
            let partitions = self.first_of(partitions, waiting);
            let request = self.request(&partitions, waiting);
            if self.acks == Acks::None {
                client.tell_node(leader, &request).await?;
                partitions.into_iter().for_each(|partition| self.taken(partition, waiting));
                continue;
            }
            let told = client.ask_node(leader, &request, WITHIN).await?;
            for part in told.responses.into_iter().flat_map(|topic| topic.partition_responses) {
                match verdict(&self.topic, &part) {
                    Ok(()) => self.taken(part.index, waiting),
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

    /// Those of `partitions` whose batches have room in one request: the others wait for the next.
    fn first_of(&self, mut partitions: Vec<i32>, waiting: &Waiting) -> Vec<i32> {
        let mut bytes = 0;
        let has_room = |number: &&i32| {
            let batch = waiting.get(*number).and_then(VecDeque::front);
            bytes += batch.map_or(0, |batch| batch.bytes.len() + PARTITION_OVERHEAD);
            bytes <= self.limits.request_bytes
        };
        let count = partitions.iter().take_while(has_room).count();
        partitions.truncate(count.max(1));
        partitions
    }

    fn request(&self, partitions: &[i32], waiting: &Waiting) -> ProduceRequest {
        let first = |partition| waiting.get(partition).and_then(VecDeque::front);
        let data = partitions.iter().map(|partition| PartitionProduceData {
            index: *partition,
            records: first(partition).map(|batch| batch.bytes.clone()),
        });
        request(&self.topic, self.acks, data.collect())
    }
}
