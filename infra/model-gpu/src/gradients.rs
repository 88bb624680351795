use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use vintage_model::{Error, Gradients, ParamSpec};

/// Number of values that are converted to f64 at a time: 128 MB.
const PIECE: usize = 1 << 24;

/// Gradients of all trained parameters, on the device, sorted by name.
#[derive(Debug)]
pub struct DeviceGradients {
    specs: Arc<[ParamSpec]>,
    tensors: Vec<Tensor>,
}

impl DeviceGradients {
    pub(crate) fn zeros(specs: Arc<[ParamSpec]>, device: &Device) -> Result<Self> {
        let tensors = specs
            .iter()
            .map(|spec| Tensor::zeros(spec.shape(), DType::F32, device))
            .collect::<Result<_>>()?;
        Ok(Self { specs, tensors })
    }

    /// Returns names, shapes and gradients, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&ParamSpec, &Tensor)> {
        self.specs.iter().zip(&self.tensors)
    }

    /// Returns the Euclidean norm over all gradients, squared and summed in f64 in a fixed order.
    /// The norm is not finite if any gradient is not. One number per tensor is copied from the
    /// device, all in one transfer.
    pub fn global_norm(&self) -> vintage_model::Result<f64> {
        let squares = self.tensors.iter().map(|tensor| inner(tensor, tensor));
        let squares = sum(squares).map_err(Error::tensor("global_norm"))?;
        Ok(squares.sqrt())
    }

    /// Returns the cosine with a vector whose parts `other` gives by name, as
    /// [`Gradients::cosine`] does on the host.
    pub fn cosine<'a>(
        &self,
        other: impl Fn(&str) -> Option<&'a Tensor>,
    ) -> vintage_model::Result<Option<f64>> {
        let own = self.global_norm()?;
        let names = self.specs.iter().map(ParamSpec::name);
        let both = || {
            let pairs = names.clone().zip(&self.tensors);
            pairs.filter_map(|(name, tensor)| Some((tensor, other(name)?)))
        };
        let sums = || {
            let products = sum(both().map(|(own, other)| inner(own, other)))?;
            Ok((products, sum(both().map(|(_, other)| inner(other, other)))?))
        };
        let (products, squares) = sums().map_err(Error::tensor("cosine"))?;
        let cosine = products / (own * squares.sqrt());
        Ok(cosine.is_finite().then(|| cosine.clamp(-1.0, 1.0)))
    }

    /// Copies gradients to `device`.
    pub fn from_host(gradients: &Gradients, device: &Device) -> vintage_model::Result<Self> {
        let tensors = gradients.iter().map(|(_, x)| x.to_device(device));
        let tensors: Result<Vec<_>> = tensors.collect();
        Ok(Self {
            specs: gradients.shared_specs(),
            tensors: tensors.map_err(Error::tensor("copying gradients to the device"))?,
        })
    }

    /// Copies the gradients to host memory.
    pub fn to_host(&self) -> vintage_model::Result<Gradients> {
        let tensors = self.tensors.iter().map(|x| x.to_device(&Device::Cpu));
        let tensors: Vec<_> = tensors
            .collect::<Result<_>>()
            .map_err(Error::tensor("reading gradients"))?;
        Ok(Gradients::from_tensors(Arc::clone(&self.specs), tensors))
    }

    pub(crate) fn get(&self, index: usize) -> &Tensor {
        &self.tensors[index]
    }

    pub(crate) fn set(&mut self, index: usize, gradient: Tensor) {
        self.tensors[index] = gradient;
    }

    pub(crate) fn add(&mut self, index: usize, gradient: &Tensor) -> Result<()> {
        self.tensors[index] = (&self.tensors[index] + gradient)?;
        Ok(())
    }
}

/// Returns the sum of products of two tensors of one shape, in f64 and in a fixed order, on the device.
fn inner(one: &Tensor, other: &Tensor) -> Result<Tensor> {
    // The squares of a norm convert each piece once.
    let is_same = one.id() == other.id();
    let (one, other) = (one.flatten_all()?, other.flatten_all()?);
    let pieces = (0..one.elem_count()).step_by(PIECE).map(|start| {
        let len = PIECE.min(one.elem_count() - start);
        let piece = |of: &Tensor| of.narrow(0, start, len)?.to_dtype(DType::F64);
        let one = piece(&one)?;
        let other = if is_same { one.clone() } else { piece(&other)? };
        (one * other)?.sum_all()
    });
    Tensor::stack(&pieces.collect::<Result<Vec<_>>>()?, 0)?.sum_all()
}

/// Adds numbers that are on a device, in their order, after one transfer; 0 for none.
fn sum(numbers: impl Iterator<Item = Result<Tensor>>) -> Result<f64> {
    let numbers = numbers.collect::<Result<Vec<_>>>()?;
    if numbers.is_empty() {
        return Ok(0.0);
    }
    Ok(Tensor::stack(&numbers, 0)?.to_vec1::<f64>()?.iter().sum())
}
