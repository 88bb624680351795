//! Batches of groups under a version, weighed by every loss.

use std::collections::BTreeMap;

use vintage_control::PolicyVersion;
use vintage_losses::{Rule, Tokens, Weighed, weigh, weight_stats};

use crate::{
    figures::{AgeFigures, BatchFigures, Counts},
    laid::Laid,
    loss::Loss,
};

/// Group whose log-probs were computed again.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Id of the group.
    pub id: String,
    /// Oldest version of any token.
    pub oldest: PolicyVersion,
    /// Rollouts in the order of their numbers within the group.
    pub rollouts: Vec<Rollout>,
}

/// Rollout whose log-probs were computed again. All lists have one item per completion token.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Reward.
    pub reward: f32,
    /// Log-probs that were recorded with the tokens, in nats.
    pub behavior: Vec<f32>,
    /// Log-probs under the later version, in nats.
    pub new: Vec<f32>,
    /// True for every token that is trained on.
    pub trained: Vec<bool>,
}

/// Log-probs that no loss can weigh.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Batch that the second moment refuses.
    #[error("cannot weigh rollouts of age {age} under version {version}: {source}")]
    Weigh {
        /// Age of the rollouts, in updates.
        age: u64,
        /// Version under which they were recomputed.
        version: PolicyVersion,
        /// Refusal, with the token.
        source: vintage_losses::Error,
    },
}

/// Groups by age, weighed as they come.
#[derive(Debug, Clone)]
pub struct Ages {
    losses: Vec<Loss>,
    groups_per_batch: usize,
    /// Batches by age, and the log-ratios of their tokens.
    found: BTreeMap<u64, (Vec<BatchFigures>, Vec<f64>)>,
}

impl Ages {
    /// Creates a measurement by these losses. A batch is what a loss sees at once, and has at most
    /// `groups_per_batch` groups.
    pub fn new(losses: Vec<Loss>, groups_per_batch: usize) -> Self {
        Self {
            losses,
            groups_per_batch: groups_per_batch.max(1),
            found: BTreeMap::new(),
        }
    }

    /// Adds groups that were recomputed under `version` and stand for `age`. Their order does not
    /// matter.
    ///
    /// # Errors
    /// A log-prob that is no number, with its token.
    pub fn add(
        &mut self,
        age: u64,
        version: PolicyVersion,
        mut groups: Vec<Group>,
    ) -> Result<(), Error> {
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        for batch in groups.chunks(self.groups_per_batch) {
            let refused = |source| Error::Weigh {
                age,
                version,
                source,
            };
            let (figures, ratios) = self.weigh(version, batch).map_err(refused)?;
            let (batches, all) = self.found.entry(age).or_default();
            batches.push(figures);
            all.extend(ratios);
        }
        Ok(())
    }

    /// Returns what was found, by age.
    pub fn figures(&self) -> Vec<AgeFigures> {
        let found = self.found.iter();
        found
            .map(|(age, (batches, ratios))| AgeFigures::of(*age, batches.clone(), ratios.clone()))
            .collect()
    }

    fn weigh(
        &self,
        version: PolicyVersion,
        groups: &[Group],
    ) -> Result<(BatchFigures, Vec<f64>), vintage_losses::Error> {
        let laid = Laid::of(groups);
        let clamp = vintage_losses::DEFAULT_CLAMP;
        // Signs of advantages decide which tokens are in the trust region; those of every baseline that
        // centres rewards are these.
        let advantage = laid.advantages(groups, |rewards, _| {
            vintage_losses::group_advantages(rewards)
        });
        let tokens = laid.tokens(&advantage, clamp);
        let stats = weigh(&Rule::None, &tokens)?.stats;
        let weights = weight_stats(&tokens)?;
        let mut losses = BTreeMap::new();
        for loss in &self.losses {
            let advantage = laid.advantages(groups, |rewards, lengths| {
                loss.baseline.advantages(rewards, lengths)
            });
            let tokens = laid.tokens(&advantage, loss.clamp);
            // What is wrong with the tokens was said above: this refuses what its rule cannot weigh.
            if let Ok(weighed) = weigh(&loss.rule, &tokens) {
                losses.insert(loss.name.as_str(), counts(loss, &tokens, &weighed));
            }
        }
        let staleness = groups
            .iter()
            .map(|group| version.staleness_of(group.oldest).0);
        let figures = BatchFigures {
            version,
            groups: groups.len() as u64,
            rollouts: weights.n_rows,
            tokens: stats.n_valid,
            trust_tokens: stats.n_trust,
            oldest: staleness.clone().max().unwrap_or(0),
            newest: staleness.clone().min().unwrap_or(0),
            staleness: staleness.sum::<u64>() as f64 / groups.len().max(1) as f64,
            m2: stats.m2_trust_before,
            m2_all: stats.m2_all_before,
            kl: stats.kl_k1,
            effective_tokens: weights.effective_tokens,
            effective_rollouts: weights.effective_rows,
            losses,
        };
        Ok((figures, laid.log_ratios()))
    }
}

/// Counts what a loss did to a batch.
pub(crate) fn counts(loss: &Loss, tokens: &Tokens<'_>, weighed: &Weighed) -> Counts {
    let whole = loss.uncapped().and_then(|rule| weigh(&rule, tokens).ok());
    let truncated = whole.map(|whole| {
        let pairs = whole.weight.iter().zip(&weighed.weight);
        pairs.filter(|(whole, capped)| whole != capped).count() as u64
    });
    Counts {
        masked_tokens: weighed.stats.n_masked + weighed.stats.n_clipped,
        truncated_tokens: truncated,
    }
}
