//! What a stage has summed of a partition that it reads, and how far it has read: a log, from which both
//! are had again.
//!
//! ```text
//!   open:    read all ──► sums, position             append:  changed sums + position, one batch,
//!                                                             only if the log still ends where we left it
//! ```
//!
//! It is a compacted topic, called `<pipeline>-<stage>-changelog`, with a partition for each of the topic
//! that the stage reads. A batch is there or is not: sums and position cannot part, and compaction
//! keeps the last of each. Of two members that have read it the first to append goes on; the other is
//! refused, and begins anew. Each life is a producer of its own: a batch that had landed when it comes
//! again is known for it.

use std::{fmt::Display, time::Duration};

use flumen_actors::broker::{
    Broker, TopicError, TopicSpec,
    names::{ProducerId, TopicName, TopicPartition},
    partition::{
        messages::{Append, Fetch, FetchError, Fetched},
        producers::sequence_after,
    },
};
use flumen_runtime::{
    batch::{self, BatchBuilder, RecordRef, RecordView},
    ids::Offset,
};
use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;

use super::{asking, fold::Counts, outlet::StageError, reading::each_record};

/// Key of the record that tells the position; those of sums begin otherwise.
const POSITION: &[u8] = b"position";
/// Begins the key of a sum.
const ENTRY: &[u8] = b"entry/";
/// Most bytes that a record takes beside its name.
const ENTRY_BYTES_MAX: usize = 48;
/// What it relies on: an old record is the last of its key, however old, and has the time at which it was
/// appended; what is kept is on the disk; and all that changes in one step is one batch.
const NEEDED: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("message.timestamp.type", "LogAppendTime"),
    ("flush.messages", "1"),
    (BATCH_BYTES, "67108864"),
];
/// Of this setting more does, too.
const BATCH_BYTES: &str = "max.message.bytes";
/// How a topic is made beyond that: a segment that is written to is not compacted, and all of it is read at
/// the next start.
const CHOSEN: [(&str, &str); 1] = [("segment.bytes", "67108864")];
/// How long it waits for what is written and not safe yet.
const WAIT: Duration = Duration::from_secs(1);
/// Bytes at which a batch that takes sums back is closed.
const FORGET_BYTES: usize = 1 << 20;

/// How far a stage has read, as its record tells.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// Which stage, so that no two take each other's for their own.
    stage: String,
    /// Id of the topic that it reads: one made anew under the name has other records.
    topic_id: Uuid,
    /// The next offset to be read.
    next: Offset,
}

/// What was kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) sums: Counts,
    /// The next offset to be read; none where nothing was.
    pub(super) next: Option<Offset>,
}

/// See the module.
pub(super) struct Changelog {
    broker: Broker,
    at: TopicPartition,
    stage: String,
    input: TopicName,
    /// Of the topic that is read.
    topic_id: Uuid,
    /// Where it ended when it was read, and after each append.
    end: Offset,
    /// As whom it appends in this life, and the number of the next record.
    producer: ProducerId,
    sequence: i32,
}

/// The topic in which the stage `<pipeline>/<stage>` keeps its sums; long, it may be no topic's name.
pub(crate) fn name(stage: &str) -> String {
    format!("{}-changelog", stage.replace('/', "-"))
}

/// At most so many bytes a batch takes for the sum of `name`.
pub(super) fn entry_bytes(name: &str) -> usize {
    name.len() + ENTRY_BYTES_MAX
}

impl Changelog {
    /// What `stage`, called `<pipeline>/<stage>`, keeps of `input` in `topic`, which is made where there
    /// is none.
    ///
    /// # Errors
    /// [`StageError`].
    pub(super) async fn open(
        broker: &Broker,
        stage: &str,
        topic: &TopicName,
        input: &TopicPartition,
    ) -> Result<(Changelog, Kept), StageError> {
        let read = broker.topics().get(&input.topic).cloned();
        let read =
            read.ok_or_else(|| StageError::refused(&input.topic, "there is no such topic"))?;
        make(broker, topic, read.partitions.len() as u32).await?;
        let producer = broker.new_producer_id().await;
        let producer = producer.map_err(|error| StageError::refused(topic, error))?;
        let mut log = Changelog {
            broker: broker.clone(),
            at: TopicPartition { topic: topic.clone(), partition: input.partition },
            stage: stage.to_owned(),
            input: input.topic.clone(),
            topic_id: read.id,
            end: Offset::ZERO,
            producer,
            sequence: 0,
        };
        let (sums, position) = log.read().await?;
        let Some(position) = position else { return Ok((log, Kept { sums, next: None })) };
        if position.stage != stage {
            return Err(log.unusable(format!("it is of the stage `{}`", position.stage)));
        }
        if position.topic_id == read.id {
            return Ok((log, Kept { sums, next: Some(position.next) }));
        }
        if let Some(other) = broker.topics().by_id(position.topic_id) {
            let (other, input) = (&other.name, &input.topic);
            return Err(log.unusable(format!("it is of the topic `{other}`, and not of `{input}`")));
        }
        // The topic was deleted, and made anew.
        let (was, is, end, count) = (position.topic_id, read.id, position.next, sums.len());
        warn!(stage, partition = %input, %was, %is, %end, count, "the topic was made anew: its sums begin anew");
        log.forget(&sums).await?;
        Ok((log, Kept::default()))
    }

    /// Reads all of it.
    async fn read(&mut self) -> Result<(Counts, Option<Position>), StageError> {
        let (mut kept, mut wait) = ((Counts::new(), None), Duration::ZERO);
        loop {
            let (from, at) = (self.end, self.at.clone());
            let fetch = || Fetch::from(from).wait(wait);
            let fetched = asking::ask(&self.broker, &at, fetch, asking::is_passing).await?;
            let Fetched { batches, marks, .. } = match fetched {
                Ok(fetched) => fetched,
                Err(FetchError::OutOfRange { log_start, .. }) if log_start > from => {
                    return Err(self.trimmed(log_start));
                }
                Err(FetchError::Unreadable { offset, reason }) => {
                    return Err(StageError::Unreadable { partition: at, offset, reason });
                }
                Err(error) => return Err(StageError::refused(&at.topic, error)),
            };
            if marks.log_start > Offset::ZERO {
                return Err(self.trimmed(marks.log_start));
            }
            if let Some(last) = batches.last() {
                let next = batch::end_of(last).filter(|next| *next > from);
                let next = next.ok_or_else(|| StageError::Unreadable {
                    partition: at.clone(),
                    offset: from,
                    reason: "it gives no whole batch".to_owned(),
                })?;
                for bytes in &batches {
                    let replay = async |record: &RecordView<'_>| {
                        let offset = record.offset;
                        let replayed = replay(record, &mut kept);
                        replayed.map_err(|why| self.unusable(format!("at offset {offset}, {why}")))
                    };
                    each_record(&at, bytes, from..next, replay).await?;
                }
                self.end = next;
            }
            if self.end >= marks.log_end {
                return Ok(kept);
            }
            wait = if self.end >= marks.high_watermark { WAIT } else { Duration::ZERO };
        }
    }

    /// Keeps `changed` sums, and with them that all below `next` is read.
    ///
    /// # Errors
    /// [`StageError::Refused`], also where another has appended since this was opened.
    pub(super) async fn append(
        &mut self,
        next: Offset,
        changed: &Counts,
    ) -> Result<(), StageError> {
        let (stage, topic_id) = (self.stage.clone(), self.topic_id);
        if self.broker.topics().get(&self.input).is_none_or(|topic| topic.id != topic_id) {
            return Err(StageError::refused(
                &self.input,
                "it is another than the one that was read",
            ));
        }
        let position = Position { stage, topic_id, next };
        let position = serde_json::to_vec(&position).expect("names and numbers are JSON");
        let bytes_max = changed.keys().map(|name| entry_bytes(name)).sum::<usize>();
        let mut batch = BatchBuilder::with_capacity(0, bytes_max + 1024);
        let mut key = ENTRY.to_vec();
        for (name, sum) in changed {
            push(&mut batch, entry_key(&mut key, name), Some(sum.to_string().as_bytes()));
        }
        push(&mut batch, POSITION, Some(&position));
        self.append_batch(batch).await
    }

    /// Takes all of it back; the position last, since until then it is told by it that it is of no use.
    async fn forget(&mut self, sums: &Counts) -> Result<(), StageError> {
        let mut key = ENTRY.to_vec();
        let mut batch = BatchBuilder::new(0);
        for name in sums.keys() {
            push(&mut batch, entry_key(&mut key, name), None);
            if batch.bytes() >= FORGET_BYTES {
                let whole = std::mem::replace(&mut batch, BatchBuilder::new(0));
                self.append_batch(whole).await?;
            }
        }
        push(&mut batch, POSITION, None);
        self.append_batch(batch).await
    }

    /// Appends `batch`, once: where it had landed, and the answer had not, the same producer's same number
    /// is answered as the first time.
    async fn append_batch(&mut self, mut batch: BatchBuilder) -> Result<(), StageError> {
        let records = batch.count();
        batch.set_producer(self.producer.0, 0, self.sequence);
        let batch = batch.build();
        // A partition stamps what it is given.
        let make = || Append::new(batch.clone()).at(self.end);
        self.end = asking::append(&self.broker, &self.at, make).await?.last_offset.next();
        self.sequence = sequence_after(self.sequence, records);
        Ok(())
    }

    fn unusable(&self, reason: String) -> StageError {
        StageError::State { partition: self.at.clone(), reason }
    }

    fn trimmed(&self, log_start: Offset) -> StageError {
        self.unusable(format!("it was trimmed, and what was below offset {log_start} is missing"))
    }
}

/// The key of the sum of `name`, in `key`, which begins as all of them do.
fn entry_key<'a>(key: &'a mut Vec<u8>, name: &str) -> &'a [u8] {
    key.truncate(ENTRY.len());
    key.extend_from_slice(name.as_bytes());
    key
}

fn push(batch: &mut BatchBuilder, key: &[u8], value: Option<&[u8]>) {
    // The log gives the times.
    batch.push(RecordRef { timestamp: 0, key: Some(key), value, headers: &[] });
}

/// Does to `sums` and `position` what `record` tells; why not, where it is not of a changelog.
fn replay(
    record: &RecordView<'_>,
    (sums, position): &mut (Counts, Option<Position>),
) -> Result<(), String> {
    let invalid = |error: &dyn Display| error.to_string();
    let (key, value) = (record.key.as_deref().unwrap_or_default(), record.value.as_deref());
    if let Some(name) = key.strip_prefix(ENTRY) {
        let name = std::str::from_utf8(name).map_err(|error| invalid(&error))?;
        let Some(value) = value else {
            sums.remove(name);
            return Ok(());
        };
        let value = std::str::from_utf8(value).map_err(|error| invalid(&error))?;
        let sum = value.parse().map_err(|error| format!("the sum of `{name}`, `{value}`: {error}"));
        match sums.get_mut(name) {
            Some(kept) => *kept = sum?,
            None => drop(sums.insert(name.to_owned(), sum?)),
        }
        return Ok(());
    }
    if key != POSITION {
        return Err("it holds nothing of a stage".to_owned());
    }
    let told = value.map(serde_json::from_slice).transpose();
    *position = told.map_err(|error| invalid(&error))?;
    Ok(())
}

/// Sees that there is `topic`, with at least so many partitions and what is needed of it.
async fn make(broker: &Broker, topic: &TopicName, partitions: u32) -> Result<(), StageError> {
    let refused = |error: TopicError| StageError::refused(topic, error);
    let spec = TopicSpec { name: topic.clone(), partitions, settings: Default::default() };
    let mut settings = NEEDED.iter().chain(&CHOSEN);
    let spec = settings.try_fold(spec, |spec, (name, value)| spec.set(name, value));
    let spec = spec.expect("they are settings of topics");
    let made = broker.ensure_topic(spec).await.map_err(refused)?;
    for (name, needed) in NEEDED {
        let is = made.settings.get(name).unwrap_or_default();
        let is_enough = name == BATCH_BYTES && is.parse::<u64>().ok() >= needed.parse().ok();
        if is != needed && !is_enough {
            return Err(StageError::refused(
                topic,
                format!(
                    "its `{name}` is `{is}`, and a changelog needs `{needed}`: set it, or delete the topic, \
                     which is made anew then"
                ),
            ));
        }
    }
    if (made.partitions.len() as u32) < partitions {
        let grown = broker.grow_topic(topic, partitions).await;
        // Another member may have been first.
        let now = broker.topics().get(topic).map_or(0, |topic| topic.partitions.len() as u32);
        if now < partitions {
            grown.map_err(refused)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
