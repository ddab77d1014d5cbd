//! Each codec back and forth, its limit, and bytes that lie.

use proptest::prelude::*;

use super::*;

const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn block(codec: impl Into<Codec>, plain: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    compress(codec.into(), plain, &mut block);
    block
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| b"some words, again and again "[at % 28] ^ (at >> 12) as u8).collect()
}

#[test]
fn what_is_compressed_expands_to_the_same_at_every_level() {
    for plain in [text(0), text(1), text(100_000), text(3 << 20)] {
        for compression in CODECS {
            for level in [None, Some(1), Some(9)] {
                let block = block(Codec { compression, level }, &plain);
                assert_eq!(expand(compression, &block, plain.len()).unwrap(), plain);
            }
        }
    }
    let levels =
        |compression, level| block(Codec { compression, level: Some(level) }, &text(1 << 20));
    for (compression, low, high) in [(Compression::Gzip, 1, 9), (Compression::Zstd, -50, 19)] {
        assert!(levels(compression, low).len() > levels(compression, high).len());
    }
}

#[test]
fn a_block_that_expands_beyond_the_limit_is_refused_where_it_passes_it() {
    let bomb = vec![0; 8 << 20];
    for compression in CODECS {
        let block = block(compression, &bomb);
        let limit = 64 << 10;
        let mut expanded = Expanded::new(compression, &block, limit).unwrap();
        let mut held = Vec::new();
        let error = expanded.read_to_end(&mut held).unwrap_err();
        assert_eq!(failed(compression, &error), BatchError::Expands { bytes_max: limit });
        assert!(held.len() <= limit && held.capacity() <= 4 * limit, "{}", held.capacity());
        let exactly = expand(compression, &block, bomb.len()).unwrap();
        assert_eq!(exactly.len(), bomb.len(), "{compression:?}");
        assert!(expand(compression, &block, bomb.len() - 1).is_err());
    }
}

#[test]
fn snappy_is_read_raw_framed_and_in_frames_one_after_the_other() {
    let plain = text(100_000);
    let raw = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    assert_eq!(expand(Compression::Snappy, &raw, plain.len()).unwrap(), plain);
    assert!(expand(Compression::Snappy, &raw, plain.len() - 1).is_err());
    let framed = block(Compression::Snappy, &plain);
    let twice = [&framed[..], &framed].concat();
    assert_eq!(expand(Compression::Snappy, &twice, 200_000).unwrap(), plain.repeat(2));
}

#[test]
fn what_other_programs_compress_is_read() {
    let gzip = "1f8b0800000000000003cb48cdc9c957c8c04e72010068023166 1e000000";
    let lz4 = "04224d186440a7100000006f68656c6c6f20060000 50656c6c6f0a000000002d820339";
    let zstd = "28b52ffd04586d00003868656c6c6f200a0100a94b111a4872ab";
    for (compression, text) in
        [(Compression::Gzip, gzip), (Compression::Lz4, lz4), (Compression::Zstd, zstd)]
    {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let block: Vec<u8> = digits.chunks(2).map(byte).collect();
        let plain = expand(compression, &block, 100).unwrap();
        assert_eq!(plain, "hello hello hello hello hello\n", "{compression:?}");
    }
}

#[test]
fn a_claim_takes_no_memory() {
    // A raw block that claims 2 GiB, and one of a frame that claims as much as the limit allows.
    let claims = [&[0xff, 0xff, 0xff, 0xff, 0x07, 0][..], &[0x80, 0x80, 0x80, 0x20, 0]];
    for claim in claims {
        let mut blocks = Blocks::new(claim, EXPANDED_BYTES_MAX);
        assert!(blocks.read(&mut [0; 16]).is_err());
        assert_eq!(blocks.room(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_is_an_error_or_something_within_the_limit(
        bytes in proptest::collection::vec(any::<u8>(), 0..512),
        at in 0_usize..512,
        with in any::<u8>(),
    ) {
        for compression in CODECS {
            if let Ok(plain) = expand(compression, &bytes, 4_096) {
                prop_assert!(plain.len() <= 4_096);
            }
            // What is nearly a block goes deeper.
            let mut near = block(compression, &bytes);
            let place = at % near.len();
            near[place] ^= with;
            if let Ok(plain) = expand(compression, &near, 4_096) {
                prop_assert!(plain.len() <= 4_096);
            }
        }
    }
}
