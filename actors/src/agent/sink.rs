//! Sinks: what takes events out of a channel and delivers them.
//!
//! ```text
//!   attach ──► resume ──► take ──► deliver ──► commit ──► take ──► …
//!      ▲                            │ failed
//!      └──────── back-off ──────────┘    what was not committed is offered again
//! ```
//!
//! One actor for all of them, [`Sink`]; how they differ stands behind [`Delivery`]: how events are
//! delivered, when that may be committed, and what of a channel's backlog was delivered before.
//!
//! # Failure
//! A delivery that fails is tried again from the channel's head after a back-off, in the same life:
//! a full disk or a partition that moves is no reason to restart anything. Until it succeeds the sink
//! says why in its [`SinkStatus`].

pub mod file_roll;
pub mod logger;
pub mod null;
pub mod topic;

use std::{future::Future, time::Duration};

use actix::prelude::*;
use bytes::Bytes;
use flumen_runtime::{mailbox::Drain, placement::Local, supervision::Incarnation};

use crate::{
    agent::channel::{
        Channel, ChannelError, CommitTake, KeepSinkState, SinkAttached, Take, Taken, TakenEvent,
        TransactionId,
    },
    answer::{Answer, Answering, later},
};

/// How a sink delivers.
pub trait Delivery: Unpin + 'static {
    /// Called when the sink has (re)attached: finds out what of the channel's backlog was delivered,
    /// so that it can be skipped. What it answers is kept by the channel before anything is taken.
    fn resume(
        &mut self,
        attached: &SinkAttached,
        local: &Local,
    ) -> impl Future<Output = Result<Option<Bytes>, DeliverError>>;

    /// Delivers `events`, which follow those of the last call; none after a while without any.
    fn deliver(
        &mut self,
        events: Vec<TakenEvent>,
    ) -> impl Future<Output = Result<Delivered, DeliverError>>;

    /// Makes everything delivered so far ready to be committed: the sink stops.
    fn finish(&mut self) -> impl Future<Output = Result<Delivered, DeliverError>> {
        self.deliver(Vec::new())
    }

    /// What it counts, by name.
    fn counts(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// How far a delivery got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Everything so far is delivered for good; the channel keeps this with its head.
    All(Option<Bytes>),
    /// Not yet: a file is not full, for instance.
    NotYet,
}

/// Why events could not be delivered. They are offered again.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct DeliverError(pub String);

/// What a sink takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkOptions {
    /// Most events of a take (Flume's `batchSize`).
    pub events_max: usize,
    /// Most bytes of a take.
    pub bytes_max: usize,
    /// How long a take waits for the first event, and so how long a stop may take to be noticed.
    pub wait: Duration,
}

impl Default for SinkOptions {
    fn default() -> Self {
        let wait = Duration::from_millis(250);
        Self { events_max: 1024, bytes_max: 1 << 20, wait }
    }
}

/// What a sink has done, and whether it can go on.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "SinkState")]
pub struct SinkStatus;

/// The answer to [`SinkStatus`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkState {
    /// Events that it took, in this life; those offered again count again.
    pub taken: u64,
    /// Events that were committed, in this life.
    pub committed: u64,
    /// What it counts, by name.
    pub counts: Vec<(&'static str, u64)>,
    /// Why it does not go on; it tries again by itself.
    pub trouble: Option<String>,
}

/// The first back-off after a failure; doubled for each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// The longest back-off, Flume's.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The actor.
pub struct Sink<D: Delivery> {
    channel: Channel,
    options: SinkOptions,
    incarnation: Incarnation<Self>,
    /// Away while it delivers.
    delivery: Option<D>,
    attached: Option<SinkAttached>,
    /// The newest transaction that is not committed, and the events of all of them.
    open: Option<TransactionId>,
    open_events: u64,
    failures: u32,
    draining: Option<Answer<()>>,
    state: SinkState,
}

impl<D: Delivery> Sink<D> {
    /// One life of a sink that takes from `channel`.
    #[must_use]
    pub fn new(
        channel: Channel,
        options: SinkOptions,
        delivery: D,
        incarnation: &Incarnation<Self>,
    ) -> Self {
        Self {
            channel,
            options,
            incarnation: incarnation.clone(),
            delivery: Some(delivery),
            attached: None,
            open: None,
            open_events: 0,
            failures: 0,
            draining: None,
            state: SinkState::default(),
        }
    }

    fn attach(&mut self, ctx: &mut Context<Self>) {
        let Some(mut delivery) = self.delivery.take() else { return };
        (self.open, self.open_events) = (None, 0);
        let (channel, local) = (self.channel.clone(), self.incarnation.local().clone());
        let attaching = async move {
            let attached = attach(&channel, &mut delivery, &local).await;
            (delivery, attached)
        };
        ctx.spawn(attaching.into_actor(self).map(|(delivery, attached), act, ctx| {
            act.delivery = Some(delivery);
            match attached {
                Ok(attached) => {
                    act.attached = Some(attached);
                    act.take(ctx);
                }
                Err(error) => act.back_off(&error, ctx),
            }
        }));
    }

    fn take(&mut self, ctx: &mut Context<Self>) {
        let Some(attached) = &self.attached else { return };
        if self.draining.is_some() {
            return self.deliver(None, ctx);
        }
        let SinkOptions { events_max, bytes_max, wait } = self.options;
        let take = Take { session: attached.session, events_max, bytes_max, wait };
        let channel = self.channel.clone();
        let taking = async move { channel.take(take).await };
        ctx.spawn(taking.into_actor(self).map(|taken, act, ctx| match taken {
            Ok(taken) => act.deliver(taken, ctx),
            Err(error) => act.on_channel_error(&error, ctx),
        }));
    }

    fn deliver(&mut self, taken: Option<Taken>, ctx: &mut Context<Self>) {
        let Some(mut delivery) = self.delivery.take() else { return };
        let is_last = taken.is_none() && self.draining.is_some();
        let mut events = Vec::new();
        if let Some(taken) = taken {
            self.open = Some(taken.transaction);
            self.open_events += taken.events.len() as u64;
            self.state.taken += taken.events.len() as u64;
            events = taken.events;
        }
        let delivering = async move {
            let delivered = match is_last {
                true => delivery.finish().await,
                false => delivery.deliver(events).await,
            };
            (delivery, delivered)
        };
        ctx.spawn(delivering.into_actor(self).map(move |(delivery, delivered), act, ctx| {
            act.state.counts = delivery.counts();
            act.delivery = Some(delivery);
            match delivered {
                Ok(Delivered::All(state)) => act.commit(state, is_last, ctx),
                Ok(Delivered::NotYet) => act.go_on(is_last, ctx),
                Err(error) => act.back_off(&error, ctx),
            }
        }));
    }

    fn commit(&mut self, sink_state: Option<Bytes>, is_last: bool, ctx: &mut Context<Self>) {
        let (Some(attached), Some(transaction)) = (&self.attached, self.open.take()) else {
            return self.go_on(is_last, ctx);
        };
        let session = attached.session;
        let (channel, count) = (self.channel.clone(), std::mem::take(&mut self.open_events));
        let commit = CommitTake { session, transaction, sink_state };
        let committing = async move { channel.commit_take(commit).await };
        ctx.spawn(committing.into_actor(self).map(move |committed, act, ctx| match committed {
            Ok(()) => {
                act.state.committed += count;
                act.go_on(is_last, ctx);
            }
            Err(error) => act.on_channel_error(&error, ctx),
        }));
    }

    fn go_on(&mut self, is_last: bool, ctx: &mut Context<Self>) {
        (self.failures, self.state.trouble) = (0, None);
        match self.draining.take_if(|_| is_last) {
            Some(drained) => drained.give(()),
            None => self.take(ctx),
        }
    }

    fn on_channel_error(&mut self, error: &ChannelError, ctx: &mut Context<Self>) {
        if matches!(error, ChannelError::Superseded { .. }) {
            // The channel began a new life, or this sink did.
            self.attached = None;
        }
        self.back_off(&DeliverError(error.to_string()), ctx);
    }

    fn back_off(&mut self, error: &DeliverError, ctx: &mut Context<Self>) {
        if self.state.trouble.as_ref() != Some(&error.0) {
            tracing::warn!(channel = %self.channel.name(), "the sink cannot deliver: {error}");
        }
        self.state.trouble = Some(error.0.clone());
        self.attached = None;
        if let Some(drained) = self.draining.take() {
            // What is left stays in the channel.
            return drained.give(());
        }
        let wait = BACKOFF_FIRST.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        self.failures += 1;
        ctx.run_later(wait, |act, ctx| act.attach(ctx));
    }
}

async fn attach<D: Delivery>(
    channel: &Channel,
    delivery: &mut D,
    local: &Local,
) -> Result<SinkAttached, DeliverError> {
    let failed = |error: ChannelError| DeliverError(error.to_string());
    let attached = channel.attach_sink().await.map_err(failed)?;
    if let Some(sink_state) = delivery.resume(&attached, local).await? {
        let keep = KeepSinkState { session: attached.session, sink_state };
        channel.keep_sink_state(keep).await.map_err(failed)?;
    }
    Ok(attached)
}

impl<D: Delivery> Actor for Sink<D> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.attach(ctx);
    }
}

impl<D: Delivery> Handler<Drain> for Sink<D> {
    type Result = Answering<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let (answer, answering) = later();
        match self.state.trouble {
            // Noticed when the take or the delivery under way has ended.
            None => self.draining = Some(answer),
            Some(_) => answer.give(()),
        }
        answering
    }
}

impl<D: Delivery> Handler<SinkStatus> for Sink<D> {
    type Result = MessageResult<SinkStatus>;

    fn handle(&mut self, _: SinkStatus, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.state.clone())
    }
}
