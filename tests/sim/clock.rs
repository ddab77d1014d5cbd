//! Somebody sets the clock, forwards or back: nothing that ages by it may be lost or come twice, and
//! nothing that waits may wait for it.

use flumen_runtime::{rng::Rng, sim::World};

const HOUR_MS: i64 = 3_600_000;
/// How far from the true time the clock ever is: farther than a producer is remembered, not as far
/// as records are kept, which clocks that are that wrong do take away.
const ASTRAY_MS_MAX: i64 = 60 * HOUR_MS;

/// The clock of a run, and how wrong it is.
#[derive(Default)]
pub(crate) struct Clock {
    astray_ms: i64,
}

impl Clock {
    /// Sets it.
    pub(crate) fn jump(&mut self, world: &World, rng: &mut Rng) {
        let far = [1_000, 60_000, 2 * HOUR_MS, 30 * HOUR_MS][rng.below(4) as usize];
        let ms = if rng.chance(1, 2) { far } else { -far };
        let ms = if (self.astray_ms + ms).abs() > ASTRAY_MS_MAX { -ms } else { ms };
        self.astray_ms += ms;
        world.trace.line(format_args!("the clock jumps by {ms} ms"));
        world.clock.jump(ms);
    }
}
