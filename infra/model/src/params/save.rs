//! Serialization of parameters to safetensors.

use std::borrow::Cow;
use std::collections::HashMap;

use safetensors::tensor::{Dtype, View};

use super::ParamSet;
use crate::error::{Error, Result};
use crate::ops::storage::{Values, values};

/// Function that computes the values to be written from those of the tensor.
pub(crate) type Merge<'a> = Box<dyn Fn(&[f32]) -> Vec<f32> + 'a>;

impl ParamSet {
    /// Serializes to one safetensors file of f32, tensors sorted by name. Equal values give equal
    /// bytes.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        save(self, str::to_owned, |_| None)
    }
}

/// Tensor whose bytes are made only while they are written, so only one tensor is copied at a time.
struct F32View<'a> {
    shape: &'a [usize],
    values: Values<'a>,
    merge: Option<Merge<'a>>,
}

impl View for F32View<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let merged = self.merge.as_ref().map(|merge| merge(&self.values));
        let values = merged.as_deref().unwrap_or(&self.values);
        let mut bytes = vec![0; 4 * values.len()];
        for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
            *bytes = value.to_le_bytes();
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        4 * self.values.len()
    }
}

/// Serializes to one safetensors file of f32 under the names that `rename` gives. `merge` returns
/// the change of a tensor that is written changed.
pub(crate) fn save<'a>(
    params: &'a ParamSet,
    rename: impl Fn(&str) -> String,
    merge: impl Fn(&str) -> Option<Merge<'a>>,
) -> Result<Vec<u8>> {
    let mut views = Vec::with_capacity(params.specs.len());
    for (spec, tensor) in params.specs.iter().zip(&params.tensors) {
        views.push((
            rename(spec.name()),
            F32View {
                shape: spec.shape(),
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
