//! Default partitioner of Kafka's Java client, so that Java and Kafka Streams place a key in the
//! same partition.

use vintage_control::Partition;

/// Partition of a key: `toPositive(murmur2(key)) % partitions`.
pub(crate) fn of_key(key: &[u8], partitions: usize) -> Partition {
    let positive = murmur2(key) & 0x7fff_ffff;
    Partition((positive as usize % partitions) as i32)
}

/// Computes 32-bit MurmurHash2 with Kafka's seed.
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut hash = SEED ^ key.len() as u32;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::{murmur2, of_key};

    /// Test vectors of Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_is_kafkas() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn every_partition_is_used_and_none_beyond() {
        let mut used = [0; 7];
        for key in 0..1000_u32 {
            used[of_key(&key.to_le_bytes(), 7).0 as usize] += 1;
        }
        assert!(used.iter().all(|&n| n > 80), "{used:?}");
    }
}
