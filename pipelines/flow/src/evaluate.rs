//! Accuracy of versions on held-out prompts, measured while training continues.

use std::time::Instant;

use tokio::sync::mpsc;
use vintage_control::{CONTROL_FORMAT, EvaluationResult, Name, PolicyVersion};
use vintage_human::Measured;
use vintage_store::{Store, evaluation_path, write_evaluation};

use crate::{
    error::Result,
    event::{Events, RunEvent},
    exam::Exam,
};

/// Evaluator of versions, one after the other, each once.
pub(crate) struct Evaluator {
    /// Held-out prompts, engine and reward.
    pub exam: Exam,
    /// Policy whose versions are evaluated.
    pub policy: Name,
    /// Store of the run, where results are written.
    pub store: Store,
    /// Measure of the results.
    pub measured: Measured,
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
            self.evaluate_once(version).await?;
        }
        self.close().await;
        Ok(())
    }

    /// Evaluates a version and writes the result; returns `None` if it has one already.
    pub(crate) async fn evaluate_once(
        &mut self,
        version: PolicyVersion,
    ) -> Result<Option<EvaluationResult>> {
        let path = evaluation_path(&self.policy, version);
        if self.store.head(&path).await?.is_some() {
            return Ok(None);
        }
        let prompts = self.exam.count() as u64;
        let begun = RunEvent::Evaluating { version, prompts };
        let _nobody_listens = self.events.send(begun);
        let evaluation = self.evaluate(version).await?;
        write_evaluation(&self.store, &evaluation).await?;
        let evaluated = RunEvent::Evaluated {
            result: evaluation.clone(),
            measured: self.measured,
        };
        let _nobody_listens = self.events.send(evaluated);
        Ok(Some(evaluation))
    }

    /// Ends the environment, if there is one.
    pub(crate) async fn close(self) {
        self.exam.close().await;
    }

    async fn evaluate(&mut self, version: PolicyVersion) -> Result<EvaluationResult> {
        let started = Instant::now();
        self.exam.load(version).await?;
        let sampled = self.mean(1.0).await?;
        let greedy = self.mean(0.0).await?;
        Ok(EvaluationResult {
            format: CONTROL_FORMAT.to_owned(),
            policy: self.policy.clone(),
            version,
            sampled_accuracy: sampled,
            greedy_accuracy: greedy,
            samples: self.exam.count() as u64,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Returns the mean reward with one completion per prompt.
    async fn mean(&mut self, temperature: f32) -> Result<f64> {
        let all = 0..self.exam.count();
        let answers = self.exam.answers(all, temperature, 1).await?;
        let total: f64 = answers.iter().flatten().map(|answer| answer.reward).sum();
        Ok(total / answers.len().max(1) as f64)
    }
}
