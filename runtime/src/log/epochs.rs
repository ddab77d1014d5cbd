//! Which leader epoch began at which offset: `leader-epoch-checkpoint`, in Kafka's text
//! (`LeaderEpochCheckpointFile.java`): a version line `0`, a line with the count, and a line
//! `<epoch> <start offset>` each.

use serde::{Deserialize, Serialize};

use crate::ids::{LeaderEpoch, Offset};

/// The file's name.
pub(crate) const FILE: &str = "leader-epoch-checkpoint";

/// Start offsets of the leader epochs of a log, both rising.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epochs(Vec<(LeaderEpoch, Offset)>);

impl Epochs {
    /// Takes note that a batch of `epoch` begins at `start`; tells whether that is new.
    pub(crate) fn note(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if self.0.last().is_some_and(|(last, _)| *last >= epoch) {
            return false;
        }
        self.0.push((epoch, start));
        true
    }

    /// The newest epoch.
    #[must_use]
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.0.last().map(|(epoch, _)| *epoch)
    }

    /// The epoch of the record at `offset`.
    #[must_use]
    pub fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.0.iter().rev().find(|(_, start)| *start <= offset).map(|(epoch, _)| *epoch)
    }

    /// The largest epoch not above `epoch`, and where the one after it begins (`end` of the log
    /// where there is none): what a follower compares itself with (KIP-101, KIP-320).
    #[must_use]
    pub fn end_of(&self, epoch: LeaderEpoch, end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let after = self.0.partition_point(|(known, _)| *known <= epoch);
        let (found, _) = self.0.get(after.checked_sub(1)?)?;
        Some((*found, self.0.get(after).map_or(end, |(_, start)| *start)))
    }

    /// Forgets epochs that begin at or after `end`.
    pub(crate) fn truncate_to(&mut self, end: Offset) -> bool {
        let before = self.0.len();
        self.0.retain(|(_, start)| *start < end);
        self.0.len() != before
    }

    /// Forgets epochs that end before `start`; the one that spans it begins there.
    pub(crate) fn trim_to(&mut self, start: Offset) {
        let spanning = self.0.partition_point(|(_, begin)| *begin <= start);
        self.0.drain(..spanning.saturating_sub(1));
        if let Some((_, begin)) = self.0.first_mut() {
            *begin = (*begin).max(start);
        }
    }

    /// The file's text.
    pub(crate) fn to_text(&self) -> String {
        let lines = self.0.iter().map(|(epoch, start)| format!("{epoch} {start}\n"));
        format!("0\n{}\n{}", self.0.len(), lines.collect::<String>())
    }

    /// What the file says; `None` where it is not such a file, and the batches must say it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != "0" {
            return None;
        }
        let count: usize = lines.next()?.parse().ok()?;
        let mut epochs = Self::default();
        for line in lines.by_ref() {
            let (epoch, start) = line.split_once(' ')?;
            let start = start.parse().ok().filter(|start| *start < i64::MAX as u64)?;
            epochs.note(LeaderEpoch(epoch.parse().ok()?), Offset(start)).then_some(())?;
        }
        (epochs.0.len() == count).then_some(epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(all: &[(u32, u64)]) -> Epochs {
        Epochs(all.iter().map(|(e, o)| (LeaderEpoch(*e), Offset(*o))).collect())
    }

    #[test]
    fn the_text_is_kafkas_and_comes_back() {
        let epochs = epochs(&[(0, 0), (3, 17)]);
        assert_eq!(epochs.to_text(), "0\n2\n0 0\n3 17\n");
        assert_eq!(Epochs::parse(&epochs.to_text()), Some(epochs));
        for bad in ["", "1\n0\n", "0\n2\n0 0\n", "0\n1\nx y\n", "0\n2\n3 0\n1 5\n"] {
            assert_eq!(Epochs::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let epochs = epochs(&[(1, 0), (3, 10)]);
        let end = Offset(25);
        assert_eq!(epochs.end_of(LeaderEpoch(0), end), None);
        assert_eq!(epochs.end_of(LeaderEpoch(2), end), Some((LeaderEpoch(1), Offset(10))));
        assert_eq!(epochs.end_of(LeaderEpoch(9), end), Some((LeaderEpoch(3), end)));
        assert_eq!(epochs.at(Offset(9)), Some(LeaderEpoch(1)));
    }

    #[test]
    fn both_ends_are_cut() {
        let mut all = epochs(&[(1, 0), (3, 10), (4, 20)]);
        assert!(all.truncate_to(Offset(20)));
        all.trim_to(Offset(12));
        assert_eq!(all, epochs(&[(3, 12)]));
    }
}
