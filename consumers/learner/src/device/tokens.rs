use candle_core::{DType, Device, Result, Tensor};

/// The tokens of one optimizer batch on a device, f64, 0 in every place that is not valid.
pub(crate) struct DeviceTokens {
    /// log r = new − behaviour, nats: as exact as on a CPU, where it is taken in f64 too.
    pub(super) log_ratio: Tensor,
    pub(super) advantage: Tensor,
    /// 1 where valid.
    pub(super) valid: Tensor,
    /// 1 in T: valid, and (A > 0 and r > 1) or (A < 0 and r < 1).
    pub(super) trust: Tensor,
    /// Valid tokens.
    pub(super) n_valid: usize,
    /// Valid tokens whose new log-prob is not finite, f64 scalar.
    pub(super) not_finite: Tensor,
}

/// What is known of the tokens before the model has seen them.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Behaviour log-prob of each, nats.
    pub behavior: &'a [f32],
    /// Advantage of each.
    pub advantage: &'a [f32],
    /// Whether it trains.
    pub valid: &'a [bool],
}

impl Known<'_> {
    /// Whether every valid token has numbers.
    pub(super) fn is_finite(&self) -> bool {
        let both = self.behavior.iter().zip(self.advantage);
        both.zip(self.valid)
            .all(|((b, a), valid)| !valid || (b.is_finite() && a.is_finite()))
    }
}

impl DeviceTokens {
    /// From the new log-probs, f32 `[n]`, and what is known, which is finite where valid.
    pub(super) fn new(new: &Tensor, known: &Known<'_>) -> Result<Self> {
        let device = new.device();
        // Selected, not multiplied by 0: places that are not valid may hold anything.
        let upload = |values: &[f32]| {
            let pairs = values.iter().zip(known.valid);
            let chosen = pairs.map(|(&value, &valid)| if valid { f64::from(value) } else { 0.0 });
            vector(chosen, device)
        };
        let valid = vector(known.valid.iter().map(|&valid| f64::from(valid)), device)?;
        let is_valid = valid.gt(0.0)?;
        let zeros = valid.zeros_like()?;
        let new = is_valid.where_cond(&new.to_dtype(DType::F64)?, &zeros)?;
        // NaN is below nothing.
        let is_finite = new.abs()?.le(f64::MAX)?.to_dtype(DType::F64)?;
        let log_ratio = (new - upload(known.behavior)?)?;
        let advantage = upload(known.advantage)?;
        // Neither factor is so small that the product vanishes: both come from f32.
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

/// 1 where the condition holds, else 0.
pub(super) fn ones(condition: &Tensor) -> Result<Tensor> {
    condition.to_dtype(DType::F64)
}
