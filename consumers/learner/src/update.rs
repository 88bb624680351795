//! Optimizer update: a pure function of the policy, a plan and its groups.

use std::{borrow::Cow, collections::BTreeMap};

use vintage_control::{Fingerprint, Plan, Precision};
use vintage_model::{Decoder, FinishReason};
use vintage_store::Weights;
use vintage_trajectory::Rows;

use crate::{
    adamw::AdamW,
    anchors::Anchors,
    engine::{UpdateEngine, UpdateStats},
    error::Result,
    host::mean,
    intake::ReadyGroup,
    pack::{PackedBatch, lay_out, placed, rows_of, staleness_of},
    rule::baseline,
};

/// Model and optimizer state, which training changes.
#[derive(Debug)]
pub struct TrainedPolicy {
    /// Decoder with its parameters, as the last update left them.
    pub decoder: Decoder,
    /// Engine that computes updates and holds the moments.
    engine: Box<dyn UpdateEngine>,
    /// Earlier versions from which the plans' penalty is measured.
    pub(crate) anchors: Anchors,
}

impl TrainedPolicy {
    /// Creates a policy whose updates `engine` computes.
    pub fn new(decoder: Decoder, engine: Box<dyn UpdateEngine>) -> Self {
        Self {
            decoder,
            engine,
            anchors: Anchors::default(),
        }
    }

    /// Replaces the decoder and keeps the moments.
    pub fn with(mut self, decoder: Decoder) -> Result<Self> {
        self.engine.forget_parameters()?;
        Ok(Self { decoder, ..self })
    }

    /// Loads the versions that the plan's penalty names, from `weights` unless this policy passed
    /// them; without a penalty, drops those of the plan before. `published` are the bytes of the
    /// current version, if they are at hand, and `precision` is the one that they have.
    pub(crate) async fn anchor(
        &mut self,
        weights: &Weights,
        plan: &Plan,
        published: Option<&[u8]>,
        precision: Precision,
    ) -> Result<()> {
        let Some(penalty) = &plan.reuse.kl else {
            self.anchors = Anchors::default();
            return Ok(());
        };
        let (anchors, config) = (&mut self.anchors, self.decoder.config());
        if !anchors.has(plan.version) {
            if let Some(bytes) = published {
                anchors.pass(plan.version, config, bytes)?;
            } else {
                let bytes = self.decoder.to_safetensors_of(precision)?;
                anchors.pass(plan.version, config, &bytes)?;
            }
        }
        anchors
            .load(weights, config, &plan.training, penalty, plan.version)
            .await
    }

    /// Returns the moments, copied to the host if they are on a device.
    pub fn optimizer(&self) -> Result<Cow<'_, AdamW>> {
        self.engine.optimizer()
    }

    /// Returns the fingerprint of everything besides the plan that bits depend on.
    pub fn fingerprint(&self) -> &Fingerprint {
        self.engine.fingerprint()
    }

    /// Runs an update on batches that are laid out.
    pub fn run(
        &mut self,
        plan: &Plan,
        batches: &[PackedBatch],
        outcome: &mut UpdateStats,
    ) -> Result<()> {
        self.engine
            .update(&mut self.decoder, plan, batches, outcome)
    }
}

/// Runs the update of `plan`. After an error the policy must be loaded again, because the copy on
/// a device may be ahead of the host's.
pub fn update(
    policy: &mut TrainedPolicy,
    plan: &Plan,
    groups: &[ReadyGroup],
) -> Result<UpdateStats> {
    let all: Vec<_> = placed(groups).collect();
    let rows: Vec<_> = rows_of(groups).collect();
    let rewards: Vec<f32> = rows.iter().map(|(rows, row)| rows.reward(*row)).collect();
    let advantages = advantages(plan, groups, &rewards);
    let shares_prompts = policy.engine.shares_prompts();
    let mut batches: Vec<PackedBatch> = plan
        .micro_batches
        .iter()
        .map(|micro| {
            let rows = micro.rows.iter().filter_map(|&number| {
                let number = number as usize;
                all.get(number).map(|&placed| (placed, advantages[number]))
            });
            lay_out(plan, groups, &rows.collect::<Vec<_>>(), shares_prompts)
        })
        .collect();
    if let Some(penalty) = &plan.reuse.kl {
        policy.anchors.score(penalty, &mut batches)?;
    }
    let (staleness, lag_tokens) = staleness(plan, groups);
    let mut outcome = UpdateStats {
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
        ..UpdateStats::default()
    };

    policy.run(plan, &batches, &mut outcome)?;
    Ok(outcome)
}

/// Returns the advantages by row number, from the rewards and the algorithm's baseline.
fn advantages(plan: &Plan, groups: &[ReadyGroup], rewards: &[f32]) -> Vec<f32> {
    let baseline = baseline(&plan.algorithm);
    let mut rest = rewards;
    let mut advantages = Vec::with_capacity(rewards.len());
    for group in groups {
        let (own, following) = rest.split_at(group.planned.rows as usize);
        let lengths: Vec<u32> = rows_of(std::slice::from_ref(group))
            .map(|(rows, row)| trained_tokens(rows, row))
            .collect();
        advantages.extend(baseline.advantages(own, &lengths));
        rest = following;
    }
    advantages
}

/// Returns the number of a row's completion tokens that are trained on.
pub fn trained_tokens(rows: &Rows, row: usize) -> u32 {
    let all = 0..rows.completion_tokens(row).len();
    all.filter(|&place| rows.is_trained(row, place)).count() as u32
}

/// Returns the number of groups whose rows all have one reward.
fn equal_groups(groups: &[ReadyGroup], rewards: &[f32]) -> u64 {
    let mut rest = rewards;
    let mut equal = 0;
    for group in groups {
        let (own, following) = rest.split_at(group.planned.rows as usize);
        equal += u64::from(own.iter().all(|reward| reward.total_cmp(&own[0]).is_eq()));
        rest = following;
    }
    equal
}

/// Returns the number of valid tokens by staleness, each measured within the policy that sampled
/// it, and how many of them are of policies whose versions are not counted along with this
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
            for (place, staleness) in staleness_of(rows, row, newest).enumerate() {
                if rows.is_trained(row, place) {
                    *histogram.entry(staleness).or_default() += 1;
                    lag_tokens += u64::from(!counted_along);
                }
            }
        }
    }
    (histogram, lag_tokens)
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
