use std::collections::BTreeMap;

use async_trait::async_trait;
use vintage_settings::{AnswerKind, RewardConfig};
use vintage_verify::{check, is_correct_after};

use crate::{error::Error, prompts::prompt::Prompt};

/// One completion to be scored.
#[derive(Debug, Clone, PartialEq)]
pub struct RewardItem {
    /// Text of the prompt.
    pub prompt: String,
    /// Text of the completion, without special tokens.
    pub completion: String,
    /// Known answer, if the prompt has one.
    pub answer: Option<String>,
    /// Metadata of the prompt.
    pub metadata: BTreeMap<String, String>,
    /// Score that came with the completion, such as the environment's of an episode.
    pub score: Option<RewardScore>,
}

impl RewardItem {
    /// Asks about a completion of a prompt that came without a score.
    pub fn new(prompt: &Prompt, completion: String) -> Self {
        Self {
            prompt: prompt.text.clone(),
            completion,
            answer: prompt.answer.clone(),
            metadata: prompt.metadata.clone(),
            score: None,
        }
    }
}

/// Score of a completion.
#[derive(Debug, Clone, PartialEq)]
pub struct RewardScore {
    /// Reward; finite, and at most [`vintage_trajectory::LARGEST_REWARD`] in absolute value.
    pub reward: f32,
    /// Named components of the reward, finite, for reports.
    pub parts: Option<BTreeMap<String, f32>>,
}

/// Reason for which a completion has no reward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}", reason = reason.as_str())]
pub struct RewardFailure {
    /// Class of the failure, for counting.
    pub reason: FailureReason,
    /// Description of the failure.
    pub detail: String,
}

/// Outcome of scoring one completion.
pub(crate) type RewardOutcome = Result<RewardScore, RewardFailure>;

/// Classes of reward failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureReason {
    /// The command did not answer in time.
    Timeout,
    /// The command ended while it owed an answer.
    Died,
    /// The command wrote a line that is not an answer.
    Garbage,
    /// The answer has no reward.
    Missing,
    /// The reward, or one of its parts, is not a finite number.
    NonFinite,
    /// The reward, or one of its parts, exceeds [`vintage_trajectory::LARGEST_REWARD`].
    OutOfRange,
    /// The command answered with an error of its own.
    Refused,
    /// The prompt has no answer to compare with.
    NoAnswer,
    /// The chat template or the tokenizer refuses the environment's messages.
    Unrendered,
    /// The chat template renders anew what was sampled already.
    RewrittenHistory,
    /// The environment gave messages where no turn was left.
    Unfinished,
    /// The environment's messages leave no room for another completion.
    TooLong,
}

impl FailureReason {
    /// Name of the class in counts and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Died => "died",
            Self::Garbage => "garbage",
            Self::Missing => "missing",
            Self::NonFinite => "non_finite",
            Self::OutOfRange => "out_of_range",
            Self::Refused => "refused",
            Self::NoAnswer => "no_answer",
            Self::Unrendered => "unrendered",
            Self::RewrittenHistory => "rewritten_history",
            Self::Unfinished => "unfinished",
            Self::TooLong => "too_long",
        }
    }
}

/// Scorer of completions.
#[async_trait]
pub trait Reward: Send {
    /// Scores all items. The result has one entry per item, in order; an outer `Err` is for a
    /// reward that cannot continue at all.
    async fn score(
        &mut self,
        items: Vec<RewardItem>,
    ) -> Result<Vec<Result<RewardScore, RewardFailure>>, Error>;

    /// Returns true if the reward needs a known answer for every prompt.
    fn needs_answer(&self) -> bool;

    /// Checks that a known answer can be compared with. The error says why not, and what to do.
    fn check_answer(&self, _answer: &str) -> Result<(), String> {
        Ok(())
    }

    /// Releases the resources of the reward, such as a subprocess.
    async fn close(&mut self) {}
}

/// Built-in reward: 1 for a right answer, 0 otherwise.
#[derive(Debug, Clone, Copy)]
pub struct VerifierReward {
    kind: AnswerKind,
}

impl VerifierReward {
    /// Creates the reward for one kind of answer.
    pub fn new(kind: AnswerKind) -> Self {
        Self { kind }
    }

    fn judge(self, item: &RewardItem) -> Result<RewardScore, RewardFailure> {
        let answer = item.answer.as_deref().ok_or_else(|| RewardFailure {
            reason: FailureReason::NoAnswer,
            detail: format!("the prompt {:?} has no answer", item.prompt),
        })?;
        let verdict = is_correct_after(self.kind, &item.prompt, &item.completion, answer);
        Ok(RewardScore {
            reward: if verdict.correct { 1.0 } else { 0.0 },
            parts: None,
        })
    }
}

#[async_trait]
impl Reward for VerifierReward {
    async fn score(
        &mut self,
        items: Vec<RewardItem>,
    ) -> Result<Vec<Result<RewardScore, RewardFailure>>, Error> {
        // A hostile completion can keep the math verifier busy for tens of milliseconds, so this
        // must not run on a thread that drives announcements and publishing.
        let verifier = *self;
        let judged = move || items.iter().map(|item| verifier.judge(item)).collect();
        tokio::task::spawn_blocking(judged)
            .await
            .map_err(|source| Error::Panicked {
                stage: "reward",
                source,
            })
    }

    fn needs_answer(&self) -> bool {
        true
    }

    fn check_answer(&self, answer: &str) -> Result<(), String> {
        check(self.kind, answer).map_err(|error| error.to_string())
    }
}

/// Reward of conversations: what the environment gave each episode.
#[derive(Debug, Clone, Copy)]
pub struct EpisodeReward;

#[async_trait]
impl Reward for EpisodeReward {
    async fn score(
        &mut self,
        items: Vec<RewardItem>,
    ) -> Result<Vec<Result<RewardScore, RewardFailure>>, Error> {
        let given = |item: RewardItem| {
            item.score.ok_or_else(|| RewardFailure {
                reason: FailureReason::Missing,
                detail: format!(
                    "the completion of {:?} is no episode of an environment",
                    item.prompt
                ),
            })
        };
        Ok(items.into_iter().map(given).collect())
    }

    fn needs_answer(&self) -> bool {
        false
    }
}

/// Counts groups whose reward failed, and fails once there are too many.
#[derive(Debug, Clone)]
pub(crate) struct FailureBudget {
    free: u64,
    share: f64,
    tried: u64,
    failed: BTreeMap<&'static str, u64>,
}

impl FailureBudget {
    pub(crate) fn new(config: &RewardConfig) -> Self {
        Self {
            free: config.max_failed_groups,
            share: config.max_failed_share,
            tried: 0,
            failed: BTreeMap::new(),
        }
    }

    pub(crate) fn succeeded(&mut self) {
        self.tried += 1;
    }

    /// Counts a failed group; returns an error if that was one too many.
    pub(crate) fn failed(&mut self, failure: &RewardFailure) -> Result<(), Error> {
        self.tried += 1;
        *self.failed.entry(failure.reason.as_str()).or_default() += 1;
        let failed: u64 = self.failed.values().sum();
        if failed <= self.free || failed as f64 <= self.share * self.tried as f64 {
            return Ok(());
        }
        let reasons: Vec<_> = self
            .failed
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        Err(Error::RewardFailures {
            failed,
            tried: self.tried,
            reasons: reasons.join(", "),
            last: failure.detail.clone(),
        })
    }

    pub(crate) fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.failed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{FailureBudget, FailureReason, Reward, RewardFailure, RewardItem, VerifierReward};
    use vintage_settings::{AnswerKind, RewardConfig};

    fn item(completion: &str, answer: Option<&str>) -> RewardItem {
        RewardItem {
            prompt: "2+2=".to_owned(),
            completion: completion.to_owned(),
            answer: answer.map(str::to_owned),
            metadata: BTreeMap::new(),
            score: None,
        }
    }

    #[tokio::test]
    async fn right_answers_earn_one() {
        let mut reward = VerifierReward::new(AnswerKind::Number);
        let items = vec![
            item("so 4", Some("4")),
            item("so 5", Some("4")),
            item("4", None),
        ];
        let scores = reward.score(items).await.unwrap();
        assert_eq!(scores[0].as_ref().unwrap().reward, 1.0);
        assert_eq!(scores[1].as_ref().unwrap().reward, 0.0);
        assert_eq!(
            scores[2].as_ref().unwrap_err().reason,
            FailureReason::NoAnswer
        );
        assert!(reward.needs_answer());
    }

    #[tokio::test]
    async fn a_thought_that_the_prompt_opens_has_to_end_before_there_is_an_answer() {
        let mut reward = VerifierReward::new(AnswerKind::Number);
        let asked = |completion: &str| RewardItem {
            prompt: "<|user|>2+2=<|assistant|><think>\n".to_owned(),
            ..item(completion, Some("4"))
        };
        let scores = reward
            .score(vec![asked("so 4"), asked("so 5\n</think>\n4")])
            .await;
        let rewards = scores
            .unwrap()
            .into_iter()
            .map(|score| score.unwrap().reward);
        assert_eq!(rewards.collect::<Vec<_>>(), [0.0, 1.0]);
    }

    #[test]
    fn judging_does_not_hold_up_the_runtime() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            // The only blocking thread is taken: scoring has to wait, and no other task has to.
            let (free, taken) = std::sync::mpsc::channel::<()>();
            let holder = tokio::task::spawn_blocking(move || taken.recv());
            let mut reward = VerifierReward::new(AnswerKind::Math);
            let mut judging = reward.score(vec![item("so $\\frac12$", Some("1/2"))]);
            let early = futures::future::poll_immediate(&mut judging).await;
            assert!(early.is_none());
            drop(free);
            assert!(holder.await.unwrap().is_err());
            assert_eq!(judging.await.unwrap()[0].as_ref().unwrap().reward, 1.0);
        });
    }

    #[test]
    fn the_budget_allows_a_few_and_then_a_share() {
        let failure = RewardFailure {
            reason: FailureReason::Timeout,
            detail: "no answer".to_owned(),
        };
        let config = RewardConfig {
            max_failed_groups: 2,
            max_failed_share: 0.1,
            ..Default::default()
        };
        let mut budget = FailureBudget::new(&config);
        budget.failed(&failure).unwrap();
        budget.failed(&failure).unwrap();
        let message = budget.clone().failed(&failure).unwrap_err().to_string();
        assert!(
            message.contains("3 of 3") && message.contains("timeout 3"),
            "{message}"
        );
        for _ in 0..27 {
            budget.succeeded();
        }
        budget.failed(&failure).unwrap();
        assert!(budget.failed(&failure).is_err());
        assert_eq!(budget.counts()["timeout"], 4);
    }
}
