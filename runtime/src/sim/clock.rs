//! The time of day in a simulation: it follows virtual time, and jumps when a test says so.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use tokio::time::Instant;

use crate::clock::{Clock, UnixMillis};

/// A wall clock that goes with tokio's. Clones share it.
#[derive(Clone, Debug)]
pub struct SimClock {
    started: Instant,
    offset_ms: Arc<AtomicI64>,
}

impl SimClock {
    /// A clock that shows `now_ms` now.
    #[must_use]
    pub fn starting_at(now_ms: UnixMillis) -> SimClock {
        SimClock { started: Instant::now(), offset_ms: Arc::new(AtomicI64::new(now_ms)) }
    }

    /// Somebody sets the clock: it goes on from `ms` further on, or back.
    pub fn jump(&self, ms: i64) {
        self.offset_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> UnixMillis {
        let elapsed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.offset_ms.load(Ordering::Relaxed).saturating_add(elapsed)
    }
}
