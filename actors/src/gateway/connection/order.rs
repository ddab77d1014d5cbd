//! Requests in flight, answered in the order in which they came.

use std::{
    collections::VecDeque,
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
    pending: FuturesOrdered<LocalBoxFuture<'static, Answer>>,
    ready: VecDeque<Answer>,
}

impl InOrder {
    pub(super) fn now(&mut self, answer: Answer) {
        match self.pending.is_empty() {
            true => self.ready.push_back(answer),
            false => self.pending.push_back(Box::pin(std::future::ready(answer))),
        }
    }

    pub(super) fn later(&mut self, answer: LocalBoxFuture<'static, Answer>) {
        self.pending.push_back(answer);
    }

    /// The next answer, where it is there.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        match self.ready.pop_front() {
            Some(answer) => Poll::Ready(Some(answer)),
            None => Pin::new(&mut self.pending).poll_next(cx),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.pending.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::{FutureExt, channel::oneshot, future::poll_fn};

    use super::*;

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
}
