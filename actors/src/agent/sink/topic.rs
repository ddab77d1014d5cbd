//! `topic`: delivers events into the partitions of a topic, each once.
//!
//! ```text
//!   channel's offsets:  head ─────────────────────────────► taken
//!     routed by key or by offset, always the same way
//!       partition 0:    counts[0] ── sequence, sequence + 1, …     what the partition has
//!       partition 1:    counts[1] ── …                             already is skipped
//! ```
//!
//! An idempotent producer that belongs to the channel: its id is drawn once and kept with the head,
//! and so is, for each partition, how many events were routed to it up to the head. An event's
//! sequence is that count: it depends on the channel's offsets only, not on how takes or batches
//! were cut. After a restart the sink asks each partition for the last sequence that it committed,
//! and sends what comes after. No transaction, no loss and no repeat, whoever was killed.
//!
//! The number of partitions is fixed with the first event: routing must never change. Partitions
//! that the topic gets later are used by other producers.
//!
//! # Invariants
//! - TSK-1: an event is sent with the sequence that its place in the channel gives it.
//! - TSK-2: the channel's head passes an event only when its partition has it durably.
//!
//! A record from the future is given the time of its delivery: the topic would refuse it, and after
//! somebody has set the clock back the channel would stand still until that time comes (found by the
//! simulation).
//!
//! Over a memory channel, whose offsets mean something else in each life, the producer is a new one
//! in each life of the channel: at least once.

mod routing;

pub use self::routing::partition_of_key;

use std::sync::Arc;

use actix::{Addr, Recipient};
use bytes::{Bytes, BytesMut};
use flumen_runtime::{batch::BatchBuilder, clock::Clock, codec, failpoint, placement::Local};
use futures::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};

use self::routing::partition_of;
use crate::{
    agent::{
        channel::{SinkAttached, TakenEvent, durable::record},
        event::Text,
        sink::{DeliverError, Delivered, Delivery},
    },
    broker::{
        names::{Acks, ProducerId},
        partition::{
            Partition,
            messages::{Append, LastSequence},
        },
    },
};

/// Sequences begin again at 0 after this many, as Kafka's do.
const SEQUENCES: u64 = 1 << 31;
const STATE_KIND: [u8; 4] = *b"FLTS";
const STATE_VERSION: u16 = 1;

/// One partition, as the sink knows it.
#[derive(Clone)]
pub struct Target {
    append: Recipient<Append>,
    last_sequence: Recipient<LastSequence>,
}

impl Target {
    /// One that is reached in another way than by its actor.
    #[must_use]
    pub fn new(append: Recipient<Append>, last_sequence: Recipient<LastSequence>) -> Self {
        Self { append, last_sequence }
    }
}

impl From<&Addr<Partition>> for Target {
    fn from(partition: &Addr<Partition>) -> Self {
        Self { append: partition.clone().recipient(), last_sequence: partition.clone().recipient() }
    }
}

/// Where and how to deliver.
#[derive(Clone)]
pub struct TopicSinkOptions {
    /// The topic, for messages.
    pub topic: Text,
    /// Its partitions, in order.
    pub targets: Vec<Target>,
    /// Header whose value is the record's key, which decides its partition. Kafka's own clients
    /// route the same key to the same partition.
    pub key_header: Text,
    /// Header whose value, a number, is the record's timestamp; where it is missing, that is when
    /// the event was put into the channel. Never later than the delivery.
    pub timestamp_header: Text,
    /// Bytes after which a batch ends; a single event may be larger. At most the topic's
    /// `max.message.bytes`.
    pub batch_bytes_max: usize,
    /// When an append counts.
    pub acks: Acks,
    /// The id of the producer, where the channel keeps none yet; none: one that belongs to the channel,
    /// and that partitions of this node never forget.
    pub producer: Option<ProducerId>,
}

impl TopicSinkOptions {
    /// Delivers to `partitions` of `topic`; key and time from the headers `key` and `timestamp`.
    #[must_use]
    pub fn new(topic: impl Into<Text>, partitions: &[Addr<Partition>]) -> Self {
        Self {
            topic: topic.into(),
            targets: partitions.iter().map(Target::from).collect(),
            key_header: "key".into(),
            timestamp_header: "timestamp".into(),
            batch_bytes_max: 512 << 10,
            acks: Acks::InSync,
            producer: None,
        }
    }
}

/// What the channel keeps of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    producer: ProducerId,
    /// For each partition, events that were routed to it below the head.
    counts: Vec<u64>,
}

impl Kept {
    fn encode(&self) -> Bytes {
        codec::seal(STATE_KIND, STATE_VERSION, self).expect("numbers are encodable")
    }
}

/// The sink.
pub struct TopicSink {
    options: TopicSinkOptions,
    clock: Option<Arc<dyn Clock>>,
    kept: Option<Kept>,
    /// For each partition, how many of its next events it has already.
    known: Vec<u64>,
    skipped: u64,
}

impl TopicSink {
    /// One life of the sink.
    #[must_use]
    pub fn new(options: TopicSinkOptions) -> Self {
        Self { options, clock: None, kept: None, known: Vec::new(), skipped: 0 }
    }

    fn failed(&self, why: impl std::fmt::Display) -> DeliverError {
        DeliverError(format!("topic `{}`: {why}", self.options.topic))
    }

    /// What the channel keeps, checked against the topic; made now where it keeps nothing.
    fn restore(&self, attached: &SinkAttached, local: &Local) -> Result<Kept, DeliverError> {
        let Some(bytes) = &attached.sink_state else {
            let owned = ProducerId::owned_by(local.rng("topic sink").uuid());
            let producer = match self.options.producer {
                Some(given) => given,
                None if attached.is_durable => owned,
                // That of a channel in memory is given up with it, so it must be one that expires.
                None => expiring(owned),
            };
            return Ok(Kept { producer, counts: vec![0; self.options.targets.len()] });
        };
        let kept: Kept = codec::unseal(STATE_KIND, STATE_VERSION, bytes)
            .map_err(|error| self.failed(format!("what the channel keeps of it {error}")))?;
        let (then, now) = (kept.counts.len(), self.options.targets.len());
        if now < then {
            return Err(self.failed(format!(
                "it has {now} partitions, and the channel has delivered to {then}: let it have as \
                 many, or drain the channel into the old topic first"
            )));
        }
        Ok(kept)
    }

    /// How many events after the head each partition has already.
    async fn ask(&self, kept: &Kept) -> Result<Vec<u64>, DeliverError> {
        let asked = kept.counts.iter().zip(&self.options.targets).enumerate();
        let answers = asked.map(|(partition, (count, target))| async move {
            let producer = kept.producer;
            let tail = target.last_sequence.send(LastSequence { producer }).await;
            let tail = tail.map_err(|error| self.failed(error))?;
            let tail = tail.map_err(|error| self.failed(error))?;
            let next = tail.map_or(-1, |tail| tail.last_sequence);
            // Nothing known of the producer: nothing of it is there.
            let Ok(next) = u64::try_from(next) else { return Ok(0) };
            let ahead = (next + 1 + SEQUENCES - count % SEQUENCES) % SEQUENCES;
            if ahead > SEQUENCES / 2 {
                return Err(self.failed(format!(
                    "partition {partition} has lost records that the channel had delivered: \
                     restore it, or move the channel's directory away to begin anew"
                )));
            }
            Ok(ahead)
        });
        try_join_all(answers).await
    }

    async fn append(&self, target: &Target, mut batches: Batches) -> Result<(), DeliverError> {
        batches.end();
        if batches.ended.is_empty() {
            return Ok(());
        }
        let append = Append::new(batches.ended).acks(self.options.acks);
        let appended = target.append.send(append).await.map_err(|error| self.failed(error))?;
        appended.map(drop).map_err(|error| self.failed(error))
    }

    /// The batches for each partition, and the counts after them.
    fn route(&mut self, events: &[TakenEvent]) -> Vec<Batches> {
        let kept = self.kept.as_mut().expect("the sink resumed before it delivers");
        let count = kept.counts.len();
        let now_ms = self.clock.as_ref().expect("the sink resumed before it delivers").now_ms();
        let mut batches: Vec<Batches> = (0..count).map(|_| Batches::default()).collect();
        for TakenEvent { offset, put_ms, event } in events {
            let key = event.headers.get(&self.options.key_header).map(|key| key.as_bytes());
            let to = partition_of(key, *offset, count);
            let sequence = kept.counts[to];
            kept.counts[to] += 1;
            if self.known[to] > 0 {
                self.known[to] -= 1;
                self.skipped += 1;
                continue;
            }
            let time = event.headers.get(&self.options.timestamp_header);
            let time = time.and_then(|time| time.parse().ok()).unwrap_or(*put_ms).min(now_ms);
            let batches = &mut batches[to];
            if batches.is_full(event.cost(), self.options.batch_bytes_max) {
                batches.end();
            }
            let builder = batches.builder(time, kept.producer, sequence);
            record::push(builder, event, key, time);
        }
        batches
    }
}

/// An id of the range that the broker gives out, but far beyond what it will ever reach.
fn expiring(owned: ProducerId) -> ProducerId {
    const HALF: i64 = 1 << 61;
    ProducerId((owned.0 & (HALF - 1)) | HALF)
}

/// The batches for one partition.
#[derive(Default)]
struct Batches {
    ended: BytesMut,
    open: Option<BatchBuilder>,
    /// The sequence that the next event must have (TSK-1).
    next: Option<u64>,
}

impl Batches {
    fn is_full(&self, more: usize, bytes_max: usize) -> bool {
        self.open.as_ref().is_some_and(|open| open.bytes() + more > bytes_max)
    }

    fn builder(&mut self, time: i64, producer: ProducerId, sequence: u64) -> &mut BatchBuilder {
        let expected = self.next.replace(sequence + 1);
        assert!(expected.is_none_or(|next| next == sequence), "TSK-1: {sequence} is out of order");
        self.open.get_or_insert_with(|| {
            let sequence = i32::try_from(sequence % SEQUENCES).expect("below 2^31");
            BatchBuilder::new(time).producer(producer.0, 0, sequence)
        })
    }

    fn end(&mut self) {
        if let Some(open) = self.open.take() {
            let batch = open.build();
            match self.ended.is_empty() {
                true => self.ended = batch,
                false => self.ended.extend_from_slice(&batch),
            }
        }
    }
}

impl Delivery for TopicSink {
    async fn resume(
        &mut self,
        attached: &SinkAttached,
        local: &Local,
    ) -> Result<Option<Bytes>, DeliverError> {
        if self.options.targets.is_empty() {
            return Err(self.failed("it has no partitions"));
        }
        let kept = self.restore(attached, local)?;
        self.known = self.ask(&kept).await?;
        let is_new = attached.sink_state.is_none();
        let keep = is_new.then(|| kept.encode());
        self.kept = Some(kept);
        self.clock = Some(local.clock().clone());
        Ok(keep)
    }

    async fn deliver(&mut self, events: Vec<TakenEvent>) -> Result<Delivered, DeliverError> {
        let batches = self.route(&events);
        let targets = batches.into_iter().zip(&self.options.targets);
        let appends = targets.map(|(batches, target)| self.append(target, batches));
        // All of them, even where one fails: none may be on its way when the sink asks again.
        let done: Result<Vec<()>, DeliverError> = join_all(appends).await.into_iter().collect();
        done?;
        failpoint::pass("topic sink: appended");
        let kept = self.kept.as_ref().map(Kept::encode);
        Ok(Delivered::All(kept.filter(|_| !events.is_empty())))
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("skipped", self.skipped)]
    }
}

#[cfg(test)]
mod tests {
    use flumen_runtime::{batch, clock::ManualClock, ids::Offset};
    use uuid::Uuid;

    use super::*;
    use crate::agent::event::Event;

    #[test]
    fn a_record_is_of_its_event_s_time_but_never_of_a_time_to_come() {
        let now_ms = 10_000;
        let mut sink = TopicSink::new(TopicSinkOptions::new("t", &[]));
        sink.clock = Some(Arc::new(ManualClock::at(now_ms)));
        sink.kept = Some(Kept { producer: ProducerId::owned_by(Uuid::nil()), counts: vec![0] });
        sink.known = vec![0];
        let event = |offset, put_ms, time: Option<&str>| {
            let mut event = Event::new(&b"x"[..]);
            if let Some(time) = time {
                event.headers.insert("timestamp", time);
            }
            TakenEvent { offset: Offset(offset), put_ms, event }
        };
        let day_ms = 86_400_000;
        let events = [
            event(0, 9_000, None),
            // Put before somebody set the clock back by a day.
            event(1, now_ms + day_ms, None),
            event(2, 9_000, Some("400")),
            event(3, 9_000, Some("99000")),
        ];
        let mut batches = sink.route(&events).remove(0);
        batches.end();
        let bytes = batches.ended.freeze();
        let (header, _) = batch::split(&bytes).next().unwrap().unwrap();
        let records = batch::records(&bytes, &header).unwrap();
        let times: Vec<i64> = records.map(|record| record.unwrap().timestamp).collect();
        assert_eq!(times, [9_000, now_ms, 400, now_ms]);
        assert_eq!(header.max_timestamp, now_ms);
    }
}
