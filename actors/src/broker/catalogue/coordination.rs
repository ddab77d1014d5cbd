//! The coordination port: who decides, for all nodes, what the catalogue says.
//!
//! One node decides for itself and keeps its decisions in a log of its own
//! ([`super::local::LocalCoordination`]). A cluster lets a quorum decide, behind the same port.
//!
//! # Contract
//! - COORD-1: a change whose commit returned `Ok` is durable, and every later opening replays it.
//! - COORD-2: changes are replayed in the order in which they were committed.
//! - COORD-3: a change whose commit failed may or may not be replayed later, of several the first ones
//!   only; after a failure every further commit fails until the port is opened again.

use futures::future::LocalBoxFuture;

use super::state::Change;

/// The change was not committed, or nobody can say whether it was.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the catalogue of topics cannot be opened or changed: {reason}")]
pub struct CoordinationError {
    /// What went wrong, and what to do.
    pub reason: String,
    /// What kind of failure it is.
    pub cause: Cause,
}

/// What kind of failure keeps the catalogue from being opened or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The disk that keeps it is full, and nothing else is wrong: it may be opened again.
    Full,
    /// A sync of it has failed: nobody in this process may go on from what the page cache shows.
    Unsynced,
    /// Another one.
    Other,
}

/// Decides the order of changes, and keeps them.
pub trait Coordination {
    /// Commits `changes`, in their order, after all that was committed before. Starts when called.
    fn commit(
        &mut self,
        changes: &[Change],
    ) -> LocalBoxFuture<'static, Result<(), CoordinationError>>;

    /// Lets go of what it holds, in order.
    fn close(&mut self) -> LocalBoxFuture<'static, Result<(), CoordinationError>>;
}
