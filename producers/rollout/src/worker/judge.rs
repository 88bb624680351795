use std::{collections::BTreeMap, sync::Arc};

use half::bf16;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedSender};
use vintage_control::{Name, Precision, SlotNumber};
use vintage_settings::RolloutConfig;
use vintage_trajectory::{REFERENCE_ANSWER, Trajectory};

use super::sampler::SampledGroup;
use crate::{
    engine::Sample,
    error::Error,
    event::ProducerEvent,
    leasing::Leases,
    prompts::prompt::{ENVIRONMENT_TOKENS, SLOT, TURNS},
    reward::{FailureBudget, Reward, RewardFailure, RewardItem, RewardScore},
};

/// Group of a slot that has its rewards.
pub(crate) struct Judged {
    pub(crate) slot: SlotNumber,
    pub(crate) rows: Vec<Trajectory>,
}

/// Second stage of the pipeline: scores every completion and turns groups into trajectories.
pub(super) struct Judge {
    reward: Box<dyn Reward>,
    budget: FailureBudget,
    precision: Precision,
    policy: Name,
    judged: Sender<Judged>,
    leases: Leases,
    events: UnboundedSender<ProducerEvent>,
}

impl Judge {
    pub(super) fn new(
        reward: Box<dyn Reward>,
        config: &RolloutConfig,
        policy: &Name,
        judged: Sender<Judged>,
        leases: Leases,
        events: UnboundedSender<ProducerEvent>,
    ) -> Self {
        let budget = FailureBudget::new(&config.reward);
        Self {
            reward,
            budget,
            precision: config.logprob_precision,
            policy: policy.clone(),
            judged,
            leases,
            events,
        }
    }

    /// Scores groups until the channel ends; returns the number of groups without a reward by
    /// reason.
    pub(super) async fn run(
        mut self,
        mut calls: Receiver<Vec<SampledGroup>>,
    ) -> Result<BTreeMap<&'static str, u64>, Error> {
        let outcome = self.judge_all(&mut calls).await;
        self.reward.close().await;
        outcome?;
        Ok(self.budget.counts().clone())
    }

    async fn judge_all(&mut self, calls: &mut Receiver<Vec<SampledGroup>>) -> Result<(), Error> {
        while let Some(groups) = calls.recv().await {
            let items = groups.iter().flat_map(items).collect();
            let mut scores = self.reward.score(items).await?.into_iter();
            for mut group in groups {
                let samples = match std::mem::replace(&mut group.samples, Ok(Vec::new())) {
                    Ok(samples) => samples,
                    Err(failure) => {
                        self.give_up(&group, &failure)?;
                        continue;
                    }
                };
                let of_group: Result<Vec<RewardScore>, RewardFailure> = {
                    // All scores of the group are taken, even after one that failed.
                    let taken: Vec<_> = scores.by_ref().take(samples.len()).collect();
                    taken.into_iter().collect()
                };
                match of_group {
                    Ok(scores) => {
                        self.budget.succeeded();
                        let slot = group.lease.slot;
                        let samples = samples.into_iter().map(|sample| self.rounded(sample));
                        let rows = trajectories(group, samples.collect(), scores, &self.policy);
                        vintage_faults::point("rollout.sampled", 1);
                        if self.judged.send(Judged { slot, rows }).await.is_err() {
                            // The publisher has failed and reports the error.
                            return Ok(());
                        }
                    }
                    Err(failure) => self.give_up(&group, &failure)?,
                }
            }
        }
        Ok(())
    }

    /// Rounds the log-probs of a sample to the precision that is published.
    fn rounded(&self, mut sample: Sample) -> Sample {
        if self.precision == Precision::Bf16 {
            let logprobs = sample.logprobs.iter_mut();
            logprobs.for_each(|logprob| *logprob = bf16::from_f32(*logprob).to_f32());
        }
        sample
    }

    /// Gives up a group without a reward, so that another slot is granted; it gets no number.
    fn give_up(&mut self, group: &SampledGroup, failure: &RewardFailure) -> Result<(), Error> {
        let prompt_id = group.prompt.id.clone();
        tracing::warn!(
            prompt = prompt_id,
            "no reward for a group, so it is not published: {failure}"
        );
        self.leases.failed(group.lease.slot);
        // The receiver may be gone if the run is ending.
        let _ = self.events.send(ProducerEvent::RewardFailed {
            group: group.id,
            prompt_id,
            reason: failure.reason.as_str(),
            detail: failure.detail.clone(),
        });
        self.budget.failed(failure)
    }
}

fn items(group: &SampledGroup) -> impl Iterator<Item = RewardItem> {
    group.samples.iter().flatten().map(|sample| RewardItem {
        score: sample.score.clone(),
        ..RewardItem::new(&group.prompt, sample.completion_text.clone())
    })
}

fn trajectories(
    group: SampledGroup,
    samples: Vec<Sample>,
    scores: Vec<RewardScore>,
    policy: &Name,
) -> Vec<Trajectory> {
    let SampledGroup {
        id,
        lease,
        prompt,
        engine,
        sampling,
        created_at_us,
        ..
    } = group;
    let prompt = Arc::unwrap_or_clone(prompt);
    let mut metadata = prompt.metadata;
    // Together with the seed, the slot identifies the samples.
    metadata.insert(SLOT.to_owned(), lease.slot.to_string());
    if let Some(answer) = prompt.answer {
        metadata.insert(REFERENCE_ANSWER.to_owned(), answer);
    }
    let group_size = samples.len() as u16;
    (0..)
        .zip(samples.into_iter().zip(scores))
        .map(|(sample_index, (sample, score))| {
            let mut metadata = metadata.clone();
            if let Some(episode) = &sample.episode {
                let said = episode.sampled.len() - sample.sampled_tokens();
                metadata.insert(TURNS.to_owned(), episode.turns.to_string());
                metadata.insert(ENVIRONMENT_TOKENS.to_owned(), said.to_string());
            }
            Trajectory {
                group_id: id,
                group_size,
                sample_index,
                policy: policy.to_string(),
                batch: lease.batch,
                prompt_id: prompt.id.clone(),
                prompt_tokens: sample.prompt_tokens,
                completion_tokens: sample.completion_tokens,
                behavior_logprobs: sample.logprobs,
                loss_mask: sample.episode.map(|episode| episode.sampled),
                policy_spans: sample.spans,
                reward: score.reward,
                reward_parts: score.parts,
                finish_reason: sample.finish_reason,
                temperature: sampling.temperature,
                top_p: sampling.top_p,
                top_k: sampling.top_k,
                logprob_mode: sample.logprob_mode,
                engine: engine.clone(),
                created_at_us,
                generation_seconds: sample.seconds,
                prompt_text: Some(prompt.text.clone()),
                completion_text: Some(sample.completion_text),
                metadata: Some(metadata),
            }
        })
        .collect()
}
