//! The driver on io_uring: one ring an arbiter and data directory, served by a task of the arbiter.
//!
//! ```text
//!   submit_to ──► inline (page cache) │ start, submit │ pool (lists, removal of trees, space)
//!                   │ wakes, where something has completed
//!   pump, a task of the arbiter:  submit what is left ─► reap ─► replies
//!            ▲ readable: the ring's descriptor on the arbiter's own reactor
//! ```
//!
//! An operation goes to the kernel at once, and each inline write looks whether another has completed: a
//! busy arbiter comes to its pump, and to its reactor, late, and the disk would be idle meanwhile. A
//! partition that was given 64 KiB batches as fast as it took them made 1,200 MB/s durable without that,
//! its syncs large and small in turn, and 1,600 with it, half of what is in flight in each.
//!
//! The ring is shared with no one while its arbiter lives. When the arbiter is given up
//! ([`Reaper::abandon`]) or drops the driver with something in flight, a thread of its own reaps
//! until nothing is, which releases the gates that a take-over waits for.

use std::{
    future::poll_fn,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError, TryLockError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures::{FutureExt as _, future::LocalBoxFuture, task::AtomicWaker};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::{io::unix::AsyncFd, sync::oneshot, task::JoinHandle};

use super::{Finished, Opcodes, Ring, task::Task};
use crate::disk::{
    Disk, DiskError, Op, Pending, Reply,
    inline::{self, Stalls},
    pool::Pool,
    threaded,
};

/// How long the reaping thread sleeps where nothing wakes it.
const REAP_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// See the module.
pub(in crate::disk) struct UringDisk {
    shared: Arc<Shared>,
    pump: JoinHandle<()>,
    opcodes: Opcodes,
    pool: Pool,
    stalls: Stalls,
    why: Arc<str>,
}

struct Shared {
    ring: Mutex<Ring>,
    /// Set without the lock, which a wedged arbiter may hold.
    abandoned: AtomicBool,
    pump: AtomicWaker,
    completions: OwnedFd,
}

/// Gives up a ring from another thread.
#[derive(Clone)]
pub(in crate::disk) struct Reaper(Weak<Shared>);

impl UringDisk {
    /// A ring of the current arbiter.
    pub(in crate::disk) fn new(
        opcodes: Opcodes,
        pool: Pool,
        stalls: Stalls,
        why: Arc<str>,
    ) -> io::Result<UringDisk> {
        let ring = Ring::new()?;
        let completions = ring.completions()?;
        let readable = super::watch(completions.try_clone()?)?;
        let (abandoned, pump) = (AtomicBool::new(false), AtomicWaker::new());
        let shared = Arc::new(Shared { ring: Mutex::new(ring), abandoned, pump, completions });
        let serving = shared.clone();
        let pump = tokio::task::spawn_local(poll_fn(move |cx| serving.pump(&readable, cx)));
        Ok(UringDisk { shared, pump, opcodes, pool, stalls, why })
    }

    /// What gives this ring up when its arbiter cannot.
    pub(in crate::disk) fn reaper(&self) -> Reaper {
        Reaper(Arc::downgrade(&self.shared))
    }
}

impl Disk for UringDisk {
    fn submit(&self, op: Op) -> Pending {
        let (reply, answer) = oneshot::channel();
        self.submit_to(op, reply);
        answer.map(|answer| answer.unwrap_or(Err(DiskError::Closed))).boxed_local()
    }

    fn submit_to(&self, op: Op, reply: Reply) {
        if self.shared.abandoned.load(Ordering::Acquire) {
            // Not inline, either.
            let _ = reply.send(Err(DiskError::Closed));
            return;
        }
        let op = match inline::attempt(op, &self.stalls) {
            Ok(result) => {
                let _ = reply.send(result);
                self.shared.notice();
                return;
            }
            Err(op) => op,
        };
        if !self.opcodes.take(&op) {
            threaded::run_on(&self.pool, op, reply);
            return;
        }
        match op.ticket().map(|ticket| ticket.gate.begin(ticket.era)).transpose() {
            Ok(gate) => self.shared.start(Task::new(op, gate, reply)),
            Err(fenced) => {
                let _ = reply.send(Err(fenced.into()));
            }
        }
    }

    fn wait(&self, time: Duration) -> LocalBoxFuture<'static, ()> {
        let (reply, over) = oneshot::channel();
        self.shared.start(Task::wait(time, reply));
        over.map(drop).boxed_local()
    }

    fn describe(&self) -> String {
        self.why.to_string()
    }
}

impl Drop for UringDisk {
    fn drop(&mut self) {
        self.pump.abort();
        // What was started runs to its end (DISK-1), and gives its gates back (DISK-5).
        reap_in_background(&self.shared);
    }
}

impl Shared {
    fn start(&self, task: Task) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: whoever gives the ring up sees this task, or this sees that.
        if self.abandoned.load(Ordering::Acquire) {
            drop(ring);
            return task.answer(Err(DiskError::Closed));
        }
        ring.start(task);
        // At once: an arbiter that is busy comes to its pump late, and the disk is idle meanwhile.
        if ring.submit().is_err() || ring.has_completed() {
            drop(ring);
            self.pump.wake();
        }
    }

    /// Has the pump take what has completed: a busy arbiter looks at its reactor seldom.
    fn notice(&self) {
        if self.ring.try_lock().is_ok_and(|mut ring| ring.has_completed()) {
            self.pump.wake();
        }
    }

    fn pump(&self, readable: &AsyncFd<OwnedFd>, cx: &mut Context<'_>) -> Poll<()> {
        self.pump.register(cx.waker());
        loop {
            let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            let (finished, submitted) = self.serve(&mut ring);
            drop(ring);
            finished.into_iter().for_each(Finished::answer);
            if let Err(error) = submitted {
                // Out of memory for now, or interrupted.
                tracing::warn!(%error, "the ring did not take all; trying again");
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match readable.poll_read_ready(cx) {
                Poll::Ready(Ok(mut ready)) => ready.clear_ready(),
                // The reactor is going away, and the arbiter with it.
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Submits and reaps until the kernel has all it can be given and has given all it has.
    fn serve(&self, ring: &mut Ring) -> (Vec<Finished>, io::Result<()>) {
        let mut finished = Vec::new();
        if self.abandoned.load(Ordering::Acquire) {
            ring.abandon(&mut finished);
        }
        loop {
            let submitted = ring.submit();
            let before = finished.len();
            ring.reap(&mut finished);
            // What was reaped has made room, and what came back short goes on.
            if submitted.is_err() || (finished.len() == before && !ring.has_more()) {
                return (finished, submitted);
            }
        }
    }
}

impl Reaper {
    /// The ring starts nothing more, and is reaped by a thread of its own.
    pub(in crate::disk) fn abandon(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.abandoned.store(true, Ordering::Release);
            reap_in_background(&shared);
        }
    }

    /// Whether its driver is gone, and nothing of it in flight.
    pub(in crate::disk) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// Reaps on a thread of its own until nothing is in flight.
fn reap_in_background(shared: &Arc<Shared>) {
    if shared.ring.try_lock().is_ok_and(|ring| ring.is_quiescent()) {
        return;
    }
    let shared = shared.clone();
    let made = thread::Builder::new().name("flumen-reap".to_owned()).spawn(
        move || {
            while !reap(&shared) {}
        },
    );
    if let Err(error) = made {
        // Take-over will wait in vain, and the process end by that.
        tracing::error!(%error, "no thread to reap an abandoned ring");
    }
}

/// Reaps once, after waiting for something to come; tells whether nothing is in flight any more.
fn reap(shared: &Shared) -> bool {
    let mut ring = match shared.ring.try_lock() {
        Ok(ring) => ring,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => {
            // The arbiter is in the middle of a submission.
            let _ = rustix::event::poll(&mut [], Some(&REAP_EVERY));
            return false;
        }
    };
    let (finished, _) = shared.serve(&mut ring);
    let quiescent = ring.is_quiescent();
    drop(ring);
    finished.into_iter().for_each(Finished::answer);
    if !quiescent {
        let mut readable = [PollFd::new(&shared.completions, PollFlags::IN)];
        let _ = rustix::event::poll(&mut readable, Some(&REAP_EVERY));
    }
    quiescent
}

#[cfg(test)]
mod tests {
    use tokio::{task::LocalSet, time::Instant};

    use super::*;
    use crate::disk::probe;

    fn ring() -> Option<UringDisk> {
        match probe::probe() {
            Ok(opcodes) => {
                let (pool, why) = (Pool::new(1), Arc::from("a test"));
                Some(UringDisk::new(opcodes, pool, Stalls::default(), why).unwrap())
            }
            Err(why) => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
                eprintln!("skipped: {why}");
                None
            }
        }
    }

    #[tokio::test]
    async fn waits_are_not_rounded_to_milliseconds() {
        LocalSet::new()
            .run_until(async {
                let Some(disk) = ring() else { return };
                // A busy machine may hold up any of them, but not all.
                for _ in 0..1000 {
                    let began = Instant::now();
                    for _ in 0..4 {
                        disk.wait(Duration::from_micros(50)).await;
                    }
                    if began.elapsed() < Duration::from_millis(1) {
                        return;
                    }
                }
                panic!("DISK-9: four waits of 50 µs take a millisecond at least");
            })
            .await;
    }

    #[tokio::test]
    async fn a_ring_goes_with_its_driver_though_a_wait_is_in_flight() {
        LocalSet::new()
            .run_until(async {
                let Some(disk) = ring() else { return };
                let reaper = disk.reaper();
                let long = disk.wait(Duration::from_secs(3600));
                // The ring is served in order: once this is over, the kernel has the other.
                disk.wait(Duration::from_micros(1)).await;
                drop(disk);
                let gone = async {
                    long.await;
                    while !reaper.is_gone() {
                        // Real time: its pump ends at a later turn.
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                let gone = tokio::time::timeout(Duration::from_secs(30), gone).await;
                assert!(gone.is_ok(), "DISK-9: the ring waits for what nobody waits for");
            })
            .await;
    }
}
