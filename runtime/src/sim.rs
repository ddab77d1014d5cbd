//! Deterministic simulation: a whole node in one thread, under virtual time, by one seed.
//!
//! ```text
//!   seed ──► Rng ──┬── disk: latency, losses at a crash      ┐
//!                  ├── order: which actor's turn is put off  ├──► trace ──► hash (a run twice: the same)
//!                  └── workload: what is asked, what breaks  ┘
//! ```
//!
//! The node's own code runs unchanged: actors in a `LocalSet` on a current-thread runtime whose
//! clock is paused, arbiters that are names ([`crate::placement`]'s local one), files in memory
//! ([`crate::disk::sim`]). Every concern draws from a generator of its own, so that a new draw in
//! one does not change the others.
//!
//! A panic anywhere in the run is recorded, also where a supervisor heals it: an invariant that an
//! actor asserts is broken even if nobody outside sees it. Only those that a test injects itself
//! ([`INJECTED`]) are expected.

mod clock;
mod logging;
mod order;
mod planted;
mod process;
mod trace;

#[cfg(test)]
mod tests;

use std::{
    any::Any,
    cell::RefCell,
    future::Future,
    panic::{self, AssertUnwindSafe},
    sync::Once,
    time::Duration,
};

pub use self::{
    clock::SimClock,
    order::is_turn_put_off,
    planted::{Planted, is_planted},
    process::{End, Process},
    trace::Trace,
};
use crate::{
    clock::{Clock, UnixMillis},
    disk::sim::{Faults, Lies, Seen, SimDisks},
    rng::Rng,
};

/// Whether a simulation runs on this thread.
#[must_use]
pub fn is_running() -> bool {
    PANICS.with_borrow(Option::is_some)
}

/// What the message of a panic contains that a test injects on purpose.
pub const INJECTED: &str = "injected";

/// 2026-01-01T00:00:00Z, where every simulation begins.
const START_MS: i64 = 1_767_225_600_000;

thread_local! {
    /// Messages of the panics of the simulation that runs on this thread; none outside of one.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// What a simulated run is given.
#[derive(Clone)]
pub struct World {
    /// The seed, for messages.
    pub seed: u64,
    /// The generator that all concerns split theirs from.
    pub rng: Rng,
    /// Wall clock that follows virtual time.
    pub clock: SimClock,
    /// All simulated disks.
    pub disks: SimDisks,
    /// What happened.
    pub trace: Trace,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome<T> {
    /// The seed that repeats it.
    pub seed: u64,
    /// What the test returned, or the first panic that it did not inject.
    pub result: Result<T, String>,
    /// Hash of all that happened.
    pub hash: u64,
    /// The last lines of the trace.
    pub lines: Vec<String>,
    /// What the disk met.
    pub seen: Seen,
}

/// Runs `test` in a world of its own, with these bugs planted.
pub fn run<T, F, Fut>(seed: u64, planted: &[Planted], test: F) -> Outcome<T>
where
    F: FnOnce(World) -> Fut,
    Fut: Future<Output = T>,
{
    record_panics();
    planted::plant(planted);
    order::seed_order(Some(Rng::seeded(seed).split("order")));
    PANICS.set(Some(Vec::new()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread needs nothing that can be missing");
    let tasks = tokio::task::LocalSet::new();
    let world = tasks.block_on(&runtime, async { World::new(seed, planted) });
    let (trace, disks) = (world.trace.clone(), world.disks.clone());
    let subscriber = tracing::Dispatch::new(logging::Logging(trace.clone()));
    let logging = tracing::dispatcher::set_default(&subscriber);
    let ended =
        panic::catch_unwind(AssertUnwindSafe(|| tasks.block_on(&runtime, Box::pin(test(world)))));
    // What still runs ends here, inside its runtime, like a process that is killed.
    disks.kill();
    let guard = runtime.enter();
    let dropped = panic::catch_unwind(AssertUnwindSafe(|| drop(tasks)));
    drop((guard, logging));
    planted::plant(&[]);
    order::seed_order(None);
    let unexpected: Option<String> =
        PANICS.take().unwrap_or_default().into_iter().find(|message| !message.contains(INJECTED));
    let result = match (unexpected, ended, dropped) {
        (Some(message), ..) => Err(message),
        (None, Err(panicked), _) | (None, Ok(_), Err(panicked)) => Err(message_of(&*panicked)),
        (None, Ok(value), Ok(())) => Ok(value),
    };
    Outcome { seed, result, hash: trace.hash(), lines: trace.lines(), seen: disks.seen() }
}

impl World {
    fn new(seed: u64, planted: &[Planted]) -> World {
        let rng = Rng::seeded(seed);
        let trace = Trace::new();
        let disks = SimDisks::new(&rng, Faults::swarm(&mut rng.split("faults")));
        disks.set_lies(Lies {
            sync: planted.contains(&Planted::AckBeforeSync),
            sync_dir: planted.contains(&Planted::NoDirectorySync),
            era: planted.contains(&Planted::NoEraCheck),
        });
        let shown = trace.clone();
        disks.set_witness(Box::new(move |line| shown.line(format_args!("disk {line}"))));
        World { seed, rng, clock: SimClock::starting_at(START_MS), disks, trace }
    }

    /// The time of day.
    #[must_use]
    pub fn now_ms(&self) -> UnixMillis {
        self.clock.now_ms()
    }

    /// Lets virtual time pass.
    pub async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// Keeps the messages of panics on simulating threads, and keeps them off the terminal.
fn record_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map_or_else(String::new, |at| format!(" at {at}"));
            let message = format!("{}{place}", message_of(info.payload()));
            let recorded = PANICS.with_borrow_mut(|panics| {
                panics.as_mut().map(|panics| panics.push(message)).is_some()
            });
            if !recorded {
                usual(info);
            }
        }));
    });
}

fn message_of(panicked: &(dyn Any + Send)) -> String {
    match (panicked.downcast_ref::<&str>(), panicked.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "a panic without a message".to_owned(),
    }
}
