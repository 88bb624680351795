use std::sync::Arc;

use candle_core::Tensor;

use crate::cpu::{map_blocks, zeros};
use crate::error::{Error, Result};
use crate::ops::storage::{self, Values};
use crate::params::ParamSet;
use crate::params::spec::ParamSpec;

/// Gradients of all trained parameters, sorted by name like the parameters.
#[derive(Debug)]
pub struct Gradients {
    specs: Arc<[ParamSpec]>,
    tensors: Vec<Tensor>,
}

impl Gradients {
    /// Creates zero gradients in the shapes of `params`.
    pub fn zeros_like(params: &ParamSet) -> Result<Self> {
        let specs = params.shared_specs();
        let tensors = specs
            .iter()
            .map(|spec| storage::tensor(zeros(spec.len()), spec.shape()))
            .collect::<Result<_>>()?;
        Ok(Self { specs, tensors })
    }

    /// Wraps gradients that were computed elsewhere.
    pub fn from_tensors(specs: Arc<[ParamSpec]>, tensors: Vec<Tensor>) -> Self {
        Self { specs, tensors }
    }

    /// Returns names and shapes, shared.
    pub fn shared_specs(&self) -> Arc<[ParamSpec]> {
        Arc::clone(&self.specs)
    }

    /// Sets every value to 0, keeping the memory.
    pub fn set_zero(&mut self) -> Result<()> {
        self.tensors
            .iter_mut()
            .try_for_each(|tensor| storage::with_mut(tensor, |v| v.fill(0.0)))
    }

    /// Returns the gradient of the parameter named `name`, row-major.
    pub fn get(&self, name: &str) -> Option<Values<'_>> {
        let index = self
            .specs
            .binary_search_by(|spec| spec.name().cmp(name))
            .ok()?;
        storage::values(&self.tensors[index]).ok()
    }

    /// Changes the gradients in place by calling `change(name, values)` for each, sorted by name.
    pub fn update(&mut self, mut change: impl FnMut(&str, &mut [f32])) -> Result<()> {
        for (spec, tensor) in self.specs.iter().zip(&mut self.tensors) {
            storage::with_mut(tensor, |values| change(spec.name(), values))?;
        }
        Ok(())
    }

    /// Returns names and gradients, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.specs.iter().map(ParamSpec::name).zip(&self.tensors)
    }

    /// Returns the Euclidean norm over all gradients, summed in f64 in a fixed order. The norm is
    /// not finite if any gradient is not.
    pub fn global_norm(&self) -> f64 {
        let squares = |tensor: &Tensor| {
            storage::values(tensor).map_or(f64::NAN, |values| crate::cpu::sum_of_squares(&values))
        };
        let sums = map_blocks(self.tensors.len(), self.value_count(), |number| {
            squares(&self.tensors[number])
        });
        sums.into_iter().sum::<f64>().sqrt()
    }

    /// Returns the cosine with a vector whose parts `other` gives by name, in f64 and in a fixed order. Parts that it
    /// lacks count as zeros; `None` if one of the two is zero or not finite.
    pub fn cosine<'a>(&self, other: impl Fn(&str) -> Option<&'a [f32]> + Sync) -> Option<f64> {
        let sums = map_blocks(self.tensors.len(), self.value_count(), |number| {
            let own = storage::values(&self.tensors[number]).ok()?;
            Some(match other(self.specs[number].name()) {
                Some(other) => crate::cpu::products(&own, other),
                None => [0.0, crate::cpu::sum_of_squares(&own), 0.0],
            })
        });
        let mut totals = [0.0_f64; 3];
        for sums in sums {
            for (total, sum) in totals.iter_mut().zip(sums?) {
                *total += sum;
            }
        }
        let [inner, own, other] = totals;
        let cosine = inner / (own.sqrt() * other.sqrt());
        cosine.is_finite().then(|| cosine.clamp(-1.0, 1.0))
    }

    fn value_count(&self) -> usize {
        self.specs.iter().map(ParamSpec::len).sum()
    }

    pub(crate) fn tensor_mut(&mut self, index: usize) -> &mut Tensor {
        &mut self.tensors[index]
    }

    /// Refuses gradients that were made for other parameters.
    pub(crate) fn check(&self, params: &ParamSet) -> Result<()> {
        if *self.specs == *params.specs() {
            return Ok(());
        }
        Err(Error::Input(
            "running backward: the gradients were made for another model; use Gradients::zeros_like \
             on this decoder's parameters"
                .to_owned(),
        ))
    }
}
