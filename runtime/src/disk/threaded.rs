//! The driver for where io_uring is forbidden: the same contract on `pwritev`, `pread` and
//! `fdatasync`, with a small pool of threads for all that may wait for the disk.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::FutureExt as _;
use tokio::sync::oneshot;

use super::{
    Disk, DiskError, Op, Pending, Reply, calls,
    inline::{self, Stalls},
    pool::Pool,
};

/// See the module.
pub struct ThreadedDisk {
    pool: Pool,
    stalls: Stalls,
    abandoned: Arc<AtomicBool>,
    why: Arc<str>,
}

impl ThreadedDisk {
    pub(super) fn new(
        pool: Pool,
        stalls: Stalls,
        abandoned: Arc<AtomicBool>,
        why: Arc<str>,
    ) -> Self {
        Self { pool, stalls, abandoned, why }
    }
}

/// Has `op` carried out by a thread of `pool`, which holds the operation's gate meanwhile (DISK-5).
pub(super) fn run_on(pool: &Pool, op: Op, reply: Reply) {
    let guard = match op.ticket().map(|ticket| ticket.gate.begin(ticket.era)).transpose() {
        Ok(guard) => guard,
        Err(fenced) => {
            let _ = reply.send(Err(fenced.into()));
            return;
        }
    };
    pool.run(move || {
        let result = calls::run(op);
        // Before the answer: who has it may count on the gate.
        drop(guard);
        // Whoever asked may be gone by now: the operation is done all the same (DISK-1).
        let _ = reply.send(result);
    });
}

impl Disk for ThreadedDisk {
    fn submit(&self, op: Op) -> Pending {
        let (reply, answer) = oneshot::channel();
        self.submit_to(op, reply);
        answer.map(|answer| answer.unwrap_or(Err(DiskError::Closed))).boxed_local()
    }

    fn submit_to(&self, op: Op, reply: Reply) {
        if self.abandoned.load(Ordering::Acquire) {
            let _ = reply.send(Err(DiskError::Closed));
            return;
        }
        match inline::attempt(op, &self.stalls) {
            Ok(result) => {
                let _ = reply.send(result);
            }
            Err(op) => run_on(&self.pool, op, reply),
        }
    }

    fn describe(&self) -> String {
        self.why.to_string()
    }
}
