//! A mailbox that outlives the lives of its actor.
//!
//! The receiving end of actix's own channel stands here, under a lock that is held for taking one
//! message and never while one is handled: a handler that does not return holds up nobody.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use actix::{
    Actor, Addr,
    dev::{
        Envelope,
        channel::{AddressReceiver, channel},
    },
};
use futures::{Stream, task::AtomicWaker};

use crate::mailbox::ActorName;

/// A mailbox and who may take from it.
pub(crate) struct Cell<A: Actor> {
    number: u64,
    name: ActorName,
    address: Addr<A>,
    queue: Mutex<Queue<A>>,
}

struct Queue<A: Actor> {
    /// Gone once the actor will not come back.
    receiver: Option<AddressReceiver<A>>,
    /// Messages that were taken out of it to be counted, before those that are in it.
    #[expect(
        clippy::box_collection,
        reason = "a mailbox that nobody looks at pays for one pointer"
    )]
    ahead: Option<Box<VecDeque<Envelope<A>>>>,
    /// The newest life: only it is given messages (SUP-1).
    life: u64,
    control: Arc<Control>,
}

impl<A: Actor> Cell<A> {
    pub(crate) fn new(name: ActorName) -> Arc<Cell<A>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // 0 is actix's word for no limit: what bounds a mailbox is credit, and a `send` that waits
        // for room could be overtaken.
        let (sender, receiver) = channel(0);
        let control = Arc::default();
        Arc::new(Cell {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            name,
            address: Addr::new(sender),
            queue: Mutex::new(Queue { receiver: Some(receiver), ahead: None, life: 0, control }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue<A>> {
        // Code of others runs under the lock only as wakers, which do not panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its number in this process, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn name(&self) -> &ActorName {
        &self.name
    }

    pub(crate) fn address(&self) -> &Addr<A> {
        &self.address
    }

    /// Begins a new life: from now on only it takes messages. `None` where the mailbox is closed.
    pub(crate) fn begin_life(&self) -> Option<(u64, Arc<Control>)> {
        let (old, new) = {
            let mut queue = self.lock();
            queue.receiver.as_ref()?;
            queue.life += 1;
            let old = std::mem::take(&mut queue.control);
            (old, (queue.life, queue.control.clone()))
        };
        old.order(Control::SUPERSEDED);
        Some(new)
    }

    /// Tells the newest life something.
    pub(crate) fn order(&self, order: u8) {
        let control = self.lock().control.clone();
        control.order(order);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().receiver.is_none()
    }

    /// Closes it for good: what is in and what comes is answered with `MailboxError::Closed`.
    pub(crate) fn close(&self) {
        let (receiver, ahead) = {
            let mut queue = self.lock();
            (queue.receiver.take(), queue.ahead.take())
        };
        self.order(Control::SUPERSEDED);
        // Not under the lock: this drops messages, which is code of others.
        drop((ahead, receiver));
    }

    /// How many messages wait. A channel does not tell: they are taken out of it, and kept before
    /// what comes. Nobody is woken: a life that sleeps has nothing in its mailbox, and finds what was
    /// there when it slept in, or comes, in its order.
    pub(crate) fn waiting(&self) -> usize {
        let mut guard = self.lock();
        let queue = &mut *guard;
        let Some(receiver) = &mut queue.receiver else { return 0 };
        // What the channel wakes from now on, until the life itself looks into it.
        let waker = Waker::from(queue.control.clone());
        let mut cx = Context::from_waker(&waker);
        while let Poll::Ready(Some(letter)) = Pin::new(&mut *receiver).poll_next(&mut cx) {
            queue.ahead.get_or_insert_default().push_back(letter);
        }
        queue.ahead.as_ref().map_or(0, |ahead| ahead.len())
    }

    /// The next message for `life`; nothing (never again) where it is not the newest.
    pub(crate) fn take(&self, life: u64, cx: &mut Context<'_>) -> Poll<Option<Envelope<A>>> {
        let mut queue = self.lock();
        if queue.life != life {
            return Poll::Ready(None);
        }
        if let Some(ahead) = &mut queue.ahead {
            match ahead.pop_front() {
                Some(letter) => return Poll::Ready(Some(letter)),
                None => queue.ahead = None,
            }
        }
        match &mut queue.receiver {
            Some(receiver) => Pin::new(receiver).poll_next(cx),
            None => Poll::Ready(None),
        }
    }
}

/// How a life is told something from outside; read once a turn.
#[derive(Debug, Default)]
pub(crate) struct Control {
    orders: AtomicU8,
    waker: AtomicWaker,
}

impl Control {
    /// End well.
    pub(crate) const FINISH: u8 = 1;
    /// End now.
    pub(crate) const KILL: u8 = 2;
    /// Panic.
    pub(crate) const PANIC: u8 = 4;
    /// Somebody newer is there, or the mailbox is closed: end now.
    pub(crate) const SUPERSEDED: u8 = 8;

    pub(crate) fn order(&self, order: u8) {
        self.orders.fetch_or(order, Ordering::AcqRel);
        self.waker.wake();
    }

    pub(crate) fn orders(&self) -> u8 {
        self.orders.load(Ordering::Acquire)
    }

    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }
}

/// Wakes the life, wherever it is polled then.
impl Wake for Control {
    fn wake(self: Arc<Self>) {
        Control::wake(&self);
    }
}
