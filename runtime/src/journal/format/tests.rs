//! What the bytes are, and that nothing else is taken for them.

use proptest::prelude::*;

use super::*;

const SALT: u64 = 0x5a17;

fn record(seq: u64, payload: &[u8]) -> Record {
    let log = LogId { id: Uuid::from_u128(0x0102), shard: 3 };
    let what = What::Append {
        epoch: LeaderEpoch(7),
        base: Offset(seq),
        end: Offset(seq + 1),
        payload: vec![Bytes::copy_from_slice(payload)],
    };
    Record { log, seq, what }
}

/// A file of one group a list, and where each group ends.
fn file(groups: &[Vec<Record>]) -> (BytesMut, Vec<usize>) {
    let mut bytes = BytesMut::from(&header(&Header { boot: 9, salt: SALT })[..]);
    let mut ends = Vec::new();
    for (number, records) in (1..).zip(groups) {
        put_group(SALT, number, records.iter(), &mut bytes);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

#[test]
fn a_file_has_the_golden_bytes() {
    let (bytes, _) = file(&[vec![record(5, b"ab")]]);
    let hex = |range: std::ops::Range<usize>| -> String {
        bytes[range].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    // Kind, version 1, 16 bytes; the sum; boot, salt.
    assert_eq!(hex(0..10), "464c4d4a010010000000");
    assert_eq!(hex(14..30), "0900000000000000175a000000000000");
    // Length 58, salt, number 1, one entry.
    assert_eq!(hex(516..544), "3a000000175a00000000000001000000000000000100000000000000");
    // Append, shard, id, seq, base, end, epoch, length, payload.
    assert_eq!(hex(544..568), format!("0100000003000000{}0102", "00".repeat(14)));
    assert_eq!(
        hex(568..602),
        "0500000000000000050000000000000006000000000000000700000002000000\
         6162"
    );
    assert_eq!(bytes.len(), 2 * SECTOR);
}

#[test]
fn every_kind_of_entry_comes_back() {
    let log = LogId { id: Uuid::from_u128(5), shard: 0 };
    let records = vec![
        record(1, b"x"),
        Record { log, seq: 2, what: What::TruncatedTo(Offset(4)) },
        Record { log, seq: 3, what: What::Deleted },
    ];
    let (bytes, _) = file(&[records[..2].to_vec(), records[2..].to_vec()]);
    assert_eq!(parse_file(&bytes.freeze()), Ok(Some((9, records))));
}

#[test]
fn a_file_that_was_only_made_holds_nothing() {
    for len in [0, 100, SECTOR, 4096] {
        assert_eq!(parse_file(&Bytes::from(vec![0; len])), Ok(None));
    }
}

#[test]
fn damage_before_a_later_group_is_refused_with_its_place() {
    let (mut bytes, ends) =
        file(&[vec![record(0, b"a")], vec![record(1, b"b")], vec![record(2, b"c")]]);
    bytes[ends[0] + 40] ^= 1;
    assert_eq!(parse_file(&bytes.freeze()), Err(FileError::Damaged { position: ends[0] }), "JRN-1");
}

#[test]
fn groups_of_an_earlier_use_and_payloads_that_look_like_groups_are_not_taken() {
    let mut older = BytesMut::new();
    put_group(SALT + 1, 2, [record(8, b"old")].iter(), &mut older);
    let mut forged = BytesMut::new();
    put_group(SALT + 2, 3, [record(9, b"forged")].iter(), &mut forged);
    let (mut bytes, _) = file(&[vec![record(0, &[0; 500])]]);
    bytes.extend_from_slice(&older);
    bytes.extend_from_slice(&forged);
    let (_, records) = parse_file(&bytes.freeze()).unwrap().unwrap();
    assert_eq!(records, [record(0, &[0; 500])], "JRN-6");
}

#[test]
fn a_newer_version_is_refused() {
    let (mut bytes, _) = file(&[vec![record(0, b"a")]]);
    bytes[4] = VERSION as u8 + 1;
    let bytes = bytes.freeze();
    // Its sum, its header's length and all that follows may be otherwise then.
    for len in [codec::ENVELOPE_BYTES, SECTOR, bytes.len()] {
        let refused = parse_file(&bytes.slice(..len)).unwrap_err();
        let newer = codec::UnsealError::Newer { found: VERSION + 1, known: VERSION };
        assert_eq!(refused, FileError::Header(newer), "{len} bytes");
    }
}

proptest! {
    #[test]
    fn a_cut_anywhere_leaves_exactly_the_whole_groups(
        groups in prop::collection::vec(prop::collection::vec(0..900_usize, 1..4), 1..6),
        cut in any::<prop::sample::Index>(),
        zeros in 0..3000_usize,
    ) {
        let mut seq = 0;
        let groups: Vec<Vec<Record>> = groups
            .iter()
            .map(|sizes| {
                sizes.iter().map(|size| { seq += 1; record(seq, &vec![7; *size]) }).collect()
            })
            .collect();
        let (mut bytes, ends) = file(&groups);
        let cut = SECTOR + cut.index(bytes.len() - SECTOR + 1);
        bytes.truncate(cut);
        bytes.put_bytes(0, zeros);
        let (_, found) = parse_file(&bytes.freeze()).unwrap().unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let expected: Vec<Record> = groups[..whole].concat();
        prop_assert!(found.starts_with(&expected), "what was whole must be there");
        // The last group may be whole although its padding is not.
        prop_assert!(found.len() <= groups[..(whole + 1).min(groups.len())].concat().len());
    }

    #[test]
    fn hostile_bytes_are_an_error_or_nothing_and_never_a_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..4000),
        with_header in any::<bool>(),
    ) {
        if with_header {
            let (header, _) = file(&[]);
            bytes.splice(0..0, header);
        }
        let _ = parse_file(&bytes.into());
    }

    #[test]
    fn hostile_entries_with_a_right_sum_never_panic(
        entries in prop::collection::vec(any::<u8>(), 0..300),
        count in 0..9_u32,
    ) {
        let (mut bytes, _) = file(&[]);
        let start = bytes.len();
        bytes.put_u32_le(0);
        bytes.put_u32_le(u32::try_from(entries.len()).unwrap());
        bytes.put_u64_le(SALT);
        bytes.put_u64_le(1);
        bytes.put_u32_le(count);
        bytes.put_u32_le(0);
        bytes.extend_from_slice(&entries);
        let sum = crc32c(&[&bytes[start + 4..]]);
        bytes[start..start + 4].copy_from_slice(&sum.to_le_bytes());
        let _ = parse_file(&bytes.freeze());
    }
}
