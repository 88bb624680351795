mod judge;
mod sampler;

use std::{future::Future, path::PathBuf};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vintage_bus::{Bus, TopicTable};
use vintage_control::{Name, Topics};
use vintage_settings::{GateConfig, RolloutConfig};

use crate::{
    claims::Claims,
    engine::{Engine, EngineError, Sampling},
    error::Error,
    event::{ProducerEvent, ProducerSummary},
    follow::follow,
    gate::{Gate, GateBase, GateRule},
    prompts::{PromptSet, prompt::Form},
    publish::Publisher,
    reward::Reward,
    select::{Selector, process_seed},
    slots::Slots,
};
use judge::Judge;
use sampler::Sampler;

/// Parts and settings of a [`Worker`].
pub struct WorkerSetup {
    /// Client of the log.
    pub bus: Bus,
    /// Names of the run's topics.
    pub topics: Topics,
    /// Sizes of the topics, from which the message limits follow.
    pub table: TopicTable,
    /// Policy to sample from.
    pub policy: Name,
    /// Inference engine that samples the completions.
    pub engine: Box<dyn Engine>,
    /// Scorer of the completions.
    pub reward: Box<dyn Reward>,
    /// Prompts to sample from.
    pub prompts: PromptSet,
    /// First part of the producer's id; the second part is new in every process.
    pub producer: Name,
    /// Sampling and rewards.
    pub rollout: RolloutConfig,
    /// Limits on how far producers run ahead of the learner.
    pub gate: GateConfig,
    /// Seed of the run. With the slot's number it selects the prompt and seeds the sampling; under
    /// the waiting rule, `life` enters the sampling's seed too.
    pub seed: u64,
    /// Index of this producer process, from 0, if the run has no other producers. `None` if it may
    /// have: the process's own id then takes its place in the seed, since other producers may sample
    /// at the same slots.
    pub life: Option<u64>,
    /// Groups that the learner takes per update.
    pub groups_per_update: u64,
    /// Number of versions from one announcement to the next.
    pub publish_every: u64,
    /// Total number of updates of the run, if known. Nothing is sampled for later updates unless
    /// the learner announces another number. A `finished` announcement found at the start is
    /// ignored below this version, because it may be left over from an earlier, shorter run; see
    /// [`WorkerSetup::updates_of_run`].
    pub updates: Option<u64>,
    /// True if `updates` comes from the settings of the run itself, which are newer than any
    /// announcement found at the start. If false, a number of updates in an announcement replaces
    /// it.
    pub updates_of_run: bool,
    /// State left by earlier producer processes.
    pub base: GateBase,
    /// Claims of slots, needed if other producers may run at the same time. Must be opened before
    /// `base` is counted.
    pub claims: Option<Claims>,
    /// Folder for the journal of acknowledged numbers; `None` keeps no journal.
    pub journal_dir: Option<PathBuf>,
}

/// One producer process: follows the policy, waits at the gate, samples, scores and publishes.
///
/// Sampling, scoring and publishing form a pipeline: while one call of the engine runs, the groups
/// of the call before are scored, and those before that await their acknowledgement.
pub struct Worker {
    setup: WorkerSetup,
    gate: Gate,
    slots: Slots,
    id: String,
}

impl Worker {
    /// Checks settings and prompts; sends nothing yet.
    pub fn new(mut setup: WorkerSetup) -> Result<Self, Error> {
        if let Some(violation) = setup.rollout.violations().into_iter().next() {
            return Err(Error::Config(violation));
        }
        let rule = GateRule::from(&setup.gate);
        let gate = Gate::new(
            rule,
            setup.groups_per_update,
            setup.publish_every,
            setup.updates,
            setup.base.clone(),
        )?;
        let engine = &setup.engine;
        let render = |messages: &str| engine.render(messages).map_err(|error| error.to_string());
        setup.prompts.render(render)?;
        check_answers(&setup)?;
        check_lengths(&setup)?;
        // Numbers start at 0 in every process, so every process needs an id of its own.
        let unique = Uuid::now_v7();
        let id = format!("{}-{}", setup.producer, unique.simple());
        let exact = matches!(rule, GateRule::Exact { .. });
        let selector = Selector::new(setup.seed, setup.prompts.len());
        let claims = setup.claims.take();
        let slots = Slots::new(selector, &setup.prompts, &setup.base, claims);
        setup.seed = match setup.life {
            // Under the exact rule a slot belongs to its batch, and `base` says which slots are
            // taken.
            _ if exact => setup.seed,
            Some(0) => setup.seed,
            Some(life) => process_seed(setup.seed, life),
            None => {
                let (time, chance) = unique.as_u64_pair();
                process_seed(setup.seed, time ^ chance)
            }
        };
        Ok(Self {
            setup,
            gate,
            slots,
            id,
        })
    }

    /// Value of this process's `producer` header.
    pub fn producer_id(&self) -> &str {
        &self.id
    }

    /// Runs until the learner has finished or `cancel` is triggered. Groups being sampled then are
    /// still finished and published.
    pub async fn run(
        self,
        cancel: CancellationToken,
        events: mpsc::UnboundedSender<ProducerEvent>,
    ) -> Result<ProducerSummary, Error> {
        let Self {
            setup,
            gate,
            slots,
            id,
        } = self;
        let stop = cancel.child_token();
        let following = CancellationToken::new();
        let (news, policies) = watch::channel(None);
        let (sampled, to_judge) = mpsc::channel(1);
        let (judged, to_publish) = mpsc::channel(2 * setup.rollout.concurrent_groups);
        let (abandoned, given_up) = mpsc::unbounded_channel();

        let publisher = Publisher::open(
            &setup.bus,
            &setup.topics,
            &setup.table,
            &id,
            setup.journal_dir.as_deref(),
            events.clone(),
        )?;
        let judge = Judge::new(
            setup.reward,
            &setup.rollout.reward,
            &setup.policy,
            judged,
            abandoned,
            events.clone(),
        );
        let mut sampler = Sampler {
            rule: GateRule::from(&setup.gate),
            gate,
            slots,
            engine: setup.engine,
            prompts: setup.prompts,
            sampling: Sampling::from(&setup.rollout),
            group_size: setup.rollout.group_size,
            concurrent_groups: setup.rollout.concurrent_groups as u64,
            groups_per_update: setup.groups_per_update,
            updates: setup.updates,
            updates_of_run: setup.updates_of_run,
            seed: setup.seed,
            policies,
            given_up,
            sampled,
            events,
            times: sampler::Times::default(),
        };

        let follower = follow(
            setup.bus,
            setup.topics,
            setup.policy,
            id.clone(),
            news,
            following.clone(),
        );
        let follower = start(&stop, follower);
        let publishing = start(&stop, publisher.run(to_publish));
        let judging = start(&stop, judge.run(to_judge));

        let sampling = sampler.run(&stop).await;
        let times = sampler.times;
        // Dropping the sampler closes the channels one after the other.
        drop(sampler);
        let failed = join("reward", judging).await;
        let published = join("publishing", publishing).await;
        following.cancel();
        let followed = join("announcements", follower).await;

        // A failed stage stops the stages before it without an error of their own.
        let published = published?;
        let failed = failed?;
        followed?;
        sampling?;
        Ok(ProducerSummary {
            producer: id,
            groups: published.groups,
            rows: published.rows,
            tokens: published.tokens,
            failed,
            sampling_seconds: times.sampling,
            loading_seconds: times.loading,
            waiting_seconds: times.waiting,
        })
    }
}

/// Starts a stage; its failure stops all stages.
fn start<T: Send + 'static>(
    stop: &CancellationToken,
    stage: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> JoinHandle<Result<T, Error>> {
    let guard = stop.clone().drop_guard();
    tokio::spawn(async move {
        let outcome = stage.await;
        // A panic drops the guard too, which stops all stages.
        if outcome.is_ok() {
            guard.disarm();
        }
        outcome
    })
}

async fn join<T>(stage: &'static str, task: JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    task.await
        .map_err(|source| Error::Panicked { stage, source })?
}

/// Refuses prompts that the reward cannot score.
fn check_answers(setup: &WorkerSetup) -> Result<(), Error> {
    let WorkerSetup {
        reward, prompts, ..
    } = setup;
    if reward.needs_answer() {
        prompts.require_answers()?;
    }
    for prompt in prompts.prompts() {
        if let Some(Err(reason)) = prompt.answer.as_deref().map(|a| reward.check_answer(a)) {
            return Err(prompts.refuse(prompt, format!("prompt {:?}: {reason}", prompt.id)));
        }
    }
    Ok(())
}

/// Refuses prompts that the engine cannot encode, or that are too long for its context.
fn check_lengths(setup: &WorkerSetup) -> Result<(), Error> {
    let WorkerSetup {
        engine,
        prompts,
        rollout,
        ..
    } = setup;
    let context = engine.context_len();
    for prompt in prompts.prompts() {
        let tokens = match engine.encode(&prompt.text, prompt.form == Form::Rendered) {
            Ok(tokens) => tokens.len(),
            Err(source @ EngineError::Failed(_)) => {
                return Err(Error::Engine {
                    engine: engine.name().to_owned(),
                    attempted: format!("encode prompt {:?}", prompt.id),
                    source,
                });
            }
            Err(error) => {
                return Err(prompts.refuse(prompt, format!("prompt {:?}: {error}", prompt.id)));
            }
        };
        if tokens == 0 {
            let reason = format!(
                "prompt {:?} encodes to no tokens; fill or remove it",
                prompt.id
            );
            return Err(prompts.refuse(prompt, reason));
        }
        if tokens + rollout.max_tokens > context {
            let reason = format!(
                "prompt {:?} has {tokens} tokens, and with max_tokens {} exceeds the model's \
                 context of {context}; shorten it, or lower max_tokens to at most {}",
                prompt.id,
                rollout.max_tokens,
                context.saturating_sub(tokens),
            );
            return Err(prompts.refuse(prompt, reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
