//! Bugs that a simulation plants to show that it finds them.
//!
//! Those of the disk are lies of the simulated disk and touch no other code. The others are asked
//! for at their place, under the feature `sim` only: a build for use holds no trace of them.

use std::cell::RefCell;

/// One planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    /// Acknowledges before the sync: syncs answer at once, and nothing is durable for it.
    AckBeforeSync,
    /// Writes of superseded incarnations are let through.
    NoEraCheck,
    /// Names are taken for durable without a sync of their directory.
    NoDirectorySync,
    /// The window in which repeats are told apart is one batch too narrow.
    DedupeWindowOffByOne,
    /// The position of what was read becomes durable before what was read.
    PositionAheadOfData,
}

impl Planted {
    /// All of them.
    pub const ALL: [Planted; 5] = [
        Planted::AckBeforeSync,
        Planted::NoEraCheck,
        Planted::NoDirectorySync,
        Planted::DedupeWindowOffByOne,
        Planted::PositionAheadOfData,
    ];
}

thread_local! {
    static PLANTED: RefCell<Vec<Planted>> = const { RefCell::new(Vec::new()) };
}

/// Whether the simulation that runs on this thread planted `bug`.
#[must_use]
pub fn is_planted(bug: Planted) -> bool {
    PLANTED.with_borrow(|planted| planted.contains(&bug))
}

pub(super) fn plant(bugs: &[Planted]) {
    PLANTED.set(bugs.to_vec());
}
