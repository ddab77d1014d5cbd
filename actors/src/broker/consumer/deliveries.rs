//! What a consumer delivers: one stream of records, and of partitions that come and go.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use actix::Addr;
use bytes::Bytes;
use flumen_runtime::{credit::Permit, ids::Offset, mailbox::tell};
use futures::{Stream, StreamExt, channel::mpsc};

use super::{
    Tenures,
    actor::{Close, ConsumerActor, GivenUp},
};
use crate::broker::{
    group_coordinator::{error::GroupError, records::CommittedOffset},
    names::TopicPartition,
};

/// One thing that a consumer delivers.
#[derive(Debug)]
pub enum Delivery {
    /// The caller reads these from now on.
    Assigned(Vec<Assigned>),
    /// Records of one partition.
    Records(Records),
    /// Partitions that will go to another member once this is dropped. Nothing more is delivered of
    /// them; what was delivered can still be committed until then.
    Revoking(Revocation),
    /// Partitions that another member has already: drop what was read of them and not committed.
    Lost(Vec<TopicPartition>),
    /// Bytes that cannot be read: the partition is paused. Seek past them, or repair the log.
    Unreadable {
        /// Where.
        partition: TopicPartition,
        /// At which offset.
        offset: Offset,
        /// Why.
        reason: String,
    },
    /// The group does not take this member; the stream ends.
    Failed(GroupError),
}

/// A partition that was assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// Which.
    pub partition: TopicPartition,
    /// Where reading begins.
    pub position: Offset,
    /// What the group had committed, with its metadata.
    pub committed: Option<CommittedOffset>,
    /// The group had committed more: what lay from the position on was lost after it had been read, and
    /// others stand in its place, or will.
    pub is_cut: bool,
}

/// Records of one partition. While it is kept, its bytes count against the consumer's credit.
pub struct Records {
    /// Of which partition.
    pub partition: TopicPartition,
    /// The first offset that is new: the first batch may begin before it.
    pub position: Offset,
    /// The offset after the last: what to commit once all is finished.
    pub next: Offset,
    /// Whole record batches (v2), back to back; each element holds one or more.
    pub batches: Vec<Bytes>,
    /// Every record below it is committed in the log; less `next`, it is the lag.
    pub high_watermark: Offset,
    /// The room that the bytes take; split it off to keep them longer.
    pub permit: Permit,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({} {}..{})", self.partition, self.position, self.next)
    }
}

/// Partitions that will be given up when this is dropped.
#[derive(Debug)]
pub struct Revocation {
    partitions: Vec<TopicPartition>,
    number: u64,
    actor: Addr<ConsumerActor>,
}

impl Revocation {
    pub(super) fn new(
        number: u64,
        partitions: Vec<TopicPartition>,
        actor: Addr<ConsumerActor>,
    ) -> Self {
        Self { partitions, number, actor }
    }

    /// Which.
    #[must_use]
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// Gives them up: all that was read of them is finished and committed.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Revocation {
    fn drop(&mut self) {
        tell(&self.actor, GivenUp { number: self.number });
    }
}

/// Whether what stands in the queue is still wanted: until a seek, or the end of the tenure.
#[derive(Clone, Debug)]
pub(super) struct Wanted(Arc<AtomicBool>);

impl Wanted {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    pub(super) fn end(&self) {
        self.0.store(false, Ordering::Release);
    }

    pub(super) fn holds(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn is(&self, other: &Wanted) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What the actor puts into the queue.
#[derive(Debug)]
pub(super) enum Queued {
    Records(Wanted, Records),
    /// With the tenure of each.
    Assigned(Vec<(u64, Wanted, Assigned)>),
    Other(Delivery),
}

/// The stream of a consumer. It ends when the consumer was closed or has failed; dropping it closes
/// the consumer.
#[derive(Debug)]
pub struct Deliveries {
    queue: mpsc::UnboundedReceiver<Queued>,
    tenures: Tenures,
    actor: Addr<ConsumerActor>,
}

impl Deliveries {
    pub(super) fn new(
        queue: mpsc::UnboundedReceiver<Queued>,
        tenures: Tenures,
        actor: Addr<ConsumerActor>,
    ) -> Self {
        Self { queue, tenures, actor }
    }

    /// What is to be shown of `queued`; none where it is not wanted any more.
    fn shown(&self, queued: Queued) -> Option<Delivery> {
        match queued {
            Queued::Records(wanted, records) => {
                wanted.holds().then_some(Delivery::Records(records))
            }
            Queued::Assigned(all) => {
                let mut tenures = self.tenures.lock().unwrap_or_else(PoisonError::into_inner);
                let mut assigned = Vec::with_capacity(all.len());
                for (tenure, wanted, one) in all {
                    if wanted.holds() {
                        tenures.insert(one.partition.clone(), tenure);
                        assigned.push(one);
                    }
                }
                (!assigned.is_empty()).then_some(Delivery::Assigned(assigned))
            }
            Queued::Other(delivery) => Some(delivery),
        }
    }
}

impl Stream for Deliveries {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            let queued = match self.queue.poll_next_unpin(cx) {
                Poll::Ready(Some(queued)) => queued,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            };
            if let Some(delivery) = self.shown(queued) {
                return Poll::Ready(Some(delivery));
            }
        }
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        tell(&self.actor, Close { for_good: false });
    }
}
