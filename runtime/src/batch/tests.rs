//! Tests of the batch format: by hand-written bytes, by flipped bits, and by random records.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{control::Control, *};

/// One record, key `k`, value `v`, header `h` = `x`, written by hand from Kafka's tables.
fn golden() -> Vec<u8> {
    let mut batch = Vec::new();
    batch.extend(7_i64.to_be_bytes()); // base offset
    batch.extend(62_i32.to_be_bytes()); // 49 of the header + 13 of the record
    batch.extend(3_i32.to_be_bytes()); // leader epoch
    batch.push(2); // magic
    batch.extend([0; 4]); // checksum, below
    batch.extend(0_i16.to_be_bytes()); // attributes
    batch.extend(0_i32.to_be_bytes()); // last offset delta
    batch.extend(1000_i64.to_be_bytes()); // base timestamp
    batch.extend(1001_i64.to_be_bytes()); // max timestamp
    batch.extend(42_i64.to_be_bytes()); // producer id
    batch.extend(5_i16.to_be_bytes()); // producer epoch
    batch.extend(9_i32.to_be_bytes()); // base sequence
    batch.extend(1_i32.to_be_bytes()); // records
    // length 12, attributes, timestamp +1, offset +0, key, value, one header: numbers zigzag
    batch.extend([24, 0, 2, 0, 2, b'k', 2, b'v', 2, 2, b'h', 2, b'x']);
    let crc = crate::codec::crc32c(&[&batch[21..]]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

#[test]
fn the_builder_writes_kafkas_bytes() {
    let mut builder = BatchBuilder::new(1000).producer(42, 5, 9);
    let headers = [("h", Some(&b"x"[..]))];
    let record =
        RecordRef { timestamp: 1001, key: Some(b"k"), value: Some(b"v"), headers: &headers };
    let bytes = builder.bytes_with(&record);
    builder.push(record);
    assert_eq!((builder.bytes(), bytes), (golden().len(), golden().len()));
    let mut batch = builder.build();
    stamp(&mut batch, Offset(7), LeaderEpoch(3));
    assert_eq!(&batch[..], &golden()[..]);
}

#[test]
fn a_header_says_where_its_batch_ends() {
    let golden = golden();
    let header = BatchHeader::parse(&golden).unwrap();
    assert_eq!(header.batch_bytes as usize, golden.len());
    assert_eq!(header.next_offset(), Offset(8));
    assert_eq!(header.last_sequence(), 9);
    assert_eq!(check(&golden, &header), Ok(()));
}

#[test]
fn sequences_go_on_at_zero_after_the_largest() {
    let mut builder = BatchBuilder::new(0).producer(1, 0, i32::MAX);
    builder.push(RecordRef::default());
    builder.push(RecordRef::default());
    let batch = builder.build();
    assert_eq!(BatchHeader::parse(&batch).unwrap().last_sequence(), 0);
}

#[test]
fn every_flipped_bit_that_the_checksum_covers_is_seen() {
    let golden = golden();
    for bit in 21 * 8..golden.len() * 8 {
        let mut bad = golden.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let found = BatchHeader::parse(&bad).and_then(|header| check(&bad, &header));
        assert!(found.is_err(), "bit {bit}");
    }
}

#[test]
fn control_batches_come_back_as_they_were() {
    for control in
        [Control::Commit { coordinator_epoch: 4 }, Control::Abort { coordinator_epoch: 0 }]
    {
        let batch = control.batch(1, 7, 2).freeze();
        let header = BatchHeader::parse(&batch).unwrap();
        assert!(header.attributes.is_control() && header.attributes.is_transactional());
        assert_eq!((header.producer_id, header.base_sequence), (7, -1));
        assert_eq!(Control::parse(&batch, &header), Ok(control));
    }
}

#[test]
fn building_does_not_copy() {
    let mut builder = BatchBuilder::with_capacity(0, 1 << 20);
    builder.push(RecordRef { value: Some(&[1; 1 << 19]), ..RecordRef::default() });
    let before = builder.as_ptr();
    assert_eq!(builder.build().as_ptr(), before);
}

#[test]
fn the_headers_of_each_record_are_checked_though_those_before_were_right() {
    let named = |name: &'static str| [(name, Some(&b"x"[..]))];
    let (same, other) = (named("name"), named("eman"));
    let mut builder = BatchBuilder::new(0);
    for headers in [&same, &same, &other, &other, &same] {
        builder.push(RecordRef { headers, ..RecordRef::default() });
    }
    let batch = builder.build();
    let header = BatchHeader::parse(&batch).unwrap();
    let read = |batch: &[u8]| {
        let batch = Bytes::copy_from_slice(batch);
        let names = records(&batch, &header).unwrap().map(|record| {
            record.map(|record| record.headers().map(|(name, _)| name.to_owned()).collect())
        });
        names.collect::<Result<Vec<Vec<String>>, _>>()
    };
    assert_eq!(read(&batch).unwrap().concat(), ["name", "name", "eman", "eman", "name"]);
    for (index, (at, _)) in (0..).zip(
        batch.windows(4).enumerate().filter(|(_, four)| [&b"name"[..], b"eman"].contains(four)),
    ) {
        let mut bad = batch.to_vec();
        bad[at] = 0xff;
        let reason = "a header's name is not UTF-8";
        assert_eq!(read(&bad), Err(BatchError::Record { index, reason }));
    }
}

type Owned = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn any_record() -> impl Strategy<Value = Owned> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
    let headers = proptest::collection::vec(("[a-zé]{0,8}", bytes()), 0..4);
    (0..i64::from(u32::MAX), bytes(), bytes(), headers)
}

fn build(all: &[Owned]) -> BytesMut {
    let mut builder = BatchBuilder::new(5000);
    for (timestamp, key, value, headers) in all {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_deref())).collect();
        builder.push(RecordRef {
            timestamp: *timestamp,
            key: key.as_deref(),
            value: value.as_deref(),
            headers: &headers,
        });
    }
    builder.build()
}

proptest! {
    #[test]
    fn what_is_built_is_read(all in proptest::collection::vec(any_record(), 1..20)) {
        let batch = build(&all).freeze();
        let header = BatchHeader::parse(&batch).unwrap();
        prop_assert_eq!(check(&batch, &header), Ok(()));
        let read: Vec<Owned> = records(&batch, &header).unwrap().map(|record| {
            let record = record.unwrap();
            let owned = |field: &Option<Bytes>| field.as_ref().map(|bytes| bytes.to_vec());
            let headers = record.headers().map(|(n, v)| (n.to_owned(), owned(&v))).collect();
            (record.timestamp, owned(&record.key), owned(&record.value), headers)
        }).collect();
        prop_assert_eq!(read, all);
    }

    #[test]
    fn hostile_bytes_are_errors_and_nothing_else(
        all in proptest::collection::vec(any_record(), 1..4),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        keep in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = build(&all).to_vec();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        bytes.truncate(keep.index(bytes.len()) + 1);
        for batch in split(&bytes) {
            let Ok((header, batch)) = batch else { break };
            let batch = Bytes::copy_from_slice(batch);
            if let Ok(records) = records(&batch, &header) {
                let headers = |record: Result<Record, _>| record.map(|r| r.headers().count());
                let read: Vec<_> = records.map(headers).collect();
                prop_assert!(read.len() <= header.record_count as usize + 1);
            }
        }
    }

    #[test]
    fn varints_come_back(value in prop_oneof![any::<i64>(), -20_000..20_000_i64]) {
        let mut bytes = Vec::new();
        varint::put(&mut bytes, value);
        prop_assert_eq!(bytes.len(), varint::len(value));
        let mut rest = &bytes[..];
        prop_assert_eq!(varint::take(&mut rest), Some(value));
        prop_assert!(rest.is_empty());
    }
}
