//! Disks that are full, or fail some of what they are asked, for a while.

use std::time::Duration;

use flumen_runtime::{disk::sim::Faults, rng::Rng, sim::World};

/// From now on the disks are full, or fail some of what they are asked; what they were before.
pub(crate) fn spoil(world: &World, rng: &mut Rng) -> Faults {
    let usual = world.disks.faults();
    let worse = match rng.below(3) {
        0 => Faults { capacity: 0, ..usual },
        1 => Faults { write_errors: 50, ..usual },
        _ => Faults { sync_errors: 50, ..usual },
    };
    world.trace.line(format_args!("{worse:?}"));
    world.disks.set_faults(worse);
    usual
}

/// Spoils the disks for a while.
pub(crate) async fn spoil_for_a_while(world: &World, rng: &mut Rng) {
    let usual = spoil(world, rng);
    world.pass(Duration::from_millis(50 + rng.below(2_500))).await;
    world.disks.set_faults(usual);
}
