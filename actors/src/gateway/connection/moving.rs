//! Moving: a connection goes once to an arbiter of the partitions that it writes or reads.
//!
//! ```text
//!   Produce or Fetch ──► home(frame)? ──► here, or not known yet: it stays
//!                             └─ another arbiter: the request is held, and when nothing is in work any
//!                                more, its connection ends here and goes on there with the request
//!                                and what was read behind it
//! ```
//!
//! A message to another arbiter wakes a thread, which costs ten times as much as all else that is
//! done with a small request; the client notices nothing of the move.

use flumen_runtime::ids::ArbiterId;

use super::intake::Frame;

/// What was read and not taken up.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    /// The request that says where the connection belongs.
    pub(super) held: Option<Box<Frame>>,
    /// What came behind it.
    pub(super) unread: Vec<u8>,
}

/// Goes on with a stream on another arbiter.
pub(crate) type Move<S> = Box<dyn FnOnce(S, ArbiterId, Carried)>;
