//! Named parameters of a decoder: creating, loading and saving them.

pub(crate) mod load;
mod names;
pub(crate) mod save;
pub(crate) mod spec;

use std::sync::Arc;

use candle_core::Tensor;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::spec::ParamSpec;
use crate::ops::storage::{self, Values};
use crate::{
    config::DecoderConfig,
    error::{Error, Result},
};

/// Parameters of one decoder: f32 tensors sorted by their Hugging Face names.
#[derive(Debug)]
pub struct ParamSet {
    specs: Arc<[ParamSpec]>,
    tensors: Vec<Tensor>,
}

impl Clone for ParamSet {
    /// Copies every value, because updates happen in place and would change a shared tensor.
    fn clone(&self) -> Self {
        let tensors = self.tensors.iter().map(storage::deep_copy).collect();
        Self {
            specs: Arc::clone(&self.specs),
            tensors,
        }
    }
}

impl ParamSet {
    /// Creates random values for a model that is trained from scratch.
    ///
    /// Weights are drawn from a normal distribution of standard deviation 0.02, norms are 1, biases
    /// 0. Projections that write into the residual stream are scaled down by √(2·layers), as in
    /// GPT-2, so that the stream's variance does not grow with depth. The same seed gives the same
    /// bits.
    pub fn init(config: &DecoderConfig, seed: u64) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let residual_scale = 1.0 / (2.0 * config.num_hidden_layers as f64).sqrt();
        Self::build(config, |spec| {
            let len = spec.len();
            let name = spec.name();
            if name.ends_with("norm.weight") {
                return Ok(vec![1.0; len]);
            }
            if name.ends_with("_proj.bias") {
                return Ok(vec![0.0; len]);
            }
            let writes_residual =
                name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
            let deviation = if writes_residual {
                0.02 * residual_scale
            } else {
                0.02
            };
            Ok(spec::normals(&mut rng, deviation, len))
        })
    }

    /// Creates parameters that are all zero.
    pub fn zeros(config: &DecoderConfig) -> Result<Self> {
        Self::build(config, |spec| Ok(vec![0.0; spec.len()]))
    }

    fn build(
        config: &DecoderConfig,
        values: impl FnMut(&ParamSpec) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        Self::of(spec::of(config), values)
    }

    /// Creates parameters of these names and shapes, in sorted order.
    pub(crate) fn of(
        mut specs: Vec<ParamSpec>,
        mut values: impl FnMut(&ParamSpec) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        specs.sort_by(|a, b| a.name().cmp(b.name()));
        let specs: Arc<[ParamSpec]> = specs.into();
        let tensors = specs
            .iter()
            .map(|spec| storage::tensor(values(spec)?, spec.shape()))
            .collect::<Result<_>>()?;
        Ok(Self { specs, tensors })
    }

    /// Refuses parameters that are not the ones `config` requires.
    pub(crate) fn check(&self, config: &DecoderConfig) -> Result<()> {
        let expected = spec::of(config);
        if let Some(at) = (0..expected.len().max(self.specs.len()))
            .find(|&at| expected.get(at) != self.specs.get(at))
        {
            let describe = |spec: Option<&ParamSpec>| {
                spec.map_or_else(
                    || "nothing".to_owned(),
                    |spec| format!("{} {:?}", spec.name(), spec.shape()),
                )
            };
            let (own, expected) = (self.specs.get(at), expected.get(at));
            return Err(Error::parameter(
                own.or(expected).map_or("(none)", ParamSpec::name),
                format!(
                    "the model asks for {} and was given {}; use parameters of the same config.json",
                    describe(expected),
                    describe(own)
                ),
            ));
        }
        Ok(())
    }

    /// Returns name and shape of every parameter, sorted by name.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// Returns the number of values in all parameters.
    pub fn parameter_count(&self) -> usize {
        self.specs.iter().map(ParamSpec::len).sum()
    }

    /// Returns the tensor named `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.index(name).map(|index| &self.tensors[index])
    }

    /// Returns the values of the tensor named `name`, row-major.
    pub fn values(&self, name: &str) -> Option<Values<'_>> {
        self.get(name)
            .and_then(|tensor| storage::values(tensor).ok())
    }

    /// Returns names and tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.specs.iter().map(ParamSpec::name).zip(&self.tensors)
    }

    /// Changes the parameters in place by calling `change(name, shape, values)` for each, sorted by
    /// name.
    pub fn update(&mut self, mut change: impl FnMut(&str, &[usize], &mut [f32])) -> Result<()> {
        for (spec, tensor) in self.specs.iter().zip(&mut self.tensors) {
            storage::with_mut(tensor, |values| change(spec.name(), spec.shape(), values))?;
        }
        Ok(())
    }

    /// Replaces the tensors by ones of the same shapes, on the CPU, whose memory nothing else
    /// shares.
    pub fn replace(&mut self, tensors: Vec<Tensor>) -> Result<()> {
        let shapes = self.specs.iter().map(ParamSpec::shape);
        if !shapes.eq(tensors.iter().map(Tensor::dims)) {
            return Err(Error::Input(
                "replacing parameters: the shapes are those of another model".to_owned(),
            ));
        }
        self.tensors = tensors;
        Ok(())
    }

    /// Returns name and shape of every parameter that `config` requires, sorted by name.
    pub(crate) fn specs_of(config: &DecoderConfig) -> Vec<ParamSpec> {
        spec::of(config)
    }

    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.specs
            .binary_search_by(|spec| spec.name().cmp(name))
            .ok()
    }

    /// Returns the index of the parameter `name`, which the config guarantees to exist.
    pub(crate) fn require(&self, name: &str) -> Result<usize> {
        self.index(name)
            .ok_or_else(|| Error::parameter(name, "missing from the parameter set"))
    }

    pub(crate) fn tensor(&self, index: usize) -> &Tensor {
        &self.tensors[index]
    }

    /// Returns names and shapes, shared.
    pub fn shared_specs(&self) -> Arc<[ParamSpec]> {
        Arc::clone(&self.specs)
    }
}
