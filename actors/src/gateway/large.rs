//! Answers that may be far larger than their questions: how many of them are built at once, and how far
//! one of them goes.
//!
//! ```text
//!   handler ── its turn? ──► builds, within its allowance ──► encoded ──► room among the answers ──► sent
//!                └ one of a few on the node, kept until there is that room ◄─────┘
//! ```
//!
//! How large an answer is shows only when it is built. So what is built and not counted yet has a bound:
//! a few turns, and for each answer the totals of the node (`max.partitions`, `max.groups`), or its
//! allowance where the same thing may be asked for again and again.

use std::{cell::Cell, fmt, rc::Rc};

use flumen_runtime::credit::{Credit, Permit};

use super::codec;

/// Large answers of a kind that are built at once on a node.
const TURNS: usize = 4;
/// Bytes of one answer after which nothing more is described: what a client of ours takes.
const ALLOWANCE: usize = codec::decode::MEMORY_MAX / 4 * 3;

/// The turns of a node. Answers from what is at hand do not wait for those that need other actors, which
/// may take their time.
pub(super) struct Turns {
    pub(super) at_hand: Credit,
    pub(super) gathered: Credit,
}

impl Default for Turns {
    fn default() -> Self {
        Self { at_hand: Credit::new(TURNS, 0), gathered: Credit::new(TURNS, 0) }
    }
}

/// The turn of one answer, where it needs one. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Turn(Rc<Cell<Option<Permit>>>);

impl Turn {
    /// Waits for it among these. It is kept as long as any clone is.
    pub(super) async fn begin(&self, turns: &Credit) {
        self.0.set(Some(turns.acquire(1, 0).await));
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn")
    }
}

/// What an answer may still hold.
#[derive(Debug)]
pub(super) struct Allowance(usize);

impl Default for Allowance {
    fn default() -> Self {
        Self(ALLOWANCE)
    }
}

impl Allowance {
    /// Why there is no more, and what to do.
    pub(super) const OVER: &str = "the answer holds all that one may: ask for the rest by itself";

    /// Whether anything more may be described.
    pub(super) fn is_left(&self) -> bool {
        self.0 > 0
    }

    /// So many bytes more are in the answer.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(bytes);
    }
}
