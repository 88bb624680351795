//! Baselines: advantages of a prompt's completions from their rewards.

use crate::advantage::group_advantages;

/// Baseline that is subtracted from the rewards of one prompt's completions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Baseline {
    /// GRPO's: `(R - mean) / (std + 1e-6)`, by [`group_advantages`].
    Group,
    /// The mean alone: `R - mean` (Dr. GRPO, DRPO).
    Mean,
    /// OPO's: `R - sum(length R) / sum(length)`, the mean weighted by the completions' lengths.
    LengthWeighted,
    /// AsymRE's: `R - (mean + shift)`. Below 0 the shift favours good answers; from 0 on, the
    /// policy collapses on old data.
    Shifted {
        /// Difference of the baseline from the mean.
        shift: f64,
    },
    /// OAPL's: `R - beta log mean exp(R / beta)`.
    SoftMax {
        /// Temperature of the mean; 1 in the paper.
        beta: f64,
    },
    /// None: `A = R`.
    Zero,
}

impl Baseline {
    /// Returns the advantages of the completions of one prompt. `lengths` has the number of trained
    /// tokens of each; only [`Baseline::LengthWeighted`] reads it, and takes missing ones as 0.
    pub fn advantages(&self, rewards: &[f32], lengths: &[u32]) -> Vec<f32> {
        let all = || rewards.iter().map(|&reward| f64::from(reward));
        let mean = || all().sum::<f64>() / rewards.len().max(1) as f64;
        let baseline = match *self {
            Self::Group => return group_advantages(rewards),
            Self::Mean => mean(),
            Self::LengthWeighted => {
                let lengths = || lengths.iter().map(|&length| f64::from(length));
                let weighted: f64 = all().zip(lengths()).map(|(reward, len)| reward * len).sum();
                let total: f64 = lengths().take(rewards.len()).sum();
                if total > 0.0 {
                    weighted / total
                } else {
                    mean()
                }
            }
            Self::Shifted { shift } => mean() + shift,
            Self::SoftMax { beta } => {
                // Relative to the largest reward, so that no exponent overflows.
                let largest = all().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = all().map(|reward| ((reward - largest) / beta).exp()).sum();
                largest + beta * (sum / rewards.len().max(1) as f64).ln()
            }
            Self::Zero => 0.0,
        };
        all().map(|reward| (reward - baseline) as f32).collect()
    }
}
