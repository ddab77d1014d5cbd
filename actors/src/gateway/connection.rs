//! One client's connection: requests in, answers out, in their order.
//!
//! ```text
//!   socket ──► Intake ──► Serve::serve ──► InOrder ──► Outgoing ──► socket
//!      a permit for each      │ Now, or Later           all answers of a turn in one flush
//!      request's bytes        └──► partitions, coordinators, …
//! ```
//!
//! Several requests are worked on at once, and their answers leave in the order in which they came;
//! of those whose answers may be megabytes, such as fetches, one at a time. A connection reads no more
//! when it has [`Limits::requests_in_flight_max`] requests in work, when answers wait for a slow
//! socket, when it is muted, and when the node's room for requests is taken: then the bytes wait in
//! the client.
//!
//! It owns no buffer while it waits: what arrives goes through a scratch of its arbiter, and a
//! request gets a buffer of exactly its length. Each turn has a budget, so that a greedy client does
//! not hold the arbiter.
//!
//! It may move once to another arbiter: see [`moving`].
//!
//! # Failure
//! A connection is temporary: whatever goes wrong with it closes it, and the client connects again.
//! Its socket is also on the list of its arbiter, which shuts it down when the arbiter is given up.

mod answer;
mod clock;
mod intake;
mod moving;
mod order;
mod outgoing;
mod room;

use std::{
    any::Any,
    cell::Cell,
    fmt, io, mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix::{Actor, ActorFuture, AsyncContext, Context as ActorContext, Handler};
use bytes::BufMut;
use flumen_runtime::{
    credit::{Acquire, Permit},
    ids::ArbiterId,
    mailbox::Drain,
    supervision::Incarnation,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::Instant,
};

pub(crate) use self::answer::{Answer, Reply};
pub use self::intake::{BadLength, Frame, Intake, Taken};
use self::{
    clock::{Clock, since},
    order::InOrder,
    outgoing::Outgoing,
};
pub(crate) use self::{
    moving::{Carried, Move},
    room::Room,
};
use super::limits::Limits;
use crate::answer::{Answering, later};

/// Bytes of the scratch into which a connection without a buffer reads.
const SCRATCH_BYTES: usize = 16 << 10;
/// Bytes that a connection reads before others of its arbiter have their turn.
const TURN_BYTES: usize = 256 << 10;
/// Bytes of answers that may wait for the socket before no more requests are read.
const UNSENT_BYTES_MAX: u64 = 1 << 20;
/// How often it is looked whether an answer that is not taken has come into somebody's way.
const LOOK: Duration = Duration::from_secs(1);

thread_local! {
    /// Taken out while it is read into.
    static SCRATCH: Cell<Box<[u8]>> = Cell::default();
}

/// A stream of bytes to a client: a socket, or what is laid over one.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> ByteStream for S {}

/// What is behind a connection.
pub(crate) trait Serve {
    /// Takes up a request. What it sends to other actors is sent before this returns, so that
    /// requests take effect in their order.
    fn serve(&mut self, frame: Frame) -> Reply;

    /// Whether `frame` must wait until the answers to all before it have left.
    fn must_wait(&self, frame: &Frame) -> bool;

    /// The arbiter to which the connection is to move before `frame` is taken up, once that is known. The
    /// frame stays as it is.
    fn home(&mut self, frame: &mut Frame) -> Option<ArbiterId>;

    /// What a peer speaks whose first bytes are no length of a request, for the log; none where that
    /// is not known.
    fn recognise(&self, head: [u8; 4]) -> Option<String>;
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client is gone")]
    Gone,
    #[error("the client is gone: {0}")]
    Broken(#[from] io::Error),
    #[error("{0}")]
    NotKafka(String),
    #[error("no request within {0:?}")]
    Idle(Duration),
    #[error("a request made too little progress")]
    Slow,
    #[error("the taking of an answer made too little progress")]
    Untaken,
    #[error("{0}")]
    Refused(String),
    #[error("the node stops")]
    Drained,
    #[error("it goes on where its partition is")]
    Moves(ArbiterId),
}

/// See the module. What is seldom there is in boxes: with its task it fills 1,024 bytes.
pub(crate) struct Connection<S: ByteStream> {
    incarnation: Incarnation<Connection<S>>,
    peer: Arc<str>,
    /// There until it goes on elsewhere.
    stream: Option<S>,
    serve: Box<dyn Serve>,
    limits: Arc<Limits>,
    room: Room,
    intake: Intake,
    /// Where it goes on, once it has been told.
    moves_to: Option<ArbiterId>,
    goes_on: Option<Move<S>>,
    /// A request that must wait for the answers before it.
    held: Option<Box<Frame>>,
    /// Bytes that were read before there was room for their request.
    unread: Vec<u8>,
    waits_for_room: Option<Box<(Wanted, Acquire)>>,
    order: InOrder,
    outgoing: Outgoing,
    muted_until: Option<Instant>,
    closes: Option<Box<str>>,
    clock: Clock,
    draining: Option<crate::answer::Answer<()>>,
    /// Kept as long as the connection is here: its slot, and its place on the list of sockets.
    kept: Box<dyn Any>,
    has_ended: bool,
}

/// What a request waits for room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// So many bytes of its own, which are not read yet.
    Frame(usize),
    /// What it is decoded to: it is held.
    Decoded,
}

/// What a connection is made of.
pub(crate) struct Parts<S> {
    /// The client's end of it.
    pub(crate) stream: S,
    /// Where the client is.
    pub(crate) peer: Arc<str>,
    /// What answers.
    pub(crate) serve: Box<dyn Serve>,
    /// The node's limits.
    pub(crate) limits: Arc<Limits>,
    /// The node's room for requests.
    pub(crate) room: Room,
    /// What is given back when the connection ends.
    pub(crate) kept: Box<dyn Any>,
    /// What it brings along from another arbiter.
    pub(crate) carried: Carried,
    /// How it moves to another, where it can.
    pub(crate) goes_on: Option<Move<S>>,
}

impl<S: ByteStream> Connection<S> {
    pub(crate) fn new(incarnation: &Incarnation<Self>, parts: Parts<S>) -> Self {
        let Parts { stream, peer, serve, limits, room, kept, carried, goes_on } = parts;
        let clock = Clock::new(limits.idle_max);
        Self {
            incarnation: incarnation.clone(),
            peer,
            stream: Some(stream),
            serve,
            intake: match carried.held {
                Some(_) => Intake::behind_others(limits.frame_bytes_max),
                None => Intake::new(limits.frame_bytes_max),
            },
            limits,
            room,
            moves_to: None,
            goes_on,
            held: carried.held,
            unread: carried.unread,
            waits_for_room: None,
            order: InOrder::default(),
            outgoing: Outgoing::default(),
            muted_until: None,
            closes: None,
            clock,
            draining: None,
            kept,
            has_ended: false,
        }
    }

    /// One turn: takes in, answers, sends, in that order, so that all answers leave in one flush.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let mut budget = TURN_BYTES;
        loop {
            let stopped_reading =
                self.take_in(cx, &mut budget).map_err(|end| self.or_refused(end, cx))?;
            self.collect(cx);
            let sent = self.send(cx)?;
            // What comes behind it is not answered any more, so it is not waited for.
            if let Some(why) = self.closes.take_if(|_| sent) {
                return Err(End::Refused(why.into()));
            }
            if self.is_drained(sent) {
                return Err(End::Drained);
            }
            if let Some(arbiter) = self.moves_to.filter(|_| self.is_quiet() && !self.is_muted()) {
                return Err(End::Moves(arbiter));
            }
            // Room was made for what could not be read: it is tried again, or nobody wakes us.
            let again = stopped_reading && self.may_take();
            if again && budget == 0 {
                cx.waker().wake_by_ref();
            }
            if !again || budget == 0 {
                let is_read = !stopped_reading && self.waits_for_room.is_none() && self.may_take();
                return self.clock_turn(cx, is_read);
            }
        }
    }

    /// Sends what the socket takes. Returns whether all has left.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let stream = self.stream.as_mut().ok_or(End::Gone)?;
        let had = self.outgoing.sent();
        let has_left = self.outgoing.poll_send(stream, cx)?.is_ready();
        if self.outgoing.sent() > had {
            self.clock.last_moved = Instant::now();
        }
        if has_left {
            self.clock.sending = None;
        }
        Ok(has_left)
    }

    /// Why it ends: who is refused may hang up before it is said.
    fn or_refused(&mut self, end: End, cx: &mut Context<'_>) -> End {
        self.collect(cx);
        match (end, self.closes.take()) {
            (End::Gone | End::Broken(_), Some(why)) => End::Refused(why.into()),
            (end, _) => end,
        }
    }

    fn is_drained(&self, sent: bool) -> bool {
        // A request that is held was not taken up: it is the next node's.
        self.draining.is_some() && sent && self.order.is_empty()
    }

    /// Whether another request may be taken up.
    fn may_take(&self) -> bool {
        self.order.len() < self.limits.requests_in_flight_max
            && self.outgoing.len() < UNSENT_BYTES_MAX
            && (self.held.is_none() || self.waits_to_be_decoded() || self.is_quiet())
            && !self.is_muted()
            && self.moves_to.is_none()
            && self.closes.is_none()
            && self.draining.is_none()
    }

    fn is_muted(&self) -> bool {
        self.muted_until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether the request that is held waits for room, not for the answers before it.
    fn waits_to_be_decoded(&self) -> bool {
        matches!(self.waits_for_room.as_deref(), Some((Wanted::Decoded, _)))
    }

    /// Whether the answers to all requests have left.
    fn is_quiet(&self) -> bool {
        self.order.is_empty() && self.outgoing.len() == 0
    }

    /// Reads and takes up requests. Returns whether it stopped before the socket had no more.
    fn take_in(&mut self, cx: &mut Context<'_>, budget: &mut usize) -> Result<bool, End> {
        while self.may_take() {
            if self.waits_to_be_decoded() && self.poll_room(cx).is_pending() {
                return Ok(false);
            }
            if let Some(frame) = self.held.take() {
                self.arrived(*frame);
                continue;
            }
            if !self.unread.is_empty() {
                let unread = mem::take(&mut self.unread);
                self.parse(&unread)?;
                if !self.unread.is_empty() && self.poll_room(cx).is_pending() {
                    return Ok(false);
                }
                continue;
            }
            if self.poll_room(cx).is_pending() {
                return Ok(false);
            }
            if *budget == 0 {
                return Ok(true);
            }
            match self.read(cx)? {
                Poll::Pending => return Ok(false),
                Poll::Ready(read) => *budget = budget.saturating_sub(read),
            }
        }
        Ok(true)
    }

    /// Ready when no request waits for the node's room.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(waits) = &mut self.waits_for_room else { return Poll::Ready(()) };
        let (wanted, acquire) = &mut **waits;
        let permit = std::task::ready!(Pin::new(acquire).poll(cx));
        match (*wanted, &mut self.held) {
            (Wanted::Frame(len), _) => self.admit(len, permit),
            (Wanted::Decoded, Some(frame)) => frame.decoded = Some(permit),
            (Wanted::Decoded, None) => {}
        }
        self.waits_for_room = None;
        Poll::Ready(())
    }

    fn admit(&mut self, len: usize, permit: Permit) {
        self.clock.arriving = Some((Instant::now(), 0));
        self.intake.admit(len, permit);
    }

    /// Reads once, and takes up the requests that are whole.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<Poll<usize>, End> {
        if let Some((buffer, lacks)) = self.intake.buffer().filter(|(_, lacks)| *lacks > 0) {
            let stream = self.stream.as_mut().ok_or(End::Gone)?;
            let mut buffer = buffer.limit(lacks);
            let Poll::Ready(read) = pin!(stream.read_buf(&mut buffer)).poll(cx)? else {
                return Ok(Poll::Pending);
            };
            if read == 0 {
                return Err(End::Gone);
            }
            if let Taken::Frame(frame) = self.intake.whole() {
                self.arrived(frame);
            }
            return Ok(Poll::Ready(read));
        }
        let mut scratch = SCRATCH.take();
        if scratch.is_empty() {
            scratch = vec![0; SCRATCH_BYTES].into();
        }
        let read = self.read_through(cx, &mut scratch);
        SCRATCH.set(scratch);
        read
    }

    fn read_through(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Result<Poll<usize>, End> {
        let stream = self.stream.as_mut().ok_or(End::Gone)?;
        let mut buffer = ReadBuf::new(scratch);
        if Pin::new(stream).poll_read(cx, &mut buffer)?.is_pending() {
            return Ok(Poll::Pending);
        }
        let read = buffer.filled().len();
        if read == 0 {
            return Err(End::Gone);
        }
        self.parse(buffer.filled())?;
        Ok(Poll::Ready(read))
    }

    /// Takes requests out of `input`; what there is no room for now is kept.
    fn parse(&mut self, mut input: &[u8]) -> Result<(), End> {
        loop {
            if !self.may_take() || self.waits_for_room.is_some() {
                self.unread = input.to_vec();
                return Ok(());
            }
            let taken = self.intake.take(&mut input);
            match taken.map_err(|bad| self.not_kafka(&bad, input))? {
                Taken::More => return Ok(()),
                Taken::Frame(frame) => self.arrived(frame),
                Taken::Begins(len) => {
                    self.check_first(input)?;
                    let room = self.room.of(len);
                    match room.try_acquire(1, len) {
                        Ok(permit) => self.admit(len, permit),
                        Err(_) => {
                            let waits = (Wanted::Frame(len), room.acquire(1, len));
                            self.waits_for_room = Some(Box::new(waits));
                        }
                    }
                }
            }
        }
    }

    fn not_kafka(&self, bad: &BadLength, rest: &[u8]) -> End {
        let why = self.serve.recognise(bad.head).unwrap_or_else(|| bad.to_string());
        End::NotKafka(why + &self.beginning(rest))
    }

    /// Where requests may be as long as other protocols' first bytes spell, a client's first one is not.
    fn check_first(&self, rest: &[u8]) -> Result<(), End> {
        match self.intake.first_head().and_then(|head| self.serve.recognise(head)) {
            Some(why) => Err(End::NotKafka(why + &self.beginning(rest))),
            None => Ok(()),
        }
    }

    /// How the stream begins, to be told behind why it is given up; nothing of a peer that has sent a
    /// request.
    fn beginning(&self, rest: &[u8]) -> String {
        let beginning = self.intake.beginning(rest);
        beginning.map_or_else(String::new, |bytes| format!("; what it sent begins with {bytes}"))
    }

    fn arrived(&mut self, mut frame: Frame) {
        self.clock.arriving = None;
        self.clock.last_moved = Instant::now();
        if self.goes_on.is_some() {
            self.moves_to = self.serve.home(&mut frame);
        }
        let must_wait = self.serve.must_wait(&frame) && !self.is_quiet();
        if must_wait || self.moves_to.is_some() {
            self.held = Some(Box::new(frame));
        } else {
            self.take_up(frame);
        }
    }

    fn take_up(&mut self, frame: Frame) {
        match self.serve.serve(frame) {
            Reply::Now(answer) => self.order.now(answer),
            Reply::Later(answer) => self.order.later(answer),
            Reply::Not(frame, room) => {
                self.held = Some(Box::new(frame));
                self.waits_for_room = Some(Box::new((Wanted::Decoded, room)));
            }
        }
    }

    /// Gathers the answers that are ready.
    fn collect(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(mut answer)) = self.order.poll_next(cx) {
            if !answer.mute.is_zero() {
                self.muted_until = Some(Instant::now() + answer.mute);
            }
            if self.closes.is_none() {
                self.closes = answer.close.take().map(String::into_boxed_str);
                self.outgoing.push(answer);
            }
        }
    }

    /// Ends what made no progress, and sees to it that there is a next look. Whether the client is slow
    /// to send is asked only where all that came `is_read`.
    fn clock_turn(&mut self, cx: &mut Context<'_>, is_read: bool) -> Result<(), End> {
        let now = Instant::now();
        let limits = &self.limits;
        let clock = &mut self.clock;
        clock.note_read(is_read, now);
        let within = (now, limits.progress_max);
        let received = self.intake.received() as u64;
        clock.arriving =
            since(clock.arriving, received, within).filter(|_| self.intake.is_within());
        let (sent, unsent) = (self.outgoing.sent(), self.outgoing.len());
        clock.sending = since(clock.sending, sent, within).filter(|_| unsent > 0);
        self.muted_until = self.muted_until.filter(|until| now < *until);
        let mut next = clock.last_moved + limits.idle_max;
        if now >= next {
            if clock.sending.is_some() {
                return Err(End::Untaken);
            }
            if is_read && self.order.is_empty() {
                return Err(End::Idle(limits.idle_max));
            }
            next = now + limits.idle_max;
        }
        if let Some((since, _)) = clock.arriving.filter(|_| is_read) {
            let due = since + limits.progress_max;
            if now >= due {
                return Err(End::Slow);
            }
            next = next.min(due);
        }
        if let Some((since, _)) = clock.sending {
            // Some clients read only when they are asked for records, which may be minutes later: who takes
            // an answer slowly, or not now, may do so as long as it is in nobody's way.
            let due = since + limits.progress_max;
            if now >= due && self.outgoing.is_in_the_way() {
                return Err(End::Untaken);
            }
            next = next.min(due.max(now + LOOK));
        }
        next = self.muted_until.map_or(next, |until| next.min(until));
        clock.wake_at(next, now, cx);
        Ok(())
    }

    /// Says once why it ends: loudly only where the peer is no client or misbehaves.
    fn ended(&mut self, end: &End) {
        let begins = match end {
            End::Slow | End::Gone | End::Broken(_) => self.beginning(&self.unread),
            _ => String::new(),
        };
        let is_loud = match end {
            End::NotKafka(_) | End::Slow | End::Untaken | End::Refused(_) => true,
            // Who sends something, and not even one request, may be no client.
            End::Gone | End::Broken(_) => !begins.is_empty(),
            End::Idle(_) | End::Drained | End::Moves(_) => false,
        };
        let peer = &self.peer;
        if is_loud {
            tracing::warn!(%peer, why = %format_args!("{end}{begins}"), "a connection was closed");
        } else {
            tracing::debug!(%peer, why = %end, "a connection has ended");
        }
        if let (End::Moves(arbiter), Some(go_on)) = (end, self.goes_on.take())
            && let Some(stream) = self.stream.take()
        {
            let carried = Carried { held: self.held.take(), unread: mem::take(&mut self.unread) };
            // First the place on this arbiter's list, which takes a descriptor as that on the next does.
            self.kept = Box::new(());
            go_on(stream, *arbiter, carried);
        }
        if let Some(answer) = self.draining.take() {
            answer.give(());
        }
        self.has_ended = true;
        self.incarnation.finish();
    }
}

impl<S: ByteStream> fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl<S: ByteStream> Actor for Connection<S> {
    type Context = ActorContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(Turns);
    }
}

/// Gives the connection its turns.
struct Turns;

impl<S: ByteStream> ActorFuture<Connection<S>> for Turns {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        connection: &mut Connection<S>,
        _: &mut ActorContext<Connection<S>>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if connection.has_ended {
            return Poll::Ready(());
        }
        match connection.turn(cx) {
            Ok(()) => Poll::Pending,
            Err(end) => {
                connection.ended(&end);
                Poll::Ready(())
            }
        }
    }
}

impl<S: ByteStream> Handler<Drain> for Connection<S> {
    type Result = Answering<()>;

    /// Takes no more requests; ends when the answers to those it has have left.
    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answering) = later();
        self.draining = Some(answer);
        // A turn of its own, for nothing may come over the socket any more to cause one.
        ctx.spawn(Turns);
        answering
    }
}

#[cfg(test)]
mod tests;
