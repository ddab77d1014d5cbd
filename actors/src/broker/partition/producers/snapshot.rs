//! Producer states as bytes: Kafka's `.snapshot` file, version 1 (`ProducerSnapshot.json`), all
//! big-endian.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 2 | version = 1 |
//! | 2 | 4 | CRC-32C of the bytes from offset 6 on |
//! | 6 | 4 | entries |
//! | 10 | 46 each | producer id 8, epoch 2, last sequence 4, last offset 8, offset delta 4, timestamp 8, coordinator epoch 4, first offset of the open transaction 8 (−1 none) |
//!
//! Behind the entries, where transactions were aborted, in the bytes of Kafka's `.txnindex`
//! (`AbortedTxn.json`):
//!
//! | size | field |
//! |---|---|
//! | 4 | aborted transactions |
//! | 34 each | version = 0 2, producer id 8, first offset 8, last offset 8, last stable offset 8 (here: the first) |
//!
//! Kafka reads the entries and passes over what follows, which its checksum covers. One file instead
//! of two, so that both are of the same moment: a `.txnindex` of its own would have to become durable
//! between the marker and the recovery point.
//!
//! Each batch of a producer's window is an entry of its own, oldest first: Kafka keeps the last
//! entry of an id, which is the last batch, all that it writes itself. With the last one alone, a
//! producer that repeats five batches after a crash would be refused as out of order (found by the
//! simulation). Its timestamp is the largest of the batch's, as in Kafka. An entry without batch, with −1
//! as last sequence and offset, says by its timestamp when the producer was used; where the last batch
//! says the same, there is none.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flumen_runtime::{codec::crc32c, ids::Offset};
use smallvec::{SmallVec, smallvec};

use super::{Producers, RECENT_MAX, Recent, State};
use crate::broker::{names::ProducerId, partition::messages::AbortedTransaction};

const VERSION: i16 = 1;
const HEAD_BYTES: usize = 10;
const ENTRY_BYTES: usize = 46;
const ABORTED_BYTES: usize = 34;

/// Bytes that are no snapshot of producer states.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SnapshotError {
    /// Shorter or longer than it says.
    #[error("a producer snapshot of {0} bytes does not hold what it says")]
    Length(usize),
    /// Of a version that this program does not know.
    #[error("producer snapshot of version {0}; this program reads version 1")]
    Version(i16),
    /// Its bytes changed.
    #[error("the producer snapshot fails its checksum")]
    Checksum,
    /// A number that no producer can have.
    #[error("the producer snapshot holds a number that cannot be: {0}")]
    Value(i64),
}

impl Producers {
    /// As the content of a `.snapshot` file, with the transactions that were aborted.
    #[must_use]
    pub fn encode(&self, aborted: &[AbortedTransaction]) -> Bytes {
        let count: usize = self.states.values().map(|state| entries(state).count()).sum();
        let mut out = BytesMut::with_capacity(HEAD_BYTES + ENTRY_BYTES * count);
        out.put_i16(VERSION);
        out.put_u32(0);
        out.put_u32(u32::try_from(count).expect("producers fit in memory"));
        for (id, state) in &self.states {
            for batch in entries(state) {
                encode_entry(*id, state, batch, &mut out);
            }
        }
        if !aborted.is_empty() {
            out.put_u32(u32::try_from(aborted.len()).expect("transactions fit in memory"));
        }
        for AbortedTransaction { producer, first_offset, last_offset } in aborted {
            out.put_i16(0);
            out.put_i64(producer.0);
            out.put_i64(first_offset.as_i64());
            out.put_i64(last_offset.as_i64());
            out.put_i64(first_offset.as_i64());
        }
        let crc = crc32c(&[&out[6..]]);
        out[2..6].copy_from_slice(&crc.to_be_bytes());
        out.freeze()
    }

    /// Reads the content of a `.snapshot` file: producers, and aborted transactions in the order of
    /// their ends.
    ///
    /// # Errors
    /// [`SnapshotError`]; the file is then as good as missing, and older state is replayed.
    pub fn decode(bytes: &[u8]) -> Result<(Producers, Vec<AbortedTransaction>), SnapshotError> {
        let length = SnapshotError::Length(bytes.len());
        if bytes.len() < HEAD_BYTES {
            return Err(length);
        }
        let (mut head, rest) = bytes.split_at(HEAD_BYTES);
        let version = head.get_i16();
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        if head.get_u32() != crc32c(&[&bytes[6..]]) {
            return Err(SnapshotError::Checksum);
        }
        let entries = head.get_u32() as usize;
        let split = entries.checked_mul(ENTRY_BYTES).and_then(|end| rest.split_at_checked(end));
        let (mut entries, mut aborted) = split.ok_or(length)?;
        let mut producers = Producers::default();
        // Whom the last entry without batch was of, and what it said.
        let mut used = None;
        while entries.has_remaining() {
            let (id, mut state) = decode_entry(&mut entries)?;
            match used.filter(|(of, _)| *of == id && !state.recent.is_empty()) {
                Some((_, used_ms)) => state.used_ms = used_ms,
                None => used = state.recent.is_empty().then_some((id, state.used_ms)),
            }
            if let Some(first) = state.transaction_first {
                producers.open.insert((first, id));
            }
            producers.take(id, state);
        }
        Ok((producers, decode_aborted(&mut aborted)?))
    }

    /// Takes in an entry; those of the same life of a producer make up its window.
    fn take(&mut self, id: ProducerId, mut state: State) {
        if let Some(before) = self.states.get(&id).filter(|before| before.epoch == state.epoch) {
            let first = state.recent.first().map_or(Offset::ZERO, Recent::base_offset);
            let older = before.recent.iter().filter(|recent| recent.last_offset < first).copied();
            let mut recent: SmallVec<[Recent; RECENT_MAX]> = older.collect();
            let excess = (recent.len() + state.recent.len()).saturating_sub(RECENT_MAX);
            recent.drain(..excess.min(recent.len()));
            recent.extend(state.recent);
            state.recent = recent;
        }
        self.states.insert(id, state);
    }
}

fn unsigned(value: i64) -> Result<u64, SnapshotError> {
    u64::try_from(value).map_err(|_| SnapshotError::Value(value))
}

fn decode_aborted(rest: &mut &[u8]) -> Result<Vec<AbortedTransaction>, SnapshotError> {
    let length = SnapshotError::Length(rest.len());
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let count = rest.try_get_u32().map_err(|_| length.clone())? as usize;
    if count.checked_mul(ABORTED_BYTES) != Some(rest.len()) {
        return Err(length);
    }
    let mut aborted = Vec::with_capacity(count);
    for _ in 0..count {
        let version = rest.get_i16();
        if version != 0 {
            return Err(SnapshotError::Version(version));
        }
        let producer = ProducerId(rest.get_i64());
        let first_offset = Offset(unsigned(rest.get_i64())?);
        let last_offset = Offset(unsigned(rest.get_i64())?);
        rest.advance(8);
        aborted.push(AbortedTransaction { producer, first_offset, last_offset });
    }
    Ok(aborted)
}

/// The entries of a producer: when it was used, where its last batch does not say that, and its batches.
fn entries(state: &State) -> impl Iterator<Item = Option<&Recent>> {
    let is_said = state.recent.last().is_some_and(|last| last.timestamp_ms == state.used_ms);
    (!is_said).then_some(None).into_iter().chain(state.recent.iter().map(Some))
}

/// Appends the entry of a batch, or one without.
fn encode_entry(id: ProducerId, state: &State, batch: Option<&Recent>, out: &mut BytesMut) {
    let offset = |batch: &Recent| batch.last_offset.as_i64();
    out.put_i64(id.0);
    out.put_i16(state.epoch);
    out.put_i32(batch.map_or(-1, |batch| batch.last_sequence));
    out.put_i64(batch.map_or(-1, offset));
    out.put_u32(batch.map_or(0, |batch| batch.last_delta));
    out.put_i64(batch.map_or(state.used_ms, |batch| batch.timestamp_ms));
    out.put_i32(state.coordinator_epoch);
    out.put_i64(state.transaction_first.map_or(-1, Offset::as_i64));
}

fn decode_entry(rest: &mut &[u8]) -> Result<(ProducerId, State), SnapshotError> {
    let id = rest.get_i64();
    let epoch = rest.get_i16();
    let last_sequence = rest.get_i32();
    let last_offset = rest.get_i64();
    let last_delta = rest.get_i32();
    let timestamp_ms = rest.get_i64();
    let coordinator_epoch = rest.get_i32();
    let transaction_first = rest.get_i64();

    unsigned(id)?;
    unsigned(epoch.into())?;
    let recent = if last_sequence < 0 || last_offset < 0 {
        smallvec![]
    } else {
        let delta = unsigned(last_delta.into())?;
        let last_offset = Offset(unsigned(last_offset)?);
        // A delta that goes below offset 0 is no batch's.
        if delta > last_offset.0 {
            return Err(SnapshotError::Value(last_delta.into()));
        }
        smallvec![Recent { last_sequence, last_offset, last_delta: delta as u32, timestamp_ms }]
    };
    let transaction_first = u64::try_from(transaction_first).ok().map(Offset);
    // Of one entry alone, as Kafka writes it, the time of its batch is when it was used.
    let used_ms = timestamp_ms;
    let state = State { epoch, recent, coordinator_epoch, transaction_first, used_ms };
    Ok((ProducerId(id), state))
}
