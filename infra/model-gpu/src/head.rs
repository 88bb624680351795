//! Output head and token log-prob on a device. Logits exist only as blocks of [`ROWS`] targets ×
//! [`VOCAB`] tokens, in the forward and in the backward pass.

use std::ops::Range;

use candle_core::{DType, Result, Tensor};
use vintage_control::Precision;
use vintage_model::parts::Readers;

use crate::ops::{factor, indices};

/// Number of targets of a block.
const ROWS: usize = 2048;
/// Number of tokens of a block. With [`ROWS`] targets the logits of a block take 64 MB.
const VOCAB: usize = 8192;
/// Index from which candle's kernels read 0 and to which they write nothing.
const NOWHERE: u32 = u32::MAX;

/// Weight `[vocab, width]` of the head, and the precision of its products.
pub(crate) struct Head<'a> {
    pub(crate) weight: &'a Tensor,
    pub(crate) precision: Precision,
    pub(crate) readers: &'a Readers,
}

/// Results of the head's forward pass, each `[n, 1]`.
pub(crate) struct Output {
    pub(crate) logprob: Tensor,
    pub(crate) entropy: Tensor,
    /// Log-sum-exp of logits/temperature, for the backward pass.
    pub(crate) lse: Tensor,
}

/// Softmax over the part of the vocabulary seen so far; all tensors are `[rows, 1]`.
struct Running {
    /// Largest z = logit/temperature.
    top: Tensor,
    /// Sum Σ eᶻ⁻ᵗᵒᵖ, f64.
    sum: Tensor,
    /// Sum Σ eᶻ⁻ᵗᵒᵖ·(z − top), f64.
    weighted: Tensor,
    /// Value z of the queried token; 0 until its block was seen.
    chosen: Tensor,
}

impl Head<'_> {
    fn targets(&self) -> usize {
        self.readers.token.len()
    }

    fn row_blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let n = self.targets();
        (0..n)
            .step_by(ROWS)
            .map(move |row| row..(row + ROWS).min(n))
    }

    fn token_blocks(&self) -> Result<impl Iterator<Item = Range<usize>> + use<>> {
        let vocab = self.weight.dim(0)?;
        let starts = (0..vocab).step_by(VOCAB);
        Ok(starts.map(move |token| token..(token + VOCAB).min(vocab)))
    }

    /// Returns 1/temperature, `[n, 1]`.
    fn inverse_temperature(&self) -> Result<Tensor> {
        let inverse: Vec<f32> = self.readers.temperature.iter().map(|t| 1.0 / t).collect();
        Tensor::from_vec(inverse, (self.targets(), 1), self.weight.device())
    }

    /// Returns the index of each row's token among `tokens`, `[rows, 1]`.
    fn places(&self, rows: Range<usize>, tokens: &Range<usize>) -> Result<Tensor> {
        let place = |&token: &u32| {
            let token = token as usize;
            let inside = tokens.contains(&token);
            if inside {
                (token - tokens.start) as u32
            } else {
                NOWHERE
            }
        };
        let places: Vec<u32> = self.readers.token[rows].iter().map(place).collect();
        indices(&places, self.weight.device())?.unsqueeze(1)
    }

    fn weights_of(&self, tokens: &Range<usize>) -> Result<Tensor> {
        let rows = self.weight.narrow(0, tokens.start, tokens.len())?;
        factor(self.precision, &rows)
    }

    /// Computes log-prob and entropy for hidden states `[n, width]`, which are rounded already.
    pub(crate) fn forward(&self, hidden: &Tensor) -> Result<Output> {
        let inverse = self.inverse_temperature()?;
        let mut running: Vec<Option<Running>> = self.row_blocks().map(|_| None).collect();
        for tokens in self.token_blocks()? {
            let weight = self.weights_of(&tokens)?;
            for (rows, state) in self.row_blocks().zip(&mut running) {
                let z = hidden
                    .narrow(0, rows.start, rows.len())?
                    .matmul(&weight.t()?)?
                    .broadcast_mul(&inverse.narrow(0, rows.start, rows.len())?)?;
                let places = self.places(rows, &tokens)?;
                *state = Some(Running::absorb(state.take(), &z, &places)?);
            }
        }
        let running: Vec<Running> = running.into_iter().flatten().collect();
        let join = |part: fn(&Running) -> &Tensor| {
            let parts: Vec<_> = running.iter().map(part).collect();
            Tensor::cat(&parts, 0)?.to_dtype(DType::F64)
        };
        let top = join(|running| &running.top)?;
        let sum = join(|running| &running.sum)?;
        let log_sum = sum.log()?;
        let logprob = ((join(|running| &running.chosen)? - &top)? - &log_sum)?;
        // Rounding can leave a certain token about 1e-8 above 0; NaN is passed on.
        let logprob = logprob
            .gt(0.0)?
            .where_cond(&logprob.zeros_like()?, &logprob)?;
        let entropy = (&log_sum - (join(|running| &running.weighted)? / sum)?)?;
        Ok(Output {
            logprob: logprob.to_dtype(DType::F32)?,
            entropy: entropy.to_dtype(DType::F32)?,
            lse: (top + log_sum)?.to_dtype(DType::F32)?,
        })
    }

    /// Returns dhidden `[n, width]` and adds to dweight, if given, from d/dlogprob `[n]` and the
    /// forward pass's `lse`.
    pub(crate) fn backward(
        &self,
        dlogprob: &Tensor,
        hidden: &Tensor,
        lse: &Tensor,
        dweight: Option<&Tensor>,
    ) -> Result<Tensor> {
        let inverse = self.inverse_temperature()?;
        let slopes = (dlogprob.reshape((self.targets(), 1))? * &inverse)?;
        let mut dhidden: Vec<Option<Tensor>> = self.row_blocks().map(|_| None).collect();
        for tokens in self.token_blocks()? {
            let weight = self.weights_of(&tokens)?;
            let mut dblock: Option<Tensor> = None;
            for (rows, dhidden) in self.row_blocks().zip(&mut dhidden) {
                let of_rows = |x: &Tensor| x.narrow(0, rows.start, rows.len());
                let (hidden, slope) = (of_rows(hidden)?, of_rows(&slopes)?);
                let z = hidden
                    .matmul(&weight.t()?)?
                    .broadcast_mul(&of_rows(&inverse)?)?;
                let softmax = z.broadcast_sub(&of_rows(lse)?)?.exp()?;
                let places = self.places(rows.clone(), &tokens)?;
                let dlogits = softmax
                    .broadcast_mul(&slope.neg()?)?
                    .scatter_add(&places, &slope, 1)?;
                let dlogits = factor(self.precision, &dlogits)?;
                add(dhidden, dlogits.matmul(&weight)?)?;
                if dweight.is_some() {
                    add(&mut dblock, dlogits.t()?.matmul(&hidden)?)?;
                }
            }
            if let (Some(dweight), Some(dblock)) = (dweight, dblock) {
                let sum = (dweight.narrow(0, tokens.start, tokens.len())? + dblock)?;
                dweight.slice_set(&sum, 0, tokens.start)?;
            }
        }
        let dhidden: Vec<Tensor> = dhidden.into_iter().flatten().collect();
        Tensor::cat(&dhidden, 0)
    }
}

fn add(sum: &mut Option<Tensor>, next: Tensor) -> Result<()> {
    *sum = Some(match sum.take() {
        None => next,
        Some(sum) => (sum + next)?,
    });
    Ok(())
}

impl Running {
    fn absorb(before: Option<Self>, z: &Tensor, places: &Tensor) -> Result<Self> {
        let largest = z.max_keepdim(1)?;
        let top = match &before {
            None => largest,
            Some(before) => before.top.maximum(&largest)?,
        };
        let below = z.broadcast_sub(&top)?;
        let e = below.exp()?;
        let total = |x: &Tensor| x.sum_keepdim(1)?.to_dtype(DType::F64);
        let (sum, weighted) = (total(&e)?, total(&(e * below)?)?);
        let chosen = z.gather(places, 1)?;
        let Some(before) = before else {
            return Ok(Self {
                top,
                sum,
                weighted,
                chosen,
            });
        };
        let shift = (before.top.to_dtype(DType::F64)? - top.to_dtype(DType::F64)?)?;
        let factor = shift.exp()?;
        let moved = ((before.weighted + (shift * &before.sum)?)? * &factor)?;
        Ok(Self {
            top,
            sum: ((before.sum * factor)? + sum)?,
            weighted: (moved + weighted)?,
            chosen: (before.chosen + chosen)?,
        })
    }
}
