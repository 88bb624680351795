//! Construction of the evaluator, and the versions it evaluates.

use tokio::{sync::mpsc, task::JoinHandle};
use vintage_control::PolicyVersion;
use vintage_local::LocalEngine;
use vintage_rollout::{ConversingEngine, Engine, open_reward};
use vintage_settings::RunConfig;

use crate::{
    error::Result, evaluate::Evaluator, event::Events, folder::RunFolder,
    prepared::start_environment, prompts::PromptSets,
};

/// Channel to the evaluator; `None` without held-out prompts.
pub(crate) type Evaluations = Option<mpsc::UnboundedSender<PolicyVersion>>;

/// Versions to evaluate: 0, every `every`-th, the last.
pub(crate) fn is_evaluated(version: PolicyVersion, every: u64, steps: u64) -> bool {
    version.0 == 0 || version.0 == steps || (every > 0 && version.0.is_multiple_of(every))
}

/// Starts the evaluator where the task has held-out prompts; it begins with the versions that an
/// earlier process left without their evaluation.
pub(crate) async fn start(
    config: &RunConfig,
    folder: &RunFolder,
    task: &PromptSets,
    events: &Events,
) -> Result<(Evaluations, Option<JoinHandle<Result<()>>>)> {
    let Some(prompts) = &task.heldout else {
        return Ok((None, None));
    };
    let policy = config.learner.policy.clone();
    let weights = folder.weights(&policy);
    let (ask, asked) = mpsc::unbounded_channel();
    for version in weights.versions().await? {
        if is_evaluated(version, config.evaluation.every, config.learner.steps) {
            let _received_below = ask.send(version);
        }
    }
    let engine = LocalEngine::open(weights, policy.clone(), PolicyVersion::ZERO).await?;
    let mut engine: Box<dyn Engine> = Box::new(engine);
    let mut closing = None;
    // An environment of its own, so that its episodes' numbers are not mixed with the producer's.
    if let Some(environment) = start_environment(config)? {
        let (conversing, end) = ConversingEngine::new(engine, environment);
        engine = Box::new(conversing);
        closing = Some(end);
    }
    let mut prompts = prompts.clone();
    prompts.render(|messages| engine.render(messages).map_err(|error| error.to_string()))?;
    let evaluator = Evaluator {
        engine,
        closing,
        reward: open_reward(&config.rollout)?,
        prompts,
        count: config.evaluation.prompts,
        max_tokens: config.rollout.max_tokens,
        seed: config.seed,
        policy,
        store: folder.store().clone(),
        events: events.clone(),
    };
    Ok((Some(ask), Some(tokio::spawn(evaluator.run(asked)))))
}
