//! Telling an actor something without waiting for an answer: the one place that calls `do_send`.
//! And the question that every supervised actor is asked before it is stopped.
//!
//! actix's mailboxes do not push back: `do_send` enqueues whatever it is given, and so does `send`.
//! So it may be used only where something else bounds what is in flight: a permit
//! ([`crate::credit`]) that travels in the message, or a reply that the sender awaits before it
//! sends more.

use std::sync::Arc;

use actix::{Actor, Addr, Context, Handler, Message, Recipient, dev::ToEnvelope};

/// Puts `message` into the mailbox of `to`; dropped where the actor is gone for good.
#[expect(clippy::disallowed_methods, reason = "the one wrapper that the lint points to")]
pub fn tell<A, M>(to: &Addr<A>, message: M)
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    to.do_send(message);
}

/// As [`tell`], to whichever actor takes `M`.
#[expect(clippy::disallowed_methods, reason = "the one wrapper that the lint points to")]
pub fn tell_recipient<M>(to: &Recipient<M>, message: M)
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    to.do_send(message);
}

/// Name of a supervised actor, unique in its process; stable over its lives.
pub type ActorName = Arc<str>;

/// Asked before an orderly stop: finish what is in, then answer. It is queued behind all that was
/// sent before it; after the answer the actor is ended.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Drain;

/// An actor that can be supervised: any with the usual context that knows how to [`Drain`].
pub trait Supervised: Actor<Context = Context<Self>> + Handler<Drain> {}

impl<A: Actor<Context = Context<A>> + Handler<Drain>> Supervised for A {}
