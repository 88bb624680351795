//! Accuracy of versions on held-out prompts, measured while training continues.

use std::time::Instant;

use tokio::sync::mpsc;
use vintage_control::{
    CONTROL_FORMAT, EvaluationExample, EvaluationResult, Metric, Name, PolicyVersion,
};
use vintage_human::Measured;
use vintage_rollout::Prompt;
use vintage_store::{Store, evaluation_path, write_evaluation};

use crate::{
    error::Result,
    event::{Events, RunEvent},
    exam::{Exam, Judged},
};

/// Number of prompts whose greedy completions are kept with the result.
const EXAMPLES: usize = 4;
/// Most characters kept of a text.
const LONGEST: usize = 4000;

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
        for (kind, accuracy) in [
            ("sampled", evaluation.sampled_accuracy),
            ("greedy", evaluation.greedy_accuracy),
        ] {
            let labels = [
                ("policy", self.policy.to_string()),
                ("kind", kind.to_owned()),
            ];
            metrics::gauge!(Metric::ACCURACY.name, &labels).set(accuracy);
        }
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
        let sampled = mean(&self.answers(1.0).await?);
        let greedy = self.answers(0.0).await?;
        let shown = self.exam.prompts().iter().zip(&greedy).take(EXAMPLES);
        Ok(EvaluationResult {
            format: CONTROL_FORMAT.to_owned(),
            policy: self.policy.clone(),
            version,
            sampled_accuracy: sampled,
            greedy_accuracy: mean(&greedy),
            samples: self.exam.count() as u64,
            seconds: started.elapsed().as_secs_f64(),
            examples: shown.filter_map(example).collect(),
        })
    }

    /// Returns one answer to each prompt.
    async fn answers(&mut self, temperature: f32) -> Result<Vec<Vec<Judged>>> {
        let all = 0..self.exam.count();
        self.exam.answers(all, temperature, 1).await
    }
}

fn mean(answers: &[Vec<Judged>]) -> f64 {
    let total: f64 = answers.iter().flatten().map(|answer| answer.reward).sum();
    total / answers.len().max(1) as f64
}

fn example((prompt, answers): (&Prompt, &Vec<Judged>)) -> Option<EvaluationExample> {
    let answer = answers.first()?;
    Some(EvaluationExample {
        prompt_id: prompt.id.clone(),
        prompt: without_middle(&prompt.text),
        answer: prompt.answer.as_deref().map(without_middle),
        completion: without_middle(&answer.completion),
        reward: answer.reward,
    })
}

/// Returns a text of at most about [`LONGEST`] characters: of a longer one, its beginning and its end,
/// where a final answer is.
fn without_middle(text: &str) -> String {
    let half = LONGEST / 2;
    let starts: Vec<_> = text.char_indices().map(|(at, _)| at).collect();
    match starts.len().checked_sub(half) {
        Some(later) if starts.len() > LONGEST => {
            let (start, end) = (&text[..starts[half]], &text[starts[later]..]);
            format!("{start} […] {end}")
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_lose_their_middle_at_whole_characters() {
        let short = "ä".repeat(LONGEST);
        assert_eq!(without_middle(&short), short);
        let long = format!("{}-{}", "ä".repeat(LONGEST), "ö".repeat(LONGEST));
        let half = LONGEST / 2;
        let expected = format!("{} […] {}", "ä".repeat(half), "ö".repeat(half));
        assert_eq!(without_middle(&long), expected);
    }
}
