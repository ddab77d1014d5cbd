//! Channels: what stands between the sources and the sink of an agent.
//!
//! ```text
//!   source ── acquire ──► Credit        head ........ taken ........ end
//!     │                     │            │  transactions │   free    │
//!     └── Put{events, advance, permit} ──────────────────────────────┤
//!                                        ├◄── Take ── sink ──────────┘
//!                              permit ◄──┘ CommitTake
//! ```
//!
//! Flume's five verbs (`begin`, `put`/`take`, `commit`, `rollback`, `close`) as messages: a put is a
//! transaction of its own, a take opens one. The right to put is a permit, acquired before and given
//! back when the sink commits: a full channel holds back its sources, and nothing is ever dropped.
//!
//! A put carries how its source's position moves ([`Advance`]); channel and position change together
//! or not at all. A source that starts asks the channel where it was ([`OpenSource`]).
//!
//! Two channels: [`memory::MemoryChannel`] and [`durable::DurableChannel`]. Both keep one contract, and
//! one suite runs on both (`tests/channel_contract.rs`).
//!
//! # Invariants
//! - CH-2: what a channel holds is covered by permits: `end - head <= capacity`, unless one put
//!   larger than the whole was admitted alone.
//!
//! Those of its offsets and transactions stand in [`ledger`].

pub mod durable;
pub mod ledger;
pub mod memory;
mod parked;

use actix::prelude::*;
use bytes::Bytes;
use flumen_runtime::{
    credit::{Credit, Permit},
    ids::Offset,
};

pub use crate::agent::channel::ledger::{Session, TransactionError, TransactionId};
use crate::agent::event::{Advance, Event, Position, Text};

/// Most of what a channel may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Events.
    pub events: usize,
    /// Bytes, as [`Event::cost`] counts them.
    pub bytes: usize,
}

impl Default for Capacity {
    /// A million events, and 64 MiB of them: what one machine has to spare.
    fn default() -> Self {
        Self { events: 1_000_000, bytes: 64 << 20 }
    }
}

/// A source begins, or begins anew: whatever an earlier life of it still sends is refused. Answered
/// when everything that the source had put is either durable or lost.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<SourceOpened, ChannelError>")]
pub struct OpenSource {
    /// Its name, unique among the sources of the channel, and the same in each life.
    pub source: Text,
}

/// What a source needs to put.
#[derive(Clone, Debug)]
pub struct SourceOpened {
    /// Shown with every put.
    pub session: Session,
    /// Where it gets the permits.
    pub credit: Credit,
    /// Where it stood after what the channel has of it.
    pub position: Position,
}

/// Adds events, all of them with the move of the source's position, or none. Answered when they are
/// as safe as the channel makes them.
#[derive(Debug, Message)]
#[rtype(result = "Result<PutDone, ChannelError>")]
pub struct Put {
    /// The source's right to put.
    pub session: Session,
    /// In order. None is fine where only the position moves.
    pub events: Vec<Event>,
    /// Where the source stands after them.
    pub advance: Advance,
    /// Room for as many events and their [`Event::cost`], from the credit of this session.
    pub permit: Permit,
}

/// The events are in the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutDone {
    /// The offset after the last of them.
    pub end: Offset,
}

/// A sink begins, or begins anew: what an earlier one took and did not commit is offered again.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<SinkAttached, ChannelError>")]
pub struct AttachSink;

/// What a sink needs to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkAttached {
    /// Shown with every take, commit and rollback.
    pub session: Session,
    /// The first offset that was not committed.
    pub head: Offset,
    /// What the sink last had kept, with the head or by itself.
    pub sink_state: Option<Bytes>,
    /// Whether an offset means the same event in every life of the channel, so that a sink may
    /// derive from its own output what of it was delivered.
    pub is_durable: bool,
}

/// Takes events from where the last take ended: as many as there are up to both limits, and at least
/// one. Waits for one for up to `wait`; a later take of the same sink ends the wait of an earlier.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Option<Taken>, ChannelError>")]
pub struct Take {
    /// The sink's right to take.
    pub session: Session,
    /// Most events.
    pub events_max: usize,
    /// Most bytes, as [`Event::cost`] counts them; one event may be larger.
    pub bytes_max: usize,
    /// How long to wait for the first.
    pub wait: std::time::Duration,
}

/// Events that were taken; `None` stands for none within the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// To be committed or rolled back.
    pub transaction: TransactionId,
    /// In order; never empty.
    pub events: Vec<TakenEvent>,
}

/// One event, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenEvent {
    /// Its place in the channel. Offsets grow, and may leave some out.
    pub offset: Offset,
    /// When it was put, in milliseconds since 1970.
    pub put_ms: i64,
    /// The event.
    pub event: Event,
}

/// Ends a take and all earlier ones: their events leave the channel for good.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), ChannelError>")]
pub struct CommitTake {
    /// The sink's right.
    pub session: Session,
    /// The last transaction that is ended.
    pub transaction: TransactionId,
    /// Kept with the head, in place of what was kept before.
    pub sink_state: Option<Bytes>,
}

/// Undoes a take and all later ones: their events are offered again, in order.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), ChannelError>")]
pub struct RollbackTake {
    /// The sink's right.
    pub session: Session,
    /// The first transaction that is undone.
    pub transaction: TransactionId,
}

/// Keeps what the sink must not forget; answered when it is as safe as the events.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), ChannelError>")]
pub struct KeepSinkState {
    /// The sink's right.
    pub session: Session,
    /// What to keep, in place of what was kept before.
    pub sink_state: Bytes,
}

/// How full it is.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "ChannelStatus")]
pub struct Status;

/// How full a channel is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelStatus {
    /// The first offset that was not committed.
    pub head: Offset,
    /// The first offset that was not taken.
    pub taken: Offset,
    /// The offset after the last event.
    pub end: Offset,
    /// Events that it holds.
    pub events: usize,
    /// Bytes that it holds, as [`Event::cost`] counts them.
    pub bytes: usize,
    /// The most of both.
    pub capacity: Capacity,
    /// Why it takes and gives nothing, and what helps; where that is so.
    pub offline: Option<String>,
}

/// Why a channel refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChannelError {
    /// It came from an earlier life of the source or sink.
    #[error("channel `{channel}` refused a {who} that has been superseded by its next life")]
    Superseded {
        /// The channel.
        channel: Text,
        /// Who it was.
        who: &'static str,
    },
    /// The transaction is not open.
    #[error("channel `{channel}`: {error}")]
    Transaction {
        /// The channel.
        channel: Text,
        /// Which, and why.
        error: TransactionError,
    },
    /// The put is larger than its permit, or the permit is of another credit.
    #[error("channel `{channel}` refused {events} events of {bytes} bytes: no permit covers them")]
    Uncovered {
        /// The channel.
        channel: Text,
        /// Events of the put.
        events: usize,
        /// Their cost.
        bytes: usize,
    },
    /// The put is larger than one batch of the channel's log may be.
    #[error("channel `{channel}` cannot hold {bytes} bytes in one batch: {why}")]
    TooLarge {
        /// The channel.
        channel: Text,
        /// What they come to.
        bytes: usize,
        /// The limit, and how to move it.
        why: String,
    },
    /// Its disk failed, or its log is damaged. It stays so until someone helps.
    #[error("channel `{channel}` is offline: {why}")]
    Offline {
        /// The channel.
        channel: Text,
        /// What happened, and what helps.
        why: String,
    },
    /// Its actor is gone for good, or failed while it worked on this.
    #[error("channel `{channel}` has stopped")]
    Stopped {
        /// The channel.
        channel: Text,
    },
}

impl ChannelError {
    /// Whether only a person can help, so that starting anew does not.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        matches!(self, ChannelError::Offline { .. })
    }
}

/// A channel of either kind, as sources and sinks know it. Stays good over the channel's lives.
#[derive(Clone)]
pub struct Channel {
    name: Text,
    open_source: Recipient<OpenSource>,
    put: Recipient<Put>,
    attach_sink: Recipient<AttachSink>,
    take: Recipient<Take>,
    commit_take: Recipient<CommitTake>,
    rollback_take: Recipient<RollbackTake>,
    keep_sink_state: Recipient<KeepSinkState>,
    status: Recipient<Status>,
}

impl Channel {
    /// The channel called `name` that the actor at `address` is.
    pub fn new<A>(name: impl Into<Text>, address: &Addr<A>) -> Self
    where
        A: Actor<Context = Context<A>>
            + Handler<OpenSource>
            + Handler<Put>
            + Handler<AttachSink>
            + Handler<Take>
            + Handler<CommitTake>
            + Handler<RollbackTake>
            + Handler<KeepSinkState>
            + Handler<Status>,
    {
        Self {
            name: name.into(),
            open_source: address.clone().recipient(),
            put: address.clone().recipient(),
            attach_sink: address.clone().recipient(),
            take: address.clone().recipient(),
            commit_take: address.clone().recipient(),
            rollback_take: address.clone().recipient(),
            keep_sink_state: address.clone().recipient(),
            status: address.clone().recipient(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Text {
        &self.name
    }

    fn stopped(&self) -> ChannelError {
        ChannelError::Stopped { channel: self.name.clone() }
    }

    /// See [`OpenSource`].
    ///
    /// # Errors
    /// [`ChannelError::Offline`] or [`ChannelError::Stopped`].
    pub async fn open_source(&self, source: Text) -> Result<SourceOpened, ChannelError> {
        self.open_source.send(OpenSource { source }).await.map_err(|_| self.stopped())?
    }

    /// See [`Put`].
    ///
    /// # Errors
    /// [`ChannelError`] of any kind but for transactions; nothing was put then, or, where the channel
    /// stopped meanwhile, what its next life tells the source when that opens anew.
    pub async fn put(&self, put: Put) -> Result<PutDone, ChannelError> {
        self.put.send(put).await.map_err(|_| self.stopped())?
    }

    /// See [`AttachSink`].
    ///
    /// # Errors
    /// [`ChannelError::Offline`] or [`ChannelError::Stopped`].
    pub async fn attach_sink(&self) -> Result<SinkAttached, ChannelError> {
        self.attach_sink.send(AttachSink).await.map_err(|_| self.stopped())?
    }

    /// See [`Take`].
    ///
    /// # Errors
    /// [`ChannelError`], where the sink was superseded or the channel is offline or stopped.
    pub async fn take(&self, take: Take) -> Result<Option<Taken>, ChannelError> {
        self.take.send(take).await.map_err(|_| self.stopped())?
    }

    /// See [`CommitTake`].
    ///
    /// # Errors
    /// [`ChannelError`], where the transaction is not open, the sink was superseded, or the channel
    /// is offline or stopped.
    pub async fn commit_take(&self, commit: CommitTake) -> Result<(), ChannelError> {
        self.commit_take.send(commit).await.map_err(|_| self.stopped())?
    }

    /// See [`RollbackTake`].
    ///
    /// # Errors
    /// As [`Channel::commit_take`].
    pub async fn rollback_take(&self, rollback: RollbackTake) -> Result<(), ChannelError> {
        self.rollback_take.send(rollback).await.map_err(|_| self.stopped())?
    }

    /// See [`KeepSinkState`].
    ///
    /// # Errors
    /// [`ChannelError`], where the sink was superseded or the channel is offline or stopped.
    pub async fn keep_sink_state(&self, keep: KeepSinkState) -> Result<(), ChannelError> {
        self.keep_sink_state.send(keep).await.map_err(|_| self.stopped())?
    }

    /// How full it is.
    ///
    /// # Errors
    /// [`ChannelError::Stopped`].
    pub async fn status(&self) -> Result<ChannelStatus, ChannelError> {
        self.status.send(Status).await.map_err(|_| self.stopped())
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Channel").field(&self.name).finish()
    }
}
