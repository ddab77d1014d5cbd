//! Which partition an event goes to. Never to be changed: sequences are counted by it.
//!
//! - With a key: `murmur2(key) & 0x7fffffff` modulo the number of partitions, as Kafka's
//!   `BuiltInPartitioner.partitionForKey`.
//! - Without: runs of 64 offsets of the channel go to the partitions in turn. A run and not a single
//!   event, so that a small take makes one batch and not one for each partition.

use flumen_runtime::ids::Offset;

/// Offsets in a row that go to one partition.
const RUN: u64 = 64;

/// The partition, below `count`, of an event.
pub(super) fn partition_of(key: Option<&[u8]>, offset: Offset, count: usize) -> usize {
    match key {
        Some(key) => partition_of_key(key, count),
        None => within(offset.0 / RUN, count),
    }
}

/// The partition, below `count`, of records with this key: the one that Kafka's clients choose.
///
/// # Panics
/// Where there is no partition.
#[must_use]
pub fn partition_of_key(key: &[u8], count: usize) -> usize {
    within(u64::from(murmur2(key) & 0x7fff_ffff), count)
}

fn within(number: u64, count: usize) -> usize {
    usize::try_from(number % count as u64).expect("below the number of partitions")
}

/// MurmurHash 2 with Kafka's seed (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c ^ length;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (at, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn the_hash_is_kafka_s() {
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (data, hash) in cases {
            assert_eq!(murmur2(data) as i32, hash, "{}", data.escape_ascii());
        }
    }

    #[test]
    fn keyless_events_go_to_the_partitions_in_runs() {
        let of = |offset| partition_of(None, Offset(offset), 3);
        assert_eq!([of(0), of(63), of(64), of(128), of(192)], [0, 0, 1, 2, 0]);
    }
}
