//! Fresh rollouts: what a version samples now, on prompts of the run and judged by its reward.

use std::sync::Arc;

use vintage_ages::{Group, Rollout};
use vintage_control::PolicyVersion;
use vintage_local::LocalEngine;
use vintage_mismatch::{Limits, Row};
use vintage_rollout::{
    Closing, Engine, EngineError, PromptSet, Reward, RewardItem, Sample, SampleRequest, Sampling,
    all_groups, group_seed, open_reward,
};
use vintage_settings::RunConfig;
use vintage_store::Weights;
use vintage_trajectory::{GroupId, LogprobMode};

use super::batch::Batch;
use crate::{
    error::{Error, Result},
    preflight::check_answers,
    prepared::conversing,
    prompts::PromptSets,
};

/// Sampler of fresh rollouts, with the settings that the run's producers have.
pub(super) struct Fresh {
    engine: Box<dyn Engine>,
    /// End of the environment, if there is one.
    closing: Option<Closing>,
    reward: Box<dyn Reward>,
    prompts: PromptSet,
    sampling: Sampling,
    samples: u16,
    seed: u64,
    limits: Limits,
}

impl Fresh {
    /// Opens the model of a policy with the weights of `version`, and the run's prompts and reward. What is
    /// sampled depends on the run's seed and on `seed`.
    pub(super) async fn open(
        config: &RunConfig,
        weights: Weights,
        version: PolicyVersion,
        seed: u64,
        limits: Limits,
    ) -> Result<Self> {
        if config.rollout.top_p < 1.0 || config.rollout.top_k > 0 {
            return Err(Error::Setting {
                setting: "--gradients".to_owned(),
                reason: "the run samples with rollout.top_p or rollout.top_k, so that the log-probs of its \
                         rollouts are not those of the policy whose gradient is asked for"
                    .to_owned(),
            });
        }
        let mut prompts = PromptSets::read(&config.prompts)?.train;
        let policy = config.learner.policy.clone();
        let engine = LocalEngine::open(weights, policy, version).await?;
        let (engine, closing) = conversing(engine, config)?;
        prompts.render(|messages| engine.render(messages).map_err(|error| error.to_string()))?;
        let reward = open_reward(&config.rollout)?;
        check_answers(&*reward, &prompts)?;
        Ok(Self {
            engine,
            closing,
            reward,
            prompts,
            sampling: Sampling::from(&config.rollout),
            samples: config.rollout.group_size,
            // The seed is inverted so that the draws differ from those of training, which uses it unchanged.
            seed: group_seed(!config.seed, seed),
            limits,
        })
    }

    /// Samples groups under a version, numbered from `from` on.
    pub(super) async fn batch(
        &mut self,
        version: PolicyVersion,
        from: usize,
        groups: usize,
    ) -> Result<Batch> {
        if self.engine.version() != version {
            self.engine.load(version).await?;
        }
        let seed = group_seed(self.seed, version.0);
        let numbers = from..from + groups;
        let places = places(self.prompts.len(), numbers.end, seed);
        let asked = places[numbers.clone()]
            .iter()
            .map(|&place| &self.prompts.prompts()[place]);
        let asked: Vec<_> = asked.collect();
        let requests = numbers
            .clone()
            .zip(&asked)
            .map(|(number, prompt)| SampleRequest {
                prompt: Arc::new((*prompt).clone()),
                turn: None,
                group: GroupId([0; 16]),
                samples: self.samples,
                seed: group_seed(seed, number as u64),
                sampling: self.sampling,
            });
        let sampled = all_groups(self.engine.sample(requests.collect()), groups).await;
        let unrewarded = |reason: String| Error::RewardFailed { version, reason };
        let sampled = sampled.map_err(|error| match error {
            EngineError::EpisodeFailed(failure) => unrewarded(failure.to_string()),
            EngineError::Environment(error) => Error::from(*error),
            error => Error::from(error),
        })?;
        let items = asked.iter().zip(&sampled).flat_map(|(prompt, group)| {
            group.iter().map(|sample| RewardItem {
                score: sample.score.clone(),
                ..RewardItem::new(prompt, sample.completion_text.clone())
            })
        });
        let mut scores = self.reward.score(items.collect()).await?.into_iter();
        let mut batch = Batch::default();
        for (number, samples) in numbers.zip(sampled) {
            let (mut rows, mut rollouts) = (Vec::new(), Vec::new());
            for (sample, score) in samples.into_iter().zip(scores.by_ref()) {
                let score = score.map_err(|failure| unrewarded(failure.to_string()))?;
                let row = self.row(rows.len() as u16, sample)?;
                rollouts.push(Rollout {
                    reward: score.reward,
                    behavior: row.reported.clone(),
                    // Under the version that sampled, they are the same.
                    new: row.reported.clone(),
                    trained: row.sampled.clone(),
                });
                rows.push(row);
            }
            batch.push(
                Group {
                    id: format!("{number:08}"),
                    oldest: version,
                    rollouts,
                },
                rows,
            );
        }
        Ok(batch)
    }

    /// Ends the environment, if there is one.
    pub(super) async fn close(self) {
        drop(self.engine);
        if let Some(closing) = self.closing {
            closing.wait().await;
        }
    }

    fn row(&self, sample_index: u16, sample: Sample) -> Result<Row> {
        let ids = |tokens: &[i32]| -> Option<Vec<u32>> {
            let ids = tokens.iter().map(|&token| u32::try_from(token).ok());
            ids.collect()
        };
        let (prompt, completion) = (ids(&sample.prompt_tokens), ids(&sample.completion_tokens));
        let (Some(prompt), Some(completion)) = (prompt, completion) else {
            return Err(Error::Bug("the engine gave tokens below 0".to_owned()));
        };
        if prompt.len() + completion.len() > self.limits.context {
            return Err(Error::Bug(
                "the engine sampled beyond its context".to_owned(),
            ));
        }
        let all = vec![true; completion.len()];
        Ok(Row {
            engine: self.engine.name().to_owned(),
            group: String::new(),
            sample_index,
            sampled: sample.episode.map_or(all, |episode| episode.sampled),
            prompt,
            completion,
            reported: sample.logprobs,
            temperature: self.sampling.temperature,
            raw: sample.logprob_mode == LogprobMode::Raw,
            spans: sample.spans,
        })
    }
}

/// Returns the places of `count` prompts: every prompt once in an order that `seed` gives, then again in
/// another order, and so on.
fn places(prompts: usize, count: usize, seed: u64) -> Vec<usize> {
    let rounds = count.div_ceil(prompts.max(1)) as u64;
    let mut places: Vec<_> = (0..rounds)
        .flat_map(|round| {
            let seed = group_seed(!seed, round);
            let mut order: Vec<_> = (0..prompts).collect();
            order.sort_by_cached_key(|&place| group_seed(seed, place as u64));
            order
        })
        .collect();
    places.truncate(count);
    places
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn every_prompt_is_asked_once_before_any_is_asked_again() {
        let all = places(10, 25, 3);
        for round in all.chunks(10).take(2) {
            let mut sorted = round.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(all[..10], all[10..20]);
        // What comes first does not depend on how many are asked.
        assert_eq!(places(10, 7, 3), all[..7]);
        assert_ne!(places(10, 10, 4), all[..10]);
        assert!(places(0, 0, 1).is_empty());
    }
}
