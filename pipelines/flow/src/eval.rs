//! Entry point of `vintage eval`: answers of a model, or of versions of a run's policy, to held-out
//! prompts.

mod follow;
mod score;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use vintage_control::{Name, PolicyVersion};
use vintage_settings::RunConfig;

pub use self::{
    follow::{Followed, follow},
    score::{Interval, Score},
};
use crate::{
    error::{Error, Result},
    event::{Events, RunEvent},
    exam::Exam,
    folder::open_store,
    learner_of::learner_of,
    opened::{Opened, is_run, open},
    prompts::PromptSets,
    published::published,
};

/// Number of prompts that are answered between two reports of progress.
const TOGETHER: usize = 16;

/// Model or versions to evaluate, and how.
#[derive(Debug, Clone)]
pub struct EvalRequest {
    /// Folder of a run or of a model, or `hf://NAME`.
    pub what: PathBuf,
    /// Learner whose policy is evaluated, of a run; the lead if not given.
    pub learner: Option<Name>,
    /// Versions of a run's policy; the newest if empty.
    pub versions: Vec<PolicyVersion>,
    /// Largest number of prompts, from the start of the held-out ones; all if not given.
    pub count: Option<usize>,
    /// Answers to each prompt.
    pub samples: u16,
    /// Temperature of these answers.
    pub temperature: f32,
}

/// Result of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Folder or name, as it was given.
    pub of: String,
    /// Policy of the versions; `None` for a model.
    pub policy: Option<Name>,
    /// Number of prompts.
    pub prompts: usize,
    /// Answers to each prompt at `temperature`.
    pub samples: u16,
    /// Temperature of the sampled answers.
    pub temperature: f32,
    /// Largest number of tokens of an answer.
    pub max_tokens: usize,
    /// Result by version; one for a model.
    pub versions: Vec<EvaluatedVersion>,
}

/// Result of one version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluatedVersion {
    /// Version of the policy; `None` for a model.
    pub version: Option<PolicyVersion>,
    /// One greedy answer to each prompt.
    pub greedy: Score,
    /// Sampled answers.
    pub sampled: Score,
    /// Duration in seconds.
    pub seconds: f64,
}

/// Has the held-out prompts of `config` answered, greedily and by sampling, and judges the answers with
/// its reward. Nothing is written.
///
/// # Errors
/// There is no such model, run or version; no held-out prompts; or a reward that fails.
pub async fn eval(
    request: &EvalRequest,
    config: &RunConfig,
    stop: &CancellationToken,
    events: &Events,
) -> Result<Evaluation> {
    let evaluating = evaluate(request, config, events);
    tokio::select! {
        evaluation = evaluating => evaluation,
        () = stop.cancelled() => Err(Error::Interrupted),
    }
}

async fn evaluate(
    request: &EvalRequest,
    config: &RunConfig,
    events: &Events,
) -> Result<Evaluation> {
    let prompts = PromptSets::read(&config.prompts)?;
    let prompts = prompts.heldout.ok_or_else(|| Error::Setting {
        setting: "prompts.heldout".to_owned(),
        reason: "there are no held-out prompts: name a file with --prompts".to_owned(),
    })?;
    let (what, learner) = (&request.what, request.learner.as_ref());
    let first = request.versions.first().copied();
    let Opened { engine, of_run } = open(what, learner, first, events).await?;
    let policy = of_run.as_ref().map(|found| found.policy.clone());
    let mut asked = vec![of_run.map_or(PolicyVersion::ZERO, |found| found.version)];
    for version in request.versions.iter().skip(1) {
        asked.push(published(what, learner, Some(*version)).await?.version);
    }
    let count = request.count.unwrap_or(prompts.len());
    let mut exam = Exam::new(engine, config, prompts, count)?;
    exam.check_answers()?;
    let mut versions = Vec::new();
    for version in &asked {
        let started = Instant::now();
        exam.load(*version).await?;
        let mut answers = [Vec::new(), Vec::new()];
        let drawn = [(0.0, 1), (request.temperature, request.samples)];
        for begin in (0..exam.count()).step_by(TOGETHER) {
            let places = begin..(begin + TOGETHER).min(exam.count());
            let done = places.end as u64;
            for (answers, (temperature, samples)) in answers.iter_mut().zip(drawn) {
                answers.extend(exam.answers(places.clone(), temperature, samples).await?);
            }
            let _nobody_listens = events.send(RunEvent::Examined {
                version: *version,
                done,
                prompts: exam.count() as u64,
            });
        }
        let [greedy, sampled] = answers.map(|answers| Score::of(&answers));
        versions.push(EvaluatedVersion {
            version: policy.is_some().then_some(*version),
            greedy,
            sampled,
            seconds: started.elapsed().as_secs_f64(),
        });
    }
    let prompts = exam.count();
    exam.close().await;
    Ok(Evaluation {
        of: request.what.display().to_string(),
        policy,
        prompts,
        samples: request.samples,
        temperature: request.temperature,
        max_tokens: config.rollout.max_tokens,
        versions,
    })
}

/// Returns the settings file of a learner of a run, the lead's if no name is given; `None` for a model.
///
/// # Errors
/// The run has no such learner.
pub async fn settings_of(what: &Path, learner: Option<&Name>) -> Result<Option<PathBuf>> {
    if !is_run(what) {
        return Ok(None);
    }
    let found = learner_of(what, &open_store(what)?, learner).await?;
    Ok(Some(found.config))
}
