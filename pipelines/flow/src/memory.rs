//! Prediction of a run's memory, compared with the machine's before the run starts.

use serde::Serialize;
use vintage_learner::{Memory, MemoryUse};
use vintage_model::{BatchShape, DecoderConfig, GenerationShape};
use vintage_settings::RunConfig;

use crate::error::{Error, Result};

/// Lengths of a set of prompts, in tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lengths {
    /// Mean length, rounded up.
    pub(crate) mean: usize,
    /// Maximum length.
    pub(crate) longest: usize,
}

impl Lengths {
    pub(crate) fn of(lengths: impl IntoIterator<Item = usize>) -> Self {
        let (mut sum, mut count, mut longest) = (0_usize, 0_usize, 0);
        for length in lengths {
            sum += length;
            count += 1;
            longest = longest.max(length);
        }
        let mean = sum.div_ceil(count.max(1));
        Self { mean, longest }
    }
}

/// Predicted memory of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prediction {
    /// Memory of a learner in a process of its own, above that of the idle process.
    pub learner: Memory,
    /// Memory of `vintage run` besides its learner's updates: two engines with their own weights, one
    /// that samples and one that evaluates, and checks of log-probs, which need a version's.
    pub generation: Vec<MemoryUse>,
    /// Sum of learner and generation in bytes, as if both peaked at the same moment.
    pub run_bytes: u64,
    /// Memory in bytes of this machine, or of the control group of this process if that is less.
    pub machine_bytes: Option<u64>,
}

impl Prediction {
    /// Predicts for these settings and this model. Without lengths of the training prompts, every
    /// micro-batch is assumed to be full.
    pub(crate) fn new(
        config: &RunConfig,
        model: &DecoderConfig,
        train: Option<Lengths>,
        heldout: Option<Lengths>,
    ) -> Self {
        let batch = batch(config, model, train);
        let (training, place) = (config.learner.training(), config.learner.device);
        let publish = &config.learner.publish;
        let penalized = config.learner.kl.beta > 0.0;
        let learner = Memory::predict(model, &training, batch, place, publish, penalized);
        let rollout = &config.rollout;
        let generation = |prompts: usize, rows: usize, lengths: Option<Lengths>| {
            let longest = lengths.unwrap_or_default().longest;
            let completion_tokens = rollout.max_tokens;
            // Every episode has a prompt of its own from its second turn on.
            let (prompts, prompt_tokens) = if rollout.environment.is_set() {
                let before = episode(config, model).saturating_sub(completion_tokens);
                (rows, before.max(longest))
            } else {
                (prompts, longest)
            };
            let shape = GenerationShape {
                prompts,
                rows,
                prompt_tokens,
                completion_tokens,
            };
            shape.bytes(model) as u64
        };
        let groups = rollout.concurrent_groups;
        let rows = groups * usize::from(rollout.group_size);
        let sampling = generation(groups, rows, train);
        let asked = config.evaluation.prompts;
        let evaluation = heldout.map_or(0, |lengths| generation(asked, asked, Some(lengths)));
        let weights = learner.items.first().map_or(0, |weights| weights.bytes);
        // At a change of versions an engine holds three copies: the old weights, the file of the
        // new ones, and the weights built from it. Of a chain of deltas it keeps the file before, of
        // adapters what they were trained on.
        let adapts = publish.adapters && config.learner.lora.rank.is_some();
        let copies = 3 + u64::from(publish.full_every > 1 || adapts);
        let engines = copies * weights * (1 + u64::from(heldout.is_some()));
        // A check of log-probs opens a version: its file, and the weights built from it.
        let is_checked = config.learner.mismatch.every > 0;
        let checks = 2 * weights * u64::from(is_checked);
        let amount = |name, bytes| MemoryUse { name, bytes };
        let generation = vec![
            amount("engines", engines),
            amount("sampling", sampling),
            amount("evaluation", evaluation),
            amount("checks", checks),
        ];
        let beside: u64 = generation.iter().map(|amount| amount.bytes).sum();
        Self {
            run_bytes: learner.peak_bytes + beside,
            learner,
            generation,
            machine_bytes: machine(),
        }
    }

    /// Refuses settings whose learner alone does not fit the machine.
    pub(crate) fn refuse_too_large(&self) -> Result<()> {
        match self.machine_bytes {
            Some(machine) if self.learner.peak_bytes > machine => Err(Error::TooLarge {
                needed: self.learner.peak_bytes,
                machine,
                advice: ADVICE,
            }),
            _ => Ok(()),
        }
    }
}

/// Advice on how to make a learner smaller.
pub(crate) const ADVICE: &str = "set learner.recompute = true, lower learner.micro_batch_tokens, or \
                                 train adapters with learner.lora.rank = 16; `vintage doctor --model \
                                 DIR` itemises it";

/// Shape of the largest micro-batch.
fn batch(config: &RunConfig, model: &DecoderConfig, lengths: Option<Lengths>) -> BatchShape {
    let budget = config.learner.micro_batch_tokens;
    let environment = &config.rollout.environment;
    // How long conversations become is up to their environment.
    let lengths = lengths.filter(|_| !environment.is_set());
    let Some(Lengths { mean, longest }) = lengths else {
        return BatchShape {
            tokens: budget,
            targets: budget,
            longest: episode(config, model),
        };
    };
    let completion = config.rollout.max_tokens;
    let row = mean + completion;
    let rows = config.learner.prompts_per_update * usize::from(config.rollout.group_size);
    let rows = rows.min((budget / row).max(1));
    // The last token of a row is only a target, never an input.
    BatchShape {
        tokens: (rows * (row - 1)).max(longest + completion - 1),
        targets: rows * completion,
        longest: longest + completion - 1,
    }
}

/// Longest row that can be trained or sampled, in tokens.
fn episode(config: &RunConfig, model: &DecoderConfig) -> usize {
    let environment = &config.rollout.environment;
    let most = environment.episode_tokens.filter(|_| environment.is_set());
    most.unwrap_or(config.learner.micro_batch_tokens)
        .min(model.max_position_embeddings)
}

/// Returns the machine's memory in bytes, or the limit of this process's control group if that is
/// lower.
pub(crate) fn machine() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let total = read("/proc/meminfo").and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib << 10)
    });
    // Files of cgroup versions 2 and 1; without a limit they hold "max" or a huge number.
    let limits = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let limits = limits
        .into_iter()
        .filter_map(|path| read(path)?.trim().parse().ok());
    limits.chain(total).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learner_larger_than_the_machine_is_refused_with_both_numbers() {
        let config = RunConfig::default();
        let mut prediction = Prediction::new(&config, &DecoderConfig::tiny(13), None, None);
        assert!(
            prediction
                .machine_bytes
                .is_some_and(|bytes| bytes > 1 << 28)
        );
        prediction
            .refuse_too_large()
            .expect("the tiny decoder fits");
        prediction.machine_bytes = Some(1 << 20);
        let error = prediction
            .refuse_too_large()
            .expect_err("1 MiB")
            .to_string();
        assert!(error.contains("has 1.0 MiB"), "{error}");
        assert!(error.contains("learner.recompute"), "{error}");
    }

    #[test]
    fn a_micro_batch_is_as_large_as_budget_and_update_allow() {
        let mut config = RunConfig::default();
        config.learner.micro_batch_tokens = 100;
        config.rollout.max_tokens = 5;
        let model = DecoderConfig::tiny(13);
        let lengths = Lengths::of([7, 8, 30]);
        assert_eq!((lengths.mean, lengths.longest), (15, 30));
        let shape = batch(&config, &model, Some(lengths));
        assert_eq!((shape.tokens, shape.targets, shape.longest), (95, 25, 34));
        config.learner.prompts_per_update = 1;
        config.rollout.group_size = 2;
        let shape = batch(&config, &model, Some(lengths));
        assert_eq!((shape.tokens, shape.targets, shape.longest), (38, 10, 34));
    }
}
