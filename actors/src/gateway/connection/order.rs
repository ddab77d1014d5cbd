//! Requests in flight, answered in the order in which they came.
//!
//! ```text
//!   ready ◄── first ◄── behind it: done ◄── pending
//! ```
//!
//! Most clients have one request in work, and of that the future stands by itself. A set of futures would
//! wake its task once more for each that is pending when it was the only one, and so cost a turn.

use std::{
    collections::VecDeque,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{
    future::LocalBoxFuture,
    stream::{FuturesOrdered, Stream},
};

use super::answer::Answer;

/// Answers to come. Those that were ready at once do not go through a future, unless they must wait
/// for one before them.
#[derive(Default)]
pub(super) struct InOrder {
    ready: VecDeque<Answer>,
    /// The oldest that is not ready.
    first: Option<LocalBoxFuture<'static, Answer>>,
    /// There while there are others.
    behind: Option<Box<Behind>>,
}

/// What came after the first.
#[derive(Default)]
struct Behind {
    /// Ready before the first was.
    done: VecDeque<Answer>,
    pending: FuturesOrdered<LocalBoxFuture<'static, Answer>>,
}

impl InOrder {
    pub(super) fn now(&mut self, answer: Answer) {
        match self.is_pending() {
            true => self.later(Box::pin(std::future::ready(answer))),
            false => self.ready.push_back(answer),
        }
    }

    pub(super) fn later(&mut self, answer: LocalBoxFuture<'static, Answer>) {
        if self.is_pending() {
            self.behind.get_or_insert_default().pending.push_back(answer);
        } else {
            self.first = Some(answer);
        }
    }

    /// The next answer, where it is there. All that is in work gets on with it.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        if let Some(answer) = self.ready.pop_front() {
            return Poll::Ready(Some(answer));
        }
        if let Some(first) = &mut self.first {
            let polled = first.as_mut().poll(cx);
            if polled.is_ready() {
                self.first = None;
                if let Some(behind) = &mut self.behind {
                    self.ready = mem::take(&mut behind.done);
                }
            } else if let Some(behind) = &mut self.behind {
                while let Poll::Ready(Some(done)) = Pin::new(&mut behind.pending).poll_next(cx) {
                    behind.done.push_back(done);
                }
            }
            return polled.map(Some);
        }
        let Some(behind) = &mut self.behind else { return Poll::Ready(None) };
        let next = Pin::new(&mut behind.pending).poll_next(cx);
        if matches!(next, Poll::Ready(None)) {
            self.behind = None;
        }
        next
    }

    fn is_pending(&self) -> bool {
        self.first.is_some() || self.behind.is_some()
    }

    pub(super) fn len(&self) -> usize {
        let behind = self.behind.as_ref();
        let behind = behind.map_or(0, |behind| behind.done.len() + behind.pending.len());
        self.ready.len() + usize::from(self.first.is_some()) + behind
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        rc::Rc,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        task::Wake,
    };

    use bytes::Bytes;
    use futures::{FutureExt, channel::oneshot, future::poll_fn};

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicU32);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn answer(number: u8) -> Answer {
        Answer::of([Bytes::copy_from_slice(&[number])])
    }

    #[actix_rt::test]
    async fn answers_leave_in_the_order_of_their_requests() {
        let mut order = InOrder::default();
        let (first, later) = oneshot::channel::<u8>();
        order.now(answer(0));
        order.later(later.map(|number| answer(number.unwrap())).boxed_local());
        order.now(answer(2));
        assert_eq!(order.len(), 3);
        let mut next = async || poll_fn(|cx| order.poll_next(cx)).await.map(|a| a.chunks[0][0]);
        assert_eq!(next().await, Some(0));
        assert_eq!(next().now_or_never(), None, "the second is not ready, so the third must wait");
        first.send(1).unwrap();
        assert_eq!((next().await, next().await, next().await), (Some(1), Some(2), None));
    }

    #[actix_rt::test]
    async fn one_that_waits_alone_wakes_nobody_and_holds_up_none_behind_it() {
        let mut order = InOrder::default();
        let (first, later) = oneshot::channel::<u8>();
        order.later(later.map(|number| answer(number.unwrap())).boxed_local());
        let wakes = Arc::new(Wakes::default());
        let (waker, woken) = (wakes.clone().into(), || wakes.0.load(Ordering::Relaxed));
        let mut cx = Context::from_waker(&waker);
        assert!(order.poll_next(&mut cx).is_pending());
        assert_eq!(woken(), 0, "nothing has come since");

        let worked = Rc::new(Cell::new(0));
        for number in 1..4 {
            let worked = worked.clone();
            order.later(Box::pin(async move {
                worked.set(worked.get() + 1);
                answer(number)
            }));
        }
        assert!(order.poll_next(&mut cx).is_pending());
        assert_eq!(worked.get(), 3, "what is behind it gets on");
        order.now(answer(4));
        assert_eq!(order.len(), 5);
        first.send(0).unwrap();
        assert!(woken() > 0);
        for number in 0..5 {
            let Poll::Ready(Some(next)) = order.poll_next(&mut cx) else { panic!("{number}") };
            assert_eq!(next.chunks[0][0], number);
        }
        assert!(matches!(order.poll_next(&mut cx), Poll::Ready(None)));
        assert!(order.is_empty() && order.behind.is_none());
    }
}
