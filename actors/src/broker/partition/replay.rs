//! What a log gives back when it is opened: producers and transactions, from the newest snapshot and
//! the batches behind it.

use bytes::Bytes;
use flumen_runtime::{
    batch::BatchHeader,
    clock::UnixMillis,
    ids::Offset,
    log::{Owner, Replay},
};

use super::{
    messages::AbortedTransaction,
    producers::{Producers, SnapshotError},
    state::{State, marker},
    transactions::Transactions,
    validate,
};

/// State as far as it has been replayed.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Producer states.
    pub producers: Producers,
    /// Decided transactions.
    pub transactions: Transactions,
    /// When the recovery began: producers found in the log count as used then.
    now_ms: UnixMillis,
}

impl Replayed {
    /// Nothing yet, at `now_ms`.
    #[must_use]
    pub fn new(now_ms: UnixMillis) -> Self {
        Self { now_ms, ..Self::default() }
    }

    /// What a log that was closed in order kept: there is nothing to replay.
    ///
    /// # Errors
    /// [`SnapshotError`] where it is no snapshot.
    pub fn restored(snapshot: &[u8]) -> Result<Self, SnapshotError> {
        let (producers, aborted) = Producers::decode(snapshot)?;
        Ok(Self { producers, transactions: Transactions::restored(aborted), now_ms: 0 })
    }
}

impl Replay for Replayed {
    fn restore(&mut self, snapshot: &[u8], at: Offset) -> bool {
        // At the start of a log there is nothing to restore.
        let restored = match snapshot {
            [] => Ok(Default::default()),
            snapshot => Producers::decode(snapshot),
        };
        match restored {
            Ok((mut producers, aborted)) => {
                producers.wake(self.now_ms);
                let transactions = Transactions::restored(aborted);
                *self = Self { producers, transactions, now_ms: self.now_ms };
                true
            }
            Err(error) => {
                tracing::warn!(%error, %at, "ignores a producer snapshot and replays more of the log");
                false
            }
        }
    }

    fn batch(&mut self, header: &BatchHeader, batch: &[u8]) {
        if let Some(produced) = validate::produced(header) {
            self.producers.follow(&produced, header.base_offset, self.now_ms);
        } else if header.attributes.is_control()
            && let Some(marker) = marker(header, &Bytes::copy_from_slice(batch))
            && let Some(first_offset) = self.producers.end_transaction(&marker, self.now_ms)
        {
            let (producer, last_offset) = (marker.producer, header.last_offset());
            let ended = AbortedTransaction { producer, first_offset, last_offset };
            self.transactions.end(ended, marker.is_commit);
        }
    }
}

impl<A, F> Owner for State<A, F> {
    fn snapshot(&self) -> Option<Bytes> {
        Some(self.encode())
    }
}
