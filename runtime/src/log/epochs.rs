//! Which leader epoch began at which offset: `leader-epoch-checkpoint`, in Kafka's text
//! (`LeaderEpochCheckpointFile.java`): a version line `0`, a line with the count, and a line
//! `<epoch> <start offset>` each.

use serde::{Deserialize, Serialize};

use super::LogPlace;
use crate::{
    batch::{BatchError, BatchHeader},
    disk::{DiskError, DiskHandle, Entry, OpenMode},
    ids::{LeaderEpoch, Offset},
};

/// The file's name.
pub(crate) const FILE: &str = "leader-epoch-checkpoint";

/// The epoch that a batch says; one that says none is of the first.
pub(crate) fn epoch_of(header: &BatchHeader) -> LeaderEpoch {
    LeaderEpoch(u32::try_from(header.leader_epoch).unwrap_or(0))
}

/// Start offsets of the leader epochs of a log, both rising.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epochs(Vec<(LeaderEpoch, Offset)>);

impl Epochs {
    /// Takes note that a batch of `epoch` begins at `start`; tells whether that changes anything. Later
    /// epochs that begin at `firm` or after it are forgotten: whoever said so was wrong, since epochs
    /// only rise (as in `LeaderEpochFileCache.maybeTruncateNonMonotonicEntries`).
    pub(crate) fn note(&mut self, epoch: LeaderEpoch, start: Offset, firm: Offset) -> bool {
        let before = self.0.len();
        while self.0.last().is_some_and(|(last, begin)| *last > epoch && *begin >= firm) {
            self.0.pop();
        }
        if self.0.last().is_some_and(|(last, _)| *last >= epoch) {
            return self.0.len() != before;
        }
        self.0.push((epoch, start));
        true
    }

    /// Whether a batch says the epoch that was the leader's when it was appended: no checksum covers
    /// that.
    ///
    /// # Errors
    /// [`BatchError::Field`] where it says another.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<(), BatchError> {
        let is_made_up = header.leader_epoch < -1;
        match self.at(header.base_offset) {
            Some(epoch) if is_made_up || epoch != epoch_of(header) => {
                let value = header.leader_epoch.into();
                Err(BatchError::Field { field: "leader epoch", value })
            }
            _ => Ok(()),
        }
    }

    /// Where the oldest epoch begins.
    #[must_use]
    pub fn begin(&self) -> Option<Offset> {
        self.0.first().map(|(_, start)| *start)
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
            let epoch = LeaderEpoch(epoch.parse().ok()?);
            epochs.note(epoch, Offset(start), Offset(u64::MAX)).then_some(())?;
        }
        (epochs.0.len() == count).then_some(epochs)
    }
}

/// What the file of the log at `place` says, whose directory holds `found`, of what lies below
/// `known_to`: nothing where there is none, and the batches must say it.
pub(crate) async fn read(
    place: &LogPlace,
    disk: &DiskHandle,
    found: &[Entry],
    known_to: Offset,
) -> Result<Epochs, DiskError> {
    let Some(entry) = found.iter().find(|entry| entry.name == FILE) else {
        return Ok(Epochs::default());
    };
    let file = disk.open(place.dir.join(FILE), OpenMode::Read).await?;
    let bytes = disk.read(&file, 0, entry.len.min(1 << 20) as usize).await?;
    let said = std::str::from_utf8(&bytes).ok().and_then(Epochs::parse);
    let mut epochs = said.unwrap_or_default();
    epochs.truncate_to(known_to);
    Ok(epochs)
}

/// Writes the file of the log at `place`.
pub(crate) async fn write(
    place: &LogPlace,
    disk: &DiskHandle,
    epochs: &Epochs,
) -> Result<(), DiskError> {
    disk.write_atomically(&place.dir.join(FILE), epochs.to_text().into(), &place.ticket).await
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
    fn an_epoch_that_one_batch_made_up_is_forgotten_with_the_next() {
        let mut epochs = epochs(&[(1, 0), (3, 10)]);
        let firm = Offset(15);
        assert!(epochs.note(LeaderEpoch(1 << 30), Offset(20), firm));
        assert!(epochs.note(LeaderEpoch(3), Offset(21), firm));
        assert!(!epochs.note(LeaderEpoch(1), Offset(22), firm), "what is firm stays");
        assert_eq!(epochs, self::epochs(&[(1, 0), (3, 10)]));
    }

    #[test]
    fn both_ends_are_cut() {
        let mut all = epochs(&[(1, 0), (3, 10), (4, 20)]);
        assert!(all.truncate_to(Offset(20)));
        all.trim_to(Offset(12));
        assert_eq!(all, epochs(&[(3, 12)]));
    }
}
