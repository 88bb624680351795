//! Output head and token log-prob in one operation. Logits exist only as blocks of [`ROWS`] targets
//! × [`VOCAB`] tokens, in the forward and in the backward pass.

use candle_core::Tensor;
use vintage_control::Precision;

use crate::cpu::vector::{self, Block, LANES};
use crate::cpu::{Mat, MatMut, ROWS, matmul, multiversion};
use crate::error::{Error, Result};
use crate::ops::storage::{tensor, values, with_mut};
use crate::precision::Rounding as _;

/// Number of tokens of a block. With [`ROWS`] targets the logits of a block take 4 MB, and a block
/// of the weight is used for all targets while it is in cache.
pub(crate) const VOCAB: usize = 4096;

/// Tokens and temperatures for which the head computes log-probs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queries<'a> {
    /// Token whose log-prob is computed, `[n]`.
    pub(crate) token: &'a [u32],
    /// Softmax temperature, `[n]`.
    pub(crate) temperature: &'a [f32],
}

/// Results of the head's forward pass.
#[derive(Debug)]
pub(crate) struct Output {
    /// Log-prob of the token: `log softmax(logits/temperature)[token]`, in nats, `[n]`.
    pub(crate) logprob: Vec<f32>,
    /// Entropy of the softmax in nats, `[n]`.
    pub(crate) entropy: Vec<f32>,
    /// Log-sum-exp of logits/temperature, `[n]`, for the backward pass.
    pub(crate) lse: Vec<f32>,
}

/// Weight `[vocab, width]` of the head, and the precision of its products.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) weight: &'a Tensor,
    pub(crate) precision: Precision,
}

impl Head<'_> {
    /// Computes log-prob and entropy for hidden states `[n, width]` that are rounded to the
    /// precision.
    pub(crate) fn forward(self, hidden: &Tensor, queries: Queries<'_>) -> Result<Output> {
        let (vocab, width) = self.weight.dims2().map_err(Error::tensor("head"))?;
        let (hidden, weight) = (values(hidden)?, values(self.weight)?);
        let mut running = vec![Running::default(); queries.token.len()];
        let (mut logits, mut scratch) = (Vec::new(), Vec::new());
        each_block(queries.token.len(), vocab, |rows, tokens| {
            let weight = &weight[tokens.start * width..tokens.end * width];
            let block = BlockOf {
                hidden: &hidden[rows.start * width..rows.end * width],
                weight: self.precision.slice(weight, &mut scratch),
                width,
            };
            block.logits(&mut logits);
            let (queries, running) = (queries.of(&rows), &mut running[rows]);
            each_row(
                &mut logits,
                tokens.len(),
                running,
                |row, logits, running| {
                    running.absorb(logits, 1.0 / queries.temperature[row]);
                    let token = queries.token[row] as usize;
                    if tokens.contains(&token) {
                        running.chosen =
                            logits[token - tokens.start] * (1.0 / queries.temperature[row]);
                    }
                },
            );
        });
        let mut output = Output {
            logprob: Vec::new(),
            entropy: Vec::new(),
            lse: Vec::new(),
        };
        for running in running {
            let log_sum = running.sum.ln();
            output.lse.push((f64::from(running.top) + log_sum) as f32);
            let logprob = (f64::from(running.chosen - running.top) - log_sum) as f32;
            // Rounding can leave a certain token about 1e-8 above 0; NaN is passed on.
            output
                .logprob
                .push(if logprob > 0.0 { 0.0 } else { logprob });
            // The entropy is −Σ p·ln p with ln p = z − top − ln Σ, where Σ eᶻ⁻ᵗᵒᵖ·(z − top) is at
            // hand.
            output
                .entropy
                .push((log_sum - running.weighted / running.sum) as f32);
        }
        Ok(output)
    }

    /// Returns dhidden `[n, width]` and adds to dweight, if given, from d/dlogprob `[n]` and the
    /// forward pass's `lse`.
    pub(crate) fn backward(
        self,
        dlogprob: &[f32],
        hidden: &Tensor,
        queries: Queries<'_>,
        lse: &[f32],
        dweight: Option<&mut Tensor>,
    ) -> Result<Tensor> {
        let (vocab, width) = self.weight.dims2().map_err(Error::tensor("head"))?;
        let (hidden_values, weight) = (values(hidden)?, values(self.weight)?);
        let mut dhidden = vec![0.0; hidden_values.len()];
        let (mut logits, mut scratch) = (Vec::new(), Vec::new());
        let mut run = |mut dweight: Option<&mut [f32]>| {
            each_block(queries.token.len(), vocab, |rows, tokens| {
                let span = tokens.start * width..tokens.end * width;
                let block = BlockOf {
                    hidden: &hidden_values[rows.start * width..rows.end * width],
                    weight: self.precision.slice(&weight[span.clone()], &mut scratch),
                    width,
                };
                block.logits(&mut logits);
                let (queries, lse) = (queries.of(&rows), &lse[rows.clone()]);
                let mut gradients = dlogprob[rows.clone()].to_vec();
                each_row(
                    &mut logits,
                    tokens.len(),
                    &mut gradients,
                    |row, logits, gradient| {
                        let slope = *gradient / queries.temperature[row];
                        softmax_gradient(logits, 1.0 / queries.temperature[row], lse[row], slope);
                        let token = queries.token[row] as usize;
                        if tokens.contains(&token) {
                            logits[token - tokens.start] += slope;
                        }
                    },
                );
                self.precision.round_slice(&mut logits);
                block.spread_hidden(&logits, &mut dhidden[rows.start * width..rows.end * width]);
                if let Some(dweight) = &mut dweight {
                    block.spread_weight(&logits, &mut dweight[span]);
                }
            });
        };
        match dweight {
            Some(dweight) => with_mut(dweight, |dweight| run(Some(dweight)))?,
            None => run(None),
        }
        tensor(dhidden, hidden.dims())
    }
}

impl Queries<'_> {
    fn of(self, rows: &std::ops::Range<usize>) -> Self {
        Self {
            token: &self.token[rows.clone()],
            temperature: &self.temperature[rows.clone()],
        }
    }
}

/// Visits every block. Tokens are the outer loop, so each sum over tokens or targets has one order.
fn each_block(
    targets: usize,
    vocab: usize,
    mut visit: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>),
) {
    for token in (0..vocab).step_by(VOCAB) {
        for row in (0..targets).step_by(ROWS) {
            visit(
                row..(row + ROWS).min(targets),
                token..(token + VOCAB).min(vocab),
            );
        }
    }
}

/// Calls `visit(row, logits, state)` for every row of a block.
fn each_row<T: Copy + Send + Sync>(
    logits: &mut [f32],
    tokens: usize,
    states: &mut [T],
    visit: impl Fn(usize, &mut [f32], &mut T) + Sync + Send,
) {
    use rayon::prelude::*;
    if crate::cpu::is_worth_it(logits.len()) {
        let rows = logits
            .par_chunks_exact_mut(tokens)
            .zip(states.par_iter_mut())
            .enumerate();
        rows.for_each(|(row, (logits, state))| visit(row, logits, state));
    } else {
        let rows = logits.chunks_exact_mut(tokens).zip(states).enumerate();
        rows.for_each(|(row, (logits, state))| visit(row, logits, state));
    }
}

/// Hidden states of some targets and head weights of some tokens.
struct BlockOf<'a> {
    /// Hidden states, `[rows, width]`.
    hidden: &'a [f32],
    /// Weights, `[tokens, width]`.
    weight: &'a [f32],
    width: usize,
}

impl BlockOf<'_> {
    fn mats(&self) -> [Mat<'_>; 2] {
        [self.hidden, self.weight].map(|x| Mat::rows(x, x.len() / self.width, self.width))
    }

    fn sizes(&self) -> (usize, usize) {
        (
            self.hidden.len() / self.width,
            self.weight.len() / self.width,
        )
    }

    fn logits(&self, out: &mut Vec<f32>) {
        let (rows, tokens) = self.sizes();
        out.resize(rows * tokens, 0.0);
        let [hidden, weight] = self.mats();
        matmul(MatMut::rows(out, rows, tokens), hidden, weight.t(), false);
    }

    fn spread_hidden(&self, dlogits: &[f32], dhidden: &mut [f32]) {
        let (rows, tokens) = self.sizes();
        let [_, weight] = self.mats();
        let dlogits = Mat::rows(dlogits, rows, tokens);
        matmul(
            MatMut::rows(dhidden, rows, self.width),
            dlogits,
            weight,
            true,
        );
    }

    fn spread_weight(&self, dlogits: &[f32], dweight: &mut [f32]) {
        let (rows, tokens) = self.sizes();
        let [hidden, _] = self.mats();
        let dlogits = Mat::rows(dlogits, rows, tokens);
        matmul(
            MatMut::rows(dweight, tokens, self.width),
            dlogits.t(),
            hidden,
            true,
        );
    }
}

/// Softmax over the part of the vocabulary seen so far.
#[derive(Debug, Clone, Copy)]
struct Running {
    /// Largest z = logit/temperature.
    top: f32,
    /// Sum Σ eᶻ⁻ᵗᵒᵖ.
    sum: f64,
    /// Sum Σ eᶻ⁻ᵗᵒᵖ·(z − top).
    weighted: f64,
    /// Value z of the queried token; NaN until its block was seen.
    chosen: f32,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            top: f32::NEG_INFINITY,
            sum: 0.0,
            weighted: 0.0,
            chosen: f32::NAN,
        }
    }
}

impl Running {
    fn absorb(&mut self, logits: &[f32], inverse_temperature: f32) {
        let top = (largest(logits) * inverse_temperature).max(self.top);
        if self.sum > 0.0 && top > self.top {
            let shift = f64::from(self.top) - f64::from(top);
            let factor = shift.exp();
            self.weighted = factor * (self.weighted + shift * self.sum);
            self.sum *= factor;
        }
        self.top = top;
        let [sum, weighted] = exponentials(logits, inverse_temperature, top);
        self.sum += sum;
        self.weighted += weighted;
    }
}

multiversion! {
    fn largest(values: &[f32]) -> f32 {
        vector::largest(values)
    }
}

multiversion! {
    /// Returns Σ eᶻ⁻ᵗᵒᵖ and Σ eᶻ⁻ᵗᵒᵖ·(z − top), summed in f32 within 256 blocks of lanes and in f64
    /// beyond.
    fn exponentials(logits: &[f32], inverse_temperature: f32, top: f32) -> [f64; 2] {
        let (mut sum, mut weighted) = (0.0, 0.0);
        for part in logits.chunks(256 * LANES) {
            let (blocks, rest) = part.as_chunks::<LANES>();
            let mut sums: [Block; 2] = [[0.0; LANES]; 2];
            for block in blocks {
                for l in 0..LANES {
                    let z = block[l].mul_add(inverse_temperature, -top);
                    let e = vector::exp(z);
                    sums[0][l] += e;
                    sums[1][l] = e.mul_add(z, sums[1][l]);
                }
            }
            let [mut part_sum, mut part_weighted] = sums.map(vector::reduce);
            for logit in rest {
                let z = logit.mul_add(inverse_temperature, -top);
                let e = vector::exp(z);
                part_sum += e;
                part_weighted = e.mul_add(z, part_weighted);
            }
            sum += f64::from(part_sum);
            weighted += f64::from(part_weighted);
        }
        [sum, weighted]
    }
}

multiversion! {
    /// Replaces logits by −slope·softmax.
    fn softmax_gradient(logits: &mut [f32], inverse_temperature: f32, lse: f32, slope: f32) {
        for logit in logits {
            *logit = -slope * vector::exp(logit.mul_add(inverse_temperature, -lse));
        }
    }
}

/// Computes the full logits `[n, vocab]`, for the sampler and for tests.
pub(crate) fn logits(hidden: &Tensor, weight: &Tensor) -> Result<Tensor> {
    super::linear::forward(hidden, weight, None, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_the_vocabulary_join_to_one_softmax() {
        let z: Vec<f32> = (0..9000)
            .map(|i| ((i * 7919) % 1000) as f32 / 40.0 - 5.0)
            .collect();
        let mut running = Running::default();
        z.chunks(VOCAB).for_each(|part| running.absorb(part, 0.8));
        let scaled: Vec<f64> = z
            .iter()
            .map(|z| f64::from(*z) * f64::from(0.8_f32))
            .collect();
        let top = scaled.iter().fold(f64::MIN, |a, &b| a.max(b));
        let sum: f64 = scaled.iter().map(|z| (z - top).exp()).sum();
        let entropy = scaled
            .iter()
            .map(|z| -(z - top - sum.ln()) * (z - top).exp() / sum)
            .sum::<f64>();
        let log_sum = running.sum.ln();
        assert!((f64::from(running.top) + log_sum - top - sum.ln()).abs() < 2e-6);
        assert!((log_sum - running.weighted / running.sum - entropy).abs() < 2e-6);
    }
}
