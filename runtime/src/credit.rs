//! Credit: the right to put something into someone's queue, in counts and bytes.
//!
//! ```text
//!   sender ── acquire(count, bytes).await ──► Permit ── travels in the message ──► dropped: room again
//! ```
//!
//! actix mailboxes do not push back; permits do. A permit is held before a byte is accepted and is
//! given back when the work it stood for is done, wherever that is.
//!
//! # Invariants
//! - CRED-1: what is out is never more than the whole, unless one request larger than the whole was
//!   admitted alone.
//! - CRED-2: requests are admitted in the order in which they came, so a large one does not starve.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::sync::oneshot;

/// Where permits come from. Clones share it.
#[derive(Clone)]
pub struct Credit(Arc<Shared>);

struct Shared {
    whole: Amount,
    state: Mutex<State>,
}

/// A count of things and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: usize,
    /// How many bytes.
    pub bytes: usize,
}

#[derive(Default)]
struct State {
    out: Amount,
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    wanted: Amount,
    answer: oneshot::Sender<Permit>,
}

impl Amount {
    fn plus(self, more: Amount) -> Amount {
        Amount {
            count: self.count.saturating_add(more.count),
            bytes: self.bytes.saturating_add(more.bytes),
        }
    }

    fn less(self, part: Amount) -> Option<Amount> {
        Some(Amount {
            count: self.count.checked_sub(part.count)?,
            bytes: self.bytes.checked_sub(part.bytes)?,
        })
    }

    fn fits(self, whole: Amount) -> bool {
        self.count <= whole.count && self.bytes <= whole.bytes
    }
}

/// There is no credit left for this now.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("no credit left for {count} items of {bytes} bytes")]
pub struct NoCreditError {
    /// Items wanted.
    pub count: usize,
    /// Bytes wanted.
    pub bytes: usize,
}

impl Credit {
    /// Room for `count` items of `bytes` bytes in all.
    #[must_use]
    pub fn new(count: usize, bytes: usize) -> Self {
        Self(Arc::new(Shared { whole: Amount { count, bytes }, state: Mutex::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half-way: it is a few sums and a queue.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the whole is.
    #[must_use]
    pub fn whole(&self) -> Amount {
        self.0.whole
    }

    /// What permits hold now.
    #[must_use]
    pub fn out(&self) -> Amount {
        self.state().out
    }

    /// A permit now; behind those who wait, never before them (CRED-2).
    ///
    /// # Errors
    /// [`NoCreditError`] where there is no room.
    pub fn try_acquire(&self, count: usize, bytes: usize) -> Result<Permit, NoCreditError> {
        let wanted = Amount { count, bytes };
        let mut state = self.state();
        if !state.waiting.is_empty() || !self.admit(&mut state, wanted) {
            return Err(NoCreditError { count, bytes });
        }
        Ok(self.permit(wanted))
    }

    /// A permit once there is room. It queues when it is called; dropping the future gives its place
    /// up. A request larger than the whole is admitted alone.
    pub fn acquire(&self, count: usize, bytes: usize) -> Acquire {
        let waits = match self.try_acquire(count, bytes) {
            Ok(permit) => Waits::Granted(permit),
            Err(_) => {
                let (answer, granted) = oneshot::channel();
                let wanted = Amount { count, bytes };
                self.state().waiting.push_back(Waiter { wanted, answer });
                Waits::Queued(granted)
            }
        };
        let acquire = Acquire { credit: self.clone(), waits };
        // Room may have come between the try and the queue.
        self.grant();
        acquire
    }

    fn permit(&self, amount: Amount) -> Permit {
        Permit { credit: self.clone(), amount }
    }

    fn admit(&self, state: &mut State, wanted: Amount) -> bool {
        let alone = state.out == Amount::default();
        let out = state.out.plus(wanted);
        if !alone && !out.fits(self.0.whole) {
            return false;
        }
        assert!(alone || out.fits(self.0.whole), "CRED-1");
        state.out = out;
        true
    }

    fn give_back(&self, amount: Amount) {
        {
            let mut state = self.state();
            state.out = state.out.less(amount).expect("a permit gives back what it took");
        }
        self.grant();
    }

    /// Admits those who wait, first come first served, as far as the room goes.
    fn grant(&self) {
        loop {
            let granted = {
                let mut state = self.state();
                let Some(first) = state.waiting.front() else { return };
                let (given_up, wanted) = (first.answer.is_closed(), first.wanted);
                if !given_up && !self.admit(&mut state, wanted) {
                    return;
                }
                let first = state.waiting.pop_front().expect("it was just looked at");
                (!given_up).then_some(first)
            };
            // Outside the lock: where the waiter is gone by now, the permit comes back here.
            if let Some(Waiter { wanted, answer }) = granted {
                drop(answer.send(self.permit(wanted)));
            }
        }
    }
}

impl fmt::Debug for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credit").field("whole", &self.0.whole).field("out", &self.out()).finish()
    }
}

enum Waits {
    Granted(Permit),
    Queued(oneshot::Receiver<Permit>),
    Done,
}

/// What [`Credit::acquire`] gives: a future of the permit.
pub struct Acquire {
    credit: Credit,
    waits: Waits,
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        if let Waits::Queued(granted) = &mut self.waits {
            let permit = ready!(Pin::new(granted).poll(cx));
            self.waits = Waits::Granted(permit.expect("the queue lives as long as this future"));
        }
        match std::mem::replace(&mut self.waits, Waits::Done) {
            Waits::Granted(permit) => Poll::Ready(permit),
            Waits::Queued(_) | Waits::Done => panic!("polled after it was ready"),
        }
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if let Waits::Queued(granted) = std::mem::replace(&mut self.waits, Waits::Done) {
            // First the place in the queue, then those behind it.
            drop(granted);
            self.credit.grant();
        }
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").finish_non_exhaustive()
    }
}

/// Held room; given back when dropped.
pub struct Permit {
    credit: Credit,
    amount: Amount,
}

impl Permit {
    /// What it holds.
    #[must_use]
    pub fn amount(&self) -> Amount {
        self.amount
    }

    /// Whether somebody waits for room where it is from.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.credit.state().waiting.iter().any(|waiter| !waiter.answer.is_closed())
    }

    /// Takes a part of it into a permit of its own; `None` where it holds less.
    #[must_use]
    pub fn split(&mut self, count: usize, bytes: usize) -> Option<Permit> {
        let part = Amount { count, bytes };
        self.amount = self.amount.less(part)?;
        Some(self.credit.permit(part))
    }

    /// Adds what `other` holds to this one.
    ///
    /// # Errors
    /// `other` again, where it is of another credit.
    pub fn merge(&mut self, mut other: Permit) -> Result<(), Permit> {
        if !Arc::ptr_eq(&self.credit.0, &other.credit.0) {
            return Err(other);
        }
        self.amount = self.amount.plus(std::mem::take(&mut other.amount));
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.amount != Amount::default() {
            self.credit.give_back(self.amount);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("amount", &self.amount).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn now(acquire: Acquire) -> Permit {
        acquire.now_or_never().expect("there is room")
    }

    #[test]
    fn waiters_are_served_in_the_order_in_which_they_came() {
        let credit = Credit::new(10, 1000);
        let first = now(credit.acquire(8, 0));
        let mut large = credit.acquire(10, 0);
        let mut small = credit.acquire(1, 0);
        assert!((&mut small).now_or_never().is_none(), "CRED-2: it may not pass the large one");
        assert_eq!(credit.try_acquire(1, 0).unwrap_err(), NoCreditError { count: 1, bytes: 0 });
        drop(first);
        let large = (&mut large).now_or_never().expect("all is free");
        assert!((&mut small).now_or_never().is_none());
        drop(large);
        assert!(small.now_or_never().is_some());
    }

    #[test]
    fn a_waiter_that_gives_up_lets_the_next_one_in() {
        let credit = Credit::new(10, 1000);
        let _held = now(credit.acquire(5, 0));
        let large = credit.acquire(8, 0);
        let mut small = credit.acquire(3, 0);
        assert!((&mut small).now_or_never().is_none());
        drop(large);
        assert!(small.now_or_never().is_some());
    }

    #[test]
    fn a_permit_that_nobody_fetched_comes_back() {
        let credit = Credit::new(1, 10);
        let held = now(credit.acquire(1, 1));
        let granted_then_dropped = credit.acquire(1, 1);
        drop(held);
        assert_eq!(credit.out().count, 1);
        drop(granted_then_dropped);
        assert_eq!(credit.out(), Amount::default());
    }

    #[test]
    fn a_request_larger_than_the_whole_is_admitted_alone() {
        let credit = Credit::new(10, 100);
        let small = now(credit.acquire(1, 1));
        let mut huge = credit.acquire(1, 500);
        assert!((&mut huge).now_or_never().is_none());
        drop(small);
        let huge = huge.now_or_never().expect("nothing else is out");
        assert!(credit.try_acquire(1, 1).is_err());
        drop(huge);
        assert_eq!(credit.out(), Amount::default());
    }

    #[test]
    fn split_and_merge_keep_the_sum() {
        let credit = Credit::new(10, 100);
        let mut permit = now(credit.acquire(3, 90));
        let part = permit.split(1, 30).unwrap();
        assert!(permit.split(0, 61).is_none());
        assert_eq!(credit.out(), Amount { count: 3, bytes: 90 });
        drop(part);
        assert_eq!(credit.out(), Amount { count: 2, bytes: 60 });
        let other = now(credit.acquire(1, 10));
        permit.merge(other).unwrap();
        assert_eq!(permit.amount(), Amount { count: 3, bytes: 70 });
        assert!(permit.merge(Credit::new(1, 1).try_acquire(1, 1).unwrap()).is_err());
        drop(permit);
        assert_eq!(credit.out(), Amount::default());
    }

    #[test]
    fn permits_travel_between_threads_and_come_back_there() {
        let credit = Credit::new(1, 1);
        let permit = now(credit.acquire(1, 1));
        let waiting = credit.acquire(1, 1);
        std::thread::spawn(move || drop(permit)).join().unwrap();
        std::thread::spawn(move || drop(now(waiting))).join().unwrap();
        assert_eq!(credit.out(), Amount::default());
    }

    proptest::proptest! {
        #[test]
        fn out_is_the_sum_of_what_is_held(steps in proptest::collection::vec((0..3_u8, 0..7_usize, 0..70_usize), 1..60)) {
            let credit = Credit::new(10, 100);
            let (mut held, mut queued) = (Vec::new(), Vec::new());
            for (what, count, bytes) in steps {
                match what {
                    0 => queued.push(credit.acquire(count, bytes)),
                    1 if !held.is_empty() => drop(held.remove(count % held.len())),
                    2 if !queued.is_empty() => drop(queued.remove(count % queued.len())),
                    _ => {}
                }
                let mut waits = Vec::new();
                for mut acquire in queued {
                    match (&mut acquire).now_or_never() {
                        Some(permit) => held.push(permit),
                        None => waits.push(acquire),
                    }
                }
                queued = waits;
                let sum = held.iter().fold(Amount::default(), |sum, permit| sum.plus(permit.amount()));
                assert_eq!(credit.out(), sum);
                assert!(sum.fits(credit.whole()), "CRED-1");
            }
        }
    }
}
