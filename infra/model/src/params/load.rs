use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, SafeTensors, TensorView, View};

use super::ParamSet;
use crate::lora::{Adapters, Delta};
use crate::ops::{self, Values};
use crate::{Error, ModelConfig, Result};

/// One file of a checkpoint.
pub(crate) struct Shard<'a> {
    /// Name for messages.
    pub(crate) file: String,
    /// Its bytes.
    pub(crate) bytes: &'a [u8],
}

/// Loads a checkpoint that is spread over `shards`.
pub(crate) fn load(shards: &[Shard<'_>], config: &ModelConfig) -> Result<ParamSet> {
    let mut found: BTreeMap<String, TensorView<'_>> = BTreeMap::new();
    for shard in shards {
        let tensors = SafeTensors::deserialize(shard.bytes).map_err(|error| Error::Weights {
            file: shard.file.clone(),
            problem: error.to_string(),
        })?;
        for (name, view) in tensors.tensors() {
            if found.insert(name.clone(), view).is_some() {
                return Err(Error::parameter(
                    &name,
                    format!("twice, again in {}", shard.file),
                ));
            }
        }
    }
    // Tied checkpoints may carry a copy of the embedding as their head.
    if config.tie_word_embeddings
        && let Some(head) = found.remove("lm_head.weight")
        && let Some(embedding) = found.get("model.embed_tokens.weight")
        && (head.dtype(), head.data()) != (embedding.dtype(), embedding.data())
    {
        return Err(Error::parameter(
            "lm_head.weight",
            "is no copy of model.embed_tokens.weight, and config.json says that the two are tied: \
             leave it out, or set tie_word_embeddings to false",
        ));
    }
    // Old Llama exports carry the rotary frequencies, which follow from the config.
    found.retain(|name, _| !name.ends_with(".rotary_emb.inv_freq"));
    let params = ParamSet::build(config, |spec| match found.remove(spec.name()) {
        Some(view) => read(spec.name(), spec.shape(), &view),
        None => Err(Error::parameter(
            spec.name(),
            format!(
                "missing; config.json asks for it with shape {:?}",
                spec.shape()
            ),
        )),
    })?;
    if let Some((name, view)) = found.first_key_value() {
        return Err(Error::parameter(
            name,
            format!(
                "shape {:?}, not expected by config.json; the model may be of another architecture",
                view.shape()
            ),
        ));
    }
    Ok(params)
}

/// The values of a tensor that must have this shape, as f32.
pub(crate) fn read(name: &str, shape: &[usize], view: &TensorView<'_>) -> Result<Vec<f32>> {
    if view.shape() != shape {
        return Err(Error::parameter(
            name,
            format!(
                "shape {:?}, but config.json asks for {shape:?}",
                view.shape()
            ),
        ));
    }
    let bytes = view.data();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => {
            let (chunks, _) = bytes.as_chunks::<4>();
            chunks
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect()
        }
        Dtype::BF16 => {
            let (chunks, _) = bytes.as_chunks::<2>();
            // A bf16 is the upper half of an f32.
            chunks
                .iter()
                .map(|bytes| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16))
                .collect()
        }
        Dtype::F16 => {
            let (chunks, _) = bytes.as_chunks::<2>();
            chunks
                .iter()
                .map(|bytes| f16_to_f32(u16::from_le_bytes(*bytes)))
                .collect()
        }
        other => {
            return Err(Error::parameter(
                name,
                format!("dtype {other:?} is not supported; convert it to F32, F16 or BF16"),
            ));
        }
    };
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(Error::parameter(
            name,
            format!("value {at} is {}; the checkpoint is unusable", values[at]),
        )),
        None => Ok(values),
    }
}

/// Exact widening of an IEEE half.
fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits & 0x3ff);
    match exponent {
        0 => {
            // Subnormal: fraction · 2^−24, exact in f32.
            let magnitude = fraction as f32 * f32::from_bits(0x3380_0000);
            f32::from_bits(sign | magnitude.to_bits())
        }
        0x1f => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

/// A tensor whose bytes are made when they are written: a second copy of one tensor, not of all.
struct F32View<'a> {
    shape: &'a [usize],
    values: Values<'a>,
    delta: Option<Delta<'a>>,
}

impl View for F32View<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let merged = self.delta.as_ref().map(|delta| delta.onto(&self.values));
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

/// One safetensors file of f32 under the names `rename` gives, adapters merged into the tensors
/// they are for.
pub(crate) fn save(
    params: &ParamSet,
    rename: impl Fn(&str) -> String,
    adapters: Option<&Adapters>,
) -> Result<Vec<u8>> {
    let mut views = Vec::with_capacity(params.specs.len());
    for (spec, tensor) in params.specs.iter().zip(&params.tensors) {
        views.push((
            rename(spec.name()),
            F32View {
                shape: spec.shape(),
                values: ops::values(tensor)?,
                delta: adapters.and_then(|adapters| adapters.delta(spec.name())),
            },
        ));
    }
    // transformers asks for the key; one entry keeps the header's bytes in one order.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).map_err(|error| Error::Weights {
        file: "model.safetensors".to_owned(),
        problem: format!("serialising: {error}"),
    })
}
