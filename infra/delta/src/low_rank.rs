//! Weights that are a base with low-rank adapters merged into it (Hu et al., 2021): W + s·B·A with
//! s = alpha / rank.

use std::{borrow::Cow, collections::HashMap};

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors, View, tensor::TensorView};
use serde::Deserialize;
use vintage_control::Precision;

use crate::error::{Error, Result};

/// Prefix that PEFT gives to the names of a causal language model's tensors.
pub const PEFT_PREFIX: &str = "base_model.model.";

/// Number of values of a job below which one thread is faster than two.
const PARALLEL_VALUES: usize = 1 << 19;
/// Number of values that a thread takes at a time.
const PIECE_VALUES: usize = 1 << 16;

/// Computes base + s·B·A of one weight `[out, in]`, from A `[rank, in]` and B `[out, rank]`, row by
/// row: the bits are the same on every CPU and at any number of threads, because published weights
/// must equal those that a reader makes of base and adapters.
pub fn onto(base: &[f32], a: &[f32], b: &[f32], rank: usize, scale: f32) -> Vec<f32> {
    let width = a.len() / rank;
    let mut out = vec![0.0; base.len()];
    let rows = (PIECE_VALUES / width.max(1)).max(1);
    let piece = |(at, out): (usize, &mut [f32])| {
        let first = at * rows;
        let count = out.len() / width;
        let base = &base[first * width..(first + count) * width];
        merge_rows(
            base,
            a,
            &b[first * rank..(first + count) * rank],
            rank,
            scale,
            out,
        );
    };
    let size = (rows * width).max(1);
    if base.len() * rank / 8 >= PARALLEL_VALUES {
        out.par_chunks_mut(size).enumerate().for_each(piece);
    } else {
        out.chunks_mut(size).enumerate().for_each(piece);
    }
    out
}

/// Writes rows of base + scale·b·a into `out`, which is zero; every sum runs in the order of the
/// rank. A fused multiplication and addition has one result everywhere, and without the instruction
/// for it takes ten times as long.
fn merge_rows(base: &[f32], a: &[f32], b: &[f32], rank: usize, scale: f32, out: &mut [f32]) {
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "it is compiled for two instruction sets"
    )]
    fn body(base: &[f32], a: &[f32], b: &[f32], rank: usize, scale: f32, out: &mut [f32]) {
        let width = a.len() / rank;
        let rows = base.chunks_exact(width).zip(b.chunks_exact(rank));
        for ((base, b), out) in rows.zip(out.chunks_exact_mut(width)) {
            for (a, b) in a.chunks_exact(width).zip(b) {
                for (out, a) in out.iter_mut().zip(a) {
                    *out = a.mul_add(*b, *out);
                }
            }
            for (out, base) in out.iter_mut().zip(base) {
                let delta = *out * scale;
                // Adding 0 would turn -0 into 0, and version 0 must equal the base bit for bit.
                *out = if delta == 0.0 { *base } else { base + delta };
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn fused(base: &[f32], a: &[f32], b: &[f32], rank: usize, scale: f32, out: &mut [f32]) {
            body(base, a, b, rank, scale, out);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            #[expect(unsafe_code, reason = "the features were detected on this CPU")]
            // SAFETY: both features that `fused` enables were detected.
            return unsafe { fused(base, a, b, rank, scale, out) };
        }
    }
    body(base, a, b, rank, scale, out);
}

/// Returns the bytes of `model.safetensors` with adapters merged, from the bytes of the base's
/// `model.safetensors` (f32, bf16 or f16) and of the adapters' two files in PEFT's layout. The file
/// is laid out as a learner publishes it: values of `precision`, rounded after the sum, sorted by
/// name.
///
/// # Errors
/// One of the files is damaged, or the adapters are not ones of this base, or of a kind that cannot
/// be merged so.
pub fn merge(base: &[u8], adapter: &[u8], config: &[u8], precision: Precision) -> Result<Vec<u8>> {
    let config = Config::read(config)?;
    let open = |file| {
        SafeTensors::deserialize(file).map_err(|error| Error::Weights {
            reason: error.to_string(),
        })
    };
    let (base, adapter) = (open(base)?, open(adapter)?);
    let mut factors = HashMap::new();
    for (name, view) in adapter.tensors() {
        readable(&view)?;
        factors.insert(name, floats(&view));
    }
    let mut views = Vec::with_capacity(base.len());
    for (name, base) in base.tensors() {
        readable(&base)?;
        let change = config.change(&mut factors, &name, base.shape())?;
        views.push((
            name,
            Merged {
                base,
                change,
                precision,
            },
        ));
    }
    if let Some(name) = factors.into_keys().next() {
        return Err(Error::adapters(format!(
            "{name} belongs to no weight of the base"
        )));
    }
    // The one entry that a learner writes, too: transformers requires it.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).map_err(|error| Error::Weights {
        reason: error.to_string(),
    })
}

/// Part of `adapter_config.json` that decides what a merged weight is.
#[derive(Deserialize)]
struct Config {
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
}

/// Two factors of a change.
struct Change {
    a: Vec<f32>,
    b: Vec<f32>,
    rank: usize,
    scale: f32,
}

impl Config {
    fn read(file: &[u8]) -> Result<Self> {
        let config: Self = serde_json::from_slice(file)
            .map_err(|error| Error::adapters(format!("adapter_config.json: {error}")))?;
        let is_plain = !(config.use_rslora || config.use_dora || config.fan_in_fan_out);
        if is_plain && config.r > 0 {
            Ok(config)
        } else {
            Err(Error::adapters(
                "of another kind than plain LoRA".to_owned(),
            ))
        }
    }

    /// Takes the factors of the weight `name` out of `factors`; `None` if it has none.
    fn change(
        &self,
        factors: &mut HashMap<String, Vec<f32>>,
        name: &str,
        shape: &[usize],
    ) -> Result<Option<Change>> {
        let module = name.strip_suffix(".weight").unwrap_or(name);
        let mut take = |factor| factors.remove(&format!("{PEFT_PREFIX}{module}.{factor}.weight"));
        let (a, b) = match (take("lora_A"), take("lora_B")) {
            (None, None) => return Ok(None),
            (Some(a), Some(b)) => (a, b),
            _ => return Err(Error::adapters(format!("{name} has one factor of two"))),
        };
        match shape {
            [output, input] if a.len() == self.r * input && b.len() == self.r * output => {
                Ok(Some(Change {
                    a,
                    b,
                    rank: self.r,
                    scale: (self.lora_alpha / self.r as f64) as f32,
                }))
            }
            _ => Err(Error::adapters(format!(
                "factors of {} and {} values at rank {} do not fit {name} {shape:?}",
                a.len(),
                b.len(),
                self.r
            ))),
        }
    }
}

/// Tensor whose bytes are made only while they are written, so that one is copied at a time.
struct Merged<'a> {
    base: TensorView<'a>,
    change: Option<Change>,
    precision: Precision,
}

impl View for Merged<'_> {
    fn dtype(&self) -> Dtype {
        match self.precision {
            Precision::F32 => Dtype::F32,
            Precision::Bf16 => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        self.base.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let base = floats(&self.base);
        let values = match &self.change {
            Some(change) => onto(&base, &change.a, &change.b, change.rank, change.scale),
            None => base,
        };
        let mut bytes = vec![0; self.data_len()];
        match self.precision {
            Precision::F32 => {
                for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(&values) {
                    *bytes = value.to_le_bytes();
                }
            }
            Precision::Bf16 => {
                for (bytes, value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(&values) {
                    *bytes = bf16::from_f32(*value).to_le_bytes();
                }
            }
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        let values: usize = self.base.shape().iter().product();
        match self.precision {
            Precision::F32 => 4 * values,
            Precision::Bf16 => 2 * values,
        }
    }
}

/// Refuses values of a type that is not read.
fn readable(view: &TensorView<'_>) -> Result<()> {
    match view.dtype() {
        Dtype::F32 | Dtype::BF16 | Dtype::F16 => Ok(()),
        other => Err(Error::Weights {
            reason: format!("values of type {other:?}"),
        }),
    }
}

/// Returns the values of a tensor of f32, bf16 or f16 as f32.
fn floats(view: &TensorView<'_>) -> Vec<f32> {
    let bytes = view.data();
    let of_two = |read: fn([u8; 2]) -> f32| {
        let values = bytes.as_chunks().0.iter();
        values.map(|value| read(*value)).collect()
    };
    match view.dtype() {
        Dtype::BF16 => of_two(|value| bf16::from_le_bytes(value).to_f32()),
        Dtype::F16 => of_two(|value| f16::from_le_bytes(value).to_f32()),
        _ => {
            let values = bytes.as_chunks().0.iter();
            values.map(|value| f32::from_le_bytes(*value)).collect()
        }
    }
}

#[cfg(test)]
mod tests;
