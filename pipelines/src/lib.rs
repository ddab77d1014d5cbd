//! Flumen: typed pipelines on an embedded log broker.
//!
//! ```text
//!   node       a broker, its disks and its supervisors, in this process
//!   pipeline   the builder: agents and streams, checked before they start
//!   running    a pipeline that runs: status, latency, drain, stop
//!   topology   its graph, as text and as DOT
//!   stream     operators and outlets, each result once
//!   typed      values: bincode with a type header, JSON, raw bytes
//!   client     a client of Kafka's protocol, for a node elsewhere or in this process
//!   metrics    what a node counts, as text for Prometheus over HTTP
//!   cli, demo  the command `flumen`
//! ```
//!
//! Begin with [`pipeline`]; the README has a whole program.

pub mod cli;
pub mod client;
pub mod demo;
pub mod metrics;
pub mod node;
pub mod open_files;
pub mod pipeline;
pub mod running;
pub mod signals;
pub mod stream;
pub mod topology;
pub mod typed;

/// The programs in the README, compiled with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
