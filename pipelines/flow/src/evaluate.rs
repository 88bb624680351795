//! Accuracy of versions on held-out prompts, measured while training continues.

use std::{sync::Arc, time::Instant};

use tokio::sync::mpsc;
use vintage_control::{CONTROL_FORMAT, EvaluationResult, Name, PolicyVersion};
use vintage_rollout::{
    Closing, Engine, EngineError, PromptSet, Reward, RewardItem, SampleRequest, Sampling,
    all_groups, group_seed,
};
use vintage_store::Store;
use vintage_store::{evaluation_path, write_evaluation};
use vintage_trajectory::GroupId;

use crate::{
    error::{Error, Result},
    event::{Events, RunEvent},
};

/// Evaluator of versions, one after the other, each once.
pub(crate) struct Evaluator {
    /// Engine that samples with the weights of the version; with an environment, a completion is
    /// an episode.
    pub engine: Box<dyn Engine>,
    /// End of the environment, if there is one.
    pub closing: Option<Closing>,
    /// Reward function, the same one that the producers use.
    pub reward: Box<dyn Reward>,
    /// Held-out prompts.
    pub prompts: PromptSet,
    /// Number of prompts to use, from the start of the file.
    pub count: usize,
    /// Maximum length of a completion in tokens.
    pub max_tokens: usize,
    /// Seed of the sampling, combined with the version.
    pub seed: u64,
    /// Policy whose versions are evaluated.
    pub policy: Name,
    /// Store of the run, where results are written.
    pub store: Store,
    /// Receiver of the evaluator's events.
    pub events: Events,
}

impl Evaluator {
    /// Evaluates each version received until all senders are dropped. Versions that already have a
    /// result, from this process or an earlier one, are skipped.
    pub(crate) async fn run(
        mut self,
        mut versions: mpsc::UnboundedReceiver<PolicyVersion>,
    ) -> Result<()> {
        while let Some(version) = versions.recv().await {
            let path = evaluation_path(&self.policy, version);
            if self.store.head(&path).await?.is_some() {
                continue;
            }
            let prompts = self.asked() as u64;
            let begun = RunEvent::Evaluating { version, prompts };
            let _nobody_listens = self.events.send(begun);
            let evaluation = self.evaluate(version).await?;
            write_evaluation(&self.store, &evaluation).await?;
            let _nobody_listens = self.events.send(RunEvent::Evaluated(evaluation));
        }
        drop(self.engine);
        if let Some(closing) = self.closing {
            closing.wait().await;
        }
        Ok(())
    }

    async fn evaluate(&mut self, version: PolicyVersion) -> Result<EvaluationResult> {
        let started = Instant::now();
        self.engine.load(version).await?;
        let sampled = self.accuracy(version, 1.0).await?;
        let greedy = self.accuracy(version, 0.0).await?;
        Ok(EvaluationResult {
            format: CONTROL_FORMAT.to_owned(),
            policy: self.policy.clone(),
            version,
            sampled_accuracy: sampled,
            greedy_accuracy: greedy,
            samples: self.asked() as u64,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Returns the mean reward with one completion per prompt; temperature 0 is greedy.
    async fn accuracy(&mut self, version: PolicyVersion, temperature: f32) -> Result<f64> {
        // The seed is inverted so that the draws differ from those of training, which uses it
        // unchanged.
        let seed = group_seed(!self.seed, version.0);
        let asked = self.asked();
        let requests = self.prompts.prompts()[..asked].iter().enumerate();
        let requests = requests.map(|(place, prompt)| SampleRequest {
            prompt: Arc::new(prompt.clone()),
            turn: None,
            group: GroupId([0; 16]),
            samples: 1,
            seed: group_seed(seed, place as u64),
            sampling: Sampling {
                max_tokens: self.max_tokens,
                temperature,
                top_p: 1.0,
                top_k: 0,
            },
        });
        let samples = all_groups(self.engine.sample(requests.collect()), asked).await;
        let samples = samples.map_err(|error| match error {
            EngineError::EpisodeFailed(failure) => Error::RewardFailed {
                version,
                reason: failure.to_string(),
            },
            EngineError::Environment(error) => Error::from(*error),
            error => Error::from(error),
        })?;
        let items = self
            .prompts
            .prompts()
            .iter()
            .zip(samples)
            .map(|(prompt, mut samples)| {
                let sample = samples.pop();
                RewardItem {
                    prompt: prompt.text.clone(),
                    answer: prompt.answer.clone(),
                    metadata: prompt.metadata.clone(),
                    episode: sample
                        .as_ref()
                        .and_then(|sample| sample.episode.as_ref())
                        .map(|episode| episode.score.clone()),
                    completion: sample
                        .map(|sample| sample.completion_text)
                        .unwrap_or_default(),
                }
            });
        let scores = self.reward.score(items.collect()).await?;
        let mut total = 0.0;
        for score in &scores {
            let score = score.as_ref().map_err(|failure| Error::RewardFailed {
                version,
                reason: failure.to_string(),
            })?;
            total += f64::from(score.reward);
        }
        Ok(total / asked.max(1) as f64)
    }

    fn asked(&self) -> usize {
        self.count.min(self.prompts.len())
    }
}
