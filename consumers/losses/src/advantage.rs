/// Constant added to the standard deviation, so that a group of equal rewards has advantage 0.
const STD_FLOOR: f64 = 1e-6;

/// Returns the group-normalised advantages `A = (R - mean) / (std + 1e-6)` (Eq. 2), with the
/// unbiased standard deviation.
///
/// `rewards` has one reward per completion of one prompt; the result has one advantage for each. A
/// group of one completion has advantage 0, because there is nothing to compare it with. Non-finite
/// rewards give non-finite advantages.
pub fn group_advantages(rewards: &[f32]) -> Vec<f32> {
    if rewards.len() < 2 {
        return vec![0.0; rewards.len()];
    }
    let n = rewards.len() as f64;
    let mean = rewards.iter().map(|&reward| f64::from(reward)).sum::<f64>() / n;
    let squares: f64 = rewards
        .iter()
        .map(|&reward| (f64::from(reward) - mean).powi(2))
        .sum();
    let std = (squares / (n - 1.0)).sqrt();
    rewards
        .iter()
        .map(|&reward| ((f64::from(reward) - mean) / (std + STD_FLOOR)) as f32)
        .collect()
}
