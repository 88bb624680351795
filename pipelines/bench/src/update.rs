//! Benchmark of updates: their speed, and the fraction of their time that the rule takes.

use std::{collections::BTreeMap, path::Path};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use vintage_control::{
    Algorithm, AlgorithmName, CONTROL_FORMAT, Fingerprint, M2Scope, OptimizerSettings, Plan,
    PolicyVersion, Precision, Sha256, Training,
};
use vintage_learner::{
    AdamW, Devices, PackedBatch, PackedRow, engine::UpdateStats, update::TrainedPolicy,
};
use vintage_model::{Decoder, DecoderConfig, ParamSet};
use vintage_settings::Device;

use crate::{
    error::{Error, Result, because},
    rival::{Ratio, Rival, Rounds, Took, Versions},
};

/// Script that runs updates in PyTorch on request.
const SCRIPT: &str = include_str!("update/rival.py");

/// Shape of the random batch that is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Completions of an update.
    pub rows: usize,
    /// Completions that follow one prompt, which is in a micro-batch once.
    pub group: usize,
    /// Tokens per prompt.
    pub prompt_tokens: usize,
    /// Tokens per completion.
    pub completion_tokens: usize,
    /// Maximum tokens per micro-batch; a longer row is a micro-batch of its own.
    pub micro_batch_tokens: usize,
    /// Number of timed updates; one untimed update runs before them.
    pub updates: usize,
}

/// Measurements of updates at one precision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Updates {
    /// Precision to which the factors of matrix products are rounded.
    pub compute: Precision,
    /// True if layers were recomputed in the backward pass.
    pub recompute: bool,
    /// Number of values in all parameters.
    pub parameters: usize,
    /// Prompt and completion tokens per update.
    pub tokens: usize,
    /// Micro-batches per update.
    pub micro_batches: usize,
    /// Seconds of an update: forward pass, rule, backward pass, optimizer step and, on a GPU, the
    /// copy of the weights to the host.
    #[serde(flatten)]
    pub rounds: Rounds,
    /// Tokens per second of the median update.
    pub tokens_per_second: f64,
    /// Fraction of the update time that the rule takes: from log-probs to the weight of every
    /// token.
    pub rule_share: f64,
    /// Same updates in PyTorch, in turns with these, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pytorch: Option<Beside>,
    /// Peak memory use of the GPU, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
    /// Loss of the last update.
    pub loss: f64,
}

/// Updates in PyTorch: transformers' model in float32, or with autocast to bf16, its own attention,
/// AdamW in one kernel. Its weights stay where they are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Beside {
    /// Versions of the programs.
    #[serde(flatten)]
    pub versions: Versions,
    /// Compute threads of both programs.
    pub threads: usize,
    /// Seconds of an update.
    #[serde(flatten)]
    pub rounds: Rounds,
    /// Seconds of PyTorch divided by this program's.
    #[serde(flatten)]
    pub ratio: Ratio,
    /// Peak memory use of the GPU, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
}

/// Contents of a `config.json` for a model that two cores update in about one second.
pub const SMALL: &str = r#"{"model_type": "llama", "vocab_size": 512, "hidden_size": 256,
    "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "max_position_embeddings": 4096, "tie_word_embeddings": false, "hidden_act": "silu"}"#;

/// Times updates in float32, then in bf16, in turns with those of PyTorch if there is a `python` that
/// has it; on a CPU, where bf16 only rounds, those in float32 alone.
///
/// # Errors
/// As [`time_updates`].
pub fn measure(
    config: &DecoderConfig,
    device: Device,
    shape: Shape,
    recompute: bool,
    devices: &dyn Devices,
    python: Option<&Path>,
) -> Result<Vec<Updates>> {
    let training = |compute| Training {
        compute,
        recompute,
        ..Training::default()
    };
    let exact = training(Precision::F32);
    let updates = vec![
        time_updates(config, device, shape, &exact, devices, python)?,
        time_updates(
            config,
            device,
            shape,
            &training(Precision::Bf16),
            devices,
            python.filter(|_| device != Device::Cpu),
        )?,
    ];
    Ok(updates)
}

/// Request for an update.
#[derive(Serialize)]
struct Asked {
    rows: usize,
    prompt: usize,
    completion: usize,
    micro_batch_tokens: usize,
    recompute: bool,
    bf16: bool,
}

/// Starts PyTorch on `device` with a random model of this shape, on as many threads as compute here.
fn start(python: &Path, config: &DecoderConfig, device: Device) -> Result<Rival> {
    let folder = tempfile::tempdir().map_err(because("cannot make a folder"))?;
    std::fs::write(folder.path().join("config.json"), config.to_json())
        .map_err(because("cannot write the model's config.json"))?;
    let threads = rayon::current_num_threads();
    let name = device.to_string();
    Rival::start(python, SCRIPT, folder.path(), threads, &[name])
}

/// Times updates of a random model with this `config` on `device`, one of the program's `devices`,
/// in turns with those of PyTorch if there is a `python` that has it.
///
/// # Errors
/// A device that cannot be opened, or a batch that does not fit in its memory; a Python without
/// PyTorch.
pub fn time_updates(
    config: &DecoderConfig,
    device: Device,
    shape: Shape,
    training: &Training,
    devices: &dyn Devices,
    python: Option<&Path>,
) -> Result<Updates> {
    let mut rival = match python {
        Some(python) => Some(start(python, config, device)?),
        None => None,
    };
    let asked = Asked {
        rows: shape.rows,
        prompt: shape.prompt_tokens,
        completion: shape.completion_tokens,
        micro_batch_tokens: shape.micro_batch_tokens,
        recompute: training.recompute,
        bf16: training.compute == Precision::Bf16,
    };
    let engine = devices.open(device, AdamW::default())?;
    devices.forget_peak(device);
    let decoder = Decoder::new(config.clone(), ParamSet::init(config, 1)?)?;
    let parameters = decoder.params().parameter_count();
    let batches = batches(config, shape, 2);
    let mut policy = TrainedPolicy::new(decoder, engine);
    let (mut seconds, mut theirs, mut rule) = (Vec::new(), Vec::new(), 0.0);
    let mut loss = 0.0;
    for update in 0..=shape.updates {
        let plan = plan(update as u64, training, policy.fingerprint())?;
        let mut outcome = UpdateStats::default();
        let (ran, took) = Took::of(|| policy.run(&plan, &batches, &mut outcome))?;
        ran?;
        let other = rival.as_mut().map(|rival| rival.time(&asked)).transpose()?;
        if update > 0 {
            seconds.push(took);
            theirs.extend(other);
            rule += outcome.weigh_seconds;
        }
        loss = outcome.loss;
    }
    let total: f64 = seconds.iter().map(|took| took.seconds).sum();
    if seconds.is_empty() {
        return Err(Error::Failed("no update to time; ask for one".to_owned()));
    }
    let rounds = Rounds::of(&seconds);
    let pytorch = rival.map(|rival| Beside {
        versions: rival.versions(),
        threads: rayon::current_num_threads(),
        rounds: Rounds::of(&theirs),
        ratio: Ratio::of(&seconds, &theirs),
        peak_bytes: theirs.iter().filter_map(|took| took.peak_bytes).max(),
    });
    let tokens = shape.rows * (shape.prompt_tokens + shape.completion_tokens);
    Ok(Updates {
        compute: training.compute,
        recompute: training.recompute,
        parameters,
        tokens,
        micro_batches: batches.len(),
        tokens_per_second: tokens as f64 / rounds.seconds,
        rounds,
        rule_share: rule / total,
        pytorch,
        peak_bytes: devices.peak_bytes(device),
        loss,
    })
}

/// Generates micro-batches of random tokens, with log-probs near those of a uniform policy and
/// advantages of both signs.
pub(crate) fn batches(config: &DecoderConfig, shape: Shape, seed: u64) -> Vec<PackedBatch> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let row = shape.prompt_tokens + shape.completion_tokens;
    let rows_at_once = (shape.micro_batch_tokens / row.max(1)).max(1);
    let uniform = -(config.vocab_size as f32).ln();
    let mut batches = Vec::new();
    let mut prompt = Vec::new();
    for first in (0..shape.rows).step_by(rows_at_once) {
        let mut batch = PackedBatch::default();
        let mut shared = None;
        for number in first..(first + rows_at_once).min(shape.rows) {
            let mut draw = |len| -> Vec<u32> {
                let vocab = config.vocab_size as u32;
                (0..len).map(|_| rng.random_range(0..vocab)).collect()
            };
            if number % shape.group == 0 {
                prompt = draw(shape.prompt_tokens);
                shared = None;
            }
            // A micro-batch has every prompt once, as a learner lays it out.
            if shape.group > 1 && shared.is_none() {
                shared = Some(batch.packed.push(prompt.iter().copied(), None));
            }
            let completion = draw(shape.completion_tokens);
            let positions = match shared {
                None => (batch.packed).push_row(prompt.iter().copied(), completion.iter().copied()),
                Some(shared) => (batch.packed).push_completion(shared, completion.iter().copied()),
            };
            batch.targets.position.extend(positions);
            batch.rows.push(PackedRow {
                group: (number / shape.group) as u32,
                sample: (number % shape.group) as u16,
                reward: 0.0,
                targets: completion.len(),
                spans: Vec::new(),
            });
            for next in completion {
                batch.targets.token.push(next);
                batch.targets.temperature.push(1.0);
                batch.valid.push(true);
                batch
                    .advantage
                    .push(if number % 2 == 0 { 1.0 } else { -1.0 });
                let gap = 0.4 * (rng.random::<f32>() - 0.5);
                batch.behavior.push((uniform + gap).min(0.0));
            }
        }
        batches.push(batch);
    }
    batches
}

pub(crate) fn plan(version: u64, training: &Training, fingerprint: &Fingerprint) -> Result<Plan> {
    let name = |name: &str| {
        name.parse()
            .map_err(|error| Error::Failed(format!("{error}")))
    };
    Ok(Plan {
        format: CONTROL_FORMAT.to_owned(),
        learner: name("bench")?,
        writer: "bench".to_owned(),
        policy: name("bench")?,
        version: PolicyVersion(version),
        weights_sha256: Sha256([0; 32]),
        seed: 0,
        groups: Vec::new(),
        micro_batches: Vec::new(),
        rejections: Vec::new(),
        algorithm: Algorithm {
            name: AlgorithmName::M2po,
            m2_threshold: 0.04,
            clip_eps: 0.2,
            log_ratio_clamp: 20.0,
            m2_scope: M2Scope::Batch,
            loss: BTreeMap::new(),
        },
        optimizer: OptimizerSettings {
            lr: 1e-6,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            decay_vectors: true,
            grad_clip: 1.0,
        },
        training: training.clone(),
        fingerprint: fingerprint.clone(),
        follows: None,
        known: Vec::new(),
        reused: Vec::new(),
        reuse: vintage_control::Reuse::default(),
    })
}

#[cfg(test)]
mod tests {
    use vintage_learner_gpu::WithGpus;

    use super::*;

    /// Runs the benchmark with the tiny decoder, by the CPU kernels and by the tensor operations of
    /// a GPU.
    #[test]
    fn updates_are_timed_at_both_precisions() {
        let shape = Shape {
            rows: 6,
            group: 4,
            prompt_tokens: 3,
            completion_tokens: 5,
            micro_batch_tokens: 20,
            updates: 2,
        };
        for compute in [Precision::F32, Precision::Bf16] {
            let training = Training {
                compute,
                ..Training::default()
            };
            let config = DecoderConfig::tiny(16);
            let of =
                |device| time_updates(&config, device, shape, &training, &WithGpus, None).unwrap();
            let (kernels, emulated) = (of(Device::Cpu), of(Device::Emulated));
            assert_eq!((kernels.tokens, kernels.micro_batches), (48, 3));
            assert!((kernels.loss - emulated.loss).abs() < 1e-3 * kernels.loss.abs());
            for updates in [kernels, emulated] {
                assert!(updates.tokens_per_second > 0.0);
                assert!(updates.rule_share > 0.0 && updates.rule_share < 1.0);
            }
        }
    }
}
