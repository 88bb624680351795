//! Rewards of one version's answers to held-out prompts.

use std::{ops::Range, sync::Arc};

use vintage_control::PolicyVersion;
use vintage_local::LocalEngine;
use vintage_rollout::{
    Closing, Engine, EngineError, Prompt, PromptSet, Reward, RewardItem, Sample, SampleRequest,
    Sampling, all_groups, group_seed, open_reward,
};
use vintage_settings::RunConfig;
use vintage_trajectory::GroupId;

use crate::{
    error::{Error, Result},
    preflight::check_answers,
    prepared::conversing,
};

/// Held-out prompts with the engine that answers them and the reward that judges the answers.
pub(crate) struct Exam {
    /// Engine that samples; with an environment, a completion is an episode.
    engine: Box<dyn Engine>,
    /// End of the environment, if there is one.
    closing: Option<Closing>,
    /// Reward function, the same one that the producers use.
    reward: Box<dyn Reward>,
    prompts: PromptSet,
    /// Number of prompts to use, from the start of the file.
    count: usize,
    /// Maximum length of a completion in tokens.
    max_tokens: usize,
    /// Seed of the sampling, combined with the version.
    seed: u64,
}

/// Answer to a prompt, as it was judged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Judged {
    /// Text without special tokens.
    pub(crate) completion: String,
    pub(crate) reward: f64,
    /// Number of sampled tokens.
    pub(crate) tokens: u64,
    /// True if the answer was cut off at the largest number of tokens.
    pub(crate) is_cut: bool,
}

impl Exam {
    /// Prepares the first `count` of the prompts for an engine, with the reward and the environment of
    /// these settings.
    pub(crate) fn new(
        engine: LocalEngine,
        config: &RunConfig,
        mut prompts: PromptSet,
        count: usize,
    ) -> Result<Self> {
        let (engine, closing) = conversing(engine, config)?;
        prompts.render(|messages| engine.render(messages).map_err(|error| error.to_string()))?;
        Ok(Self {
            engine,
            closing,
            reward: open_reward(&config.rollout)?,
            count: count.min(prompts.len()),
            prompts,
            max_tokens: config.rollout.max_tokens,
            seed: config.seed,
        })
    }

    /// Refuses prompts whose known answers the reward cannot compare with.
    pub(crate) fn check_answers(&self) -> Result<()> {
        check_answers(&*self.reward, &self.prompts)
    }

    /// Number of prompts.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Loads a version's weights.
    pub(crate) async fn load(&mut self, version: PolicyVersion) -> Result<()> {
        if self.engine.version() != version {
            self.engine.load(version).await?;
        }
        Ok(())
    }

    /// Has each of the prompts at these places answered `samples` times by the version loaded, and
    /// returns the answers of each. Temperature 0 takes the likeliest token.
    pub(crate) async fn answers(
        &mut self,
        places: Range<usize>,
        temperature: f32,
        samples: u16,
    ) -> Result<Vec<Vec<Judged>>> {
        let version = self.engine.version();
        // The seed is inverted so that the draws differ from those of training, which uses it
        // unchanged.
        let seed = group_seed(!self.seed, version.0);
        let asked = &self.prompts.prompts()[places.clone()];
        let requests = places.zip(asked).map(|(place, prompt)| SampleRequest {
            prompt: Arc::new(prompt.clone()),
            turn: None,
            group: GroupId([0; 16]),
            samples,
            seed: group_seed(seed, place as u64),
            sampling: Sampling {
                max_tokens: self.max_tokens,
                temperature,
                top_p: 1.0,
                top_k: 0,
            },
        });
        let groups = all_groups(self.engine.sample(requests.collect()), asked.len()).await;
        let groups = groups.map_err(|error| match error {
            EngineError::EpisodeFailed(failure) => Error::RewardFailed {
                version,
                reason: failure.to_string(),
            },
            EngineError::Environment(error) => Error::from(*error),
            error => Error::from(error),
        })?;
        let unjudged = |sample: &Sample| Judged {
            completion: sample.completion_text.clone(),
            reward: 0.0,
            tokens: sample.completion_tokens.len() as u64,
            is_cut: sample.finish_reason == "length",
        };
        let mut answers: Vec<Vec<_>> = groups
            .iter()
            .map(|group| group.iter().map(unjudged).collect())
            .collect();
        let items = asked.iter().zip(groups).flat_map(|(prompt, group)| {
            group.into_iter().map(|sample| RewardItem {
                score: sample.score,
                ..RewardItem::new(prompt, sample.completion_text)
            })
        });
        let scores = self.reward.score(items.collect()).await?;
        for (answer, score) in answers.iter_mut().flatten().zip(scores) {
            let score = score.map_err(|failure| Error::RewardFailed {
                version,
                reason: failure.to_string(),
            })?;
            answer.reward = f64::from(score.reward);
        }
        Ok(answers)
    }

    /// Prompts to answer, in file order.
    pub(crate) fn prompts(&self) -> &[Prompt] {
        &self.prompts.prompts()[..self.count]
    }

    /// Ends the environment, if there is one.
    pub(crate) async fn close(self) {
        drop(self.engine);
        if let Some(closing) = self.closing {
            closing.wait().await;
        }
    }
}
