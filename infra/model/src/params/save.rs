//! Serialization of parameters to safetensors.

use std::borrow::Cow;
use std::collections::HashMap;

use safetensors::tensor::{Dtype, View};
use vintage_control::Precision;

use super::ParamSet;
use crate::error::{Error, Result};
use crate::ops::storage::{Values, values};
use crate::precision::bf16_of;

/// Function that computes the values to be written from those of the tensor.
pub(crate) type Merge<'a> = Box<dyn Fn(&[f32]) -> Vec<f32> + 'a>;

impl ParamSet {
    /// Serializes to one safetensors file of f32, tensors sorted by name. Equal values give equal
    /// bytes.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        save(self, Precision::F32, str::to_owned, |_| None)
    }
}

/// Tensor whose bytes are made only while they are written, so only one tensor is copied at a time.
struct Written<'a> {
    shape: &'a [usize],
    precision: Precision,
    values: Values<'a>,
    merge: Option<Merge<'a>>,
}

impl View for Written<'_> {
    fn dtype(&self) -> Dtype {
        match self.precision {
            Precision::F32 => Dtype::F32,
            Precision::Bf16 => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let merged = self.merge.as_ref().map(|merge| merge(&self.values));
        let values = merged.as_deref().unwrap_or(&self.values);
        let mut bytes = vec![0; self.data_len()];
        match self.precision {
            Precision::F32 => {
                for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                    *bytes = value.to_le_bytes();
                }
            }
            Precision::Bf16 => {
                for (bytes, value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                    *bytes = bf16_of(*value).to_le_bytes();
                }
            }
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        match self.precision {
            Precision::F32 => 4 * self.values.len(),
            Precision::Bf16 => 2 * self.values.len(),
        }
    }
}

/// Serializes to one safetensors file of values of one `precision` under the names that `rename`
/// gives. `merge` returns the change of a tensor that is written changed; the sum is what is rounded.
pub(crate) fn save<'a>(
    params: &'a ParamSet,
    precision: Precision,
    rename: impl Fn(&str) -> String,
    merge: impl Fn(&str) -> Option<Merge<'a>>,
) -> Result<Vec<u8>> {
    let mut views = Vec::with_capacity(params.specs.len());
    for (spec, tensor) in params.specs.iter().zip(&params.tensors) {
        views.push((
            rename(spec.name()),
            Written {
                shape: spec.shape(),
                precision,
                values: values(tensor)?,
                merge: merge(spec.name()),
            },
        ));
    }
    // transformers requires the key; a single entry keeps the order of the header's bytes fixed.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).map_err(|error| Error::Weights {
        file: "model.safetensors".to_owned(),
        problem: format!("serialising: {error}"),
    })
}
