//! How many connections there are, in all and from each address.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts connections. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum NoSlot {
    #[error("the node has {0} connections, which is `max.connections`")]
    InAll(usize),
    #[error("{0} has {1} connections, which is `max.connections.per.ip`")]
    FromAddress(IpAddr, usize),
}

/// The place of one connection; free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    address: IpAddr,
}

impl Slots {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Two counts; nothing under the lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.lock().in_all
    }

    /// A place for a connection from `address`, where there are fewer than so many, in all and from
    /// there. Connections that are there stay when a limit is lowered.
    pub(super) fn take(
        &self,
        address: IpAddr,
        (in_all_max, per_address_max): (usize, usize),
    ) -> Result<Slot, NoSlot> {
        let mut taken = self.lock();
        if taken.in_all >= in_all_max {
            return Err(NoSlot::InAll(taken.in_all));
        }
        let theirs = taken.by_address.entry(address).or_default();
        if *theirs >= per_address_max {
            return Err(NoSlot::FromAddress(address, *theirs));
        }
        *theirs += 1;
        taken.in_all += 1;
        Ok(Slot { slots: self.clone(), address })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        taken.in_all -= 1;
        let theirs = taken.by_address.get_mut(&self.address).expect("it was counted");
        *theirs -= 1;
        if *theirs == 0 {
            taken.by_address.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold_and_places_come_back() {
        let (slots, most) = (Slots::default(), (3, 2));
        let [one, two] = [1, 2].map(|last| IpAddr::from([127, 0, 0, last]));
        let first = slots.take(one, most).unwrap();
        let _second = slots.take(one, most).unwrap();
        assert_eq!(slots.take(one, most).unwrap_err(), NoSlot::FromAddress(one, 2));
        let _third = slots.take(two, most).unwrap();
        assert_eq!(slots.take(two, most).unwrap_err(), NoSlot::InAll(3));
        drop(first);
        assert_eq!(slots.taken(), 2);
        let _fourth = slots.take(one, most).unwrap();
        assert_eq!(slots.take(one, (2, 2)).unwrap_err(), NoSlot::InAll(3), "a lower limit");
    }
}
