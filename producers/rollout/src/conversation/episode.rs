//! One conversation as tokens, rewards and messages.

use std::collections::BTreeMap;

use vintage_control::PolicyVersion;
use vintage_trajectory::{LARGEST_REWARD, LogprobMode, PolicySpan};

use super::dialogue::Dialogue;
use crate::{
    engine::{Episode, Sample},
    reward::{FailureReason, RewardFailure, RewardScore},
};

/// Conversation that goes on.
pub(super) struct Conversation {
    pub(super) dialogue: Dialogue,
    prompt: Vec<i32>,
    /// Tokens after the prompt: completions, and between them what the environment said.
    tokens: Vec<i32>,
    logprobs: Vec<f32>,
    /// True for tokens that were sampled.
    mask: Vec<bool>,
    spans: Vec<PolicySpan>,
    logprob_mode: LogprobMode,
    seconds: f32,
    turns: u32,
    /// Text of the last completion, special tokens spelled out, without its stop token.
    pub(super) completion: String,
    /// Stop token that ended the last completion; `None` if it reached its longest length.
    pub(super) stop: Option<i32>,
    rewards: f64,
    parts: BTreeMap<String, f32>,
}

impl Conversation {
    pub(super) fn new(dialogue: Dialogue, prompt: Vec<i32>) -> Self {
        Self {
            dialogue,
            prompt,
            tokens: Vec::new(),
            logprobs: Vec::new(),
            mask: Vec::new(),
            spans: Vec::new(),
            logprob_mode: LogprobMode::Full,
            seconds: 0.0,
            turns: 0,
            completion: String::new(),
            stop: None,
            rewards: 0.0,
            parts: BTreeMap::new(),
        }
    }

    /// Length in tokens, the prompt included.
    pub(super) fn len(&self) -> usize {
        self.prompt.len() + self.tokens.len()
    }

    /// Number of completions.
    pub(super) fn turns(&self) -> u32 {
        self.turns
    }

    /// All tokens, the prompt included.
    pub(super) fn ids(&self) -> Vec<i32> {
        [&self.prompt[..], &self.tokens].concat()
    }

    /// Tokens after the prompt.
    pub(super) fn tokens(&self) -> &[i32] {
        &self.tokens
    }

    /// Newest version that sampled a token.
    pub(super) fn newest(&self) -> PolicyVersion {
        self.spans
            .last()
            .map(|span| span.version)
            .unwrap_or_default()
    }

    /// Appends a completion, whose text is `spelled`.
    ///
    /// # Errors
    /// Its tokens are of an older version than those before, or its numbers do not fit together.
    pub(super) fn sampled(&mut self, sample: Sample, spelled: String) -> Result<(), String> {
        let count = sample.completion_tokens.len();
        if count == 0 || sample.logprobs.len() != count || sample.spans.is_empty() {
            return Err(format!(
                "the engine returned {count} tokens, {} log-probs and {} policy spans",
                sample.logprobs.len(),
                sample.spans.len()
            ));
        }
        let offset = self.tokens.len() as i32;
        for span in &sample.spans {
            match self.spans.last() {
                Some(last) if last.version > span.version => {
                    return Err(format!(
                        "the engine sampled with version {} after version {}",
                        span.version, last.version
                    ));
                }
                // What the environment said has the version of the completion before it.
                Some(last) if last.version == span.version => {}
                _ => self.spans.push(PolicySpan {
                    start: offset + span.start,
                    version: span.version,
                }),
            }
        }
        let stopped = sample.finish_reason == "stop";
        self.stop = sample.completion_tokens.last().copied().filter(|_| stopped);
        self.completion = spelled;
        self.tokens.extend(sample.completion_tokens);
        self.logprobs.extend(sample.logprobs);
        self.mask.resize(self.tokens.len(), true);
        self.logprob_mode = sample.logprob_mode;
        self.seconds += sample.seconds;
        self.turns += 1;
        Ok(())
    }

    /// Appends tokens that were not sampled.
    pub(super) fn follow(&mut self, tokens: &[i32]) {
        self.tokens.extend_from_slice(tokens);
        self.logprobs.resize(self.tokens.len(), 0.0);
        self.mask.resize(self.tokens.len(), false);
    }

    /// Adds the reward of the last turn.
    pub(super) fn reward(&mut self, score: RewardScore) {
        self.rewards += f64::from(score.reward);
        self.parts.extend(score.parts.unwrap_or_default());
        self.parts
            .insert(format!("turn_{}", self.turns), score.reward);
    }

    /// Returns the conversation as one completion, whose text is `text`.
    ///
    /// # Errors
    /// The sum of its rewards is out of range.
    pub(super) fn finish(self, text: String, reason: &str) -> Result<Sample, RewardFailure> {
        if self.rewards.abs() > f64::from(LARGEST_REWARD) {
            return Err(RewardFailure {
                reason: FailureReason::OutOfRange,
                detail: format!(
                    "the rewards of an episode's turns sum up to {}, beyond ±{LARGEST_REWARD}; \
                     scale rewards to the size of what they mean",
                    self.rewards
                ),
            });
        }
        Ok(Sample {
            prompt_tokens: self.prompt,
            completion_tokens: self.tokens,
            logprobs: self.logprobs,
            logprob_mode: self.logprob_mode,
            completion_text: text,
            finish_reason: reason.to_owned(),
            spans: self.spans,
            seconds: self.seconds,
            episode: Some(Episode {
                sampled: self.mask,
                turns: self.turns,
            }),
            score: Some(RewardScore {
                reward: self.rewards as f32,
                parts: Some(self.parts),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation() -> Conversation {
        let chat = r#"[{"role":"user","content":"1"}]"#;
        Conversation::new(Dialogue::of_chat(chat).unwrap(), vec![1, 2])
    }

    fn sample(tokens: &[i32], reason: &str, spans: &[(i32, u64)]) -> Sample {
        let span = |&(start, version)| PolicySpan {
            start,
            version: PolicyVersion(version),
        };
        Sample {
            prompt_tokens: Vec::new(),
            completion_tokens: tokens.to_vec(),
            logprobs: vec![-0.5; tokens.len()],
            logprob_mode: LogprobMode::Full,
            completion_text: String::new(),
            finish_reason: reason.to_owned(),
            spans: spans.iter().map(span).collect(),
            seconds: 1.0,
            episode: None,
            score: None,
        }
    }

    #[test]
    fn every_token_says_whether_it_was_sampled_and_by_which_version() {
        let mut episode = conversation();
        let said = |text: &str| text.to_owned();
        episode
            .sampled(sample(&[5, 6, 9], "stop", &[(0, 3)]), said("a"))
            .unwrap();
        assert_eq!(episode.stop, Some(9));
        episode.reward(RewardScore {
            reward: 0.5,
            parts: Some([("form".to_owned(), 1.0)].into()),
        });
        episode.follow(&[7, 7]);
        let second = sample(&[5, 6, 6], "length", &[(0, 3), (2, 4)]);
        episode.sampled(second, said("b")).unwrap();
        assert_eq!((episode.stop, episode.newest()), (None, PolicyVersion(4)));
        episode.follow(&[7]);
        episode
            .sampled(sample(&[9], "stop", &[(0, 8)]), said(""))
            .unwrap();
        let back = sample(&[9], "stop", &[(0, 7)]);
        assert!(
            episode
                .sampled(back, said(""))
                .unwrap_err()
                .contains("after version 8")
        );
        episode.reward(RewardScore {
            reward: -2.0,
            parts: None,
        });
        assert_eq!(episode.ids(), [1, 2, 5, 6, 9, 7, 7, 5, 6, 6, 7, 9]);
        let row = episode.finish(said("text"), "stop").unwrap();
        assert_eq!(row.completion_tokens, [5, 6, 9, 7, 7, 5, 6, 6, 7, 9]);
        let spans: Vec<_> = row
            .spans
            .iter()
            .map(|span| (span.start, span.version.0))
            .collect();
        assert_eq!(spans, [(0, 3), (7, 4), (9, 8)]);
        let (facts, score) = (row.episode.unwrap(), row.score.unwrap());
        let mask = "tttfftttft".chars().map(|c| c == 't').collect::<Vec<_>>();
        assert_eq!(facts.sampled, mask);
        for (logprob, sampled) in row.logprobs.iter().zip(mask) {
            assert_eq!(*logprob, if sampled { -0.5 } else { 0.0 });
        }
        assert_eq!((row.seconds, facts.turns, score.reward), (3.0, 3, -1.5));
        let parts = [("form", 1.0), ("turn_1", 0.5), ("turn_3", -2.0)];
        let parts = parts.map(|(name, part)| (name.to_owned(), part));
        assert_eq!(score.parts, Some(BTreeMap::from(parts)));
    }

    #[test]
    fn rewards_that_are_too_large_together_are_refused() {
        let mut episode = conversation();
        for _ in 0..2 {
            let completion = sample(&[9], "stop", &[(0, 0)]);
            episode.sampled(completion, String::new()).unwrap();
            episode.reward(RewardScore {
                reward: 7e5,
                parts: None,
            });
        }
        let failure = episode.finish(String::new(), "stop").unwrap_err();
        assert_eq!(failure.reason, FailureReason::OutOfRange);
    }
}
