//! The durable channel: a log with one reader.
//!
//! ```text
//!   Put ──► batch{position, events} ──► log ── durable ──► PutDone      Take ◄── window ◄── log
//!                                                            CommitTake ──► head ──► head file ──► trim
//! ```
//!
//! Position and events of a put share one record batch ([`record`]), so a source that asks where it
//! was goes on exactly there: exactly once from the source into the channel. What a sink committed is
//! in the head file ([`head`]), which says why it may lag, and why that is no harm. Segments below
//! the head in the file are given back to the disk; what is left when all was committed is at most
//! one segment.
//!
//! The capacity is in events and bytes as [`Event::cost`](crate::agent::event::Event::cost) counts
//! them, not in bytes on disk; what the channel held before a restart is charged again first.
//!
//! # Failure
//! A log that cannot be opened, written or synced is offline: the channel stays and answers
//! everything with why, until someone has helped and the agent is started anew. A full disk is not a
//! failure: whatever it refuses (a log to be made, a put, the head file) waits and is tried again
//! every second, takes go on, and it resumes by itself.

mod handlers;
pub mod head;
mod opening;
pub mod record;
pub mod state;
mod writing_head;

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};

use actix::{fut::wrap_future, prelude::*};
use bytes::BytesMut;
use flumen_runtime::{
    batch::{self, BatchHeader},
    clock::Clock,
    credit::{Credit, Permit},
    disk::{DiskError, Space, actor::DiskHandle},
    era::Ticket,
    ids::{LeaderEpoch, Offset},
    log::{Log, LogConfig, ReadDone, ReadFailure},
    mailbox::Drain,
    supervision::Incarnation,
};

use crate::{
    agent::{
        channel::{
            Capacity, ChannelError, OpenSource, Put, PutDone, Session, SinkAttached, SourceOpened,
            Taken,
            durable::state::Store,
            ledger::TransactionError,
            memory::{cover, state::Freed},
            parked::Parked,
        },
        event::{Text, cost_of},
    },
    answer::{Answer, Answering, later},
};

/// How often the head file is written while the head moves.
const HEAD_EVERY: Duration = Duration::from_millis(100);
/// How often the log is told the time, and the disk asked for its room.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// How long the end waits for room on a full disk. What that does not take stays as it is, and the
/// next start recovers it.
const ROOM_AT_END: Duration = Duration::from_secs(5);
/// Appended bytes after which the disk is asked for its room sooner.
const SPACE_EVERY_BYTES: u64 = 16 << 20;
/// Most bytes of one read of the log.
const READ_BYTES_MAX: usize = 1 << 20;

/// What a durable channel is.
#[derive(Clone, Debug)]
pub struct DurableChannelOptions {
    /// Its name.
    pub name: Text,
    /// The data directory whose disk it shares.
    pub data_dir: PathBuf,
    /// Its own directory, below the data directory.
    pub dir: PathBuf,
    /// The most that it holds.
    pub capacity: Capacity,
    /// Size of a segment: what is not given back when everything was committed.
    pub segment_bytes: u64,
    /// Most bytes of the batch of one put.
    pub put_bytes_max: u64,
}

impl DurableChannelOptions {
    /// A channel called `name` at `channels/<name>` of the data directory, with segments of 64 MiB.
    #[must_use]
    pub fn new(name: impl Into<Text>, data_dir: impl Into<PathBuf>, capacity: Capacity) -> Self {
        let (name, data_dir) = (name.into(), data_dir.into());
        let dir = data_dir.join("channels").join(name.as_ref());
        let (segment_bytes, put_bytes_max) = (64 << 20, 32 << 20);
        Self { name, data_dir, dir, capacity, segment_bytes, put_bytes_max }
    }

    fn log_config(&self) -> LogConfig {
        LogConfig {
            segment_bytes: self.segment_bytes,
            segment_age_ms: u64::MAX,
            index_interval_bytes: 64 << 10,
            batch_bytes_max: self.put_bytes_max,
            // A channel has few batches, and large ones: its own sync is cheaper than the journal.
            journal: false,
            ..LogConfig::default()
        }
    }
}

type TakeAnswer = Answer<Result<Option<Taken>, ChannelError>>;
type PutAnswer = Answer<Result<PutDone, ChannelError>>;
type OpenAnswer = Answer<Result<SourceOpened, ChannelError>>;
type AttachAnswer = Answer<Result<SinkAttached, ChannelError>>;

/// A source that is told where it stood once everything before `end` is durable.
struct Opening {
    source: Text,
    session: Session,
    end: Offset,
    answer: OpenAnswer,
}

/// What only an open channel has.
struct Open {
    disk: DiskHandle,
    ticket: Ticket,
    log: Log,
    store: Store,
    credit: Credit,
    /// The room that its events take.
    held: Permit,
    /// Puts that are not durable yet, in order.
    unsynced: VecDeque<(Offset, PutAnswer)>,
    /// Puts that wait for room on the disk.
    waiting: VecDeque<(Put, PutAnswer)>,
    opening: Vec<Opening>,
    is_reading: bool,
    /// What the head file says, or is about to.
    written_head: Offset,
    is_writing_head: bool,
    /// Whoever waits for the head file to be written as it is then.
    keeping: Vec<Answer<Result<(), ChannelError>>>,
    /// A sink that attaches while the head file is being written: it must not act by a state that
    /// is not durable yet.
    attaching: Vec<AttachAnswer>,
    unasked_bytes: u64,
    is_head_due: bool,
}

enum Stage {
    /// What was asked before it was open.
    Opening {
        sources: Vec<(OpenSource, OpenAnswer)>,
        sinks: Vec<AttachAnswer>,
    },
    Open(Box<Open>),
    Offline(String),
}

/// The actor.
pub struct DurableChannel {
    options: DurableChannelOptions,
    incarnation: Incarnation<Self>,
    clock: Arc<dyn Clock>,
    stage: Stage,
    parked: Option<Parked>,
    draining: Option<Answer<()>>,
    /// The disk had no room for its log when it was opened, or for its head file.
    lacks_room: bool,
}

impl DurableChannel {
    /// One life of the channel.
    #[must_use]
    pub fn new(options: DurableChannelOptions, incarnation: &Incarnation<Self>) -> Self {
        Self {
            options,
            clock: incarnation.local().clock().clone(),
            incarnation: incarnation.clone(),
            stage: Stage::Opening { sources: Vec::new(), sinks: Vec::new() },
            parked: None,
            draining: None,
            lacks_room: false,
        }
    }

    fn superseded(&self, who: &'static str) -> ChannelError {
        ChannelError::Superseded { channel: self.options.name.clone(), who }
    }

    fn transaction_error(&self, error: TransactionError) -> ChannelError {
        ChannelError::Transaction { channel: self.options.name.clone(), error }
    }

    fn offline(&self, why: &str) -> ChannelError {
        ChannelError::Offline { channel: self.options.name.clone(), why: why.to_owned() }
    }

    /// The open channel, for the sink of this session.
    fn for_sink(&mut self, session: Session) -> Result<&mut Open, ChannelError> {
        let superseded = self.superseded("sink");
        let channel = self.options.name.clone();
        match &mut self.stage {
            Stage::Open(open) if open.store.ledger().is_sink(session) => Ok(open),
            Stage::Open(_) | Stage::Opening { .. } => Err(superseded),
            Stage::Offline(why) => Err(ChannelError::Offline { channel, why: why.clone() }),
        }
    }

    /// Ends its work for good, saying why.
    fn go_offline(&mut self, why: String, ctx: &mut Context<Self>) {
        tracing::error!(channel = %self.options.name, "the channel is offline: {why}");
        let error = self.offline(&why);
        match std::mem::replace(&mut self.stage, Stage::Offline(why)) {
            Stage::Opening { sources, sinks } => {
                sources.into_iter().for_each(|(_, answer)| answer.give(Err(error.clone())));
                sinks.into_iter().for_each(|answer| answer.give(Err(error.clone())));
            }
            Stage::Open(open) => {
                let waiting = open.waiting.into_iter().map(|(_, answer)| answer);
                let puts = open.unsynced.into_iter().map(|(_, answer)| answer).chain(waiting);
                puts.for_each(|answer| answer.give(Err(error.clone())));
                open.opening.into_iter().for_each(|one| one.answer.give(Err(error.clone())));
                open.keeping.into_iter().for_each(|answer| answer.give(Err(error.clone())));
                open.attaching.into_iter().for_each(|answer| answer.give(Err(error.clone())));
            }
            Stage::Offline(_) => {}
        }
        if let Some(parked) = self.parked.take() {
            parked.give(Err(error), ctx);
        }
        self.finish_draining();
    }

    // ---- Putting -----------------------------------------------------------------------------

    fn put(&mut self, put: Put, answer: PutAnswer, ctx: &mut Context<Self>) {
        let Stage::Open(open) = &mut self.stage else {
            let error = match &self.stage {
                Stage::Offline(why) => self.offline(why),
                _ => self.superseded("source"),
            };
            return answer.give(Err(error));
        };
        if !open.store.ledger().is_source(&put.advance.source, put.session) {
            return answer.give(Err(self.superseded("source")));
        }
        if open.log.is_full() || !open.waiting.is_empty() {
            return open.waiting.push_back((put, answer));
        }
        match open.append(put, &self.options, self.clock.now_ms()) {
            Ok(end) => open.unsynced.push_back((end, answer)),
            Err(error) => answer.give(Err(error)),
        }
        self.drive(ctx);
    }

    /// Starts every effect that the log wants, and hands out what has become durable.
    fn drive(&mut self, ctx: &mut Context<Self>) {
        let now_ms = self.clock.now_ms();
        let Stage::Open(open) = &mut self.stage else { return };
        while let Some(io) = open.log.next_io(now_ms, open.store.replayed()) {
            let running = io.run(open.disk.clone());
            ctx.spawn(wrap_future(running).map(|done, act: &mut Self, ctx| {
                let Stage::Open(open) = &mut act.stage else { return };
                match open.log.on_io(done) {
                    Ok(()) => act.drive(ctx),
                    Err(failure) => act.go_offline(failure.to_string(), ctx),
                }
            }));
        }
        let durable = open.log.durable_end();
        open.store.on_durable(durable);
        open.answer_durable(durable);
        if open.unasked_bytes >= SPACE_EVERY_BYTES {
            self.ask_for_space(ctx);
        }
        self.serve(ctx);
        self.finish_draining();
    }

    fn ask_for_space(&mut self, ctx: &mut Context<Self>) {
        let Stage::Open(open) = &mut self.stage else { return };
        open.unasked_bytes = 0;
        let asking = open.disk.space(&self.options.dir);
        ctx
            .spawn(wrap_future(asking).map(|space: Result<Space, DiskError>, act: &mut Self, ctx| {
            let Stage::Open(open) = &mut act.stage else { return };
            // A disk that does not tell is taken for one that has room; writing will tell.
            if let Ok(space) = space {
                let was_full = open.log.is_full();
                open.log.note_space(space.free);
                if open.log.is_full() != was_full {
                    tracing::warn!(channel = %act.options.name, free = space.free, "{}", if was_full {
                        "the disk is no longer full: puts go on"
                    } else {
                        "the disk of the channel is full: puts wait, and go on when someone has made room"
                    });
                }
            }
            if !open.log.is_full() {
                for (put, answer) in std::mem::take(&mut open.waiting) {
                    act.put(put, answer, ctx);
                }
            }
        }));
    }

    // ---- Taking ------------------------------------------------------------------------------

    /// Gives the waiting take what there is, or has it read.
    fn serve(&mut self, ctx: &mut Context<Self>) {
        let Stage::Open(open) = &mut self.stage else { return };
        let Some(parked) = self.parked.take_if(|parked| !parked.answer.is_unwanted()) else {
            self.parked = None;
            return;
        };
        match open.store.take(parked.take.events_max, parked.take.bytes_max) {
            Some(taken) => parked.give(Ok(Some(taken)), ctx),
            None => {
                self.parked = Some(parked);
                self.read(ctx);
            }
        }
    }

    fn read(&mut self, ctx: &mut Context<Self>) {
        let Stage::Open(open) = &mut self.stage else { return };
        if open.is_reading {
            return;
        }
        let Some((from, end)) = open.store.wanted_read() else { return };
        match open.log.plan_read(from, end, READ_BYTES_MAX) {
            Ok(plan) => {
                open.is_reading = true;
                let reading = plan.run(open.disk.clone());
                ctx.spawn(wrap_future(reading).map(move |read, act: &mut Self, ctx| {
                    act.on_read(from, read, ctx);
                }));
            }
            Err(error) => self.go_offline(error.to_string(), ctx),
        }
    }

    fn on_read(
        &mut self,
        from: Offset,
        read: Result<ReadDone, ReadFailure>,
        ctx: &mut Context<Self>,
    ) {
        let Stage::Open(open) = &mut self.stage else { return };
        open.is_reading = false;
        let read = read.map_err(|error| error.to_string()).and_then(|done| {
            open.log.note_read(&done);
            open.on_batches(from, &done)
        });
        match read {
            Ok(()) => self.serve(ctx),
            Err(why) => self.go_offline(why, ctx),
        }
    }

    /// Whether it waits for room on the disk.
    fn is_held_up(&self) -> bool {
        self.lacks_room || matches!(&self.stage, Stage::Open(open) if open.log.is_full())
    }

    fn finish_draining(&mut self) {
        let is_done = match &mut self.stage {
            Stage::Open(open) if self.draining.is_some() => open.close(),
            Stage::Opening { .. } => false,
            Stage::Open(_) | Stage::Offline(_) => true,
        };
        if let Some(drained) = self.draining.take_if(|_| is_done) {
            drained.give(());
        }
    }
}

impl Open {
    /// Appends a put to the log; answers where its batch ends.
    fn append(
        &mut self,
        put: Put,
        options: &DurableChannelOptions,
        now_ms: i64,
    ) -> Result<Offset, ChannelError> {
        let Put { events, advance, permit, .. } = put;
        let Some(mut batch) = record::encode(&events, &advance, now_ms) else {
            return Ok(self.log.end());
        };
        let (bytes, name) = (batch.len(), options.name.clone());
        if bytes as u64 > options.put_bytes_max {
            let why = format!("at most {} bytes", options.put_bytes_max);
            return Err(ChannelError::TooLarge { channel: name, bytes, why });
        }
        cover(&mut self.held, permit, &name, events.len(), cost_of(&events))?;
        let first = self.log.end();
        let header = stamp(&mut batch, first);
        self.unasked_bytes += bytes as u64;
        self.log.append(batch.freeze(), &header);
        self.store.on_appended(events, &advance, now_ms, first, header.next_offset());
        Ok(header.next_offset())
    }

    /// Answers what waited for the log to be durable up to `durable`.
    fn answer_durable(&mut self, durable: Offset) {
        while let Some((end, answer)) = self.unsynced.pop_front_if(|(end, _)| *end <= durable) {
            answer.give(Ok(PutDone { end }));
        }
        let (ready, waiting) =
            std::mem::take(&mut self.opening).into_iter().partition(|one| one.end <= durable);
        self.opening = waiting;
        for Opening { source, session, answer, .. } in ready {
            let position = self.store.position_of(&source);
            answer.give(Ok(SourceOpened { session, credit: self.credit.clone(), position }));
        }
    }

    fn on_batches(&mut self, from: Offset, done: &ReadDone) -> Result<(), String> {
        let mut events = Vec::new();
        for part in batch::split(&done.batches) {
            let (header, bytes) = part.map_err(|error| error.to_string())?;
            let batch = done.batches.slice_ref(bytes);
            let decoded = record::decode(&batch, &header, from);
            events.append(&mut decoded.map_err(|error| error.to_string())?.events);
        }
        if done.next <= from {
            return Err(format!("its log holds nothing at {from}, which was durable"));
        }
        self.store.on_read(from, events, done.next);
        Ok(())
    }

    /// Goes on closing; answers whether that is done.
    fn close(&mut self) -> bool {
        let is_head_written = self.written_head == self.store.ledger().head();
        if self.is_writing_head || !is_head_written || !self.unsynced.is_empty() {
            return false;
        }
        self.log.close();
        self.log.is_closed()
    }

    fn give_back(&mut self, freed: Freed) {
        let part = self.held.split(freed.events, freed.bytes);
        assert!(part.is_some(), "CH-2: {freed:?} were not covered by {:?}", self.held);
    }
}

fn stamp(batch: &mut BytesMut, first: Offset) -> BatchHeader {
    batch::stamp(batch, first, LeaderEpoch(0));
    BatchHeader::parse(batch).expect("it was just built")
}

impl Actor for DurableChannel {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.open(ctx);
        ctx.run_interval(TICK_EVERY, |act, ctx| {
            let now_ms = act.clock.now_ms();
            if let Stage::Open(open) = &mut act.stage {
                open.log.tick(now_ms);
                act.ask_for_space(ctx);
                if act.lacks_room {
                    act.write_head(true, ctx);
                }
                act.drive(ctx);
            }
        });
    }
}

impl Handler<Drain> for DurableChannel {
    type Result = Answering<()>;

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answering) = later();
        self.draining = Some(answer);
        if let Stage::Open(open) = &self.stage
            && open.written_head != open.store.ledger().head()
        {
            self.write_head(true, ctx);
        }
        self.finish_draining();
        self.drive(ctx);
        ctx.run_later(ROOM_AT_END, |act, _| {
            if act.is_held_up() {
                act.draining.take().into_iter().for_each(|drained| drained.give(()));
            }
        });
        answering
    }
}
