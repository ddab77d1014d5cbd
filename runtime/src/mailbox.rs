//! Telling an actor something without waiting for an answer: the one place that calls `do_send`.
//!
//! actix's mailboxes do not push back: `do_send` enqueues whatever it is given. So it may be used
//! only where something else bounds what is in flight: a permit that travels in the message, or a
//! reply that the sender awaits before it sends more.

use actix::{Actor, Addr, Handler, Message, Recipient, dev::ToEnvelope};

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
