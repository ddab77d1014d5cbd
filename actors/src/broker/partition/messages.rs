//! What a partition may be asked, and what it answers.
//!
//! An append carries a [`Permit`] for its memory; it is given back when what was appended is
//! committed, not when it is taken in. Fetches carry none: an answer shares the bytes that are there
//! anyway, or is bounded by its own `bytes_max`.

use std::{sync::Arc, time::Duration};

use actix::Message;
use bytes::{Bytes, BytesMut};
use flumen_runtime::{
    batch::{BatchError, BatchHeader, Compression},
    credit::Permit,
    ids::{LeaderEpoch, Offset},
};

use super::{marks::Marks, options::PartitionConfig};
use crate::broker::names::{Acks, Isolation, ProducerId, TopicPartition};

/// Appends whole record batches (v2) as the leader: they are checked, their offsets and epoch are
/// stamped in place, and each is stored as it came.
///
/// All of them or none, except that a batch that is one of its producer's last five is skipped and
/// answered with the offsets it got then.
#[derive(Debug, Message)]
#[rtype(result = "Result<Appended, AppendError>")]
pub struct Append {
    /// The batches, one after the other; base offsets and epochs in them are ignored.
    pub batches: BytesMut,
    /// When the answer is given.
    pub acks: Acks,
    /// Who appends.
    pub origin: Origin,
    /// The epoch that the sender takes to be current; refused where it is another.
    pub epoch: Option<LeaderEpoch>,
    /// Where the sender takes the log to end; refused where it ends elsewhere.
    pub at: Option<Offset>,
    /// The room that it takes until it is committed.
    pub permit: Option<Permit>,
}

impl Append {
    /// Appends `batches` of a client, answered when they are committed.
    #[must_use]
    pub fn new(batches: BytesMut) -> Self {
        let (acks, origin) = (Acks::default(), Origin::default());
        Self { batches, acks, origin, epoch: None, at: None, permit: None }
    }

    /// Only if the log ends at `end`: whoever knows all up to there appends, and nobody whom another
    /// has superseded. To try again is safe: what has landed is not appended a second time, and a batch with
    /// a producer's number is answered as the first time.
    #[must_use]
    pub fn at(mut self, end: Offset) -> Self {
        self.at = Some(end);
        self
    }

    /// Answered as `acks` says.
    #[must_use]
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// Appends the marker that ends a transaction.
    #[must_use]
    pub fn as_coordinator(mut self) -> Self {
        self.origin = Origin::Coordinator;
        self
    }

    /// With the room that it takes.
    #[must_use]
    pub fn permit(mut self, permit: Permit) -> Self {
        self.permit = Some(permit);
        self
    }
}

/// Who appends, and so what is allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// A client: no control batches.
    #[default]
    Client,
    /// The transaction coordinator: control batches only.
    Coordinator,
}

/// Where an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// Largest timestamp, in Unix milliseconds; −1 where the producer set none.
    pub timestamp_ms: i64,
    /// Whether that is the time of the append, which the log gave all records
    /// (`message.timestamp.type=LogAppendTime`).
    pub is_append_time: bool,
    /// First offset that the log keeps.
    pub log_start: Offset,
    /// Whether nothing was written, because all of it had been appended before.
    pub is_duplicate: bool,
}

/// Why nothing was appended.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AppendError {
    /// A batch that is not what its producer made, or no batch at all.
    #[error("the batch at byte {at} is corrupt: {reason}; send it again")]
    Corrupt {
        /// Where in the request.
        at: usize,
        /// What is wrong.
        reason: String,
    },
    /// A batch larger than the topic allows.
    #[error("a batch of {bytes} bytes is larger than the topic's `max.message.bytes` {bytes_max}")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// The most allowed.
        bytes_max: usize,
    },
    /// A whole batch that this log may not hold.
    #[error("the batch is not valid here: {0}")]
    Invalid(InvalidBatch),
    /// Refused by the rules of idempotent producers.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// Another has appended since the sender looked ([`Append::at`]).
    #[error(
        "the log ends at {end}, and not at {at}: another has appended; read it before you append"
    )]
    NotAtEnd {
        /// Where the sender took it to end.
        at: Offset,
        /// Where it ends.
        end: Offset,
    },
    /// This replica does not lead, or not in that epoch.
    #[error(transparent)]
    NotLeader(#[from] NotLeaderError),
    /// The disk has less free space than its floor; reads and retention go on.
    #[error("the disk of `{0}` is full; retry after retention or someone made room")]
    DiskFull(TopicPartition),
    /// The topic demands more replicas than there are of it.
    #[error(
        "`min.insync.replicas` is {0}, and there is one replica: set it to 1, or do not wait for all (acks=1)"
    )]
    TooFewInSync(u32),
    /// The partition does not serve.
    #[error(transparent)]
    Offline(#[from] OfflineError),
}

impl AppendError {
    /// Whether the same append may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            AppendError::Corrupt { .. }
            | AppendError::NotLeader(_)
            | AppendError::DiskFull(_)
            | AppendError::TooFewInSync(_) => true,
            AppendError::Offline(offline) => offline.is_passing,
            AppendError::TooLarge { .. }
            | AppendError::Invalid(_)
            | AppendError::Sequence(_)
            | AppendError::NotAtEnd { .. } => false,
        }
    }
}

/// What makes a whole batch unfit for a log.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidBatch {
    /// Nothing in the request.
    #[error("there is no batch")]
    Empty,
    /// No records, or a count that the last offset contradicts.
    #[error("it claims {count} records and a last offset of +{last_offset_delta}")]
    Count {
        /// Records that it claims.
        count: u32,
        /// Its last offset less its first.
        last_offset_delta: u32,
    },
    /// Records without a key, in a partition that keeps the last record of each key.
    #[error(
        "{} of its records, at least, have no key, and the topic is compacted (cleanup.policy)",
        indexes.len()
    )]
    Keyless {
        /// Which of the batch, from 0; the first ones, where they are very many.
        indexes: Vec<u32>,
    },
    /// A record that cannot be read, in a partition whose keys must be.
    #[error("its record {index} cannot be read: {reason}")]
    Record {
        /// Which of the batch, from 0.
        index: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// Records compressed in a way that nobody knows.
    #[error("its records are compressed with a codec that is none of Kafka's")]
    Codec,
    /// Compressed records that cannot be decompressed, in a partition that must look at them.
    #[error("its records cannot be decompressed as {0:?}")]
    Block(Compression),
    /// Compressed records that are too many, in a partition that must look at them.
    #[error("decompressed, its records are more than {bytes_max} bytes: send smaller batches")]
    Expands {
        /// The most bytes that are looked at.
        bytes_max: usize,
    },
    /// A client sent a control batch, or a coordinator one that is none.
    #[error("only a coordinator appends control batches, and nothing else")]
    Control,
    /// A client set the attribute bit that only compaction sets.
    #[error(
        "only compaction gives a batch a delete horizon (attribute bit 6): leave the bit clear"
    )]
    DeleteHorizon,
    /// A producer id without epoch and sequence, or the reverse.
    #[error("producer id {id}, epoch {epoch} and sequence {sequence} do not go together")]
    Producer {
        /// Producer id.
        id: i64,
        /// Producer epoch.
        epoch: i16,
        /// Base sequence.
        sequence: i32,
    },
    /// A timestamp too far ahead, which would keep the record from ever expiring.
    #[error("its timestamp {timestamp_ms} is more than {ahead_ms_max} ms ahead")]
    Timestamp {
        /// Largest timestamp of the batch.
        timestamp_ms: i64,
        /// How far ahead it may be.
        ahead_ms_max: i64,
    },
    /// A timestamp older than the topic takes.
    #[error("its timestamp {timestamp_ms} is more than {behind_ms_max} ms old")]
    Old {
        /// First timestamp of the batch.
        timestamp_ms: i64,
        /// How old it may be.
        behind_ms_max: i64,
    },
    /// Part of a transaction from a producer that has no id.
    #[error("a transactional batch needs a producer id")]
    Transactional,
    /// Offsets or epochs that do not continue the log (follower).
    #[error("it begins at offset {offset} in epoch {epoch}; the log ends at {end}")]
    Discontinuous {
        /// Its first offset.
        offset: Offset,
        /// Its epoch.
        epoch: i32,
        /// Where the log ends.
        end: Offset,
    },
}

/// Of a batch that is whole, and whose records cannot be read.
impl From<&BatchError> for InvalidBatch {
    fn from(error: &BatchError) -> Self {
        match error {
            BatchError::Block { compression, .. } => InvalidBatch::Block(*compression),
            BatchError::Expands { bytes_max } => InvalidBatch::Expands { bytes_max: *bytes_max },
            BatchError::Compressed(_) => InvalidBatch::Codec,
            _ => InvalidBatch::Record { index: 0, reason: "it is malformed" },
        }
    }
}

/// Why the rules of idempotent producers refuse a batch.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SequenceError {
    /// A gap, or a batch older than the last five.
    #[error("sequence {got} of producer {producer} is out of order: {expected} is next")]
    OutOfOrder {
        /// Who.
        producer: ProducerId,
        /// The sequence that would be right.
        expected: i32,
        /// The sequence that came.
        got: i32,
    },
    /// A newer incarnation of the producer has appended.
    #[error("epoch {got} of producer {producer} is fenced by epoch {current}")]
    Fenced {
        /// Who.
        producer: ProducerId,
        /// Its epoch now.
        current: i16,
        /// The epoch that came.
        got: i16,
    },
    /// A batch without transaction while the producer's transaction is open.
    #[error("producer {producer} has a transaction open: the batch must be part of it")]
    OutsideTransaction {
        /// Who.
        producer: ProducerId,
    },
    /// A marker of a coordinator that has been superseded.
    #[error("coordinator epoch {got} for producer {producer} is fenced by {current}")]
    CoordinatorFenced {
        /// Whose transaction.
        producer: ProducerId,
        /// The coordinator's epoch now.
        current: i32,
        /// The epoch that came.
        got: i32,
    },
}

/// This replica does not lead in the epoch that was named.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "this replica {} epoch {epoch}; look the leader up again",
    if *is_leader { "leads in another epoch:" } else { "follows in" }
)]
pub struct NotLeaderError {
    /// Whether it leads at all.
    pub is_leader: bool,
    /// The epoch it is in.
    pub epoch: LeaderEpoch,
}

/// The partition does not serve; it stays, and says so.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("partition `{partition}` is offline: {reason}; {remedy}")]
pub struct OfflineError {
    /// Which.
    pub partition: TopicPartition,
    /// Why.
    pub reason: String,
    /// What a person can do.
    pub remedy: String,
    /// Whether it passes by itself: the partition is opening, or is being stopped or moved.
    pub is_passing: bool,
}

/// Appends batches as the leader stamped them.
#[derive(Debug, Message)]
#[rtype(result = "Result<Appended, AppendError>")]
pub struct AppendAsFollower {
    /// The batches, with offsets and epochs.
    pub batches: Bytes,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The leader's high watermark when it sent them.
    pub high_watermark: Offset,
}

/// Reads whole batches from the one that holds `offset` on.
///
/// Where fewer than `bytes_min` bytes are visible, the fetch is parked for at most `wait`, and
/// answered the moment enough are. A fetch from another arbiter is parked just the same.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Fetched, FetchError>")]
pub struct Fetch {
    /// First offset wanted. The first batch may begin before it.
    pub offset: Offset,
    /// Most bytes.
    pub bytes_max: usize,
    /// What of them.
    pub portion: Portion,
    /// Fewest bytes worth answering before `wait` is over.
    pub bytes_min: usize,
    /// Longest wait.
    pub wait: Duration,
    /// How far to see.
    pub isolation: Isolation,
    /// The epoch that the sender takes to be current; refused where it is another.
    pub epoch: Option<LeaderEpoch>,
}

/// What a fetch is given of whole batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Portion {
    /// The first in any case, even where it alone has more bytes than wanted: there is always progress.
    #[default]
    FirstWhole,
    /// Never more bytes than wanted: where the first has more, only how many they are is told.
    Strict,
    /// The same, and only what is in memory: for who waits, and holds no room meanwhile for what would
    /// have to be read.
    InMemory,
}

impl Fetch {
    /// Up to 1 MiB of committed-to-disk records from `offset`, at once.
    #[must_use]
    pub fn from(offset: Offset) -> Self {
        let (isolation, wait, portion) =
            (Isolation::default(), Duration::ZERO, Portion::FirstWhole);
        Self { offset, bytes_max: 1 << 20, portion, bytes_min: 1, wait, isolation, epoch: None }
    }

    /// Refused unless `epoch` is current, now and when it is answered.
    #[must_use]
    pub fn epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.epoch = Some(epoch);
        self
    }

    /// Waits up to `wait` for at least one byte.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }
}

/// What a fetch found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Whole batches, back to back; each element holds one or more.
    pub batches: Vec<Bytes>,
    /// The marks when it was answered.
    pub marks: Marks,
    /// The partition's epoch then.
    pub epoch: LeaderEpoch,
    /// Transactions aborted in the range read; only for [`Isolation::Committed`].
    pub aborted: Vec<AbortedTransaction>,
    /// Bytes of the first batch, where it was not given for being larger than wanted; else 0.
    pub withheld: usize,
}

impl Fetched {
    /// Bytes of all batches.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }
}

/// A transaction whose records a `read_committed` consumer skips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer: ProducerId,
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Offset of its abort marker.
    pub last_offset: Offset,
}

impl AbortedTransaction {
    /// Whether the batch with this header is one of its own.
    #[must_use]
    pub fn holds(&self, header: &BatchHeader) -> bool {
        header.producer_id == self.producer.0
            && (self.first_offset..self.last_offset).contains(&header.base_offset)
    }
}

/// Why nothing was read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FetchError {
    /// The offset is not in the log.
    #[error("offset {offset} is not in the log, which holds {log_start} to {log_end}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// First offset kept.
        log_start: Offset,
        /// Offset after the last.
        log_end: Offset,
    },
    /// This replica has another role or epoch than was asked for; a leader truncates nothing.
    #[error(transparent)]
    NotLeader(#[from] NotLeaderError),
    /// The disk could not read it, or what it gave fails its checksum and is not served.
    #[error("cannot read offset {offset}: {reason}")]
    Unreadable {
        /// What was asked for.
        offset: Offset,
        /// Why.
        reason: String,
    },
    /// The partition does not serve.
    #[error(transparent)]
    Offline(#[from] OfflineError),
}

/// Finds an offset.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Option<FoundOffset>, FetchError>")]
pub struct FindOffset {
    /// Which.
    pub at: At,
    /// How far to see.
    pub isolation: Isolation,
    /// The epoch that the sender takes to be current; refused where it is another.
    pub epoch: Option<LeaderEpoch>,
}

impl FindOffset {
    /// The offset at `at`, below the high watermark.
    #[must_use]
    pub fn new(at: At) -> Self {
        Self { at, isolation: Isolation::default(), epoch: None }
    }
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The first offset kept.
    Earliest,
    /// The offset after the last visible record.
    Latest,
    /// The first record of this time (Unix milliseconds) or later.
    Timestamp(i64),
    /// The first record with the largest timestamp.
    MaxTimestamp,
}

/// An offset that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset.
    pub offset: Offset,
    /// The timestamp there; −1 where none was asked for.
    pub timestamp_ms: i64,
    /// The epoch it was appended in.
    pub epoch: Option<LeaderEpoch>,
}

/// Asks where the records of an epoch end (Kafka's OffsetForLeaderEpoch): whoever read further, read
/// what has been truncated since.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Option<EpochEnd>, FetchError>")]
pub struct FindEpochEnd {
    /// Which epoch.
    pub of: LeaderEpoch,
    /// The epoch that the sender takes to be current; refused where it is another.
    pub epoch: Option<LeaderEpoch>,
}

/// The end of an epoch; there is none of one that is yet to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch up to the one asked for that has records here; that one where none has.
    pub epoch: LeaderEpoch,
    /// The offset after its last record.
    pub end: Offset,
    /// Whether another has begun since, so that it gets no more records.
    pub is_over: bool,
}

/// Asks which producers the partition knows (Kafka's DescribeProducers).
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Vec<ProducerStatus>, OfflineError>")]
pub struct DescribeProducers;

/// A producer as the partition knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStatus {
    /// Who.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of its last record; −1 where it has none in this epoch.
    pub last_sequence: i32,
    /// When it appended last, in Unix milliseconds.
    pub used_ms: i64,
    /// Epoch of the coordinator that last ended a transaction of it; −1 where none did.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins, if it has one.
    pub transaction_first: Option<Offset>,
}

/// Removes all records below `offset` (Kafka's DeleteRecords). Answered when that is durable.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Offset, FetchError>")]
pub struct TrimTo {
    /// The first offset to keep; at most the high watermark.
    pub offset: Offset,
}

/// Removes all records from `offset` on, in a follower whose log diverged. Never below the high
/// watermark. Answered when that is durable and the state is what the rest of the log gives.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Offset, FetchError>")]
pub struct TruncateTo {
    /// The first offset to remove.
    pub offset: Offset,
}

/// Asks for the last batch of `producer` that is committed.
///
/// Where its last batch is not yet committed, the answer waits until it is: whoever resumes from
/// the answer may forget what it covers.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Option<ProducerTail>, OfflineError>")]
pub struct LastSequence {
    /// Who.
    pub producer: ProducerId,
}

/// The end of what a producer has appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerTail {
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of its last record; −1 where it has none in this epoch.
    pub last_sequence: i32,
    /// Offset of its last record, where it has one in this epoch.
    pub last_offset: Option<Offset>,
}

/// Asks how the partition is. Answered in every state.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "PartitionStatus")]
pub struct Status;

/// How a partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Which.
    pub partition: TopicPartition,
    /// What it does.
    pub condition: Condition,
    /// Its marks; all zero before it is open.
    pub marks: Marks,
    /// Its leader epoch.
    pub epoch: LeaderEpoch,
    /// Bytes on disk.
    pub bytes: u64,
    /// Producers whose state is kept.
    pub producers: usize,
    /// Fetches that are parked.
    pub parked: usize,
}

/// What a partition does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Takes its log over and recovers it; requests wait.
    Opening,
    /// Serves as leader.
    Leading,
    /// Copies a leader.
    Following,
    /// Does not serve, and will not until a person acted or it is made anew. Where its disk is full it
    /// serves by itself once there is room.
    Offline {
        /// Why.
        reason: String,
        /// What a person can do.
        remedy: String,
    },
    /// Finishes what is in, and closes its log.
    Closing,
}

/// Changes the partition's settings, from the next step on.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), OfflineError>")]
pub struct Configure {
    /// All of its settings.
    pub config: Arc<PartitionConfig>,
}

/// Makes this replica the leader of `epoch`, or the follower of who leads in it. Lower epochs than
/// the current one are refused.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), AppendError>")]
pub struct Assume {
    /// The role.
    pub role: Role,
    /// Its epoch.
    pub epoch: LeaderEpoch,
}

/// What a replica is to its partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Takes appends and decides what is committed.
    #[default]
    Leader,
    /// Copies the leader.
    Follower,
}
