//! AdamW with its moments on a device.

use std::collections::BTreeMap;

use candle_core::{Result as Candle, Tensor};
use vintage_control::OptimizerSettings;
use vintage_learner::{AdamW, Error, Moments, Rate, Result};
use vintage_model_gpu::{DeviceDecoder, DeviceGradients};

/// AdamW with its moments on a device. It computes the formula of [`AdamW`] operation by operation,
/// so that candle's CPU device gives the same bits.
#[derive(Debug)]
pub(crate) struct DeviceAdamW {
    steps: u64,
    /// First and second moment, by parameter name.
    moments: BTreeMap<String, [Tensor; 2]>,
}

fn failed(error: candle_core::Error) -> Error {
    vintage_model::Error::Tensor {
        op: "AdamW",
        source: error,
    }
    .into()
}

impl DeviceAdamW {
    /// Copies the moments of `optimizer` to the device of `decoder`; they must be those of the
    /// decoder's trainable parameters.
    pub(crate) fn new(optimizer: &AdamW, decoder: &DeviceDecoder) -> Result<Self> {
        let mut moments = BTreeMap::new();
        for (spec, _) in decoder.trainable() {
            let Some(Moments { first, second }) = optimizer.moments().get(spec.name()) else {
                continue;
            };
            let copy = |values: &[f32]| {
                Tensor::from_slice(values, spec.shape(), decoder.device()).map_err(failed)
            };
            moments.insert(spec.name().to_owned(), [copy(first)?, copy(second)?]);
        }
        if moments.len() != optimizer.moments().len() {
            return Err(Error::OtherMoments);
        }
        Ok(Self {
            steps: optimizer.steps(),
            moments,
        })
    }

    /// Copies the moments to host memory.
    pub(crate) fn to_host(&self) -> Result<AdamW> {
        let read = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let moments = self.moments.iter().map(|(name, [first, second])| {
            let (first, second) = (read(first)?, read(second)?);
            Ok((name.clone(), Moments { first, second }))
        });
        let moments: Candle<_> = moments.collect();
        Ok(AdamW::from_moments(self.steps, moments.map_err(failed)?))
    }

    /// Returns the cosine of gradients with the first moment, as [`AdamW::cosine`] does on the host.
    pub(crate) fn cosine(&self, grads: &DeviceGradients) -> Result<Option<f64>> {
        Ok(grads.cosine(|name| Some(&self.moments.get(name)?[0]))?)
    }

    /// Takes one step on the device, as [`AdamW::step`] does on the host. Returns the gradient
    /// norm; if it is not finite, nothing is changed.
    pub(crate) fn step(
        &mut self,
        settings: &OptimizerSettings,
        decoder: &mut DeviceDecoder,
        grads: &DeviceGradients,
    ) -> Result<f64> {
        let norm = grads.global_norm()?;
        if !norm.is_finite() {
            return Ok(norm);
        }
        self.steps += 1;
        let rate = Rate::new(settings, self.steps, norm);
        for ((spec, value), (_, grad)) in decoder.trainable_mut().zip(grads.iter()) {
            let decay = Rate::decay(settings, spec.shape());
            let moments = self.moments.remove(spec.name());
            let (next, moments) = apply(&rate, value, grad, moments, decay).map_err(failed)?;
            *value = next;
            self.moments.insert(spec.name().to_owned(), moments);
        }
        Ok(norm)
    }
}

fn apply(
    rate: &Rate,
    value: &Tensor,
    grad: &Tensor,
    moments: Option<[Tensor; 2]>,
    decay: f32,
) -> Candle<(Tensor, [Tensor; 2])> {
    let times = |x: &Tensor, factor: f32| x.affine(f64::from(factor), 0.0);
    let grad = times(grad, rate.scale)?;
    let [first, second] = match moments {
        Some(moments) => moments,
        None => [value.zeros_like()?, value.zeros_like()?],
    };
    let first = (times(&first, rate.beta1)? + times(&grad, 1.0 - rate.beta1)?)?;
    let squared = (times(&grad, 1.0 - rate.beta2)? * &grad)?;
    drop(grad);
    let second = (times(&second, rate.beta2)? + squared)?;
    let root = second.sqrt()?;
    let denominator = (times(&root, rate.second_scale)? + f64::from(rate.eps))?;
    let step = (times(&first, rate.step_size)? / denominator)?;
    Ok(((times(value, decay)? - step)?, [first, second]))
}
