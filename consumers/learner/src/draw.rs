//! Numbers that are drawn for groups: hashes, so that there is no state to save.

use vintage_control::{Sha256, UpdateNumber};

/// Returns a number in (0, 1] that is drawn for a group at an update: a hash, so that a restarted
/// learner draws the same.
pub(crate) fn uniform(seed: u64, update: UpdateNumber, content: Sha256) -> f64 {
    let mut of_content = [0; 8];
    of_content.copy_from_slice(&content.0[..8]);
    let mixed = mixed(mixed(seed ^ update.0.rotate_left(32)) ^ u64::from_le_bytes(of_content));
    // 53 bits, as many as an f64 holds.
    ((mixed >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// Mixes the bits of a word (SplitMix64).
fn mixed(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
