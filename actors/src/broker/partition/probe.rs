//! A window into a partition for tests and simulations: what it is, after every step.

use flumen_runtime::ids::{LeaderEpoch, Offset};

use super::{marks::Marks, messages::Role};
use crate::broker::names::TopicPartition;

/// A partition after one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Which life of the actor this is.
    pub life: u64,
    /// The five numbers.
    pub marks: Marks,
    /// The role.
    pub role: Role,
    /// Its epoch.
    pub epoch: LeaderEpoch,
    /// The furthest append that has been acknowledged in this life.
    pub acked_end: Offset,
    /// Batches of this life that had been appended before.
    pub duplicates: u64,
    /// Acks that wait.
    pub waiting: usize,
    /// Fetches that are parked.
    pub parked: usize,
}

/// Sees what a partition is after each of its steps. Called on the partition's arbiter, so it must
/// be quick; nothing it does may come back to the partition.
pub trait Probe: Send + Sync {
    /// `partition` has made a step.
    fn partition(&self, partition: &TopicPartition, snapshot: &Snapshot);
}
