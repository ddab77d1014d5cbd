//! An outlet that appends to a topic, each result once.
//!
//! For each partition that the stage reads, its results have a producer id of their own, made of the
//! stage's name and the partition, and a sequence number in each partition they go to. The numbers
//! at the committed position are committed with it. A stage that begins again counts on from there,
//! asks each partition for the last number that it has, and leaves out what is there already; so it
//! does not matter how results were put into batches before.
//!
//! Which partition a result goes to depends on its key, or without one on the offset of the record
//! that it came from, and on how many partitions there were when the stage began to write: that
//! number is committed too.

use std::{collections::BTreeMap, sync::Arc};

use bytes::BytesMut;
use flumen_actors::broker::{
    Broker,
    names::{PartitionId, ProducerId, TopicName, TopicPartition},
    partition::messages::{Append, LastSequence},
};
use flumen_runtime::{
    batch::{BatchBuilder, RecordRef, RecordView},
    codec::crc32c,
    ids::Offset,
    rng::Rng,
};
use futures::{FutureExt as _, future::LocalBoxFuture};
use serde::{Deserialize, Serialize};

use super::{
    Item, Operators, asking,
    outlet::{Begin, Outlet, StageError, State},
};
use crate::typed::{Format, TYPE_HEADER, ValueError};

/// Bytes at which a batch is closed.
const BATCH_BYTES: usize = 256 << 10;

/// What is committed with the position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Partitions that results are spread over.
    over: u32,
    /// Next sequence number in each partition that has any.
    next: BTreeMap<u32, i32>,
}

/// Results on their way to one partition.
#[derive(Default)]
struct Lane {
    next: i32,
    /// Results that are there already.
    skip: u32,
    building: Option<BatchBuilder>,
    closed: Vec<BytesMut>,
}

struct Source {
    producer: ProducerId,
    over: u32,
    lanes: BTreeMap<u32, Lane>,
}

type Encode<T> = Arc<dyn Fn(&T, &mut Vec<u8>) -> Result<(), ValueError> + Send + Sync>;

/// See the module.
pub struct ToTopic<T> {
    stage: String,
    operators: Operators<T>,
    encode: Encode<T>,
    type_header: Option<String>,
    broker: Broker,
    topic: TopicName,
    sources: BTreeMap<TopicPartition, Source>,
    value: Vec<u8>,
}

impl<T: 'static> ToTopic<T> {
    /// Appends the results of `operators` to `topic`, in `format`; `stage` is its lasting name.
    #[must_use]
    pub fn new(
        stage: &str,
        operators: Operators<T>,
        format: impl Format<T> + Send + Sync,
        broker: Broker,
        topic: TopicName,
    ) -> Self {
        let type_header = format.type_header();
        let encode: Encode<T> = Arc::new(move |value, to| format.write(value, to));
        let (stage, sources, value) = (stage.to_owned(), BTreeMap::new(), Vec::new());
        Self { stage, operators, encode, type_header, broker, topic, sources, value }
    }

    fn refused(&self, reason: impl ToString) -> StageError {
        StageError::refused(&self.topic, reason)
    }

    fn target(&self, partition: u32) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: PartitionId(partition) }
    }

    /// How many partitions the topic has.
    fn partitions(&self) -> Result<u32, StageError> {
        let topics = self.broker.topics();
        let topic =
            topics.get(&self.topic).ok_or_else(|| self.refused("there is no such topic"))?;
        Ok(topic.partitions.len() as u32)
    }

    /// The producer of what comes from `partition`: the same in each life of the stage.
    fn producer(&self, partition: &TopicPartition) -> Result<ProducerId, StageError> {
        let topics = self.broker.topics();
        let topic =
            topics.get(&partition.topic).ok_or_else(|| self.refused("its input is gone"))?;
        let (high, low) = topic.id.as_u64_pair();
        let name = format!("{}/{}", self.stage, partition.partition);
        Ok(ProducerId::owned_by(Rng::seeded(high ^ low.rotate_left(32)).split(&name).uuid()))
    }

    /// The last sequence number of `producer` in a partition of the topic.
    async fn last_sequence(
        &self,
        producer: ProducerId,
        partition: u32,
    ) -> Result<Option<i32>, StageError> {
        let target = self.target(partition);
        let address = self
            .broker
            .partition(&target)
            .ok_or_else(|| self.refused(format!("{target} is gone")))?;
        let tail = address.send(LastSequence { producer }).await;
        let tail = tail.map_err(|_| self.refused("its actor stopped"))?;
        let tail = tail.map_err(|error| self.refused(error))?;
        Ok(tail.map(|tail| tail.last_sequence))
    }

    async fn append(&self, partition: u32, batches: &[BytesMut]) -> Result<(), StageError> {
        let make = || Append::new(batches.concat().as_slice().into());
        asking::append(&self.broker, &self.target(partition), make).await.map(drop)
    }
}

/// The sequence number after `sequence`; after the largest comes 0.
fn after(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

/// How many numbers lie from `next` to `last`, both included; `last` may be the one before `next`. None
/// where it is an earlier one: numbers turn around, and what looks like half of them or more is behind.
fn already_there(next: i32, last: Option<i32>) -> Option<u32> {
    let ahead = last.map_or(0, |last| after(last).wrapping_sub(next) & i32::MAX);
    (ahead <= i32::MAX / 2).then_some(ahead as u32)
}

fn route<T>(item: &Item<T>, offset: Offset, over: u32) -> u32 {
    match &item.key {
        Some(key) => crc32c(&[key]) % over,
        None => (offset.0 % u64::from(over)) as u32,
    }
}

impl Lane {
    fn close(&mut self) {
        self.closed.extend(self.building.take().map(BatchBuilder::build));
    }

    fn push(&mut self, producer: ProducerId, record: RecordRef<'_>) {
        let sequence = self.next;
        self.next = after(sequence);
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        let building = self.building.get_or_insert_with(|| {
            BatchBuilder::new(record.timestamp).producer(producer.0, 0, sequence)
        });
        building.push(record);
        if building.bytes() >= BATCH_BYTES {
            self.close();
        }
    }
}

impl<T: 'static> Outlet for ToTopic<T> {
    /// The numbers of results are those of the records that they came from, and must not outlast them.
    fn takes_durable_only(&self) -> bool {
        true
    }

    fn begin<'a>(
        &'a mut self,
        partition: &'a TopicPartition,
        Begin { position, state, is_cut }: Begin<'a>,
    ) -> LocalBoxFuture<'a, Result<Offset, StageError>> {
        async move {
            let kept = match state.filter(|state| !state.is_empty()) {
                None => Kept { over: self.partitions()?, next: BTreeMap::new() },
                Some(state) => serde_json::from_str(state).map_err(|error| StageError::State {
                    partition: partition.clone(),
                    reason: error.to_string(),
                })?,
            };
            let producer = self.producer(partition)?;
            let mut lanes = BTreeMap::new();
            for target in 0..kept.over {
                let next = kept.next.get(&target).copied().unwrap_or(0);
                let last = self.last_sequence(producer, target).await?;
                let skip = already_there(next, last).ok_or_else(|| StageError::State {
                    partition: partition.clone(),
                    reason: format!(
                        "{next} is the next number of its results in `{}`, which has lost those that were committed and has them up to {} only",
                        self.target(target),
                        last.unwrap_or(-1),
                    ),
                })?;
                // What is there of lost records is not of those in their place.
                let (next, skip) =
                    if is_cut { (last.map_or(0, after), 0) } else { (next, skip) };
                lanes.insert(target, Lane { next, skip, ..Lane::default() });
            }
            self.sources.insert(partition.clone(), Source { producer, over: kept.over, lanes });
            Ok(position)
        }
        .boxed_local()
    }

    fn take(
        &mut self,
        partition: &TopicPartition,
        record: &RecordView<'_>,
    ) -> Result<usize, StageError> {
        let Self { sources, operators, encode, type_header, value, .. } = self;
        let Some(Source { producer, over, lanes }) = sources.get_mut(partition) else {
            return Ok(0);
        };
        let mut failed = None;
        let header = type_header.as_ref().map(|name| (TYPE_HEADER, Some(name.as_bytes())));
        let taken = operators.run(record, &mut |item| {
            value.clear();
            if let Err(error) = encode(&item.value, value) {
                failed.get_or_insert(error);
                return;
            }
            let lane = lanes.entry(route(&item, record.offset, *over)).or_default();
            let record = RecordRef {
                timestamp: item.timestamp,
                key: item.key.as_deref(),
                value: Some(value),
                headers: header.as_slice(),
            };
            lane.push(*producer, record);
        });
        match taken.err().or(failed) {
            None => Ok(0),
            Some(error) => Err(StageError::Value {
                partition: partition.clone(),
                offset: record.offset,
                error,
            }),
        }
    }

    fn finish<'a>(
        &'a mut self,
        partition: &'a TopicPartition,
        _: Offset,
    ) -> LocalBoxFuture<'a, Result<State, StageError>> {
        async move {
            let Some(mut source) = self.sources.remove(partition) else {
                return Err(self.refused("the partition is not this stage's"));
            };
            for (target, lane) in &mut source.lanes {
                lane.close();
                let closed = std::mem::take(&mut lane.closed);
                // No more at once than a partition takes in one request, and in order.
                for batches in closed.chunks(4) {
                    self.append(*target, batches).await?;
                }
            }
            let next = source.lanes.iter().filter(|(_, lane)| lane.next != 0);
            let next = next.map(|(target, lane)| (*target, lane.next)).collect();
            let kept = Kept { over: source.over, next };
            self.sources.insert(partition.clone(), source);
            Ok(serde_json::to_string(&kept).expect("numbers are JSON"))
        }
        .boxed_local()
    }

    fn end(&mut self, partition: &TopicPartition) {
        self.sources.remove(partition);
    }
}

#[cfg(test)]
mod tests {
    use flumen_actors::broker::TopicSpec;

    use super::*;
    use crate::{
        stream::testing::{on_a_node, partition},
        typed::Raw,
    };

    #[test]
    fn what_is_there_already_is_counted_from_the_committed_number() {
        assert_eq!(already_there(0, None), Some(0));
        assert_eq!(already_there(5, Some(4)), Some(0));
        assert_eq!(already_there(5, Some(7)), Some(3));
        assert_eq!(already_there(i32::MAX, Some(1)), Some(3), "numbers go on at 0");
        assert_eq!(already_there(0, Some(i32::MAX)), Some(0));
        assert_eq!(already_there(5, Some(2)), None, "3 and 4 are lost");
        assert_eq!(already_there(1, Some(i32::MAX - 1)), None, "the largest and 0 are lost");
    }

    #[test]
    fn a_topic_that_has_lost_committed_results_is_refused_and_one_read_anew_is_filled_up() {
        on_a_node(async |node| {
            let topic = TopicName::new("out").unwrap();
            node.broker().create_topic(TopicSpec::new("out", 1).unwrap()).await.unwrap();
            let (input, broker) = (partition("t", 0), node.broker().clone());
            let operators = Operators::read(Raw);
            let mut outlet = ToTopic::new("p/s", operators, Raw, broker.clone(), topic.clone());
            let producer = outlet.producer(&input).unwrap();
            let mut batch = BatchBuilder::new(0).producer(producer.0, 0, 0);
            (0..3).for_each(|_| batch.push(RecordRef::default()));
            let batch = batch.build();
            let target = outlet.target(0);
            asking::append(&broker, &target, || Append::new(batch.clone())).await.unwrap();
            let mut begin = async |next: i32| {
                let state = format!(r#"{{"over":1,"next":{{"0":{next}}}}}"#);
                outlet.begin(&input, Begin { state: Some(&state), ..Begin::at(Offset(9)) }).await?;
                Ok::<_, StageError>(outlet.sources[&input].lanes[&0].skip)
            };
            let lost = begin(5).await.unwrap_err();
            assert!(matches!(lost, StageError::State { .. }), "{lost}");
            assert!(lost.to_string().contains("up to 2 only"), "{lost}");
            assert_eq!(begin(3).await, Ok(0));
            assert_eq!(begin(0).await, Ok(3));
            let state = Some(r#"{"over":1,"next":{"0":1}}"#);
            let cut = Begin { state, is_cut: true, ..Begin::at(Offset(9)) };
            outlet.begin(&input, cut).await.unwrap();
            let lane = &outlet.sources[&input].lanes[&0];
            assert_eq!((lane.next, lane.skip), (3, 0), "1 and 2 are of lost records");
        });
    }

    #[test]
    fn a_key_always_goes_to_the_same_partition() {
        let item = |key: Option<&'static [u8]>| Item {
            key: key.map(bytes::Bytes::from_static),
            timestamp: 0,
            value: (),
        };
        let of_key = route(&item(Some(b"k")), Offset(1), 7);
        assert_eq!(of_key, route(&item(Some(b"k")), Offset(2), 7));
        assert_eq!(route(&item(None), Offset(9), 7), 2);
    }
}
