//! What compaction leaves of a batch: some of its records, or none, with all that its header says of
//! offsets and sequences (`MemoryRecords.filterTo`, `DefaultRecordBatch.writeEmptyHeader`).

use bytes::Bytes;

use super::{
    Attributes, BatchHeader, Codec, Compression, HEADER_BYTES, Record, compression, varint,
};
use crate::ids::{LeaderEpoch, Offset};

/// The batch of `header` with only the records `kept`, some of its own in their order. With a
/// `horizon` (Unix ms) its tombstones may go from then on. They are compressed with the batch's codec.
///
/// # Panics
/// Where nothing is kept: that is [`emptied`].
#[must_use]
pub fn retain(header: &BatchHeader, kept: &[Record], horizon: Option<i64>) -> Bytes {
    let first = kept.first().expect("a batch that keeps nothing is emptied");
    let mut header = *header;
    let is_log_time = header.attributes.is_log_append_time();
    if let Some(horizon) = horizon {
        header.attributes.0 |= Attributes::DELETE_HORIZON;
        header.base_timestamp = horizon;
    } else if !header.attributes.has_delete_horizon() {
        header.base_timestamp = first.timestamp;
    }
    if !is_log_time {
        header.max_timestamp = kept.iter().map(|record| record.timestamp).max().unwrap_or(-1);
    }
    header.record_count = u32::try_from(kept.len()).expect("no more than there were");
    let codec = Codec::from(header.attributes.compression());
    let mut bytes = vec![0; HEADER_BYTES];
    bytes.reserve(header.batch_bytes as usize);
    if codec.compression == Compression::None {
        put_records(&header, kept, &mut bytes);
    } else {
        let mut plain = Vec::new();
        put_records(&header, kept, &mut plain);
        compression::compress(codec, &plain, &mut bytes);
    }
    header.seal(&mut bytes);
    bytes.into()
}

fn put_records(header: &BatchHeader, kept: &[Record], to: &mut Vec<u8>) {
    let is_log_time = header.attributes.is_log_append_time();
    let mut body = Vec::new();
    for record in kept {
        let time = if is_log_time { header.base_timestamp } else { record.timestamp };
        body.clear();
        body.push(0);
        varint::put(&mut body, time.wrapping_sub(header.base_timestamp));
        varint::put(&mut body, record.offset.since(header.base_offset) as i64);
        record.put_rest(&mut body);
        varint::put(to, body.len() as i64);
        to.extend_from_slice(&body);
    }
}

/// The batch of `header` without a record: its offsets and sequences are still taken.
#[must_use]
pub fn emptied(header: &BatchHeader) -> Bytes {
    let mut header = *header;
    // Neither a codec nor a horizon says anything of no records.
    header.attributes.0 &= !(7 | Attributes::DELETE_HORIZON);
    header.base_timestamp = -1;
    header.record_count = 0;
    let mut bytes = vec![0; HEADER_BYTES];
    header.seal(&mut bytes);
    bytes.into()
}

/// A batch without a record and of nobody, which takes the offsets from `from` up to `to`.
///
/// # Panics
/// Where no batch can have so many, or none is taken.
#[must_use]
pub fn filler(from: Offset, to: Offset, epoch: LeaderEpoch) -> Bytes {
    let last_offset_delta = i32::try_from(to.since(from).checked_sub(1).expect("an offset"));
    emptied(&BatchHeader {
        base_offset: from,
        batch_bytes: HEADER_BYTES as u32,
        leader_epoch: epoch.0 as i32,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: last_offset_delta.expect("as many as a batch can have").unsigned_abs(),
        base_timestamp: -1,
        max_timestamp: -1,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{self, BatchBuilder, RecordRef};

    fn batch_of_four(bits: u16) -> (BatchHeader, Bytes, Vec<Record>) {
        let mut builder = BatchBuilder::new(1_000).attributes(Attributes(bits)).producer(7, 2, 40);
        for at in 0..4_u8 {
            builder.push(RecordRef {
                timestamp: 1_000 + i64::from(at),
                key: Some(&[b'k', at]),
                value: (at != 2).then_some(&b"value"[..]),
                headers: &[("name", Some(b"text")), ("none", None)],
            });
        }
        let mut bytes = builder.build();
        batch::stamp(&mut bytes, Offset(100), LeaderEpoch(3));
        let bytes = bytes.freeze();
        let header = BatchHeader::parse(&bytes).unwrap();
        let all = batch::records(&bytes, &header).unwrap().map(Result::unwrap).collect();
        (header, bytes, all)
    }

    fn read(bytes: &Bytes) -> (BatchHeader, Vec<Record>) {
        let header = BatchHeader::parse(bytes).unwrap();
        batch::check(bytes, &header).unwrap();
        assert_eq!(header.batch_bytes as usize, bytes.len());
        (header, batch::records(bytes, &header).unwrap().map(Result::unwrap).collect())
    }

    #[test]
    fn what_is_kept_is_as_it_was_and_the_header_says_the_same_of_offsets_and_sequences() {
        for horizon in [None, Some(9_000_000)] {
            let (before, _, all) = batch_of_four(Attributes::TRANSACTIONAL);
            let kept = [all[1].clone(), all[2].clone()];
            let (header, records) = read(&retain(&before, &kept, horizon));
            assert_eq!(records, kept);
            assert_eq!(header.record_count, 2);
            assert_eq!(header.base_timestamp, horizon.unwrap_or(1_001));
            assert_eq!(header.attributes.has_delete_horizon(), horizon.is_some());
            assert_eq!(header.max_timestamp, 1_002);
            let same = |h: &BatchHeader| {
                (h.base_offset, h.next_offset(), h.leader_epoch, h.producer_id, h.base_sequence)
            };
            assert_eq!(same(&header), same(&before));
            // A second time, the horizon stays.
            let (again, records) = read(&retain(&header, &kept[1..], None));
            assert_eq!(records, kept[1..]);
            assert_eq!(again.attributes.has_delete_horizon(), horizon.is_some());
        }
    }

    #[test]
    fn all_records_kept_make_the_same_bytes() {
        let (header, bytes, all) = batch_of_four(0);
        assert_eq!(retain(&header, &all, None), bytes);
    }

    #[test]
    fn timestamps_that_are_the_logs_stay() {
        let (header, _, all) = batch_of_four(Attributes::LOG_APPEND_TIME);
        let (after, records) = read(&retain(&header, &all[..1], Some(5)));
        assert_eq!((after.max_timestamp, records[0].timestamp), (1_003, 1_003));
    }

    #[test]
    fn an_emptied_batch_still_takes_its_offsets_and_sequences() {
        let (before, _, _) = batch_of_four(Attributes::TRANSACTIONAL);
        let (header, records) = read(&emptied(&before));
        assert!(records.is_empty());
        assert_eq!(header.next_offset(), before.next_offset());
        assert_eq!(header.last_sequence(), before.last_sequence());
        assert!(header.attributes.is_transactional());
        assert_eq!(header.max_timestamp, before.max_timestamp);
    }
}
