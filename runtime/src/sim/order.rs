//! Seeded order of deliveries: whoever is about to take messages out of its mailbox asks here
//! whether its turn is put off, so that what two arbiters do at once happens in either order.

use std::cell::RefCell;

use crate::rng::Rng;

struct Order {
    rng: Rng,
    /// Chance in eight that a turn is put off.
    chance: u64,
}

thread_local! {
    static ORDER: RefCell<Option<Order>> = const { RefCell::new(None) };
}

/// Whether the turn that is about to begin is put off; never outside of a simulation. Whoever is
/// told so wakes itself and returns: others go first.
#[must_use]
pub fn is_turn_put_off() -> bool {
    ORDER.with_borrow_mut(|order| {
        order.as_mut().is_some_and(|order| order.rng.chance(order.chance, 8))
    })
}

/// From now on `rng` decides on this thread; with none, no turn is put off.
pub(super) fn seed_order(rng: Option<Rng>) {
    ORDER.set(rng.map(|mut rng| {
        let chance = [0, 1, 2, 4][rng.below(4) as usize];
        Order { rng, chance }
    }));
}
