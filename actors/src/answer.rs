//! An answer that a handler gives now or later, straight to the one who asked.
//!
//! ```text
//!   sender ── message ──► handler ──► returns Answering ──► actix hands it the reply slot
//!                            │                                    │ shared
//!                            └── keeps Answer in its core … give(value) ──► sender wakes
//! ```
//!
//! Why not `ResponseFuture` over a oneshot: it costs a boxed future, a second oneshot and a task
//! per message, and one more turn of the arbiter before the sender wakes. An [`Answer`] costs one
//! small shared cell. An answer dropped ungiven (its actor panicked) reads as
//! [`actix::MailboxError::Closed`].

use std::{cell::RefCell, rc::Rc};

use actix::{
    Actor, Message,
    dev::{MessageResponse, OneshotSender},
};

struct Slot<T> {
    sender: Option<OneshotSender<T>>,
    /// Given before actix handed over the sender.
    early: Option<T>,
    /// Whether the sender has been handed over, or will never be.
    is_settled: bool,
}

/// The side that the actor keeps: gives the answer, once.
pub struct Answer<T>(Rc<RefCell<Slot<T>>>);

/// The side that the handler returns.
pub struct Answering<T>(Rc<RefCell<Slot<T>>>);

/// An answer to be given, and what the handler returns for it.
#[must_use]
pub fn later<T>() -> (Answer<T>, Answering<T>) {
    let slot = Rc::new(RefCell::new(Slot { sender: None, early: None, is_settled: false }));
    (Answer(slot.clone()), Answering(slot))
}

impl<T> Answer<T> {
    /// Gives the answer. Nobody may be waiting any more; that is fine.
    pub fn give(self, value: T) {
        let mut slot = self.0.borrow_mut();
        match slot.sender.take() {
            Some(sender) => drop(sender.send(value)),
            None if slot.is_settled => {}
            None => slot.early = Some(value),
        }
    }

    /// Whether nobody waits for it any more.
    #[must_use]
    pub fn is_unwanted(&self) -> bool {
        let slot = self.0.borrow();
        match &slot.sender {
            Some(sender) => sender.is_closed(),
            None => slot.is_settled,
        }
    }
}

impl<T> std::fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answer")
    }
}

impl<A, M> MessageResponse<A, M> for Answering<M::Result>
where
    A: Actor,
    M: Message,
{
    fn handle(self, _: &mut A::Context, sender: Option<OneshotSender<M::Result>>) {
        let mut slot = self.0.borrow_mut();
        slot.is_settled = true;
        match (slot.early.take(), sender) {
            (Some(value), Some(sender)) => drop(sender.send(value)),
            (None, Some(sender)) => slot.sender = Some(sender),
            (_, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use actix::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Keeper {
        kept: Vec<Answer<u32>>,
    }

    impl Actor for Keeper {
        type Context = Context<Self>;
    }

    #[derive(Message)]
    #[rtype(result = "u32")]
    enum Ask {
        Now(u32),
        Later,
        Release(u32),
    }

    impl Handler<Ask> for Keeper {
        type Result = Answering<u32>;

        fn handle(&mut self, ask: Ask, _: &mut Self::Context) -> Self::Result {
            let (answer, answering) = later();
            match ask {
                Ask::Now(value) => answer.give(value),
                Ask::Later => self.kept.push(answer),
                Ask::Release(value) => {
                    self.kept.retain(|kept| !kept.is_unwanted());
                    answer.give(self.kept.len() as u32);
                    self.kept.drain(..).for_each(|kept| kept.give(value));
                }
            }
            answering
        }
    }

    #[actix_rt::test]
    async fn an_answer_given_in_the_handler_arrives() {
        assert_eq!(Keeper::default().start().send(Ask::Now(7)).await, Ok(7));
    }

    #[actix_rt::test]
    async fn an_answer_given_later_arrives_and_one_nobody_wants_is_seen() {
        let keeper = Keeper::default().start();
        let first = keeper.send(Ask::Later);
        let dropped = keeper.send(Ask::Later);
        assert_eq!(keeper.send(Ask::Now(1)).await, Ok(1));
        drop(dropped);
        assert_eq!(keeper.send(Ask::Release(9)).await, Ok(1), "one of two is still wanted");
        assert_eq!(first.await, Ok(9));
    }

    #[actix_rt::test]
    async fn an_answer_dropped_ungiven_reads_as_closed() {
        let keeper = Keeper::default().start();
        let waiting = keeper.send(Ask::Later);
        assert_eq!(keeper.send(Ask::Now(1)).await, Ok(1));
        drop(keeper);
        assert_eq!(waiting.await, Err(MailboxError::Closed));
    }
}
