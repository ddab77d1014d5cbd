//! A driver that answers syncs at once and makes none, so that a test of power cuts can show that it
//! finds what is lost then. Only under the feature `sim`.

use std::{
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::future::{self, LocalBoxFuture};

use super::{Disk, Done, Op, Pending, Reply};

static SYNCS_ARE_OFF: AtomicBool = AtomicBool::new(false);

/// Has every driver that this process makes from now on lie about syncs.
pub fn turn_syncs_off() {
    SYNCS_ARE_OFF.store(true, Ordering::Relaxed);
}

/// `driver`, or one that lies.
pub(super) fn unless_syncs_are_off(driver: Rc<dyn Disk>) -> Rc<dyn Disk> {
    if SYNCS_ARE_OFF.load(Ordering::Relaxed) { Rc::new(Unsynced(driver)) } else { driver }
}

struct Unsynced(Rc<dyn Disk>);

fn is_sync(op: &Op) -> bool {
    matches!(op, Op::Sync { .. } | Op::SyncDir { .. })
}

impl Disk for Unsynced {
    fn submit(&self, op: Op) -> Pending {
        if is_sync(&op) { Box::pin(future::ready(Ok(Done::Unit))) } else { self.0.submit(op) }
    }

    fn submit_to(&self, op: Op, reply: Reply) {
        if is_sync(&op) {
            // Whoever asked may be gone by now.
            let _ = reply.send(Ok(Done::Unit));
        } else {
            self.0.submit_to(op, reply);
        }
    }

    fn wait(&self, time: Duration) -> LocalBoxFuture<'static, ()> {
        self.0.wait(time)
    }

    fn describe(&self) -> String {
        format!("{}; syncs are off, for a test", self.0.describe())
    }
}
