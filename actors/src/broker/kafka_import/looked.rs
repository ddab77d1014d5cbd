//! One partition of Kafka's, read from its first batch to its last.

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use flumen_runtime::{
    batch::{self, BatchError, BatchHeader, EXPANDED_BYTES_MAX, control::Control},
    clock::UnixMillis,
    ids::Offset,
    log::{
        Replay as _,
        adopt::{self, Adoptable},
    },
};

use super::ImportError;
use crate::broker::{
    OFFSETS_TOPIC,
    names::ProducerId,
    partition::{messages::AbortedTransaction, replay::Replayed},
};

/// What a look through a partition came to.
pub(super) struct Looked {
    pub(super) log: Adoptable,
    /// Producers and aborted transactions at its end, as we keep them.
    pub(super) state: Bytes,
    pub(super) epoch: i32,
    pub(super) producer_max: i64,
    pub(super) offsets: u64,
}

/// Transactions, as the log itself tells them: Kafka's snapshots name none that was aborted.
#[derive(Default)]
struct Transactions {
    open: BTreeMap<i64, Offset>,
    aborted: Vec<AbortedTransaction>,
}

impl Transactions {
    fn take(&mut self, header: &BatchHeader, batch: &Bytes) {
        if !header.attributes.is_transactional() {
            return;
        }
        if !header.attributes.is_control() {
            self.open.entry(header.producer_id).or_insert(header.base_offset);
            return;
        }
        let control = Control::parse(batch, header);
        if !matches!(control, Ok(Control::Abort { .. } | Control::Commit { .. })) {
            return;
        }
        let first = self.open.remove(&header.producer_id);
        if let (Some(first_offset), Ok(Control::Abort { .. })) = (first, control) {
            let (producer, last_offset) = (ProducerId(header.producer_id), header.last_offset());
            self.aborted.push(AbortedTransaction { producer, first_offset, last_offset });
        }
    }
}

/// Reads the log in `dir`, of a partition of `topic`.
pub(super) fn look(
    dir: &Path,
    start: Option<Offset>,
    topic: &str,
    now_ms: UnixMillis,
) -> Result<Looked, ImportError> {
    let (mut replayed, mut from) = (Replayed::new(now_ms), Offset::ZERO);
    for kept in adopt::kept_states(dir)? {
        let (at, bytes) = kept?;
        if !bytes.is_empty() && replayed.restore(&bytes, at) {
            from = at;
            break;
        }
    }
    let (mut transactions, mut epoch, mut producer_max) = (Transactions::default(), -1, -1);
    let (mut first, mut unreadable) = (None, None);
    let log = adopt::look_through(dir, start, |header, batch| {
        first = first.or(Some(header.base_offset));
        epoch = epoch.max(header.leader_epoch);
        producer_max = producer_max.max(header.producer_id);
        if topic == OFFSETS_TOPIC && unreadable.is_none() {
            unreadable = read_all(header, batch).err();
        }
        transactions.take(header, batch);
        if header.base_offset >= from {
            replayed.batch(header, batch);
        }
    })?;
    if let Some((producer, first)) = transactions.open.first_key_value() {
        let (producer, first) = (*producer, *first);
        return Err(ImportError::Undecided { dir: dir.to_path_buf(), producer, first });
    }
    if let Some(reason) = unreadable {
        return Err(ImportError::Groups { dir: dir.to_path_buf(), reason });
    }
    let known = replayed.producers.describe().into_iter().map(|status| status.producer.0);
    // Those of channels lie far above all that anybody is given.
    let given = known.chain([producer_max]).filter(|id| !ProducerId(*id).is_owned());
    let producer_max = given.max().unwrap_or(-1);
    let state = replayed.producers.encode(&transactions.aborted);
    let offsets = first.map_or(0, |first: Offset| log.end().0 - first.0);
    Ok(Looked { log, state, epoch: epoch.max(led(dir)), producer_max, offsets })
}

/// Reads every record of a batch, as the groups' coordinator will: what it cannot read, it passes over.
fn read_all(header: &BatchHeader, batch: &Bytes) -> Result<(), BatchError> {
    batch::expand(batch, header, EXPANDED_BYTES_MAX)?.try_for_each(|record| record.map(drop))
}

/// The last epoch of Kafka's `leader-epoch-checkpoint`: it may have led without a record.
fn led(dir: &Path) -> i32 {
    let text = fs::read_to_string(dir.join("leader-epoch-checkpoint")).unwrap_or_default();
    let epochs = text.lines().skip(2).filter_map(|line| line.split(' ').next()?.parse().ok());
    epochs.max().unwrap_or(-1)
}
