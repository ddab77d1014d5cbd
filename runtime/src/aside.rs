//! Work that takes long, done beside the arbiters.
//!
//! An arbiter that computes serves nobody. What may take more than a moment, as to expand or to compress
//! the records of a batch, goes to a thread of the runtime's own pool. At most as many of these run at a
//! time as there are cores, in the order in which they were asked for, so that what they hold is bounded.
//! In a simulation, where a seed decides what is first, it is done at once.

use std::{num::NonZero, sync::LazyLock};

use tokio::sync::Semaphore;

static TURNS: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    Semaphore::new(cores.max(2))
});

/// Does `work` beside the arbiter, and returns what came of it. Once begun it is brought to its end, even
/// if nobody waits.
///
/// # Panics
/// Where `work` did.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if is_simulated() {
        return work();
    }
    let turn = TURNS.acquire().await.expect("it is never closed");
    let work = move || {
        // Until its end, even if nobody waits.
        let _turn = turn;
        work()
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panicked) => std::panic::resume_unwind(panicked),
            // The runtime is shut down, and whoever waits with it.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(any(test, feature = "sim"))]
use crate::sim::is_running as is_simulated;

#[cfg(not(any(test, feature = "sim")))]
fn is_simulated() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn work_is_done_on_another_thread_and_its_panic_comes_back() {
        let here = std::thread::current().id();
        assert_ne!(aside(|| std::thread::current().id()).await, here);
        let failing = tokio::spawn(aside(|| -> () { panic!("injected") }));
        assert!(failing.await.unwrap_err().is_panic());
    }

    #[test]
    fn in_a_simulation_it_is_done_at_once() {
        let here = std::thread::current().id();
        let outcome =
            crate::sim::run(1, &[], |_| async { aside(|| std::thread::current().id()).await });
        assert_eq!(outcome.result, Ok(here));
    }
}
