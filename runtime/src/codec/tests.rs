//! What the bytes are, and that nothing else is taken for them.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Tuple(u8, i64),
    Named { id: u32, name: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Everything {
    flag: bool,
    small: u16,
    wide: u64,
    text: String,
    #[serde(with = "serde_bytes")]
    payload: Vec<u8>,
    shapes: Vec<Shape>,
    pairs: std::collections::BTreeMap<String, i32>,
}

fn everything() -> Everything {
    Everything {
        flag: true,
        small: 0x0102,
        wide: 0x0102_0304_0506_0708,
        text: "né".into(),
        payload: vec![0xde, 0xad],
        shapes: vec![
            Shape::Unit,
            Shape::Tuple(7, -2),
            Shape::Named { id: 9, name: Some("x".into()) },
        ],
        pairs: [("a".to_string(), -1)].into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const GOLDEN: &str = concat!(
    "01",               // flag
    "0201",             // small
    "0807060504030201", // wide
    "0300000000000000", // text: length, UTF-8
    "6ec3a9",           //
    "0200000000000000", // payload: length, bytes
    "dead",             //
    "0300000000000000", // shapes: length
    "00000000",         //   Unit
    "01000000",         //   Tuple
    "07",               //
    "feffffffffffffff", //
    "02000000",         //   Named
    "09000000",         //
    "01",               //     Some
    "0100000000000000", //
    "78",               //
    "0100000000000000", // pairs: length
    "0100000000000000", //
    "61",               //
    "ffffffff",         //
);

#[test]
fn values_have_the_golden_bytes_and_come_back_from_them() {
    let bytes = encode(&everything()).unwrap();
    assert_eq!(hex(&bytes), GOLDEN);
    assert_eq!(decode::<Everything>(&bytes).unwrap(), everything());
}

#[test]
fn an_envelope_has_the_golden_bytes() {
    let sealed = seal(*b"TEST", 3, &(1_u8, 2_u16)).unwrap();
    // The sum is computed apart here, bit by bit, over everything but the field that holds it.
    let mut covered = sealed.to_vec();
    covered.drain(10..14);
    let mut sum = u32::MAX;
    for byte in covered {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0x82f6_3b78 * (sum & 1));
        }
    }
    let expected = format!("544553540300{}{}010200", "03000000", hex(&(!sum).to_le_bytes()));
    assert_eq!(hex(&sealed), expected);
    assert_eq!(unseal::<(u8, u16)>(*b"TEST", 3, &sealed), Ok((1, 2)));
}

#[test]
fn the_sum_is_castagnoli_s() {
    // The check value of RFC 3720's polynomial.
    assert_eq!(crc32c(&[b"12345", b"6789"]), 0xe306_9283);
}

#[test]
fn hostile_lengths_are_refused_before_anything_is_allocated_for_them() {
    for claimed in [4, 1 << 20, 1 << 40, u64::MAX] {
        let bytes = [&claimed.to_le_bytes()[..], b"abc"].concat();
        assert!(matches!(decode::<String>(&bytes), Err(DecodeError::Malformed { .. })));
        assert!(matches!(decode::<Vec<u64>>(&bytes), Err(DecodeError::Malformed { .. })));
        assert!(matches!(
            decode::<serde_bytes::ByteBuf>(&bytes),
            Err(DecodeError::Malformed { .. })
        ));
    }
}

#[test]
fn bytes_after_the_value_are_refused() {
    let mut bytes = encode(&7_u32).unwrap();
    bytes.push(0);
    assert!(matches!(decode::<u32>(&bytes), Err(DecodeError::Malformed { bytes: 5, .. })));
}

#[test]
fn values_above_the_limit_are_refused_on_both_ways() {
    let large = serde_bytes::ByteBuf::from(vec![0; VALUE_BYTES_MAX]);
    let mut to = vec![1, 2];
    let refused = encode_into(&large, &mut to);
    assert_eq!(refused, Err(EncodeError::TooLarge { bytes: VALUE_BYTES_MAX + 8 }));
    assert_eq!(to, [1, 2], "what was there before must stay");
    let bytes = vec![0; VALUE_BYTES_MAX + 1];
    assert!(matches!(decode::<u32>(&bytes), Err(DecodeError::TooLarge { .. })));
}

#[test]
fn a_newer_version_is_refused_with_a_sentence_even_where_its_layout_is_unknown() {
    let mut sealed = seal(*b"TEST", 4, &0_u64).unwrap().to_vec();
    sealed[10] ^= 1;
    let refused = unseal::<u64>(*b"TEST", 3, &sealed).unwrap_err();
    assert_eq!(refused, UnsealError::Newer { found: 4, known: 3 });
    assert!(refused.to_string().contains("version 4"), "{refused}");
    assert!(refused.to_string().contains("use the newer program"), "{refused}");
}

#[test]
fn another_kind_of_file_is_named() {
    let sealed = seal(*b"ABCD", 1, &0_u8).unwrap();
    let refused = unseal::<u8>(*b"TEST", 1, &sealed).unwrap_err();
    assert_eq!(refused, UnsealError::Kind { found: "ABCD".into(), wanted: "TEST".into() });
}

#[test]
fn what_lies_after_an_envelope_is_not_looked_at() {
    let mut slot = seal(*b"TEST", 1, &5_u8).unwrap().to_vec();
    slot.resize(512, 0xff);
    assert_eq!(unseal::<u8>(*b"TEST", 1, &slot), Ok(5));
}

proptest! {
    #[test]
    fn no_flipped_bit_and_no_cut_of_an_envelope_goes_unseen(
        at in 0..1000_usize, bit in 0..8_u8, cut in 0..1000_usize,
    ) {
        let sealed = seal(*b"TEST", 1, &everything()).unwrap().to_vec();
        let cut = cut % sealed.len();
        prop_assert!(unseal::<Everything>(*b"TEST", 1, &sealed[..cut]).is_err());
        let mut flipped = sealed;
        let at = at % flipped.len();
        flipped[at] ^= 1 << bit;
        prop_assert!(unseal::<Everything>(*b"TEST", 1, &flipped).is_err());
    }

    #[test]
    fn any_bytes_are_a_value_that_encodes_to_them_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Ok(value) = decode::<Vec<Shape>>(&bytes) {
            prop_assert_eq!(encode(&value).unwrap(), bytes.clone());
        }
        let _ = decode::<Everything>(&bytes);
    }
}
