//! The catalogue: which topics there are, and of each partition who leads it, since which epoch,
//! who is in sync and in which data directory it lives.
//!
//! ```text
//!   broker ── Change ──► Coordination ── committed, in order ──► state::Catalogue (a core)
//!                        local log │ (a quorum, later)
//! ```
//!
//! What stands in it is what replaying its changes gives; nothing else is kept.

pub mod coordination;
pub mod local;
pub mod node_settings;
pub mod settings;
pub mod state;
