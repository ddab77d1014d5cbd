//! The broker: topics of partitions, each partition a log with one actor.

pub mod group_coordinator;
pub mod names;
pub mod partition;
