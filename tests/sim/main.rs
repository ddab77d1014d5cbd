//! The simulation: the node's own code in one thread, under virtual time, by seed.
//!
//! ```text
//!   seed ──► workload ──► node on a simulated disk ──► oracle: nothing acknowledged lost,
//!              │ crash, kill, wedge      │                      nothing doubled, order kept
//!              └─────────────────────────┴──► invariants, after every step
//! ```
//!
//! `SIM_SEED=n cargo test --test sim NAME -- --nocapture` repeats one run with its trace.

mod book;
mod clock;
mod coverage;
mod damage;
mod disks;
mod invariants;
mod log;
mod node;
mod oracle;
mod partitions;
mod producer;
mod reader;
mod runner;
