use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::SamplingParams;
use crate::cpu::multiversion;
use crate::cpu::vector::{self, Block, LANES};

/// Number of values whose sum is kept while weights are computed. Within a part the sum is in f32,
/// lane by lane, as the head's log-sum-exp has it for the learner.
const PART: usize = 256 * LANES;

/// Buffers that are used again from row to row.
#[derive(Default)]
pub(super) struct Scratch {
    /// Values eᶻ⁻ᵗᵒᵖ with z = logit/temperature.
    weights: Vec<f32>,
    /// Sum of each [`PART`] of `weights`.
    sums: Vec<f64>,
}

/// Picks a token and returns it with its log-prob under the full softmax; `None` if the logits are
/// not finite. Draws once from `rng`, except at temperature 0.
pub(super) fn pick(
    logits: &[f32],
    params: &SamplingParams,
    rng: &mut ChaCha8Rng,
    scratch: &mut Scratch,
) -> Option<(u32, f32)> {
    let greedy = params.temperature == 0.0;
    let inverse = if greedy {
        1.0
    } else {
        1.0 / params.temperature
    };
    let top = largest(logits) * inverse;
    let Scratch { weights, sums } = scratch;
    weights.resize(logits.len(), 0.0);
    sums.resize(logits.len().div_ceil(PART), 0.0);
    exponentials(logits, inverse, top, weights, sums);
    let total: f64 = sums.iter().sum();
    let log_sum = total.ln();
    if !log_sum.is_finite() || !top.is_finite() {
        return None;
    }
    let token = if greedy {
        likeliest(logits)
    } else {
        let top_k = usize::try_from(params.top_k)
            .ok()
            .filter(|&k| k > 0 && k < logits.len());
        if top_k.is_none() && params.top_p >= 1.0 {
            draw_among_all(rng, weights, sums)
        } else {
            let allowed = allowed(weights, top_k, f64::from(params.top_p));
            allowed[draw(rng, allowed.iter().map(|&token| weights[token]))]
        }
    };
    let logprob = (f64::from(logits[token] * inverse - top) - log_sum) as f32;
    Some((token as u32, if logprob > 0.0 { 0.0 } else { logprob }))
}

/// Draws an index with probability proportional to its weight, by way of the sums of the parts.
fn draw_among_all(rng: &mut ChaCha8Rng, weights: &[f32], sums: &[f64]) -> usize {
    let total: f64 = sums.iter().sum();
    let mut left = rng.random::<f64>() * total;
    let mut part = 0;
    while part + 1 < sums.len() && left >= sums[part] {
        left -= sums[part];
        part += 1;
    }
    let from = part * PART;
    let to = (from + PART).min(weights.len());
    from + at(left, weights[from..to].iter().copied())
}

/// Returns the first index of the largest logit.
fn likeliest(logits: &[f32]) -> usize {
    let better = |best: usize, at: usize| if logits[at] > logits[best] { at } else { best };
    (0..logits.len()).fold(0, better)
}

/// Draws an index with probability proportional to its weight.
fn draw(rng: &mut ChaCha8Rng, weights: impl Iterator<Item = f32> + Clone) -> usize {
    let total: f64 = weights.clone().map(f64::from).sum();
    at(rng.random::<f64>() * total, weights)
}

/// Returns the first index at which the sum of the weights is above `point`, or the last of a
/// positive weight.
fn at(point: f64, weights: impl Iterator<Item = f32>) -> usize {
    let mut sum = 0.0;
    let mut last = 0;
    for (index, weight) in weights.enumerate() {
        if weight > 0.0 {
            sum += f64::from(weight);
            last = index;
            if sum > point {
                break;
            }
        }
    }
    last
}

/// Returns the tokens left by top-k, then by top-p among them, likeliest first; the lower id comes
/// first in a tie.
fn allowed(weights: &[f32], top_k: Option<usize>, top_p: f64) -> Vec<usize> {
    let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
    // Tokens of less than (1 − p)/V cannot reach 1 − p together, so the others still reach p
    // without them, and only a few are left to sort.
    let floor = match top_k {
        None => total * (1.0 - top_p) / weights.len() as f64,
        Some(_) => 0.0,
    };
    let mut tokens: Vec<usize> = (0..weights.len())
        .filter(|&token| f64::from(weights[token]) >= floor)
        .collect();
    let order = |a: &usize, b: &usize| weights[*b].total_cmp(&weights[*a]).then(a.cmp(b));
    if let Some(k) = top_k {
        tokens.select_nth_unstable_by(k - 1, order);
        tokens.truncate(k);
    }
    tokens.sort_unstable_by(order);
    let mass = match top_k {
        None => total,
        Some(_) => tokens.iter().map(|&token| f64::from(weights[token])).sum(),
    };
    let mut sum = 0.0;
    let enough = tokens.iter().position(|&token| {
        sum += f64::from(weights[token]);
        sum >= top_p * mass
    });
    if let (Some(last), true) = (enough, top_p < 1.0) {
        tokens.truncate(last + 1);
    }
    tokens
}

multiversion! {
    /// Returns the largest value.
    fn largest(values: &[f32]) -> f32 {
        vector::largest(values)
    }
}

multiversion! {
    /// Writes eᶻ⁻ᵗᵒᵖ with z = logit/temperature into `weights`, and the sum of every [`PART`] of
    /// them into `sums`.
    fn exponentials(
        logits: &[f32],
        inverse_temperature: f32,
        top: f32,
        weights: &mut [f32],
        sums: &mut [f64],
    ) {
        let parts = logits.chunks(PART).zip(weights.chunks_mut(PART));
        for ((logits, weights), sum) in parts.zip(sums) {
            let (blocks, rest) = logits.as_chunks::<LANES>();
            let (out_blocks, out_rest) = weights.as_chunks_mut::<LANES>();
            let mut lanes: Block = [0.0; LANES];
            for (block, out) in blocks.iter().zip(out_blocks) {
                for l in 0..LANES {
                    let e = vector::exp(block[l].mul_add(inverse_temperature, -top));
                    out[l] = e;
                    lanes[l] += e;
                }
            }
            let mut part = vector::reduce(lanes);
            for (logit, out) in rest.iter().zip(out_rest) {
                *out = vector::exp(logit.mul_add(inverse_temperature, -top));
                part += *out;
            }
            *sum = f64::from(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn params(temperature: f32, top_p: f32, top_k: i32) -> SamplingParams {
        SamplingParams {
            temperature,
            top_p,
            top_k,
            ..SamplingParams::default()
        }
    }

    fn counts(logits: &[f32], params: &SamplingParams) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut counts = vec![0; logits.len()];
        for _ in 0..20_000 {
            let (token, _) = pick(logits, params, &mut rng, &mut Scratch::default()).unwrap();
            counts[token as usize] += 1;
        }
        counts
    }

    #[test]
    fn frequencies_follow_the_softmax_at_the_temperature() {
        let logits = [0.5, -1.0, 2.0, 0.0];
        let counts = counts(&logits, &params(0.7, 1.0, 0));
        let weights = logits.map(|z| (f64::from(z) / 0.7).exp());
        let sum: f64 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(weights) {
            let p = weight / sum;
            // Five standard errors of 20 000 draws.
            let slack = 5.0 * (p * (1.0 - p) / 20_000.0).sqrt();
            assert!((*count as f64 / 20_000.0 - p).abs() < slack, "{counts:?}");
        }
    }

    #[test]
    fn the_log_prob_is_full_whatever_is_cut() {
        let logits = [0.5_f32, -1.0, 2.0, 0.0];
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let sum: f64 = logits.iter().map(|&z| f64::from(z / 2.0).exp()).sum();
        for (top_p, top_k) in [(1.0, 0), (0.3, 0), (1.0, 2), (0.5, 3)] {
            let params = params(2.0, top_p, top_k);
            let (token, logprob) =
                pick(&logits, &params, &mut rng, &mut Scratch::default()).unwrap();
            let expected = f64::from(logits[token as usize]) / 2.0 - sum.ln();
            assert!((f64::from(logprob) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits = [0.5, -1.0, 2.0, 0.0];
        let kept = |counts: Vec<usize>| counts.iter().map(|&n| n > 0).collect::<Vec<_>>();
        // softmax: 0.155, 0.035, 0.696, 0.094 + rest.
        assert_eq!(
            kept(counts(&logits, &params(1.0, 1.0, 2))),
            [true, false, true, false]
        );
        assert_eq!(
            kept(counts(&logits, &params(1.0, 0.6, 0))),
            [false, false, true, false]
        );
        assert_eq!(
            kept(counts(&logits, &params(1.0, 0.8, 0))),
            [true, false, true, false]
        );
        assert_eq!(kept(counts(&logits, &params(1.0, 0.999, 0))), [true; 4]);
        assert_eq!(
            kept(counts(&logits, &params(1.0, 0.7, 2))),
            [false, false, true, false]
        );
    }

    #[test]
    fn greedy_takes_the_first_largest_and_draws_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let before = rng.clone();
        let greedy = params(0.0, 1.0, 0);
        let (token, _) =
            pick(&[1.0, 3.0, 3.0], &greedy, &mut rng, &mut Scratch::default()).unwrap();
        assert_eq!((token, rng == before), (1, true));
        assert!(pick(&[1.0, f32::NAN], &greedy, &mut rng, &mut Scratch::default()).is_none());
    }
}
