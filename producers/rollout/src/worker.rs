mod flight;
pub(crate) mod judge;
mod sampler;

use std::{collections::BTreeMap, future::Future, path::PathBuf};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vintage_bus::{Bus, TopicTable};
use vintage_control::{Name, Topics};
use vintage_settings::RolloutConfig;

use crate::{
    conversation::ConversingEngine,
    engine::{Engine, EngineError, Sampling},
    environment::{Closing, Environment},
    error::Error,
    event::{ProducerEvent, ProducerSummary},
    follow::follow,
    lease_book::LeaseBook,
    leasing::Leases,
    prompts::PromptSet,
    publish::Publisher,
    reward::Reward,
    select::{Selector, slot_meaning, slots_sha256},
};
use judge::Judge;
use sampler::Sampler;

/// Leases that a producer holds at most, in calls of the engine: one call is sampled, one is scored
/// and published, and the next one is at hand.
pub const CALLS_HELD: usize = 3;

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
    /// Environment with which completions are conversations; `None` for single turns.
    pub environment: Option<Environment>,
    /// Prompts to sample from.
    pub prompts: PromptSet,
    /// First part of the producer's id, with the machine's name; the rest is new in every process.
    pub producer: Name,
    /// Sampling and rewards.
    pub rollout: RolloutConfig,
    /// Seed of the run. With a slot's number it selects the prompt and seeds the sampling.
    pub seed: u64,
    /// Groups that the learner takes per update.
    pub groups_per_update: u64,
    /// Total number of updates of the run, if known. A `finished` announcement found at the start is
    /// ignored below this version, because it may be left over from an earlier, shorter run; see
    /// [`WorkerSetup::updates_of_run`].
    pub updates: Option<u64>,
    /// True if `updates` comes from the settings of the run itself, which are newer than any
    /// announcement found at the start. If false, a number of updates in an announcement replaces
    /// it.
    pub updates_of_run: bool,
    /// Folder for the journal of acknowledged numbers; `None` keeps no journal.
    pub journal_dir: Option<PathBuf>,
}

/// One producer process: follows the policy, takes leases of slots, samples, scores and publishes.
///
/// Sampling, scoring and publishing form a pipeline: while one call of the engine runs, the groups
/// of the call before are scored, and those before that await their acknowledgement.
pub struct Worker {
    setup: WorkerSetup,
    id: String,
    closing: Option<Closing>,
}

impl Worker {
    /// Checks settings and prompts; sends nothing yet.
    pub fn new(mut setup: WorkerSetup) -> Result<Self, Error> {
        if let Some(violation) = setup.rollout.violations().into_iter().next() {
            return Err(Error::Config(violation));
        }
        let mut closing = None;
        if let Some(environment) = setup.environment.take() {
            let (conversing, end) = ConversingEngine::new(setup.engine, environment);
            setup.engine = Box::new(conversing);
            closing = Some(end);
        }
        let engine = &setup.engine;
        let render = |messages: &str| engine.render(messages).map_err(|error| error.to_string());
        setup.prompts.render(render)?;
        if closing.is_some() {
            setup.prompts.require_chats()?;
        }
        check_answers(&setup)?;
        check_lengths(&setup)?;
        // Numbers start at 0 in every process, so every process needs an id of its own.
        let id = format!("{}-{}", setup.producer, Uuid::now_v7().simple());
        Ok(Self { setup, id, closing })
    }

    /// Value of this process's `producer` header.
    pub fn producer_id(&self) -> &str {
        &self.id
    }

    /// Runs until the learner has finished or `cancel` is triggered. Groups being sampled then are
    /// still finished and published, and a last report gives back the leases that were not begun.
    ///
    /// It ends in good order at:
    ///
    /// * an announcement with `finished` that counts: one written after the start, or one whose
    ///   version has reached the number of updates of the run; see [`WorkerSetup::updates`].
    /// * `cancel`: a signal, the end of another role in the same process, or settings of the run that
    ///   disagree with those of this producer.
    ///
    /// # Errors
    /// * Announcements, grants or reports: the log cannot be read or written.
    /// * The lead learner refuses this producer, because its slots mean something else: another seed,
    ///   other prompts or another group size.
    /// * The learner announces another number of groups per update than this producer was set to.
    /// * The engine cannot load a version or sample, or its answer does not fit the request. Under
    ///   `gate.exact`, that includes a version that is deleted already; otherwise a newer one is
    ///   loaded.
    /// * The reward command or the environment gave up after its restarts, was changed, or more groups had no reward
    ///   than `rollout.reward.max_failed_groups` and `rollout.reward.max_failed_share` allow.
    /// * A group cannot be encoded, published or noted in the journal.
    /// * A stage panicked.
    pub async fn run(
        self,
        cancel: CancellationToken,
        events: mpsc::UnboundedSender<ProducerEvent>,
    ) -> Result<ProducerSummary, Error> {
        let Self { setup, id, closing } = self;
        let stop = cancel.child_token();
        let following = CancellationToken::new();
        let (news, policies) = watch::channel(None);
        let (sampled, to_judge) = mpsc::channel(1);
        let (judged, to_publish) = mpsc::channel(2 * setup.rollout.concurrent_groups);
        let group_size = setup.rollout.group_size;
        let book = LeaseBook::new(
            setup.policy.clone(),
            id.clone(),
            (CALLS_HELD * setup.rollout.concurrent_groups) as u64,
            slots_sha256(setup.seed, &setup.prompts, group_size),
        );
        let slots = slot_meaning(setup.seed, &setup.prompts, group_size);
        let leases = Leases::new(book.with_slots(slots));

        let publisher = Publisher::open(
            &setup.bus,
            &setup.topics,
            &setup.table,
            &id,
            setup.journal_dir.as_deref(),
            leases.clone(),
            events.clone(),
        )?;
        let reporter = setup
            .bus
            .producer(&format!("{id}-reports"))
            .map_err(Error::bus(format!("connect producer {id}")))?;
        let judge = Judge::new(
            setup.reward,
            &setup.rollout,
            &setup.policy,
            judged,
            leases.clone(),
            events.clone(),
        );
        let mut sampler = Sampler {
            leases: leases.clone(),
            granted: leases.granted(),
            selector: Selector::new(setup.seed, setup.prompts.len()),
            engine: setup.engine,
            prompts: setup.prompts,
            sampling: Sampling::from(&setup.rollout),
            group_size: setup.rollout.group_size,
            concurrent_groups: setup.rollout.concurrent_groups,
            groups_per_update: setup.groups_per_update,
            updates: setup.updates,
            updates_of_run: setup.updates_of_run,
            seed: setup.seed,
            policies,
            sampled,
            events,
            times: sampler::Times::default(),
            failed: BTreeMap::new(),
            failed_in_a_row: 0,
        };

        let granting = leases.clone().follow(
            setup.bus.clone(),
            setup.topics.clone(),
            id.clone(),
            following.clone(),
        );
        let reporting = leases.report(reporter, setup.topics.clone(), following.clone());
        let follower = follow(
            setup.bus,
            setup.topics,
            setup.policy,
            id.clone(),
            news,
            following.clone(),
        );
        let follower = start(&stop, follower);
        let granting = start(&stop, granting);
        let reporting = start(&stop, reporting);
        let publishing = start(&stop, publisher.run(to_publish));
        let judging = start(&stop, judge.run(to_judge));

        let sampling = sampler.run(&stop).await;
        let times = sampler.times;
        let unsampled = std::mem::take(&mut sampler.failed);
        // Dropping the sampler closes the channels one after the other.
        drop(sampler);
        if let Some(closing) = closing {
            closing.wait().await;
        }
        let failed = join("reward", judging).await;
        let published = join("publishing", publishing).await;
        following.cancel();
        let followed = join("announcements", follower).await;
        let granted = join("grants", granting).await;
        let reported = join("reports", reporting).await;

        // A failed stage stops the stages before it without an error of their own.
        let published = published?;
        let mut failed = failed?;
        for (reason, groups) in unsampled {
            *failed.entry(reason).or_default() += groups;
        }
        followed?;
        granted?;
        reported?;
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
        let tokens = match engine.encode(&prompt.text, prompt.is_rendered()) {
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
