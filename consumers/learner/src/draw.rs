//! Numbers that are drawn for groups: functions of what they are for, so that there is no state to
//! save.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore as _, SeedableRng as _},
};
use vintage_control::UpdateNumber;

/// Returns a number in (0, 1] that is drawn at an update for the group with this key. A restarted learner draws
/// the same.
pub(crate) fn uniform(seed: u64, update: UpdateNumber, group: [u8; 16]) -> f64 {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&update.0.to_le_bytes());
    key[16..].copy_from_slice(&group);
    let drawn = ChaCha8Rng::from_seed(key).next_u64();
    // 53 bits, as many as an f64 holds.
    ((drawn >> 11) + 1) as f64 / (1_u64 << 53) as f64
}
