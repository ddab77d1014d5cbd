//! `taildir`: follows files that grow and rotate, and puts their lines into channels.
//!
//! ```text
//!            turn (on a thread that may block)        put (waits for credit, then for the channel)
//!   files ──────────────────────────────────► batch ──────────────────────────────► channels
//!                 the next turn runs while the batch before is put; no more is read ahead
//! ```
//!
//! Flume's TAILDIR, without what its users complain of: a renamed file is not read again, rotation
//! loses nothing, one busy file does not starve the rest, and where it was is kept with the events
//! and not in a file beside them. Which files, and how they are told apart: [`state`].
//!
//! # Failure
//! A channel that stops, or refuses, ends this life; the next one asks the channels where it was. A
//! channel that is offline, or a position that cannot be read, no new life would heal: it says so
//! in its [`SourceStatus`], and tries again every few seconds.

pub mod files;
mod followed;
pub mod lines;
pub mod saved;
pub mod scan;
pub mod state;
pub mod turn;

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use flumen_runtime::{mailbox::Drain, supervision::Incarnation};
use tokio::time::Instant;

use crate::{
    agent::{
        channel::ChannelError,
        event::{Event, Headers, Position, Text},
        source::{
            SourceState, SourceStatus,
            feed::{Batch, Feed, FeedOptions, Mark, Reading},
            taildir::{
                files::{Files, SystemFiles},
                state::{Limits, Tail, TailBatch, TailedLine},
                turn::Tailer,
            },
        },
    },
    answer::{Answer, Answering, later},
};

/// How soon a file that has just grown is looked at again.
const POLL_FIRST: Duration = Duration::from_millis(5);
/// How long to wait with what only a person can mend.
const OFFLINE_RETRY: Duration = Duration::from_secs(5);

/// How long the end waits for the last put.
const PUT_AT_END: Duration = Duration::from_secs(5);

/// What a taildir source follows, and where to.
#[derive(Clone)]
pub struct TaildirOptions<F = SystemFiles> {
    /// The files there are.
    pub files: F,
    /// Patterns of paths, as in `glob(7)`; seen anew all the time.
    pub patterns: Vec<String>,
    /// Name, channels and interceptors.
    pub feed: FeedOptions,
    /// The numbers of the core.
    pub limits: Limits,
    /// How often to look whether a known file has grown, while none does; at first more often.
    pub poll: Duration,
    /// How often to look for new files and names. Looking takes at most a twentieth of the time: in
    /// large directories it comes less often.
    pub scan: Duration,
    /// Header that gets the path whose rotation a line belongs to. Flume's `fileHeaderKey`.
    pub file_header: Option<Text>,
    /// Header that gets where the line begins in its file. Flume's `byteoffset`.
    pub offset_header: Option<Text>,
}

impl TaildirOptions {
    /// Follows `patterns`, without extra headers, looking ten times a second for growth and four
    /// times a second for new files.
    #[must_use]
    pub fn new(patterns: Vec<String>, feed: FeedOptions) -> Self {
        Self {
            files: SystemFiles,
            patterns,
            feed,
            limits: Limits::default(),
            poll: Duration::from_millis(100),
            scan: Duration::from_millis(250),
            file_header: None,
            offset_header: None,
        }
    }
}

/// Files that an actor may follow: its turns go to a thread that may block, and back.
pub trait FollowedFiles: Files<Handle: Send> + Clone + Send + Sync + Unpin + 'static {}

impl<F: Files<Handle: Send> + Clone + Send + Sync + Unpin + 'static> FollowedFiles for F {}

/// The actor.
pub struct Taildir<F: FollowedFiles = SystemFiles> {
    options: Arc<TaildirOptions<F>>,
    incarnation: Incarnation<Self>,
    began: Instant,
    next_scan: Instant,
    /// Away while it reads.
    tailer: Option<Tailer<F>>,
    /// Away while it puts.
    feed: Option<Feed>,
    /// What was read and waits for the feed.
    ready: Option<TailBatch>,
    is_polling: bool,
    /// How long it waited for a file to grow, when it last did.
    polled: Duration,
    draining: Option<Answer<()>>,
    state: SourceState,
}

impl<F: FollowedFiles> Taildir<F> {
    /// One life of the source.
    #[must_use]
    pub fn new(options: Arc<TaildirOptions<F>>, incarnation: &Incarnation<Self>) -> Self {
        let now = Instant::now();
        Self {
            options,
            incarnation: incarnation.clone(),
            began: now,
            next_scan: now,
            tailer: None,
            feed: None,
            ready: None,
            is_polling: false,
            polled: Duration::ZERO,
            draining: None,
            state: SourceState::default(),
        }
    }

    fn open(&mut self, ctx: &mut Context<Self>) {
        let options = self.options.clone();
        let clock = self.incarnation.local().clock().clone();
        let opening = async move { Feed::open(&options.feed, clock, READING).await };
        ctx.spawn(opening.into_actor(self).map(|opened, act, ctx| match opened {
            Ok((feed, position)) => act.on_opened(feed, &position, ctx),
            Err(error) => act.on_failed(&error, ctx),
        }));
    }

    fn on_opened(&mut self, feed: Feed, position: &Position, ctx: &mut Context<Self>) {
        let now_ms = self.incarnation.local().clock().now_ms();
        match Tail::new(self.options.limits.clone(), position, now_ms) {
            Ok(tail) => {
                let patterns = self.options.patterns.clone();
                self.tailer = Some(Tailer::new(self.options.files.clone(), patterns, tail));
                self.feed = Some(feed);
                self.state.offline = None;
                self.go_on(ctx);
            }
            Err(error) => self.stay_offline(error.to_string(), ctx),
        }
    }

    fn on_failed(&mut self, error: &ChannelError, ctx: &mut Context<Self>) {
        if error.is_offline() {
            self.stay_offline(error.to_string(), ctx);
        } else {
            self.incarnation.fail(error);
        }
    }

    fn stay_offline(&mut self, why: String, ctx: &mut Context<Self>) {
        if self.state.offline.as_ref() != Some(&why) {
            tracing::error!(source = %self.options.feed.source, "{why}");
        }
        (self.tailer, self.feed, self.ready) = (None, None, None);
        self.state.offline = Some(why);
        self.finish_draining();
        ctx.run_later(OFFLINE_RETRY, |act, ctx| {
            if act.feed.is_none() && act.tailer.is_none() {
                act.open(ctx);
            }
        });
    }

    /// Starts what can be started: a put of what was read, and the next turn.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        if let Some(feed) = self.feed.take() {
            match self.ready.take() {
                Some(batch) => self.put(feed, batch, ctx),
                None => self.feed = Some(feed),
            }
        }
        if self.draining.is_some() {
            return self.finish_draining();
        }
        if self.ready.is_none() && !self.is_polling {
            self.turn(ctx);
        }
    }

    fn turn(&mut self, ctx: &mut Context<Self>) {
        let Some(mut tailer) = self.tailer.take() else { return };
        let (began, scans) = (self.began, Instant::now() >= self.next_scan);
        let turn = move || {
            let start = Instant::now();
            let batch = tailer.turn(start - began, scans);
            (tailer, batch, start.elapsed())
        };
        let turning = async move {
            if F::BLOCKS { tokio::task::spawn_blocking(turn).await } else { Ok(turn()) }
        };
        ctx.spawn(turning.into_actor(self).map(move |turned, act, ctx| match turned {
            Ok((tailer, batch, took)) => {
                if scans {
                    act.next_scan = Instant::now() + act.options.scan.max(took * 20);
                }
                act.on_turned(tailer, batch, took, ctx);
            }
            Err(error) => act.incarnation.fail(format!("a turn of the tailer ended: {error}")),
        }));
    }

    fn on_turned(
        &mut self,
        mut tailer: Tailer<F>,
        batch: TailBatch,
        took: Duration,
        ctx: &mut Context<Self>,
    ) {
        for trouble in tailer.take_troubles() {
            tracing::warn!(source = %self.options.feed.source, "{}: {}", trouble.what, trouble.why);
        }
        let counts = tailer.tail().counts();
        self.state.unread_bytes = tailer.tail().unread_bytes();
        self.state.counts = vec![
            ("lines", counts.lines),
            ("bytes", counts.bytes),
            ("pieces", counts.pieces),
            ("truncations", counts.truncations),
            ("replaced", counts.replaced),
            ("unended", counts.unended),
        ];
        self.tailer = Some(tailer);
        let is_idle = batch.lines.is_empty() && !batch.has_more;
        if !is_idle {
            self.polled = Duration::ZERO;
        }
        if !batch.lines.is_empty() || !batch.parts.is_empty() || !batch.anew.is_empty() {
            self.ready = Some(batch);
        }
        if is_idle && self.draining.is_none() {
            self.is_polling = true;
            // Looking is to take at most a fifth of the time, however many files there are.
            let wait = (self.polled * 2).max(POLL_FIRST).max(took * 4).min(self.options.poll);
            self.polled = wait;
            ctx.run_later(wait, |act, ctx| {
                act.is_polling = false;
                act.go_on(ctx);
            });
        }
        self.go_on(ctx);
    }

    fn put(&mut self, mut feed: Feed, batch: TailBatch, ctx: &mut Context<Self>) {
        let batch = self.batch_of(batch);
        let putting = async move { (feed.put(batch).await, feed) };
        ctx.spawn(putting.into_actor(self).map(|(put, feed), act, ctx| match put {
            Ok(()) => {
                act.state.events = feed.counts().put;
                act.feed = Some(feed);
                act.go_on(ctx);
            }
            Err(error) => act.on_failed(&error, ctx),
        }));
    }

    fn batch_of(&self, batch: TailBatch) -> Batch {
        let mut part: Option<(files::FileKey, Arc<str>)> = None;
        let events = batch.lines.into_iter().map(|line| {
            let name = match &part {
                Some((key, name)) if *key == line.key => name.clone(),
                _ => saved::part_of(line.key).into(),
            };
            part = Some((line.key, name.clone()));
            let mark = Mark { part: name, end: line.end };
            (self.event_of(line), mark)
        });
        Batch { events: events.collect(), parts: batch.parts, anew: batch.anew }
    }

    fn event_of(&self, line: TailedLine) -> Event {
        let mut headers = Headers::new();
        if let Some(name) = &self.options.file_header {
            headers.insert(name.clone(), line.family);
        }
        if let Some(name) = &self.options.offset_header {
            headers.insert(name.clone(), line.start.to_string());
        }
        Event { headers, body: line.body }
    }

    /// Answers the drain once nothing is read and nothing is being put.
    fn finish_draining(&mut self) {
        let is_away =
            self.state.offline.is_none() && (self.tailer.is_none() || self.feed.is_none());
        if let Some(drained) = self.draining.take_if(|_| !is_away && self.ready.is_none()) {
            drained.give(());
        }
    }
}

/// How the positions of files are read.
const READING: Reading = Reading { mark_of: saved::offset_of, is_same: saved::is_same_birth };

impl<F: FollowedFiles> Actor for Taildir<F> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.open(ctx);
    }
}

impl<F: FollowedFiles> Handler<Drain> for Taildir<F> {
    type Result = Answering<()>;

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answering) = later();
        self.draining = Some(answer);
        self.go_on(ctx);
        // A put that waits for room on a full disk may wait for ever. What it holds stays in its file,
        // and is read again by the next life, unless the channel takes it after all.
        ctx.run_later(PUT_AT_END, |act, _| {
            act.draining.take().into_iter().for_each(|drained| drained.give(()));
        });
        answering
    }
}

impl<F: FollowedFiles> Handler<SourceStatus> for Taildir<F> {
    type Result = MessageResult<SourceStatus>;

    fn handle(&mut self, _: SourceStatus, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.state.clone())
    }
}
