//! Optimizer update: a pure function of the policy, a plan and its groups.

use std::{borrow::Cow, collections::BTreeMap, time::Instant};

use candle_core::Device;
use vintage_control::{Algorithm, AlgorithmName, OptimizerSettings, Plan, PolicyVersion, Training};
use vintage_m2po::{Rule, Stats, Tokens, Weighed, group_advantages, weigh};
use vintage_model::{Compute, Decoder, FinishReason, Gradients, Scored};

use crate::{
    AdamW, Error, Result,
    device::{Twin, is_supported},
    intake::ReadyGroup,
    pack::{Batch, Joined, lay_out, rows_of},
};

/// Model and optimizer state, which training changes.
#[derive(Debug)]
pub struct Policy {
    /// Decoder with its parameters, as the last update left them.
    pub decoder: Decoder,
    /// Optimizer moments, unless they are on a device.
    optimizer: AdamW,
    /// Device that computes updates; `None` means the CPU kernels.
    device: Option<Device>,
    /// Copy of the policy on the device, from the first update on.
    twin: Option<Twin>,
}

impl Policy {
    /// Creates a policy whose updates are computed by the CPU kernels or, composed of tensor
    /// operations, on `device`.
    pub fn new(decoder: Decoder, optimizer: AdamW, device: Option<Device>) -> Self {
        Self {
            decoder,
            optimizer,
            device,
            twin: None,
        }
    }

    /// Replaces the decoder and keeps the moments.
    pub fn with(self, decoder: Decoder) -> Result<Self> {
        let optimizer = self.optimizer()?.into_owned();
        Ok(Self::new(decoder, optimizer, self.device))
    }

    /// Returns the moments, copied to the host if they are on a device.
    pub fn optimizer(&self) -> Result<Cow<'_, AdamW>> {
        match &self.twin {
            None => Ok(Cow::Borrowed(&self.optimizer)),
            Some(twin) => Ok(Cow::Owned(twin.optimizer.to_host()?)),
        }
    }

    /// Runs an update on batches that are laid out, where updates are computed.
    pub fn run(&mut self, plan: &Plan, batches: &[Batch], outcome: &mut Outcome) -> Result<()> {
        let compute = compute(&plan.training);
        let Some(device) = self.device.clone() else {
            self.decoder.set_compute(compute);
            let mut host = Host {
                decoder: &mut self.decoder,
                optimizer: &mut self.optimizer,
            };
            return run(&mut host, plan, batches, outcome);
        };
        if !is_supported(&rule(&plan.algorithm)) {
            return Err(Error::Settings(format!(
                "update {}: algorithm {:?} is not there on a device; train on the CPU with \
                 learner.device = \"cpu\", or by another rule",
                plan.version, plan.algorithm.name
            )));
        }
        let twin = self.twin(compute, &device)?;
        run(twin, plan, batches, outcome)?;
        match (&outcome.skipped, &self.twin) {
            (None, Some(twin)) => Ok(twin.decoder.read_into(&mut self.decoder)?),
            _ => Ok(()),
        }
    }

    /// Returns the copy on `device`; it is created anew unless there is one that computes as
    /// `compute` says.
    fn twin(&mut self, compute: Compute, device: &Device) -> Result<&mut Twin> {
        if !matches!(&self.twin, Some(twin) if twin.decoder.compute() == compute) {
            let optimizer = self.optimizer()?.into_owned();
            // Frees the memory of the old copy first.
            self.twin = None;
            let twin = Twin::new(&self.decoder, &optimizer, compute, device)?;
            // The moments are on the device from now on, and not here.
            self.optimizer = AdamW::default();
            return Ok(self.twin.insert(twin));
        }
        self.twin
            .as_mut()
            .ok_or_else(|| Error::Record("a policy without its twin".to_owned()))
    }
}

/// Implementation of an update: the CPU kernels or a device.
pub(crate) trait Engine {
    /// Gradients of every parameter that is trained.
    type Gradients;

    /// Computes the gradients of the loss over `batches`, and records loss and statistics in
    /// `outcome`.
    fn gradients(
        &mut self,
        plan: &Plan,
        batches: &[Batch],
        outcome: &mut Outcome,
    ) -> Result<Self::Gradients>;

    /// Takes one step of the optimizer, and returns the norm of the gradients. A norm that is not
    /// finite must change nothing.
    fn step(&mut self, settings: &OptimizerSettings, gradients: &Self::Gradients) -> Result<f64>;
}

/// Engine that computes with the kernels on this machine's CPU.
struct Host<'a> {
    decoder: &'a mut Decoder,
    optimizer: &'a mut AdamW,
}

/// Statistics and effects of an update, before it has a name and a digest.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Reason for which nothing was changed, if nothing was.
    pub skipped: Option<String>,
    /// Statistics of the rule.
    pub stats: Stats,
    /// Loss of the batch.
    pub loss: f64,
    /// Norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Number of rows in the batch.
    pub rows: u64,
    /// Number of prompt and completion tokens.
    pub all_tokens: u64,
    /// Mean entropy over valid tokens, in nats.
    pub entropy: f64,
    /// Mean reward over rows.
    pub reward: f64,
    /// Number of groups whose rows all have one reward, which give no gradient.
    pub equal_groups: u64,
    /// Number of rows that ended at the limit on their length.
    pub cut_rows: u64,
    /// Number of valid tokens by staleness; tokens of foreign lineages are counted by their lag.
    pub staleness: BTreeMap<u64, u64>,
    /// Number of the tokens in `staleness` that are counted by their lag.
    pub lag_tokens: u64,
    /// Seconds that the rule took: from log-probs to the weight of every token.
    pub weigh_seconds: f64,
}

/// Ratio of proximal to behaviour probability above which a token is rejected (AReaL's M2PO
/// example).
const AREAL_BEHAVIOR_CAP: f64 = 5.0;

/// Runs update `plan.version`. After an error the policy must be loaded again, because the copy on
/// a device may be ahead of the host's.
pub fn update(policy: &mut Policy, plan: &Plan, groups: &[ReadyGroup]) -> Result<Outcome> {
    let rows: Vec<_> = rows_of(groups).collect();
    let rewards: Vec<f32> = rows.iter().map(|(rows, row)| rows.reward(*row)).collect();
    let advantages = advantages(groups, &rewards);
    let batches: Vec<Batch> = plan
        .micro_batches
        .iter()
        .map(|micro| {
            lay_out(micro.rows.iter().filter_map(|&number| {
                let number = number as usize;
                rows.get(number)
                    .map(|&(rows, row)| (rows, row, advantages[number]))
            }))
        })
        .collect();
    let (staleness, lag_tokens) = staleness(plan, groups);
    let mut outcome = Outcome {
        rows: rows.len() as u64,
        reward: mean(rewards.iter().map(|&reward| f64::from(reward))),
        all_tokens: rows
            .iter()
            .map(|(rows, row)| {
                (rows.prompt_tokens(*row).len() + rows.completion_tokens(*row).len()) as u64
            })
            .sum(),
        staleness,
        lag_tokens,
        equal_groups: equal_groups(groups, &rewards),
        cut_rows: rows
            .iter()
            .filter(|(rows, row)| rows.finish_reason(*row) == FinishReason::Length.as_str())
            .count() as u64,
        ..Outcome::default()
    };

    policy.run(plan, &batches, &mut outcome)?;
    Ok(outcome)
}

fn run<E: Engine>(
    engine: &mut E,
    plan: &Plan,
    batches: &[Batch],
    outcome: &mut Outcome,
) -> Result<()> {
    let gradients = engine.gradients(plan, batches, outcome)?;
    if outcome.stats.n_valid == 0 {
        outcome.skipped = Some("the batch has no valid token".to_owned());
        return Ok(());
    }
    let finite = |what, value: f64| {
        if value.is_finite() {
            Ok(value)
        } else {
            Err(Error::NotFinite {
                update: plan.version,
                what,
                value,
            })
        }
    };
    finite("loss", outcome.loss)?;
    let norm = engine.step(&plan.optimizer, &gradients)?;
    outcome.grad_norm = finite("gradient norm", norm)?;
    Ok(())
}

impl Engine for Host<'_> {
    type Gradients = Gradients;

    fn gradients(
        &mut self,
        plan: &Plan,
        batches: &[Batch],
        outcome: &mut Outcome,
    ) -> Result<Gradients> {
        let mut gradients = Gradients::zeros_like(self.decoder.trainable())?;
        // A batch of one micro-batch needs one pass; otherwise the mask needs all log-probs first.
        if let [batch] = batches {
            let (scored, tape) = self.decoder.forward(&batch.packed, &batch.targets)?;
            let weighed = outcome.weigh(plan, batches, std::slice::from_ref(&scored))?;
            self.decoder
                .backward(tape, &weighed.weight, &mut gradients)?;
            return Ok(gradients);
        }
        let scored = batches
            .iter()
            .map(|batch| Ok(self.decoder.score(&batch.packed, &batch.targets)?))
            .collect::<Result<Vec<_>>>()?;
        let weighed = outcome.weigh(plan, batches, &scored)?;
        let mut from = 0;
        for batch in batches {
            let to = from + batch.targets.token.len();
            let (_, tape) = self.decoder.forward(&batch.packed, &batch.targets)?;
            self.decoder
                .backward(tape, &weighed.weight[from..to], &mut gradients)?;
            from = to;
        }
        Ok(gradients)
    }

    fn step(&mut self, settings: &OptimizerSettings, gradients: &Gradients) -> Result<f64> {
        self.optimizer
            .step(settings, self.decoder.trainable_mut(), gradients)
    }
}

/// Converts training settings to the model's precision and recomputation.
pub(crate) fn compute(training: &Training) -> Compute {
    Compute {
        precision: training.compute,
        recompute: training.recompute,
    }
}

impl Outcome {
    fn weigh(&mut self, plan: &Plan, batches: &[Batch], scored: &[Scored]) -> Result<Weighed> {
        let started = Instant::now();
        let weighed = weigh_all(plan, batches, scored)?;
        self.weigh_seconds = started.elapsed().as_secs_f64();
        self.loss = weighed.loss;
        self.stats = weighed.stats;
        let valid = batches.iter().flat_map(|batch| &batch.valid);
        let entropy = scored.iter().flat_map(|scored| &scored.entropy);
        self.entropy = mean(
            valid
                .zip(entropy)
                .filter(|(valid, _)| **valid)
                .map(|(_, entropy)| f64::from(*entropy)),
        );
        Ok(weighed)
    }
}

fn weigh_all(plan: &Plan, batches: &[Batch], scored: &[Scored]) -> Result<Weighed> {
    let new = scored.iter().map(|scored| &scored.logprob[..]);
    let new = new.collect::<Vec<_>>().concat();
    let known = Joined::of(batches);
    // AReaL's proximal policy is the one before the update; with one update per batch it is the
    // current one.
    let prox = (plan.algorithm.name == AlgorithmName::M2poAreal).then_some(&new[..]);
    let tokens = Tokens {
        new: &new,
        behavior: &known.behavior,
        advantage: &known.advantage,
        valid: &known.valid,
        prox,
        clamp: plan.algorithm.log_ratio_clamp,
    };
    weigh(&rule(&plan.algorithm), &tokens).map_err(|source| Error::Weigh {
        update: plan.version,
        source,
    })
}

/// Returns the rule of an algorithm, with its settings.
pub(crate) fn rule(algorithm: &Algorithm) -> Rule {
    let tau = algorithm.m2_threshold;
    let eps = algorithm.clip_eps;
    match algorithm.name {
        AlgorithmName::M2po => Rule::M2poPaper { tau },
        AlgorithmName::M2poAreal => Rule::M2poAreal {
            tau,
            eps,
            behavior_cap: Some(AREAL_BEHAVIOR_CAP),
        },
        AlgorithmName::M2poFork => Rule::M2poFork { tau },
        AlgorithmName::Grpo => Rule::GrpoClip { eps },
        AlgorithmName::None => Rule::None,
    }
}

/// Returns the group-normalised rewards by row number.
fn advantages(groups: &[ReadyGroup], rewards: &[f32]) -> Vec<f32> {
    let mut rest = rewards;
    let mut advantages = Vec::with_capacity(rewards.len());
    for group in groups {
        let (own, others) = rest.split_at(group.planned.rows as usize);
        advantages.extend(group_advantages(own));
        rest = others;
    }
    advantages
}

/// Returns the number of groups whose rows all have one reward.
fn equal_groups(groups: &[ReadyGroup], rewards: &[f32]) -> u64 {
    let mut rest = rewards;
    let mut equal = 0;
    for group in groups {
        let (own, others) = rest.split_at(group.planned.rows as usize);
        equal += u64::from(own.iter().all(|reward| reward.total_cmp(&own[0]).is_eq()));
        rest = others;
    }
    equal
}

/// Returns the number of valid tokens by staleness, each measured within the lineage that sampled
/// it, and how many of them are of lineages whose versions are not counted along with this
/// learner's. Those are counted by their lag. Defined at
/// [`vintage_control::UpdateResult::staleness`].
fn staleness(plan: &Plan, groups: &[ReadyGroup]) -> (BTreeMap<u64, u64>, u64) {
    let mut histogram = BTreeMap::new();
    let mut lag_tokens = 0;
    for group in groups {
        let source = group.planned.source.as_deref();
        let newest = plan.newest_of(source, &group.policy);
        let counted_along = source.is_none()
            && (group.policy == plan.policy.as_str() || plan.is_leaders(&group.policy));
        for (rows, row) in rows_of(std::slice::from_ref(group)) {
            let tokens = rows.completion_tokens(row).len();
            let mut spans = rows.policy_spans(row).peekable();
            let mut version = PolicyVersion::ZERO;
            for place in 0..tokens {
                while let Some(span) = spans.next_if(|span| span.start as usize <= place) {
                    version = span.version;
                }
                if rows.is_trained(row, place) {
                    *histogram.entry(newest.staleness_of(version).0).or_default() += 1;
                    lag_tokens += u64::from(!counted_along);
                }
            }
        }
    }
    (histogram, lag_tokens)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

#[cfg(test)]
mod tests;
