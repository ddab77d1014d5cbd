//! What compaction may make of what was appended, and what it may not.

use std::collections::BTreeMap;

use bytes::Bytes;
use flumen_runtime::batch::{self, BatchHeader, Record};

use super::Model;

/// Of each key that was read: its records.
#[derive(Default)]
pub(super) struct Seen(BTreeMap<u64, Record>);

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
            let (_, batch) = found.expect("LOG-2: whole batches are read");
            let all = records(&batches.slice(at..at + batch.len()));
            at += batch.len();
            self.0.extend(all.into_iter().map(|record| (record.offset.0, record)));
        }
    }

    /// COMPACT-1: each record from `start` on was read, or a later one of its key stands below the
    /// compaction point, or it is a tombstone that is over, and nothing older of its key is left.
    pub(super) fn check(&self, model: &Model, (start, now_ms): (u64, i64), tombstone_age_ms: i64) {
        let all: Vec<Record> =
            model.batches.values().flat_map(|(_, batch)| records(batch)).collect();
        let mut last = BTreeMap::new();
        for record in all.iter().filter(|record| record.offset.0 < model.compacted_to) {
            last.insert(record.key.clone(), record.offset);
        }
        for record in all.iter().filter(|record| record.offset.0 >= start) {
            let (at, key) = (record.offset, &record.key);
            if self.0.contains_key(&at.0) {
                continue;
            }
            assert!(at.0 < model.compacted_to, "COMPACT-3: the record at {at} is gone");
            if last.get(key).is_some_and(|last| *last > at) {
                continue;
            }
            let is_over = now_ms >= record.timestamp.saturating_add(tombstone_age_ms);
            assert!(record.value.is_none() && is_over, "COMPACT-1: the last of its key, at {at}");
            let older = self.0.range(..at.0).find(|(_, older)| older.key == *key);
            assert!(
                older.is_none(),
                "COMPACT-1: {older:?} came back: its tombstone at {at} is gone"
            );
        }
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
