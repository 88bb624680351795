//! Means of rewards over prompts, with intervals.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::exam::Judged;

/// Standard errors on either side of a mean that hold it with a probability of 95 %.
const Z: f64 = 1.96;

/// Rewards of answers to prompts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// Mean reward of all answers: the share of right ones where every reward is 0 or 1.
    pub mean: f64,
    /// 95 % interval of the mean over prompts like these.
    pub interval: Interval,
    /// Share of prompts of which at least one of k answers is right, by k: 1, 2, 4, …, all. Unbiased
    /// (Chen et al., arXiv 2107.03374, equation 1). Empty unless every reward is 0 or 1.
    pub pass_at: BTreeMap<u16, f64>,
    /// True if every reward is 0 or 1.
    pub is_accuracy: bool,
    /// Mean number of sampled tokens.
    pub tokens: f64,
    /// Share of answers that were cut off at the largest number of tokens.
    pub cut: f64,
}

/// Range of a mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Score {
    /// Sums up the answers of each prompt; there is at least one.
    pub(super) fn of(answers: &[Vec<Judged>]) -> Self {
        let all = || answers.iter().flatten();
        let count = all().count().max(1) as f64;
        let means: Vec<f64> = answers
            .iter()
            .map(|group| {
                group.iter().map(|answer| answer.reward).sum::<f64>() / group.len().max(1) as f64
            })
            .collect();
        let mean = means.iter().sum::<f64>() / means.len().max(1) as f64;
        let is_accuracy = all().all(|answer| [0.0, 1.0].contains(&answer.reward));
        Self {
            mean,
            interval: interval(&means, mean, is_accuracy),
            pass_at: if is_accuracy {
                pass_at(answers)
            } else {
                BTreeMap::new()
            },
            is_accuracy,
            tokens: all().map(|answer| answer.tokens as f64).sum::<f64>() / count,
            cut: all().filter(|answer| answer.is_cut).count() as f64 / count,
        }
    }
}

/// Returns the interval of a mean of the prompts' means. Answers to one prompt are alike, so a prompt
/// counts once. Shares have Wilson's interval, which has a width where all prompts agree, too.
fn interval(means: &[f64], mean: f64, is_share: bool) -> Interval {
    let prompts = means.len().max(1) as f64;
    let squares: f64 = means.iter().map(|of| (of - mean).powi(2)).sum();
    let variance = squares / (prompts - 1.0).max(1.0) / prompts;
    if !is_share {
        let half = Z * variance.sqrt();
        return Interval {
            low: mean - half,
            high: mean + half,
        };
    }
    // Number of independent answers with this variance; at least one for each prompt.
    let drawn = if variance > 0.0 {
        (mean * (1.0 - mean) / variance).max(prompts)
    } else {
        prompts
    };
    let centre = (mean + Z * Z / (2.0 * drawn)) / (1.0 + Z * Z / drawn);
    let spread = mean * (1.0 - mean) / drawn + Z * Z / (4.0 * drawn * drawn);
    let half = Z * spread.sqrt() / (1.0 + Z * Z / drawn);
    Interval {
        low: (centre - half).max(0.0),
        high: (centre + half).min(1.0),
    }
}

fn pass_at(answers: &[Vec<Judged>]) -> BTreeMap<u16, f64> {
    let samples = answers.iter().map(Vec::len).min().unwrap_or(0) as u16;
    let powers = (0..16).map(|power| 1_u16 << power);
    let sizes = powers.take_while(|size| *size < samples).chain([samples]);
    sizes
        .filter(|size| *size > 0)
        .map(|size| {
            let passed: f64 = answers.iter().map(|group| passes(group, size)).sum();
            (size, passed / answers.len().max(1) as f64)
        })
        .collect()
}

/// Returns the probability that one of `size` answers, drawn without replacement, is right.
fn passes(group: &[Judged], size: u16) -> f64 {
    let wrong = group.iter().filter(|answer| answer.reward == 0.0).count();
    let drawn = usize::from(size);
    if wrong < drawn {
        return 1.0;
    }
    let all_wrong: f64 = (0..drawn)
        .map(|at| (wrong - at) as f64 / (group.len() - at) as f64)
        .product();
    1.0 - all_wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(rewards: &[f64]) -> Vec<Judged> {
        let judged = |reward: &f64| Judged {
            completion: String::new(),
            reward: *reward,
            tokens: 4,
            is_cut: *reward == 0.0,
        };
        rewards.iter().map(judged).collect()
    }

    #[test]
    fn one_of_k_answers_is_right_as_often_as_counting_says() {
        let score = Score::of(&[group(&[1.0, 0.0, 0.0, 0.0]), group(&[0.0; 4])]);
        // One of four is right: a pair holds it in 3 of 6 draws.
        let expected = BTreeMap::from([(1, 0.125), (2, 0.25), (4, 0.5)]);
        assert_eq!(score.pass_at, expected);
        assert!(score.is_accuracy);
        assert_eq!((score.mean, score.tokens, score.cut), (0.125, 4.0, 0.875));
        let graded = Score::of(&[group(&[0.5]), group(&[0.0])]);
        assert!(!graded.is_accuracy && graded.pass_at.is_empty());
    }

    #[test]
    fn an_interval_counts_prompts_and_not_their_answers() {
        // Wilson's interval of 8 out of 10: 0.490 to 0.943.
        let mut rewards = vec![1.0; 8];
        rewards.extend([0.0; 2]);
        let once: Vec<_> = rewards.iter().map(|reward| group(&[*reward])).collect();
        let often: Vec<_> = rewards.iter().map(|reward| group(&[*reward; 50])).collect();
        let [once, often] = [once, often].map(|answers| Score::of(&answers).interval);
        assert!((once.low - 0.490).abs() < 0.001 && (once.high - 0.943).abs() < 0.001);
        assert_eq!(once, often);
        let right = Score::of(&[group(&[1.0]), group(&[1.0])]).interval;
        assert!(right.low < 0.5 && right.high == 1.0, "{right:?}");
    }
}
