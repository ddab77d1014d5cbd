//! An embedded consumer: reads partitions, alone or as a member of a group.
//!
//! ```text
//!              ┌── Deliveries (a stream) ◄── Records, under a permit ───┐
//!   caller ────┤                                                    ConsumerActor ◄── Fetch ── partitions
//!              └── Consumer (a handle) ──► commit, seek, pause ─────►   │ join, sync, heartbeat, commit
//!                                                                       └──────────► GroupCoordinator
//! ```
//!
//! Everything comes in one stream, in order: which partitions were assigned and where reading begins,
//! their records, and which partitions are about to be taken away. A [`Revocation`] waits for the
//! caller: it finishes and commits what it has, then drops it, and only then the partitions move.
//!
//! # Invariants
//! - GRP-2: what is delivered lies below the high watermark, and no more than that is committed.
//! - CONS-1: records are delivered in order and without gaps from the position that was announced.
//! - CONS-2: a commit counts only in the tenure in which its records were delivered: from the moment
//!   a partition was taken away, even if it comes back.
//!
//! # Failure
//! A panic of its actor ends the stream; whoever reads makes a new consumer, from what is committed.

mod actor;
mod deliveries;
mod fetching;
pub mod member;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix::{Actor, Addr, Recipient};
use flumen_runtime::{
    ids::{LeaderEpoch, Offset},
    mailbox::tell,
};
use futures::{channel::mpsc, future::LocalBoxFuture};

pub use self::deliveries::{Assigned, Deliveries, Delivery, Records, Revocation};
use self::{
    actor::{Close, Commit, ConsumerActor, Refused, Seek, SetPaused},
    member::MemberOptions,
};
use super::{
    Broker,
    group_coordinator::{GroupCoordinator, error::GroupError, ids::GroupId},
    names::{TopicName, TopicPartition},
    partition::messages::{At, Fetch, FindEpochEnd, FindOffset},
    traffic::Traffic,
};

/// Where a consumer finds what it talks to; the broker's handle is one.
pub trait Lookup: Send + Sync {
    /// The coordinator of `group`; none while it is not up. Its address stays good over its lives.
    fn coordinator(
        &self,
        group: &GroupId,
    ) -> LocalBoxFuture<'static, Option<Addr<GroupCoordinator>>>;
    /// How many partitions `topic` has; none where there is no such topic.
    fn partitions(&self, topic: &TopicName) -> Option<u32>;
    /// A partition's leader; none while it is not up.
    fn leader(&self, partition: &TopicPartition) -> Option<PartitionPorts>;
}

/// What a consumer asks of a partition.
#[derive(Clone)]
pub struct PartitionPorts {
    /// Gives records.
    pub fetch: Recipient<Fetch>,
    /// Finds offsets.
    pub find: Recipient<FindOffset>,
    /// Knows where epochs ended.
    pub epochs: Recipient<FindEpochEnd>,
    /// Where what it gives is counted.
    pub traffic: Arc<Traffic>,
}

impl Lookup for Broker {
    fn coordinator(
        &self,
        group: &GroupId,
    ) -> LocalBoxFuture<'static, Option<Addr<GroupCoordinator>>> {
        let (broker, group) = (self.clone(), group.clone());
        Box::pin(async move {
            let found = Broker::coordinator(&broker, &group).await;
            found.inspect_err(|why| tracing::debug!(%group, %why, "no coordinator yet")).ok()
        })
    }

    fn partitions(&self, topic: &TopicName) -> Option<u32> {
        self.topics().get(topic).map(|topic| topic.partitions.len() as u32)
    }

    fn leader(&self, partition: &TopicPartition) -> Option<PartitionPorts> {
        let (leader, traffic) = self.reading(partition)?;
        Some(PartitionPorts {
            fetch: leader.clone().recipient(),
            find: leader.clone().recipient(),
            epochs: leader.recipient(),
            traffic,
        })
    }
}

/// How a consumer reads.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// Most bytes of records that are delivered and not let go of (prefetch included).
    pub bytes_max: usize,
    /// Most bytes of one fetch.
    pub fetch_bytes_max: usize,
    /// Longest wait of a fetch for the first byte.
    pub fetch_wait: Duration,
    /// Where to begin without a committed offset, or where it is not in the log any more.
    pub start: Start,
    /// Whether it waits until a record is on the disk, for which it has a lazy topic synced; others give none
    /// before.
    pub durable_only: bool,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            bytes_max: 16 << 20,
            fetch_bytes_max: 1 << 20,
            fetch_wait: Duration::from_millis(500),
            start: Start::Earliest,
            durable_only: false,
        }
    }
}

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the first record kept.
    #[default]
    Earliest,
    /// After the last record.
    Latest,
    /// At the first record of this time (Unix milliseconds) or later; after the last where none is.
    Timestamp(i64),
    /// At this offset.
    Offset(Offset),
}

impl Start {
    fn at(self) -> At {
        match self {
            Start::Earliest | Start::Offset(_) => At::Earliest,
            Start::Latest => At::Latest,
            Start::Timestamp(ms) => At::Timestamp(ms),
        }
    }
}

/// What a consumer reads.
#[derive(Clone, Debug)]
pub enum Reads {
    /// What its group assigns to it.
    Subscribed(MemberOptions),
    /// These partitions, whatever others read. Where a group is named, reading begins at what it has
    /// committed, and commits go to it, as long as it has no members.
    Partitions {
        /// The partitions, and where to begin in each.
        partitions: Vec<(TopicPartition, Start)>,
        /// For whom it commits.
        group: Option<GroupId>,
    },
}

/// An offset to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedTo {
    /// Of which partition.
    pub partition: TopicPartition,
    /// The next offset to be read: one more than the last that was finished.
    pub offset: Offset,
    /// Epoch of the last record finished; the consumer knows it where the caller does not.
    pub leader_epoch: Option<LeaderEpoch>,
    /// At most 4,096 bytes of the caller's own, given back with the offset
    /// ([`Assigned::committed`]): small state that must not part from the position.
    pub metadata: Arc<str>,
}

impl ConsumedTo {
    /// The position `offset` of `partition`, without more.
    #[must_use]
    pub fn new(partition: TopicPartition, offset: Offset) -> Self {
        Self { partition, offset, leader_epoch: None, metadata: "".into() }
    }
}

/// Why nothing was committed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommitError {
    /// The partition was taken away since its records were delivered: another reads it.
    #[error("`{0}` is not this consumer's any more; drop what was read of it")]
    NotAssigned(TopicPartition),
    /// More than was delivered.
    #[error("`{partition}` was delivered up to {delivered}; {offset} cannot be committed")]
    Ahead {
        /// Which.
        partition: TopicPartition,
        /// What was to be committed.
        offset: Offset,
        /// What was delivered.
        delivered: Offset,
    },
    /// There is no group to commit for.
    #[error("the consumer has no group to commit for; name one")]
    NoGroup,
    /// The coordinator refused for good.
    #[error("the group's coordinator refused the commit: {0}")]
    Refused(#[from] GroupError),
    /// The consumer has ended.
    #[error("the consumer has ended; make a new one")]
    Ended,
}

/// Which tenure of each partition the caller has been told of.
type Tenures = Arc<Mutex<BTreeMap<TopicPartition, u64>>>;

/// Steers a consumer. Clones steer the same one.
#[derive(Clone)]
pub struct Consumer {
    actor: Addr<ConsumerActor>,
    tenures: Tenures,
}

const COMMIT_RETRY: Duration = Duration::from_millis(20);

impl Consumer {
    /// Starts a consumer on this arbiter. It ends when its [`Deliveries`] are dropped, or closed.
    #[must_use]
    pub fn start(
        lookup: Arc<dyn Lookup>,
        reads: Reads,
        options: ConsumerOptions,
    ) -> (Consumer, Deliveries) {
        let (queue, deliveries) = mpsc::unbounded();
        let actor = ConsumerActor::new(lookup, reads, options, queue).start();
        let tenures = Tenures::default();
        let consumer = Consumer { actor: actor.clone(), tenures: tenures.clone() };
        (consumer, Deliveries::new(deliveries, tenures, actor))
    }

    /// A member of a group, with the usual options.
    #[must_use]
    pub fn subscribe(lookup: Arc<dyn Lookup>, member: MemberOptions) -> (Consumer, Deliveries) {
        Self::start(lookup, Reads::Subscribed(member), ConsumerOptions::default())
    }

    fn tenure(&self, partition: &TopicPartition) -> Option<u64> {
        self.tenures.lock().unwrap_or_else(PoisonError::into_inner).get(partition).copied()
    }

    /// Commits positions: all of them, or none. Waits out rebalances, as long as the partitions stay.
    ///
    /// # Errors
    /// [`CommitError`]; after [`CommitError::NotAssigned`] another member reads on from what was
    /// committed before.
    pub async fn commit(&self, positions: Vec<ConsumedTo>) -> Result<(), CommitError> {
        let mut tenured = Vec::with_capacity(positions.len());
        for position in positions {
            let tenure = self.tenure(&position.partition);
            let tenure =
                tenure.ok_or_else(|| CommitError::NotAssigned(position.partition.clone()))?;
            tenured.push((tenure, position));
        }
        loop {
            let commit = Commit { positions: tenured.clone() };
            match self.actor.send(commit).await.map_err(|_| CommitError::Ended)? {
                Ok(()) => return Ok(()),
                Err(Refused::ForGood(why)) => return Err(why),
                Err(Refused::ForNow) => tokio::time::sleep(COMMIT_RETRY).await,
            }
        }
    }

    /// Goes on reading `partition` at `offset`. What was fetched before is not delivered any more, once
    /// this has resolved.
    pub async fn seek(&self, partition: TopicPartition, offset: Offset) {
        // An actor that is gone delivers nothing more, either.
        let _ = self.actor.send(Seek { partition, offset }).await;
    }

    /// Fetches no more of `partition`; what was fetched is still delivered.
    pub fn pause(&self, partition: TopicPartition) {
        tell(&self.actor, SetPaused { partition, is_paused: true });
    }

    /// Fetches `partition` again.
    pub fn resume(&self, partition: TopicPartition) {
        tell(&self.actor, SetPaused { partition, is_paused: false });
    }

    /// Ends reading, and leaves the group, so that others take over at once. Commit before. A static
    /// member stays in its group, and a restart takes up what it had.
    pub async fn close(&self) {
        self.end(false).await;
    }

    /// Ends reading, and leaves the group, as a static member too: it is not to come back soon.
    pub async fn leave(&self) {
        self.end(true).await;
    }

    async fn end(&self, for_good: bool) {
        // An actor that is gone has left.
        let _ = self.actor.send(Close { for_good }).await;
    }
}

#[cfg(test)]
mod tests;
