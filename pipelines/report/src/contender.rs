//! Learners of one run, each with what it came to.

use std::collections::BTreeSet;

use serde::Serialize;
use vintage_control::{EvaluationResult, Name, Plan, Sha256, UpdateNumber, UpdateResult};
use vintage_human::Measured;
use vintage_store::{Records, Store};

use crate::{error::Result, held_out::HeldOut, numbered::numbered};

/// Number of latest updates over which the table's means are taken.
pub(crate) const RECENT: usize = 20;

/// Learner of a run, with its settings and results so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contender {
    /// Name of the learner.
    pub learner: Name,
    /// Policy that the learner trains.
    pub policy: Name,
    /// Name of the algorithm, from the first plan.
    pub algorithm: String,
    /// Learner whose plans are followed; `None` if the learner plans itself.
    pub follows: Option<Name>,
    /// Position at which the learner began to read, as in `learner.start`; `None` if none is
    /// recorded.
    pub start: Option<String>,
    /// Number of updates with a result.
    pub updates: u64,
    /// Number of groups trained.
    pub groups: u64,
    /// Mean reward over the last 20 updates.
    pub reward: f64,
    /// Mean share of tokens without a gradient, over the last 20 updates.
    pub clip_fraction: f64,
    /// Mean divergence from the policy that sampled, in nats, over the last 20 updates.
    pub kl: f64,
    /// Mean staleness of tokens in updates, or their lag in versions, over the last 20 updates.
    pub staleness: f64,
    /// First and last evaluation of the learner's policy; `None` if there was none.
    pub held_out: Option<HeldOut>,
    /// Digest of the weights after the last update; `None` before the first.
    pub weights_sha256: Option<Sha256>,
    #[serde(skip)]
    pub(crate) results: Vec<UpdateResult>,
    #[serde(skip)]
    pub(crate) evaluations: Vec<EvaluationResult>,
}

/// Reads the learners that have plans, `lead` first. Returns none if there are fewer than two.
/// `measured` is what their evaluations measure.
pub(crate) async fn contenders(
    store: &Store,
    lead: &str,
    measured: Measured,
) -> Result<Vec<Contender>> {
    let mut names = BTreeSet::new();
    for path in store.list("plans").await? {
        let below = path.strip_prefix("plans/").unwrap_or_default();
        let name = below
            .split_once('/')
            .and_then(|(name, _)| name.parse().ok());
        names.extend(name);
    }
    let mut found = Vec::new();
    if names.len() < 2 {
        return Ok(found);
    }
    for name in names {
        let records = Records::new(store.clone(), Name::clone(&name));
        let Some(plan) = records.plan(UpdateNumber::FIRST).await? else {
            continue;
        };
        let start = records.start().await?.map(|start| start.start);
        let results = numbered(store, &format!("results/{name}")).await?;
        let evaluations = numbered(store, &format!("evaluations/{}", plan.policy)).await?;
        let contender = Contender::new(&plan, start, results, evaluations, measured);
        found.push(contender);
    }
    found.sort_by_key(|one| one.learner.as_str() != lead);
    Ok(found)
}

impl Contender {
    fn new(
        plan: &Plan,
        start: Option<String>,
        results: Vec<UpdateResult>,
        evaluations: Vec<EvaluationResult>,
        measured: Measured,
    ) -> Self {
        let recent = &results[results.len().saturating_sub(RECENT)..];
        let mean = |of: fn(&UpdateResult) -> f64| {
            recent.iter().map(of).sum::<f64>() / recent.len().max(1) as f64
        };
        let algorithm = serde_json::to_value(plan.algorithm.name).unwrap_or_default();
        Self {
            learner: plan.learner.clone(),
            policy: plan.policy.clone(),
            algorithm: algorithm.as_str().unwrap_or_default().to_owned(),
            follows: plan.follows.clone(),
            start,
            updates: results.len() as u64,
            groups: results.iter().map(|result| result.groups).sum(),
            reward: mean(|result| result.reward),
            clip_fraction: mean(|result| result.clip_fraction),
            kl: mean(|result| result.kl),
            staleness: mean(|result| result.mean_staleness),
            weights_sha256: results.last().map(|last| last.weights_sha256),
            held_out: HeldOut::of(&evaluations, measured),
            results,
            evaluations,
        }
    }
}
