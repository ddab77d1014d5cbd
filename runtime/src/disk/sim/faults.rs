//! Which faults a simulated disk commits: a configuration of its own per seed, so that rare ones
//! become common in some runs and the plain road stays travelled in others ("swarm testing",
//! Groce et al., ISSTA 2012).

use crate::rng::Rng;

/// Faults of one run. Chances are in a thousand operations of the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Most milliseconds of an ordinary operation; 0 lets completions race by turns alone.
    pub latency_ms: u64,
    /// Chance that an operation is slow.
    pub slow: u64,
    /// Most milliseconds of a slow one.
    pub slow_ms: u64,
    /// Chance that a write fails with `EIO`.
    pub write_errors: u64,
    /// Chance that a sync fails and loses its pages.
    pub sync_errors: u64,
    /// What it fails with: `EIO`, or `ENOSPC` as a thinly provisioned disk does.
    pub sync_error: i32,
    /// Bytes that fit.
    pub capacity: u64,
    /// Whether no more files can be open: opening and listing fail with `EMFILE`.
    pub out_of_files: bool,
    /// Whether a power cut tears pages by sector.
    pub tears: bool,
    /// Whether unsynced names survive in any subset, not only as a prefix of what was done.
    pub names_in_any_order: bool,
}

impl Faults {
    /// An honest, quick disk: only crashes lose anything.
    #[must_use]
    pub const fn none() -> Faults {
        Faults {
            latency_ms: 0,
            slow: 0,
            slow_ms: 0,
            write_errors: 0,
            sync_errors: 0,
            sync_error: libc::EIO,
            capacity: 1 << 40,
            out_of_files: false,
            tears: false,
            names_in_any_order: false,
        }
    }

    /// Faults that no client may notice, in the mix that `rng` draws: delays, torn pages and names
    /// in any order. Errors and a full disk are left to those who look for their refusal.
    #[must_use]
    pub fn swarm(rng: &mut Rng) -> Faults {
        Faults {
            latency_ms: [0, 2, 8, 30][rng.below(4) as usize],
            slow: [0, 0, 5, 50][rng.below(4) as usize],
            slow_ms: 20 + rng.below(100),
            tears: rng.chance(2, 3),
            names_in_any_order: rng.chance(1, 2),
            ..Faults::none()
        }
    }
}

/// Promises of the disk's contract that are broken on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lies {
    /// Syncs of files answer at once and make nothing durable: what acknowledging before the sync
    /// comes to (DISK-3).
    pub sync: bool,
    /// Syncs of directories answer and make no name durable (DISK-4).
    pub sync_dir: bool,
    /// Tickets are not looked at (DISK-5).
    pub era: bool,
}

/// What was met, counted since the world was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Power cuts.
    pub crashes: u64,
    /// Ends of the process.
    pub kills: u64,
    /// Pages of which a power cut kept less than the last write.
    pub lost_pages: u64,
    /// Pages that a power cut tore by sector.
    pub torn_pages: u64,
    /// Unsynced changes of names that a power cut undid.
    pub lost_names: u64,
    /// Writes refused for their era.
    pub fenced: u64,
    /// Writes of a superseded era that were let through: always 0, but where eras are not checked.
    pub stale: u64,
    /// Writes failed with `EIO`.
    pub write_errors: u64,
    /// Syncs that failed.
    pub sync_errors: u64,
    /// Writes refused for want of room.
    pub full: u64,
}
