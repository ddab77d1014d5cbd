//! Sees an arbiter that gives no sign of life, and gives it up.
//!
//! Four times within the stated time each arbiter is asked, by a job that only counts; one that has
//! not answered the same question in four looks is wedged, one that takes no question is dead. Looks
//! are counted, not clock time: a process that was stopped for an hour looks once when it goes on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use actix::Addr;

use super::supervisor::{ArbiterLost, Supervisor};
use crate::{ids::ArbiterId, mailbox::tell, placement::Placement};

const LOOKS: u32 = 4;

#[derive(Default)]
struct Watched {
    asked: u64,
    answered: Arc<AtomicU64>,
    missed: u32,
}

/// Watches all arbiters; tells `root` which were given up.
pub(crate) async fn watch(placement: Arc<dyn Placement>, root: Addr<Supervisor>) {
    let mut watched: BTreeMap<ArbiterId, Watched> = BTreeMap::new();
    loop {
        tokio::time::sleep(placement.wedged_after() / LOOKS).await;
        for arbiter in placement.arbiters() {
            if is_alive(&*placement, arbiter, watched.entry(arbiter).or_default()) {
                continue;
            }
            watched.remove(&arbiter);
            let activity = placement.activity(arbiter);
            let culprit = activity.and_then(|activity| activity.running());
            tracing::error!(%arbiter, "gives no sign of life; its actors move to another");
            placement.abandon(arbiter);
            tell(&root, ArbiterLost { arbiter, culprit });
        }
    }
}

fn is_alive(placement: &dyn Placement, arbiter: ArbiterId, watched: &mut Watched) -> bool {
    if watched.answered.load(Ordering::Relaxed) < watched.asked {
        watched.missed += 1;
        return watched.missed < LOOKS;
    }
    watched.missed = 0;
    watched.asked += 1;
    let answered = watched.answered.clone();
    let question = Box::new(move |_: &_| {
        answered.fetch_add(1, Ordering::Relaxed);
    });
    placement.run_on(arbiter, question).is_ok()
}
