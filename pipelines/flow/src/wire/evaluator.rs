//! Construction of the evaluator, and the versions it evaluates.

use tokio::{sync::mpsc, task::JoinHandle};
use vintage_control::PolicyVersion;
use vintage_human::Measured;
use vintage_local::LocalEngine;
use vintage_rollout::PromptSet;
use vintage_settings::RunConfig;
use vintage_store::{Store, Weights};

use crate::{
    error::Result, evaluate::Evaluator, event::Events, exam::Exam, folder::RunFolder,
    prompts::PromptSets,
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
    let store = folder.store();
    let weights = Weights::new(store.clone(), config.learner.policy.clone());
    let (ask, asked) = mpsc::unbounded_channel();
    for version in weights.versions().await? {
        if is_evaluated(version, config.evaluation.every, config.learner.steps) {
            let _received_below = ask.send(version);
        }
    }
    let evaluator = open(config, store, prompts.clone(), PolicyVersion::ZERO, events).await?;
    Ok((Some(ask), Some(tokio::spawn(evaluator.run(asked)))))
}

/// Makes an evaluator of the learner's policy that holds the weights of `version`.
pub(crate) async fn open(
    config: &RunConfig,
    store: &Store,
    prompts: PromptSet,
    version: PolicyVersion,
    events: &Events,
) -> Result<Evaluator> {
    let policy = config.learner.policy.clone();
    let weights = Weights::new(store.clone(), policy.clone());
    let engine = LocalEngine::open(weights, policy.clone(), version).await?;
    Ok(Evaluator {
        exam: Exam::new(engine, config, prompts, config.evaluation.prompts)?,
        policy,
        store: store.clone(),
        measured: Measured::of(config.rollout.is_judged_by_program()),
        events: events.clone(),
    })
}
