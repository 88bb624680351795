//! Low-rank adapters (Hu et al., 2021): y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ with s = alpha / rank, W frozen.
//!
//! Names, shapes and start values are those of Hugging Face's PEFT.

use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vintage_control::{LoraSettings, Precision};

use crate::error::{Error, Result};
use crate::gradients::Gradients;
use crate::ops::linear;
use crate::ops::storage::{Values, values, with_mut};
use crate::params::ParamSet;
use crate::params::spec::ParamSpec;
use crate::precision::Rounding as _;

/// Factor on the product of an adapter's two matrices.
pub fn scale(lora: &LoraSettings) -> f32 {
    (lora.alpha / lora.rank as f64) as f32
}

/// Specs of the adapters of a model with the parameters `base`.
pub(crate) fn specs(lora: &LoraSettings, base: &[ParamSpec]) -> Vec<ParamSpec> {
    let mut specs = Vec::new();
    for spec in base {
        let Some(module) = spec.name().strip_suffix(".weight") else {
            continue;
        };
        let last = module.rsplit('.').next().unwrap_or_default();
        let is_target = lora.target_modules.iter().any(|target| target == last);
        if let (true, [output, input]) = (is_target, spec.shape()) {
            let named = |factor, shape| ParamSpec::new(format!("{module}.{factor}.weight"), shape);
            specs.push(named("lora_A", vec![lora.rank, *input]));
            specs.push(named("lora_B", vec![*output, lora.rank]));
        }
    }
    specs
}

/// Adapters of a decoder: `<module>.lora_A.weight` `[rank, in]` and `<module>.lora_B.weight` `[out,
/// rank]`.
#[derive(Debug, Clone)]
pub(crate) struct Adapters {
    pub(crate) config: LoraSettings,
    pub(crate) params: ParamSet,
}

/// Indices of one linear layer's two factors in the sorted parameter set.
#[derive(Debug, Clone, Copy)]
pub struct Adapter {
    /// Index of A `[rank, in]`.
    pub a: usize,
    /// Index of B `[out, rank]`.
    pub b: usize,
}

impl Adapters {
    /// Draws A from U(−1/√in, 1/√in), PEFT's Kaiming-uniform with its slope √5; B = 0, so that the
    /// adapted decoder is the base at first.
    pub(crate) fn init(config: LoraSettings, base: &ParamSet, seed: u64) -> Result<Self> {
        if let Some((field, problem)) = config.problem() {
            return Err(Error::Input(format!("adding adapters: {field}: {problem}")));
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let params = ParamSet::of(specs(&config, base.specs()), |spec| {
            let len = spec.len();
            if !spec.name().ends_with(".lora_A.weight") {
                return Ok(vec![0.0; len]);
            }
            let bound = 1.0 / (spec.shape()[1] as f64).sqrt();
            let draw = |_| ((2.0 * rng.random::<f64>() - 1.0) * bound) as f32;
            Ok((0..len).map(draw).collect())
        })?;
        Ok(Self { config, params })
    }

    /// Returns the adapter of the linear layer named `module`, if it has one.
    pub(crate) fn of(&self, module: &str) -> Option<Adapter> {
        Some(Adapter {
            a: self.params.index(&format!("{module}.lora_A.weight"))?,
            b: self.params.index(&format!("{module}.lora_B.weight"))?,
        })
    }

    fn factors(&self, at: Adapter, precision: Precision) -> Result<(Tensor, Tensor)> {
        let get = |index| precision.of(self.params.tensor(index));
        Ok((get(at.a)?, get(at.b)?))
    }

    /// Computes s·x·Aᵀ, `[n, rank]`, rounded as a factor of a product.
    fn inner(&self, a: &Tensor, precision: Precision, x: &Tensor) -> Result<Tensor> {
        self.scaled(linear::forward(x, a, None, None)?, precision)
    }

    /// Computes s·dy·B, `[n, rank]`, rounded as a factor of a product.
    fn inner_backward(&self, b: &Tensor, precision: Precision, dy: &Tensor) -> Result<Tensor> {
        self.scaled(linear::backward_input(dy, b, None)?, precision)
    }

    fn scaled(&self, mut x: Tensor, precision: Precision) -> Result<Tensor> {
        let scale = scale(&self.config);
        with_mut(&mut x, |x| x.iter_mut().for_each(|x| *x *= scale))?;
        precision.round(x)
    }

    /// Adds the adapter's output for `x` to `y`.
    pub(crate) fn forward(
        &self,
        at: Adapter,
        precision: Precision,
        x: &Tensor,
        y: &mut Tensor,
    ) -> Result<()> {
        let (a, b) = self.factors(at, precision)?;
        linear::forward_onto(y, &self.inner(&a, precision, x)?, &b)
    }

    /// Adds the gradients of A and B to `grads`.
    pub(crate) fn backward(
        &self,
        at: Adapter,
        precision: Precision,
        dy: &Tensor,
        x: &Tensor,
        grads: &mut Gradients,
    ) -> Result<()> {
        let (a, b) = self.factors(at, precision)?;
        let inner = self.inner(&a, precision, x)?;
        linear::backward_weight(grads.tensor_mut(at.b), dy, &inner)?;
        let dinner = self.inner_backward(&b, precision, dy)?;
        linear::backward_weight(grads.tensor_mut(at.a), &dinner, x)
    }

    /// Adds the gradient with respect to the adapter's input to `dx`.
    pub(crate) fn input_backward(
        &self,
        at: Adapter,
        precision: Precision,
        dy: &Tensor,
        dx: Tensor,
    ) -> Result<Tensor> {
        let (a, b) = self.factors(at, precision)?;
        linear::backward_input(&self.inner_backward(&b, precision, dy)?, &a, Some(dx))
    }

    /// Returns the change that an adapter makes to the weight named `name`, if it has one.
    pub(crate) fn delta(&self, name: &str) -> Option<Delta<'_>> {
        let at = self.of(name.strip_suffix(".weight")?)?;
        Some(Delta {
            a: values(self.params.tensor(at.a)).ok()?,
            b: values(self.params.tensor(at.b)).ok()?,
            rank: self.config.rank,
            scale: scale(&self.config),
        })
    }
}

/// Change s·B·A of one weight, computed when it is applied.
pub(crate) struct Delta<'a> {
    a: Values<'a>,
    b: Values<'a>,
    rank: usize,
    scale: f32,
}

impl Delta<'_> {
    /// Computes base + s·B·A with the same bits on every CPU.
    pub(crate) fn onto(&self, base: &[f32]) -> Vec<f32> {
        vintage_delta::onto(base, &self.a, &self.b, self.rank, self.scale)
    }
}
