//! The program as a person meets it: what it does, and what it says when something is wrong — what,
//! where, what to do, and a code that is not zero.
//!
//! `tests/run` builds it and names it in `FLUMEN_BIN`.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/elsewhere.rs"]
mod elsewhere;
#[path = "cli/errors.rs"]
mod errors;
#[path = "seccomp/filter.rs"]
mod filter;
#[path = "cli/full_disk.rs"]
mod full_disk;
#[path = "cli/members.rs"]
mod members;
#[path = "cli/metrics.rs"]
mod metrics;
#[path = "power_cut/mount.rs"]
mod mount;
#[path = "cli/network.rs"]
mod network;
#[path = "cli/no_ring.rs"]
mod no_ring;
#[path = "cli/program.rs"]
mod program;
#[path = "cli/serve.rs"]
mod serve;
#[path = "cli/use_it.rs"]
mod use_it;
