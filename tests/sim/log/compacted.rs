//! What compaction may make of what was appended, and what it may not.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use flumen_runtime::{
    batch::{self, Attributes, BatchBuilder, BatchHeader, Record, control::Control},
    ids::Offset,
    log::{Aborted, Decided},
    rng::Rng,
};

use super::Model;

/// Producers of a compacted log; a batch may also have none.
const WRITERS: u64 = 3;

/// What the producers of a log have done, as its batches say.
#[derive(Default)]
pub(super) struct Writers {
    /// Where the transaction of each began that is open.
    open: BTreeMap<i64, Offset>,
    aborted: Vec<Aborted>,
    /// The last batch of each that is no marker.
    last: BTreeMap<i64, BatchHeader>,
}

/// What comes next in a log.
pub(super) enum Next {
    Batch(BatchBuilder),
    Marker(BytesMut),
}

impl Writers {
    /// As the batches of `model` below `end` say.
    pub(super) fn of(model: &Model, end: u64) -> Writers {
        let mut writers = Writers::default();
        for (_, batch) in model.batches.values().filter(|(after, _)| *after <= end) {
            let header = BatchHeader::parse(batch).expect("it was appended");
            let (id, base) = (header.producer_id, header.base_offset);
            if header.attributes.is_control() {
                let first = writers.open.remove(&id).expect("only what is open is ended");
                let control = Control::parse(batch, &header).expect("it was appended");
                if matches!(control, Control::Abort { .. }) {
                    writers.aborted.push(Aborted { producer_id: id, first, last: base });
                }
            } else if id >= 0 {
                if header.attributes.is_transactional() {
                    writers.open.entry(id).or_insert(base);
                }
                writers.last.insert(id, header);
            }
        }
        writers
    }

    /// The next batch, which has a producer at times where records have keys.
    pub(super) fn next(&self, is_keyed: bool, rng: &mut Rng, now_ms: i64) -> Next {
        let id = if is_keyed { rng.below(2 * WRITERS) } else { WRITERS };
        if id >= WRITERS {
            return Next::Batch(BatchBuilder::new(now_ms));
        }
        let id = id.cast_signed();
        let is_open = self.open.contains_key(&id);
        if is_open && rng.chance(1, 2) {
            let control = match rng.chance(1, 2) {
                true => Control::Commit { coordinator_epoch: 0 },
                false => Control::Abort { coordinator_epoch: 0 },
            };
            return Next::Marker(control.batch(now_ms, id, 0));
        }
        let sequence = self.last.get(&id).map_or(0, |last| last.last_sequence() + 1);
        let mut builder = BatchBuilder::new(now_ms).producer(id, 0, sequence);
        if is_open || rng.chance(1, 2) {
            builder = builder.attributes(Attributes(Attributes::TRANSACTIONAL));
        }
        Next::Batch(builder)
    }

    /// What compaction must know of a log that is durable up to `durable`.
    pub(super) fn decided(self, durable: u64) -> Decided {
        let end = self.open.values().copied().min().unwrap_or(Offset(durable));
        let last_batches = self.last.values().map(BatchHeader::last_offset).collect();
        Decided { end, aborted: self.aborted, last_batches }
    }

    fn has_aborted(&self, header: &BatchHeader) -> bool {
        header.attributes.is_transactional()
            && self.aborted.iter().any(|aborted| {
                aborted.producer_id == header.producer_id
                    && (aborted.first..aborted.last).contains(&header.base_offset)
            })
    }
}

/// What was read: each record, and the header of each batch, by offset.
#[derive(Default)]
pub(super) struct Seen {
    records: BTreeMap<u64, Record>,
    batches: BTreeMap<u64, BatchHeader>,
}

/// What compaction was seen to do.
#[derive(Default)]
pub(super) struct Met {
    pub(super) aborted_gone: u64,
    pub(super) emptied: u64,
    pub(super) markers: u64,
}

/// The records of a batch.
fn records(batch: &Bytes) -> Vec<Record> {
    let header = BatchHeader::parse(batch).expect("it was checked");
    batch::expand(batch, &header, 1 << 20)
        .expect("it was compressed by the test or by compaction")
        .map(|record| record.expect("it was checked"))
        .collect()
}

impl Seen {
    pub(super) fn note(&mut self, batches: &Bytes) {
        let mut at = 0;
        for found in batch::split(batches) {
            let (header, batch) = found.expect("LOG-2: whole batches are read");
            let all = records(&batches.slice(at..at + batch.len()));
            at += batch.len();
            self.batches.insert(header.base_offset.0, header);
            if !header.attributes.is_control() {
                self.records.extend(all.into_iter().map(|record| (record.offset.0, record)));
            }
        }
    }

    /// COMPACT-1: each record from `start` on was read, or a later one of its key stands below the
    /// compaction point, or it is a tombstone that is over, and nothing older of its key is left.
    /// What an aborted transaction wrote may be gone, and has superseded nothing.
    pub(super) fn check(
        &self,
        model: &Model,
        (start, now_ms): (u64, i64),
        tombstone_age_ms: i64,
    ) -> Met {
        let writers = Writers::of(model, u64::MAX);
        let mut met = self.check_batches(model, &writers, start);
        let (mut all, mut last) = (Vec::new(), BTreeMap::new());
        for (_, batch) in model.batches.values() {
            let header = BatchHeader::parse(batch).expect("it was appended");
            if header.attributes.is_control() {
                continue;
            }
            let is_aborted = writers.has_aborted(&header);
            for record in records(batch) {
                if record.offset.0 < model.compacted_to && !is_aborted {
                    last.insert(record.key.clone(), record.offset);
                }
                all.push((record, is_aborted));
            }
        }
        for (record, is_aborted) in all.iter().filter(|(record, _)| record.offset.0 >= start) {
            let (at, key) = (record.offset, &record.key);
            if self.records.contains_key(&at.0) {
                continue;
            }
            assert!(at.0 < model.compacted_to, "COMPACT-3: the record at {at} is gone");
            if *is_aborted {
                met.aborted_gone += 1;
                continue;
            }
            if last.get(key).is_some_and(|last| *last > at) {
                continue;
            }
            let is_over = now_ms >= record.timestamp.saturating_add(tombstone_age_ms);
            assert!(record.value.is_none() && is_over, "COMPACT-1: the last of its key, at {at}");
            let older = self.records.range(..at.0).find(|(_, older)| older.key == *key);
            assert!(
                older.is_none(),
                "COMPACT-1: {older:?} came back: its tombstone at {at} is gone"
            );
        }
        met
    }

    /// COMPACT-1: from `start` on every marker is there, and the last batch of each producer, whose
    /// sequence must not be forgotten.
    fn check_batches(&self, model: &Model, writers: &Writers, start: u64) -> Met {
        let mut met = Met::default();
        for (base, (_, batch)) in model.batches.range(start..) {
            let header = BatchHeader::parse(batch).expect("it was appended");
            let found = self.batches.get(base);
            if header.attributes.is_control() {
                let is_there = found.is_some_and(|found| found.attributes.is_control());
                assert!(is_there, "COMPACT-1: the marker at {base} is gone: {found:?}");
                met.markers += u64::from(*base < model.compacted_to);
            }
            let is_last = writers.last.get(&header.producer_id) == Some(&header);
            if is_last {
                let wrote = |header: &BatchHeader| (header.producer_id, header.last_sequence());
                assert_eq!(
                    found.map(wrote),
                    Some(wrote(&header)),
                    "COMPACT-1: the last batch of a producer, at {base}, is gone"
                );
                met.emptied += u64::from(found.is_some_and(|found| found.record_count == 0));
            }
        }
        met
    }
}

/// COMPACT-2, COMPACT-3: a batch that was read is what was appended there, or, below the compaction
/// point and in a closed segment, some of its records. Tells whether some are missing.
pub(super) fn check_batch(model: &Model, active: u64, read: &Bytes) -> bool {
    let header = BatchHeader::parse(read).expect("LOG-2: whole batches are read");
    let base = header.base_offset.0;
    let Some((after, appended)) = model.batches.get(&base) else {
        panic!("COMPACT-2: no batch was appended at {base}");
    };
    assert_eq!(header.next_offset().0, *after, "COMPACT-2: the batch at {base} ends elsewhere");
    if read == appended {
        return false;
    }
    let is_touched = base < model.compacted_to && base < active;
    assert!(is_touched, "COMPACT-3: other bytes are read at offset {base}");
    let appended = records(appended);
    for record in records(read) {
        let same = appended.iter().find(|known| known.offset == record.offset);
        let known = same.map(|known| (known.timestamp, &known.key, &known.value));
        let found = (record.timestamp, &record.key, &record.value);
        assert_eq!(known, Some(found), "COMPACT-2: another record at {}", record.offset);
    }
    true
}
