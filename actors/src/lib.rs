//! The actors of flumen, with their pure cores.
//!
//! ```text
//!   clients of Kafka ──► gateway ──► broker ◄── agent: source ─► channel ─► sink
//!                                      │ partitions, group coordinators
//!                                      ▼
//!                               flumen_runtime: logs, disks, supervision
//! ```
//!
//! [`broker`] keeps topics and groups; [`agent`] collects into them and out of them; [`gateway`] speaks
//! Kafka's wire protocol for clients of other processes. Each module begins with its own picture, says
//! who supervises whom, and names its invariants.

pub mod agent;
pub mod answer;
pub mod broker;
pub mod gateway;
