//! An open loop: what is sent when does not depend on how the one before went.
//!
//! A timer has whole milliseconds, too coarse for ten thousand a second; so the generator asks for
//! the time again and again, and lets the others of its arbiter go first each time.

use std::time::Duration;

use tokio::time::Instant;

/// The moments at which a steady rate sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    began: Instant,
    every: Duration,
}

impl Pace {
    /// `per_second` a second, from now on.
    pub(crate) fn per_second(per_second: u32) -> Self {
        Self { began: Instant::now(), every: Duration::from_secs(1) / per_second }
    }

    /// When number `n` is due.
    pub(crate) fn due(&self, n: u32) -> Instant {
        self.began + self.every * n
    }

    /// Resolves when number `n` is due; spins on the arbiter, and lets others go first.
    pub(crate) async fn wait(&self, n: u32) -> Instant {
        let due = self.due(n);
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        due
    }
}
