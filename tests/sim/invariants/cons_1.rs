//! Records are delivered in order and without gaps from the position that was announced (CONS-1).

use std::collections::BTreeMap;

use flumen_actors::broker::names::TopicPartition;
use flumen_runtime::ids::Offset;

/// Where one consumer stands in each partition that it was given.
#[derive(Default)]
pub(crate) struct Positions(BTreeMap<TopicPartition, Offset>);

impl Positions {
    /// Reading begins here.
    pub(crate) fn begin(&mut self, partition: &TopicPartition, position: Offset) {
        self.0.insert(partition.clone(), position);
    }

    /// Records of `partition` from `from` up to `next` are delivered. One that has lost all from
    /// `cut_to` on is read from its start again by whoever stood beyond that.
    pub(crate) fn check(
        &mut self,
        partition: &TopicPartition,
        (from, next): (Offset, Offset),
        cut_to: Option<Offset>,
    ) {
        let expected = self.0.insert(partition.clone(), next);
        let is_again = from == Offset::ZERO
            && expected.zip(cut_to).is_some_and(|(expected, cut_to)| expected > cut_to);
        assert!(
            Some(from) == expected || is_again,
            "CONS-1: {partition} goes on at {from} instead of {expected:?}"
        );
        assert!(next > from, "CONS-1: a delivery of {partition} without records");
    }

    /// Where it stands in `partition`.
    pub(crate) fn of(&self, partition: &TopicPartition) -> Option<Offset> {
        self.0.get(partition).copied()
    }

    /// What was read and not committed yet.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&TopicPartition, Offset)> {
        self.0.iter().map(|(partition, next)| (partition, *next))
    }

    /// It is not this consumer's any more.
    pub(crate) fn end(&mut self, partition: &TopicPartition) {
        self.0.remove(partition);
    }
}
