//! `vintage eval --follow`: the evaluator of a run whose roles are processes of their own, and of its
//! followers.

use std::{path::Path, time::Duration};

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use vintage_control::{EvaluationResult, Name, PolicyVersion};
use vintage_settings::RunConfig;
use vintage_store::{Weights, evaluation_path};

use crate::{
    error::{Error, Result},
    event::{Events, RunEvent},
    folder::open_store,
    prompts::PromptSets,
    wire::evaluator::{is_evaluated, open},
};

/// Interval at which the store is asked for new versions. A learner without a broker announces none,
/// and a store has no way to tell.
const LOOK: Duration = Duration::from_secs(2);

/// Evaluations that [`follow`] made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Followed {
    /// Policy of the versions.
    pub policy: Name,
    /// True if the values are mean rewards that a program gave.
    pub judged_by_program: bool,
    /// Number of versions evaluated by this process.
    pub evaluated: u64,
    /// Versions that were due, are older than the newest, and are not in the store: deleted since, or
    /// never published.
    pub missing: Vec<PolicyVersion>,
    /// True if every version due, up to the learner's last update, was looked at.
    pub finished: bool,
    /// Newest evaluation made by this process.
    pub last: Option<EvaluationResult>,
}

/// Evaluates the versions of the learner of `config`, in the run's folder, that are due by `evaluation.every`, those already in the store
/// first and then each as it appears, until the learner's last one or until `stop` is cancelled.
/// Results are written where `vintage run` writes them; versions that have one are skipped.
///
/// # Errors
/// The folder is no run's, there are no held-out prompts, or a reward fails.
pub async fn follow(
    run: &Path,
    config: &RunConfig,
    stop: &CancellationToken,
    events: &Events,
) -> Result<Followed> {
    let prompts = PromptSets::read(&config.prompts)?;
    let prompts = prompts.heldout.ok_or_else(|| Error::Setting {
        setting: "prompts.heldout".to_owned(),
        reason: "the run has no held-out prompts, so its versions cannot be evaluated".to_owned(),
    })?;
    let store = open_store(run)?;
    let policy = config.learner.policy.clone();
    let weights = Weights::new(store.clone(), policy.clone());
    let mut due = Due::new(config);
    let mut followed = Followed {
        policy: policy.clone(),
        judged_by_program: config.rollout.is_judged_by_program(),
        evaluated: 0,
        missing: Vec::new(),
        finished: false,
        last: None,
    };
    let _nobody_listens = events.send(RunEvent::Phase(format!(
        "waiting for versions of policy {policy}"
    )));
    let mut evaluator = None;
    loop {
        let published = weights.versions().await?;
        for version in due.up_to(published.last().copied()) {
            if stop.is_cancelled() {
                break;
            }
            if published.contains(&version) {
                let ready = match evaluator.take() {
                    Some(ready) => ready,
                    None => open(config, &store, prompts.clone(), version, events).await?,
                };
                let evaluation = evaluator.insert(ready).evaluate_once(version).await?;
                followed.evaluated += u64::from(evaluation.is_some());
                followed.last = evaluation.or(followed.last);
            } else if store
                .head(&evaluation_path(&policy, version))
                .await?
                .is_none()
            {
                followed.missing.push(version);
            }
            due.done(version);
        }
        if due.is_over() {
            break;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    if let Some(evaluator) = evaluator {
        evaluator.close().await;
    }
    followed.finished = due.is_over();
    Ok(followed)
}

/// Versions of a run that are to be evaluated and were not yet looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Due {
    every: u64,
    steps: u64,
    /// First version not looked at.
    next: PolicyVersion,
}

impl Due {
    fn new(config: &RunConfig) -> Self {
        Self {
            every: config.evaluation.every,
            steps: config.learner.steps,
            next: PolicyVersion::ZERO,
        }
    }

    /// Returns the versions that are due, up to the newest one published, ascending.
    fn up_to(&self, newest: Option<PolicyVersion>) -> Vec<PolicyVersion> {
        let end = newest.map_or(0, |newest| newest.0 + 1);
        let all = (self.next.0..end).map(PolicyVersion);
        all.filter(|version| is_evaluated(*version, self.every, self.steps))
            .collect()
    }

    fn done(&mut self, version: PolicyVersion) {
        self.next = self.next.max(PolicyVersion(version.0 + 1));
    }

    /// Returns true once the last update's version was looked at.
    fn is_over(&self) -> bool {
        self.next.0 > self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_due_once_and_end_with_the_last_update() {
        let mut due = Due {
            every: 25,
            steps: 60,
            next: PolicyVersion::ZERO,
        };
        let versions = |all: &[u64]| all.iter().copied().map(PolicyVersion).collect::<Vec<_>>();
        assert_eq!(due.up_to(None), []);
        assert_eq!(due.up_to(Some(PolicyVersion(26))), versions(&[0, 25]));
        due.done(PolicyVersion(0));
        due.done(PolicyVersion(25));
        assert_eq!(due.up_to(Some(PolicyVersion(49))), []);
        assert!(!due.is_over());
        assert_eq!(due.up_to(Some(PolicyVersion(60))), versions(&[50, 60]));
        due.done(PolicyVersion(60));
        assert!(due.is_over());
    }
}
