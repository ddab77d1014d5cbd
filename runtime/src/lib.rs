//! Mechanism: what every actor of flumen stands on, and what knows nothing of what flumen is for.
//!
//! ```text
//!   supervision ── makes, watches, restarts ──►  actor (one mailbox, one core, one arbiter)
//!        │                                         │ typed messages, each under a permit (credit)
//!        ▼                                         ▼
//!   placement (one arbiter a core)            log ── effects ──► disk actor ──► io_uring │ threads │ sim
//! ```
//!
//! # Architecture invariants
//! - ARCH-1: this crate names no domain type: no topic, partition, group, event, source or sink.
//! - ARCH-2: cores (`state.rs`), `codec`, `ids` and `batch` name no actix, tokio, file, clock or random.
//! - ARCH-3: `unsafe` stands only in `disk/uring.rs`.
//! - ARCH-4: bincode stands only in `codec.rs`, dashmap only in `registry.rs`.
//! - ARCH-5: only launch code makes an arbiter or asks for the current system.

pub mod aside;
pub mod batch;
pub mod clock;
pub mod codec;
pub mod credit;
pub mod data_dir;
pub mod disk;
pub mod era;
pub mod failpoint;
pub mod ids;
pub mod journal;
pub mod latency;
pub mod log;
pub mod mailbox;
pub mod meters;
pub mod placement;
pub mod registry;
pub mod rng;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod supervision;
