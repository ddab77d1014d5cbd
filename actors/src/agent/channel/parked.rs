//! A take that waits for an event.

use actix::{Actor, AsyncContext, Context, SpawnHandle};

use crate::{
    agent::channel::{ChannelError, Take, Taken},
    answer::Answer,
};

/// The take that waits; a channel has one sink, so there is at most one.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) take: Take,
    pub(super) answer: Answer<Result<Option<Taken>, ChannelError>>,
    timer: SpawnHandle,
}

impl Parked {
    /// Parks a take; `on_elapsed` runs when it has waited for as long as it wants to.
    pub(super) fn new<A: Actor<Context = Context<A>>>(
        take: Take,
        answer: Answer<Result<Option<Taken>, ChannelError>>,
        ctx: &mut Context<A>,
        on_elapsed: impl FnOnce(&mut A, &mut Context<A>) + 'static,
    ) -> Self {
        Self { take, answer, timer: ctx.run_later(take.wait, on_elapsed) }
    }

    /// Gives the answer.
    pub(super) fn give<A: Actor<Context = Context<A>>>(
        self,
        taken: Result<Option<Taken>, ChannelError>,
        ctx: &mut Context<A>,
    ) {
        ctx.cancel_future(self.timer);
        self.answer.give(taken);
    }
}
