//! Tokens of a batch on a device.

use candle_core::{DType, Device, Result, Tensor};

/// Tokens of one optimizer batch on a device: tensors in f64, 0 at every invalid token.
pub(crate) struct DeviceTokens {
    /// Log-ratio log r = new − behaviour, in nats; as exact as on a CPU, which takes it in f64 too.
    pub(crate) log_ratio: Tensor,
    pub(crate) advantage: Tensor,
    /// 1 at every valid token, else 0.
    pub(crate) valid: Tensor,
    /// 1 at every token in T (valid, and (A > 0 and r > 1) or (A < 0 and r < 1)), else 0.
    pub(crate) trust: Tensor,
    /// Number of valid tokens.
    pub(crate) n_valid: usize,
    /// Number of valid tokens whose new log-prob is not finite, as an f64 scalar.
    pub(crate) not_finite: Tensor,
}

/// Values of the tokens that are known before the model has scored them.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Behaviour log-prob of each, nats.
    pub behavior: &'a [f32],
    /// Advantage of each.
    pub advantage: &'a [f32],
    /// True for a token that is trained on.
    pub valid: &'a [bool],
    /// End of each row, as an index one past its last token; rules per sequence need it.
    pub row_ends: Option<&'a [usize]>,
    /// Scope of each token, if the batch has several; such a batch is weighed on the host.
    pub scope: Option<&'a [u32]>,
}

impl Known<'_> {
    /// Returns true if behaviour log-prob and advantage are finite at every valid token.
    pub(crate) fn is_finite(&self) -> bool {
        let both = self.behavior.iter().zip(self.advantage);
        both.zip(self.valid)
            .all(|((b, a), valid)| !valid || (b.is_finite() && a.is_finite()))
    }
}

impl DeviceTokens {
    /// Uploads a batch from its new log-probs, f32 `[n]`, and the known values, which must be
    /// finite at valid tokens.
    pub(crate) fn new(new: &Tensor, known: &Known<'_>) -> Result<Self> {
        let device = new.device();
        // A selection instead of a product with 0: invalid tokens may hold any value.
        let upload = |values: &[f32]| {
            let pairs = values.iter().zip(known.valid);
            let chosen = pairs.map(|(&value, &valid)| if valid { f64::from(value) } else { 0.0 });
            vector(chosen, device)
        };
        let valid = vector(known.valid.iter().map(|&valid| f64::from(valid)), device)?;
        let is_valid = valid.gt(0.0)?;
        let zeros = valid.zeros_like()?;
        let new = is_valid.where_cond(&new.to_dtype(DType::F64)?, &zeros)?;
        // Comparisons with NaN are false, so NaN counts as not finite.
        let is_finite = new.abs()?.le(f64::MAX)?.to_dtype(DType::F64)?;
        let log_ratio = (new - upload(known.behavior)?)?;
        let advantage = upload(known.advantage)?;
        // The product of two factors from f32 is too large to underflow to 0.
        let trust = (&advantage * &log_ratio)?.gt(0.0)?.to_dtype(DType::F64)?;
        Ok(Self {
            not_finite: (1.0 - is_finite)?.sum_all()?,
            n_valid: known.valid.iter().filter(|&&valid| valid).count(),
            log_ratio,
            advantage,
            valid,
            trust,
        })
    }
}

fn vector(values: impl Iterator<Item = f64>, device: &Device) -> Result<Tensor> {
    let values: Vec<f64> = values.collect();
    let len = values.len();
    Tensor::from_vec(values, len, device)
}

/// Converts a condition to f64: 1 where it holds, else 0.
pub(crate) fn ones(condition: &Tensor) -> Result<Tensor> {
    condition.to_dtype(DType::F64)
}
