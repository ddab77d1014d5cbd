//! The memory channel: fast, and empty after a restart.
//!
//! What it held is lost with it. But its next life hands out positions as of what its sink had
//! *committed* whole, so a source that can go back (a tailed file) puts the rest again: at least once
//! over a restart of the channel within the process. Over a restart of the process there is nothing
//! to go by; that is what the durable channel is for.
//!
//! # Failure
//! It has no reason to fail but a defect. Its supervisor makes it anew, and its sink and sources after
//! it; its offsets then begin at the time of day, so that none is used for two events.

pub mod state;

use std::sync::{Arc, Mutex, PoisonError};

use actix::prelude::*;
use flumen_runtime::{
    clock::Clock,
    credit::{Credit, Permit},
    ids::Offset,
    mailbox::Drain,
    supervision::Incarnation,
};

use crate::{
    agent::{
        channel::{
            AttachSink, Capacity, ChannelError, ChannelStatus, CommitTake, KeepSinkState,
            OpenSource, Put, PutDone, RollbackTake, SinkAttached, SourceOpened, Status, Take,
            Taken,
            ledger::TransactionError,
            memory::state::{Buffer, Freed},
            parked::Parked,
        },
        event::{Positions, Text, cost_of},
    },
    answer::{Answer, Answering, later},
};

/// What a memory channel is.
#[derive(Clone, Debug)]
pub struct MemoryChannelOptions {
    /// Its name.
    pub name: Text,
    /// The most that it holds.
    pub capacity: Capacity,
    /// Where its sources stand with all that was committed: outlives the channel, not the process.
    /// Clones share it.
    committed: Arc<Mutex<Positions>>,
}

impl MemoryChannelOptions {
    /// A channel called `name`.
    #[must_use]
    pub fn new(name: impl Into<Text>, capacity: Capacity) -> Self {
        Self { name: name.into(), capacity, committed: Arc::default() }
    }
}

/// The actor.
pub struct MemoryChannel {
    options: MemoryChannelOptions,
    clock: Arc<dyn Clock>,
    buffer: Buffer,
    sink_state: Option<bytes::Bytes>,
    credit: Credit,
    /// The room that the events take.
    held: Permit,
    parked: Option<Parked>,
}

impl MemoryChannel {
    /// One life of the channel.
    #[must_use]
    pub fn new(options: MemoryChannelOptions, incarnation: &Incarnation<Self>) -> Self {
        let clock = incarnation.local().clock().clone();
        // A million offsets for each millisecond that the channel lives, and some.
        let head = Offset(u64::try_from(clock.now_ms()).unwrap_or(0) << 20);
        let committed = options.committed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let credit = Credit::new(options.capacity.events, options.capacity.bytes);
        let held = credit.try_acquire(0, 0).expect("nothing always fits");
        Self {
            buffer: Buffer::new(head, incarnation.number(), committed),
            options,
            clock,
            sink_state: None,
            credit,
            held,
            parked: None,
        }
    }

    fn superseded(&self, who: &'static str) -> ChannelError {
        ChannelError::Superseded { channel: self.options.name.clone(), who }
    }

    fn not_open(&self, error: TransactionError) -> ChannelError {
        ChannelError::Transaction { channel: self.options.name.clone(), error }
    }

    /// Gives the waiting take what came in.
    fn serve(&mut self, ctx: &mut Context<Self>) {
        let Some(parked) = self.parked.take_if(|parked| !parked.answer.is_unwanted()) else {
            self.parked = None;
            return;
        };
        match self.buffer.take(parked.take.events_max, parked.take.bytes_max) {
            Some(taken) => parked.give(Ok(Some(taken)), ctx),
            None => self.parked = Some(parked),
        }
    }

    fn give_back(&mut self, freed: Freed) {
        let part = self.held.split(freed.events, freed.bytes);
        assert!(part.is_some(), "CH-2: {freed:?} were not covered by {:?}", self.held);
        let mut committed = self.options.committed.lock().unwrap_or_else(PoisonError::into_inner);
        committed.clone_from(self.buffer.committed());
    }
}

impl Actor for MemoryChannel {
    type Context = Context<Self>;
}

impl Handler<Drain> for MemoryChannel {
    type Result = ();

    fn handle(&mut self, _: Drain, _: &mut Self::Context) {}
}

impl Handler<OpenSource> for MemoryChannel {
    type Result = Result<SourceOpened, ChannelError>;

    fn handle(&mut self, open: OpenSource, _: &mut Self::Context) -> Self::Result {
        Ok(SourceOpened {
            session: self.buffer.ledger_mut().attach_source(&open.source),
            credit: self.credit.clone(),
            position: self.buffer.positions().of(&open.source),
        })
    }
}

impl Handler<Put> for MemoryChannel {
    type Result = Result<PutDone, ChannelError>;

    fn handle(&mut self, put: Put, ctx: &mut Self::Context) -> Self::Result {
        if !self.buffer.ledger().is_source(&put.advance.source, put.session) {
            return Err(self.superseded("source"));
        }
        let (events, bytes) = (put.events.len(), cost_of(&put.events));
        cover(&mut self.held, put.permit, &self.options.name, events, bytes)?;
        let end = self.buffer.put(put.events, self.clock.now_ms(), put.advance);
        self.serve(ctx);
        Ok(PutDone { end })
    }
}

/// Adds just what the events cost to what is held.
pub(super) fn cover(
    held: &mut Permit,
    mut permit: Permit,
    channel: &Text,
    events: usize,
    bytes: usize,
) -> Result<(), ChannelError> {
    let uncovered = || ChannelError::Uncovered { channel: channel.clone(), events, bytes };
    let part = permit.split(events, bytes).ok_or_else(uncovered)?;
    held.merge(part).map_err(|_| uncovered())
}

impl Handler<AttachSink> for MemoryChannel {
    type Result = Result<SinkAttached, ChannelError>;

    fn handle(&mut self, _: AttachSink, _: &mut Self::Context) -> Self::Result {
        self.parked = None;
        Ok(SinkAttached {
            session: self.buffer.ledger_mut().attach_sink(),
            head: self.buffer.ledger().head(),
            sink_state: self.sink_state.clone(),
            is_durable: false,
        })
    }
}

impl Handler<Take> for MemoryChannel {
    type Result = Answering<Result<Option<Taken>, ChannelError>>;

    fn handle(&mut self, take: Take, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answering) = later();
        if self.buffer.ledger().is_sink(take.session) {
            if let Some(earlier) = self.parked.take() {
                earlier.give(Ok(None), ctx);
            }
            self.park(take, answer, ctx);
            self.serve(ctx);
        } else {
            answer.give(Err(self.superseded("sink")));
        }
        answering
    }
}

impl MemoryChannel {
    fn park(
        &mut self,
        take: Take,
        answer: Answer<Result<Option<Taken>, ChannelError>>,
        ctx: &mut Context<Self>,
    ) {
        self.parked = Some(Parked::new(take, answer, ctx, |act: &mut Self, ctx| {
            if let Some(parked) = act.parked.take() {
                parked.give(Ok(None), ctx);
            }
        }));
    }
}

impl Handler<CommitTake> for MemoryChannel {
    type Result = Result<(), ChannelError>;

    fn handle(&mut self, commit: CommitTake, _: &mut Self::Context) -> Self::Result {
        if !self.buffer.ledger().is_sink(commit.session) {
            return Err(self.superseded("sink"));
        }
        let freed = self.buffer.commit(commit.transaction).map_err(|error| self.not_open(error))?;
        self.sink_state = commit.sink_state.or_else(|| self.sink_state.take());
        self.give_back(freed);
        Ok(())
    }
}

impl Handler<RollbackTake> for MemoryChannel {
    type Result = Result<(), ChannelError>;

    fn handle(&mut self, rollback: RollbackTake, ctx: &mut Self::Context) -> Self::Result {
        if !self.buffer.ledger().is_sink(rollback.session) {
            return Err(self.superseded("sink"));
        }
        self.buffer.rollback(rollback.transaction).map_err(|error| self.not_open(error))?;
        self.serve(ctx);
        Ok(())
    }
}

impl Handler<KeepSinkState> for MemoryChannel {
    type Result = Result<(), ChannelError>;

    fn handle(&mut self, keep: KeepSinkState, _: &mut Self::Context) -> Self::Result {
        if !self.buffer.ledger().is_sink(keep.session) {
            return Err(self.superseded("sink"));
        }
        self.sink_state = Some(keep.sink_state);
        Ok(())
    }
}

impl Handler<Status> for MemoryChannel {
    type Result = MessageResult<Status>;

    fn handle(&mut self, _: Status, _: &mut Self::Context) -> Self::Result {
        let ledger = self.buffer.ledger();
        MessageResult(ChannelStatus {
            head: ledger.head(),
            taken: ledger.taken(),
            end: ledger.end(),
            events: self.buffer.len(),
            bytes: self.held.amount().bytes,
            capacity: self.options.capacity,
            offline: None,
        })
    }
}
