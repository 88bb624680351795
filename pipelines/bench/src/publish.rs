//! Benchmark of what a version costs to publish and to fetch: bytes and seconds of every form in
//! which it may be stored, and of other ways to store the change from the version before.
//!
//! Versions are those of real updates: a random model of the given shape, gradients of M2PO's loss
//! on new random tokens at every update, AdamW.

use std::{hint::black_box, time::Instant};

use rayon::prelude::*;
use serde::Serialize;
use vintage_control::{OptimizerSettings, Plan, Precision, Sha256, Training};
use vintage_delta::{Ends, PIECE, Width, apply, encode};
use vintage_learner::{AdamW, HostEngine, engine::UpdateStats, update::TrainedPolicy};
use vintage_model::{Decoder, DecoderConfig, ParamSet};

use crate::{
    error::{Error, Result, because},
    update::{Shape, batches, plan},
};

/// Contents of a `config.json` with the shape of Qwen2.5-0.5B: 494 M parameters.
pub const HALF_BILLION: &str = r#"{"model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896,
    "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
    "max_position_embeddings": 32768, "tie_word_embeddings": true, "hidden_act": "silu"}"#;

/// Settings of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Settings {
    /// Learning rate.
    pub lr: f64,
    /// Updates before the measured one: an optimizer that has just begun moves every value by the
    /// learning rate.
    pub warmup: usize,
    /// Completions of an update.
    pub rows: usize,
    /// Prompt and completion tokens of a row, half each.
    pub tokens: usize,
}

/// Measurements of one update's version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Published {
    /// Settings of the training.
    pub training: Settings,
    /// Number of values in all parameters.
    pub parameters: usize,
    /// Seconds of the update itself.
    pub update_seconds: f64,
    /// Versions in f32 and in bf16.
    pub precisions: Vec<OfPrecision>,
}

/// Forms of a version whose values have one precision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfPrecision {
    /// Type of the published values.
    pub precision: Precision,
    /// Share of the values that the update changed.
    pub changed: f64,
    /// Ways to store the version, the whole file first.
    pub forms: Vec<Form>,
}

/// One way to store a version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Form {
    /// Name of the form.
    pub name: &'static str,
    /// Bytes of a version.
    pub bytes: u64,
    /// Seconds from the weights at hand to the bytes: of the whole file its serialisation.
    pub encode_seconds: f64,
    /// Seconds from the bytes, and those of the version before, to the whole file; absent where a
    /// rival is only encoded.
    pub decode_seconds: Option<f64>,
}

/// Trains a random model of this `config`, and measures the version of the last update in every
/// form. `tell` hears what is done next.
///
/// # Errors
/// A form that does not give the version's bytes, or an update that fails.
pub fn measure(
    config: &DecoderConfig,
    training: Settings,
    mut tell: impl FnMut(&str),
) -> Result<Published> {
    let decoder = Decoder::new(config.clone(), ParamSet::init(config, 1)?)?;
    let parameters = decoder.params().parameter_count();
    let engine = Box::new(HostEngine::new(AdamW::default()));
    let mut policy = TrainedPolicy::new(decoder, engine);
    for update in 0..training.warmup {
        tell(&format!("update {} of {}", update + 1, training.warmup + 1));
        run(&mut policy, config, training, update)?;
    }
    let precisions = [Precision::F32, Precision::Bf16];
    let serialise = |policy: &TrainedPolicy, precision| {
        let started = Instant::now();
        let bytes = policy.decoder.to_safetensors_of(precision)?;
        Ok::<_, Error>((bytes, started.elapsed().as_secs_f64()))
    };
    let before = precisions.map(|precision| serialise(&policy, precision));
    tell("the measured update");
    let started = Instant::now();
    run(&mut policy, config, training, training.warmup)?;
    let update_seconds = started.elapsed().as_secs_f64();
    let mut measured = Vec::new();
    for (precision, before) in precisions.into_iter().zip(before) {
        let (old, _) = before?;
        let (new, seconds) = serialise(&policy, precision)?;
        measured.push(of_precision(precision, old, &new, seconds, &mut tell)?);
    }
    Ok(Published {
        training,
        parameters,
        update_seconds,
        precisions: measured,
    })
}

fn run(
    policy: &mut TrainedPolicy,
    config: &DecoderConfig,
    training: Settings,
    update: usize,
) -> Result<()> {
    let shape = Shape {
        rows: training.rows,
        group: 1,
        prompt_tokens: training.tokens / 2,
        completion_tokens: training.tokens - training.tokens / 2,
        micro_batch_tokens: usize::MAX,
        updates: 1,
    };
    // New tokens every time: the same ones would move every value the same way.
    let batches = batches(config, shape, 2 + update as u64);
    let of_rate = plan(update as u64, &Training::default(), policy.fingerprint())?;
    let of_rate = Plan {
        optimizer: OptimizerSettings {
            lr: training.lr,
            ..of_rate.optimizer.clone()
        },
        ..of_rate
    };
    policy.run(&of_rate, &batches, &mut UpdateStats::default())?;
    Ok(())
}

fn of_precision(
    precision: Precision,
    old: Vec<u8>,
    new: &[u8],
    serialise_seconds: f64,
    tell: &mut impl FnMut(&str),
) -> Result<OfPrecision> {
    let width = match precision {
        Precision::F32 => Width::Four,
        Precision::Bf16 => Width::Two,
    };
    let name = format!("{precision:?}").to_lowercase();
    let mut forms = vec![Form {
        name: "whole",
        bytes: new.len() as u64,
        encode_seconds: serialise_seconds,
        decode_seconds: Some(0.0),
    }];
    let rivals: [(&str, Rival); 4] = [
        ("whole, zstd", whole_zstd),
        ("xor, zstd", xor_zstd),
        ("xor planes, zstd", xor_planes),
        ("bitmap and planes, zstd", bitmap_planes),
    ];
    let (old_values, new_values) = (values_of(&old)?, values_of(new)?);
    for (rival, encode) in rivals {
        tell(&format!("{name}: {rival}"));
        let started = Instant::now();
        let step = PIECE * width.bytes();
        let pairs = old_values.par_chunks(step).zip(new_values.par_chunks(step));
        let lengths = pairs.map(|(old, new)| Ok(encode(width, old, new)?.len() as u64));
        let bytes = lengths.sum::<Result<u64>>()?;
        forms.push(Form {
            name: rival,
            bytes,
            encode_seconds: started.elapsed().as_secs_f64(),
            decode_seconds: None,
        });
    }
    let changed = changed(width, old_values, new_values);
    tell(&format!("{name}: delta"));
    let ends = Ends {
        base_sha256: Sha256([0; 32]),
        weights_sha256: Sha256([1; 32]),
    };
    let started = Instant::now();
    let delta = encode(&old, new, ends).map_err(because("encoding a delta"))?;
    let encode_seconds = started.elapsed().as_secs_f64();
    let delta = delta.ok_or_else(|| Error::Failed("no delta of one model".to_owned()))?;
    let mut bytes = old;
    let started = Instant::now();
    apply(&mut bytes, &delta, ends).map_err(because("applying a delta"))?;
    let decode_seconds = started.elapsed().as_secs_f64();
    if bytes != new {
        return Err(Error::Failed("a delta gives other bytes".to_owned()));
    }
    forms.push(Form {
        name: "delta",
        bytes: delta.len() as u64,
        encode_seconds,
        decode_seconds: Some(decode_seconds),
    });
    Ok(OfPrecision {
        precision,
        changed,
        forms,
    })
}

/// Returns the values of a safetensors file, without its header.
fn values_of(file: &[u8]) -> Result<&[u8]> {
    let length = file
        .first_chunk::<8>()
        .map(|bytes| u64::from_le_bytes(*bytes));
    let values = length.and_then(|length| file.get(8 + length as usize..));
    values.ok_or_else(|| Error::Failed("no safetensors file".to_owned()))
}

fn changed(width: Width, old: &[u8], new: &[u8]) -> f64 {
    let width = width.bytes();
    let pairs = old.par_chunks(width).zip(new.par_chunks(width));
    let changed = pairs.filter(|(old, new)| old != new).count();
    changed as f64 / (new.len() / width) as f64
}

/// Another way to encode a stretch of values: their width, before and after.
type Rival = fn(Width, &[u8], &[u8]) -> Result<Vec<u8>>;

fn zstd(bytes: &[u8]) -> Result<Vec<u8>> {
    zstd::bulk::compress(black_box(bytes), 1).map_err(because("compressing"))
}

fn whole_zstd(_: Width, _: &[u8], new: &[u8]) -> Result<Vec<u8>> {
    zstd(new)
}

fn xor(old: &[u8], new: &[u8]) -> Vec<u8> {
    old.iter().zip(new).map(|(old, new)| old ^ new).collect()
}

fn xor_zstd(_: Width, old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
    zstd(&xor(old, new))
}

fn xor_planes(width: Width, old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
    planes(width, &xor(old, new))
}

fn planes(width: Width, values: &[u8]) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for plane in 0..width.bytes() {
        let bytes = values.iter().skip(plane).step_by(width.bytes());
        all.extend(zstd(&bytes.copied().collect::<Vec<_>>())?);
    }
    Ok(all)
}

/// One bit a value for whether it changed, and the changed ones' differences by significance.
fn bitmap_planes(width: Width, old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
    let width_bytes = width.bytes();
    let mut bits = vec![0_u8; (new.len() / width_bytes).div_ceil(8)];
    let mut changes = Vec::new();
    let pairs = old.chunks(width_bytes).zip(new.chunks(width_bytes));
    for (at, (old, new)) in pairs.enumerate() {
        if old != new {
            bits[at / 8] |= 1 << (at % 8);
            changes.extend(xor(old, new));
        }
    }
    let mut all = zstd(&bits)?;
    all.extend(planes(width, &changes)?);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_weights_change_less_and_their_delta_is_smallest() {
        let training = Settings {
            lr: 1e-6,
            warmup: 2,
            rows: 4,
            tokens: 8,
        };
        let mut told = Vec::new();
        let tell = |what: &str| told.push(what.to_owned());
        let config = DecoderConfig::tiny(16);
        let published = measure(&config, training, tell).unwrap();
        let [f32, bf16] = &published.precisions[..] else {
            panic!("{published:?}")
        };
        assert!(bf16.changed < 0.2 && f32.changed > 0.5, "{published:?}");
        let bytes = |of: &OfPrecision, name| {
            let form = of.forms.iter().find(|form| form.name == name);
            form.unwrap().bytes
        };
        assert!(bytes(f32, "whole") > bytes(bf16, "whole"));
        assert!(bytes(f32, "delta") < bytes(f32, "whole"));
        assert!(bytes(bf16, "delta") < bytes(bf16, "whole") / 4);
        assert!(told.contains(&"update 1 of 3".to_owned()), "{told:?}");
    }
}
