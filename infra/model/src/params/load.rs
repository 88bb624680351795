mod extra;
mod foreign;

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, TensorView};

use super::ParamSet;
use super::names::Names;
use super::spec::ParamSpec;
use crate::{
    config::DecoderConfig,
    error::{Error, Result},
};

/// One weights file of a checkpoint.
pub(crate) struct Shard<'a> {
    /// Name of the file, for messages.
    pub(crate) file: String,
    /// Contents of the file.
    pub(crate) bytes: &'a [u8],
}

/// Checkpoint after loading.
pub(crate) struct Loaded {
    /// Parameters of the model.
    pub(crate) params: ParamSet,
    /// True if the head shares the embedding's weights.
    pub(crate) tied: bool,
    /// Notes for the user on how the checkpoint was read.
    pub(crate) notes: Vec<String>,
}

impl Loaded {
    /// Returns a checkpoint without parameters, for callers that need shapes only.
    pub(crate) fn none(config: &DecoderConfig) -> Result<Self> {
        Ok(Self {
            params: ParamSet::of(Vec::new(), |_| Ok(Vec::new()))?,
            tied: config.tie_word_embeddings,
            notes: Vec::new(),
        })
    }

    /// Loads a checkpoint from the bytes of one file.
    pub(crate) fn of_file(bytes: &[u8], config: &DecoderConfig) -> Result<Self> {
        let file = "model.safetensors".to_owned();
        load(&[Shard { file, bytes }], config)
    }
}

/// Tensor and the file that contains it.
struct Found<'a> {
    view: TensorView<'a>,
    file: &'a str,
}

/// Loads a checkpoint that is spread over `shards`.
///
/// Follows transformers: a tied model may have the embedding or the head, and one with both counts
/// as untied if they differ; tensors that the decoder does not know are left out. Unknown weights
/// and biases of the decoder's own layers are refused, because the layer would need them.
pub(crate) fn load(shards: &[Shard<'_>], config: &DecoderConfig) -> Result<Loaded> {
    let mut opened = Vec::with_capacity(shards.len());
    for shard in shards {
        opened.push((shard, foreign::open(&shard.file, shard.bytes)?));
    }
    let all = opened.iter().flat_map(|(_, tensors)| tensors.names());
    let names = Names::of(all).map_err(|prefixes| Error::Weights {
        file: shards
            .first()
            .map_or_else(String::new, |shard| shard.file.clone()),
        problem: format!("several models are in it, as {prefixes} say: save one of them alone"),
    })?;
    let mut found: BTreeMap<String, Found<'_>> = BTreeMap::new();
    for (shard, tensors) in &opened {
        for (given, view) in tensors.tensors() {
            let (name, file) = (names.read(&given), shard.file.as_str());
            if found.insert(name, Found { view, file }).is_some() {
                return Err(Error::parameter(&given, format!("twice, again in {file}")));
            }
        }
    }
    let mut notes: Vec<_> = names.note().into_iter().collect();
    let tied = config.tie_word_embeddings && !unties(&mut found, &mut notes);
    let mut config = config.clone();
    config.tie_word_embeddings = tied;
    let config = &config;
    let one_of_two = found.contains_key(HEAD) != found.contains_key(EMBEDDING);
    let params = ParamSet::build(config, |spec| match found.remove(spec.name()) {
        Some(tensor) => read(spec.name(), spec.shape(), &tensor.view)
            .map_err(|error| in_file(error, tensor.file, shards.len())),
        None => Err(Error::parameter(
            spec.name(),
            absent(spec, &found, one_of_two),
        )),
    })?;
    notes.extend(extra::refuse_needed(&found, config)?);
    Ok(Loaded {
        params,
        tied,
        notes,
    })
}

impl ParamSet {
    /// Reads one safetensors file; f64, f16 and bf16 become f32.
    ///
    /// # Errors
    /// A tensor is missing, misshapen, of an unsupported dtype or not finite, or belongs to a layer
    /// of the decoder that does not use it; the error names the tensor.
    pub fn from_safetensors(bytes: &[u8], config: &DecoderConfig) -> Result<Self> {
        let loaded = Loaded::of_file(bytes, config)?;
        if loaded.tied != config.tie_word_embeddings {
            return Err(Error::parameter(
                "lm_head.weight",
                "is no copy of model.embed_tokens.weight, and config.json says that the two are \
                 tied: leave it out, or set tie_word_embeddings to false",
            ));
        }
        Ok(loaded.params)
    }
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// Removes the redundant tensor of a tied model; returns true if head and embedding differ instead.
fn unties(found: &mut BTreeMap<String, Found<'_>>, notes: &mut Vec<String>) -> bool {
    let Some(head) = found.remove(HEAD) else {
        return false;
    };
    let Some(embedding) = found.get(EMBEDDING) else {
        // Tensors that share memory are saved once, under either of their names.
        found.insert(EMBEDDING.to_owned(), head);
        return false;
    };
    let same =
        (head.view.dtype(), head.view.data()) == (embedding.view.dtype(), embedding.view.data());
    if same {
        return false;
    }
    found.insert(HEAD.to_owned(), head);
    notes.push(format!(
        "config.json says tie_word_embeddings and the weights have a {HEAD} that is no copy of \
         {EMBEDDING}: they are not tied, as transformers does not tie them"
    ));
    true
}

/// Adds the file's name to the error if there are several files.
fn in_file(error: Error, file: &str, files: usize) -> Error {
    match error {
        Error::Parameter { name, problem } if files > 1 => Error::Parameter {
            name,
            problem: format!("{problem} (in {file})"),
        },
        other => other,
    }
}

/// Describes the likely reason for which a tensor is missing.
fn absent(spec: &ParamSpec, found: &BTreeMap<String, Found<'_>>, one_of_two: bool) -> String {
    let (name, shape) = (spec.name(), spec.shape());
    let missing = format!("missing; config.json asks for it with shape {shape:?}");
    if let Some(marks) = quantised(name, found) {
        return format!(
            "{missing}, and the weights have {marks}: they are quantised; take the model \
                        that is not, or dequantise and save it with transformers"
        );
    }
    if found
        .keys()
        .any(|name| name.contains(".lora_A") || name.contains(".base_layer."))
    {
        return format!(
            "{missing}, and the weights have LoRA adapters that are not merged: merge \
                        them with peft's merge_and_unload, and save_pretrained the result"
        );
    }
    if one_of_two && (name == HEAD || name == EMBEDDING) {
        return format!(
            "{missing}; if the model's head is its embedding, set tie_word_embeddings to \
                        true in config.json"
        );
    }
    missing
}

/// Returns the name of a tensor that shows that this one was quantized, if there is one.
fn quantised(name: &str, found: &BTreeMap<String, Found<'_>>) -> Option<String> {
    let module = name.strip_suffix("weight")?;
    let marks = [
        "qweight",
        "weight_packed",
        "weight_scale",
        "blocks",
        "scales",
    ];
    let there = marks.iter().map(|mark| format!("{module}{mark}"));
    there.into_iter().find(|name| found.contains_key(name))
}

/// Reads the values of a tensor, which must have the given shape, as f32.
pub(crate) fn read(name: &str, shape: &[usize], view: &TensorView<'_>) -> Result<Vec<f32>> {
    let dtype = view.dtype();
    if !matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        let quantised = if matches!(dtype, Dtype::BOOL) {
            ""
        } else {
            ", which quantised weights are of"
        };
        return Err(Error::parameter(
            name,
            format!(
                "dtype {dtype:?}{quantised} is not supported; take the model that is not quantised, \
                 or convert it to F32, F16 or BF16"
            ),
        ));
    }
    if view.shape() != shape {
        let resized = match (view.shape(), shape) {
            ([rows, width], [asked, of]) if width == of && rows != asked => {
                format!("; if the embedding was resized, set vocab_size to {rows} in config.json")
            }
            _ => String::new(),
        };
        let resized = if name == EMBEDDING || name == HEAD {
            resized
        } else {
            String::new()
        };
        return Err(Error::parameter(
            name,
            format!(
                "shape {:?}, but config.json asks for {shape:?}{resized}",
                view.shape()
            ),
        ));
    }
    let bytes = view.data();
    let values: Vec<f32> = match dtype {
        Dtype::F64 => {
            let (chunks, _) = bytes.as_chunks::<8>();
            chunks
                .iter()
                .map(|bytes| f64::from_le_bytes(*bytes) as f32)
                .collect()
        }
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
        // Only F16 is left.
        _ => {
            let (chunks, _) = bytes.as_chunks::<2>();
            chunks
                .iter()
                .map(|bytes| f16_to_f32(u16::from_le_bytes(*bytes)))
                .collect()
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

/// Converts an IEEE half-precision value to f32, exactly.
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
