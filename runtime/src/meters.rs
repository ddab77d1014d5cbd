//! How long things took, counted for whoever watches the process: histograms of fixed buckets, of
//! which counting is two relaxed additions.
//!
//! A [`Meter`] is of the actors of one kind on one arbiter, so that no two cores write to the same
//! line; who shows them adds them up ([`Meters::all`]). What is counted never goes down.

use std::{
    array,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{ids::ArbiterId, registry::Directory};

/// Up to how many microseconds each bucket reaches; a last one has no end.
pub const BOUNDS_US: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];
const BUCKETS: usize = BOUNDS_US.len() + 1;

/// A histogram of durations, which many threads count in.
#[derive(Debug)]
pub struct Timings {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

/// What a histogram had counted at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timed {
    /// How many there were in each bucket, by [`BOUNDS_US`]; not those of the buckets before it.
    pub buckets: [u64; BUCKETS],
    /// All durations together.
    pub total: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self { buckets: array::from_fn(|_| AtomicU64::new(0)), nanos: AtomicU64::new(0) }
    }
}

impl Timings {
    /// Counts something that took so long.
    pub fn note(&self, took: Duration) {
        let bucket = BOUNDS_US.partition_point(|bound| Duration::from_micros(*bound) < took);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn timed(&self) -> Timed {
        Timed {
            buckets: array::from_fn(|bucket| self.buckets[bucket].load(Relaxed)),
            total: Duration::from_nanos(self.nanos.load(Relaxed)),
        }
    }
}

impl Timed {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn plus(self, other: Timed) -> Timed {
        Timed {
            buckets: array::from_fn(|bucket| self.buckets[bucket] + other.buckets[bucket]),
            total: self.total + other.total,
        }
    }
}

/// What the actors of one kind waited for, on one arbiter.
#[derive(Debug, Default)]
pub struct Meter {
    /// Until what they had written was durable.
    pub syncs: Timings,
    /// While the disk held up the thread of all actors there, for their sake.
    pub stalls: Timings,
}

/// The same in numbers, of all arbiters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metered {
    /// See [`Meter::syncs`].
    pub syncs: Timed,
    /// See [`Meter::stalls`].
    pub stalls: Timed,
}

/// The meters of a process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Meters(Directory<(&'static str, ArbiterId), Arc<Meter>>);

impl Meters {
    /// That of the actors of `kind` on `arbiter`.
    #[must_use]
    pub fn of(&self, kind: &'static str, arbiter: ArbiterId) -> Arc<Meter> {
        self.0.get_or_insert_with((kind, arbiter), Arc::default)
    }

    /// What was counted of each kind.
    #[must_use]
    pub fn all(&self) -> BTreeMap<&'static str, Metered> {
        let mut all = BTreeMap::<_, Metered>::new();
        for ((kind, _), meter) in self.0.entries() {
            let metered = all.entry(kind).or_default();
            metered.syncs = metered.syncs.plus(meter.syncs.timed());
            metered.stalls = metered.stalls.plus(meter.stalls.timed());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_bucket_whose_bound_it_does_not_pass() {
        let timings = Timings::default();
        for (index, bound) in BOUNDS_US.into_iter().enumerate() {
            timings.note(Duration::from_micros(bound));
            timings.note(Duration::from_micros(bound) + Duration::from_nanos(1));
            let buckets = timings.timed().buckets;
            assert_eq!(buckets[index], if index == 0 { 1 } else { 2 }, "up to {bound} us");
            assert_eq!(buckets[index + 1], 1, "beyond {bound} us");
        }
        let timed = timings.timed();
        assert_eq!(timed.count(), 2 * BOUNDS_US.len() as u64);
        let bounds = Duration::from_micros(BOUNDS_US.iter().sum());
        assert_eq!(timed.total, bounds * 2 + Duration::from_nanos(BOUNDS_US.len() as u64));
    }

    #[test]
    fn the_arbiters_of_a_kind_are_added_up_and_kinds_are_kept_apart() {
        let meters = Meters::default();
        meters.of("a", ArbiterId(0)).syncs.note(Duration::from_micros(10));
        meters.of("a", ArbiterId(1)).syncs.note(Duration::from_micros(20));
        meters.of("a", ArbiterId(1)).stalls.note(Duration::from_secs(1));
        meters.of("b", ArbiterId(0)).syncs.note(Duration::from_micros(40));
        let all = meters.all();
        let of = |kind| (all[kind].syncs.count(), all[kind].syncs.total, all[kind].stalls.count());
        assert_eq!(of("a"), (2, Duration::from_micros(30), 1));
        assert_eq!(of("b"), (1, Duration::from_micros(40), 0));
    }
}
