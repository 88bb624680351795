use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::{Semaphore, watch};
use vintage_control::PolicyVersion;
use vintage_trajectory::{LogprobMode, PolicySpan};

use crate::{
    engine::{Engine, EngineError, Following, Groups, Overlap, Sample, SampleRequest, TurnSampler},
    error::Error,
    reward::{FailureReason, Reward, RewardFailure, RewardItem, RewardScore},
};

/// Behaviour of a [`ScriptedEngine`].
#[derive(Clone)]
pub(super) struct Script {
    /// Tokens of every completion; `None` is one.
    pub(super) length: Option<usize>,
    pub(super) context: usize,
    /// Versions that are no longer in the store.
    pub(super) pruned: BTreeSet<u64>,
    /// Semaphore of which every call takes a permit.
    pub(super) hold: Option<Arc<Semaphore>>,
    /// Work that may be taken while a call runs.
    pub(super) overlap: Overlap,
    /// Prompt whose groups take a permit of a semaphore each.
    pub(super) slow: Option<(&'static str, Arc<Semaphore>)>,
    /// Prompts whose groups cannot be sampled.
    pub(super) failing: BTreeSet<&'static str>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            length: None,
            context: 30,
            pruned: BTreeSet::new(),
            hold: None,
            overlap: Overlap::Nothing,
            slow: None,
            failing: BTreeSet::new(),
        }
    }
}

/// Log-prob of every token, which bf16 rounds to -2.5.
pub(super) const LOGPROB: f32 = -2.503;

/// Engine that completes with one digit, which follows from row seed and version alone; encodes
/// only ASCII.
pub(super) struct ScriptedEngine {
    script: Script,
    version: PolicyVersion,
    loads: Arc<Mutex<Vec<u64>>>,
    asked: watch::Sender<u64>,
}

impl ScriptedEngine {
    pub(super) fn new(script: Script) -> Self {
        let asked = watch::Sender::new(0);
        Self {
            script,
            version: PolicyVersion::ZERO,
            loads: Arc::default(),
            asked,
        }
    }

    pub(super) fn loads(&self) -> Arc<Mutex<Vec<u64>>> {
        Arc::clone(&self.loads)
    }

    /// Version last requested, loaded or not.
    pub(super) fn asked(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }
}

#[async_trait]
impl Engine for ScriptedEngine {
    fn name(&self) -> &'static str {
        "scripted/1"
    }

    fn version(&self) -> PolicyVersion {
        self.version
    }

    fn context_len(&self) -> usize {
        self.script.context
    }

    fn encode(&self, text: &str, rendered: bool) -> Result<Vec<i32>, EngineError> {
        self.turns().encode(text, rendered)
    }

    fn render(&self, messages: &str) -> Result<String, EngineError> {
        Ok(messages.to_owned())
    }

    async fn load(&mut self, version: PolicyVersion) -> Result<(), EngineError> {
        self.asked.send_replace(version.0);
        if self.script.pruned.contains(&version.0) {
            return Err(EngineError::VersionGone { version });
        }
        self.loads.lock().unwrap().push(version.0);
        self.version = version;
        Ok(())
    }

    fn turns(&self) -> Arc<dyn TurnSampler> {
        Arc::new(ScriptedTurns {
            script: self.script.clone(),
            version: self.version,
        })
    }

    fn overlap(&self) -> Overlap {
        self.script.overlap
    }
}

/// Sampler of a [`ScriptedEngine`].
struct ScriptedTurns {
    script: Script,
    version: PolicyVersion,
}

impl ScriptedTurns {
    fn tokens_of(&self, request: &SampleRequest) -> Vec<i32> {
        match &request.turn {
            Some(turn) => turn.tokens.clone(),
            None => self.encode(&request.prompt.text, true).unwrap(),
        }
    }

    fn group(&self, request: &SampleRequest) -> Vec<Sample> {
        (0..request.samples)
            .map(|index| self.complete(request, index))
            .collect()
    }

    fn complete(&self, request: &SampleRequest, index: u16) -> Sample {
        let draw = request.row_seed(index) ^ self.version.0.wrapping_mul(0x9e37_79b9);
        let digit = (draw % 10) as i32;
        let length = self.script.length.unwrap_or(1);
        Sample {
            prompt_tokens: self.tokens_of(request),
            completion_tokens: vec![digit; length],
            logprobs: vec![LOGPROB; length],
            logprob_mode: LogprobMode::Full,
            completion_text: digit.to_string(),
            finish_reason: "stop".to_owned(),
            spans: vec![PolicySpan {
                start: 0,
                version: self.version,
            }],
            seconds: 0.5,
            episode: None,
            score: None,
        }
    }
}

impl TurnSampler for ScriptedTurns {
    fn sample(&self, requests: Vec<SampleRequest>) -> Groups {
        let hold = self.script.hold.clone();
        let held = async move {
            if let Some(hold) = hold {
                hold.acquire().await.unwrap().forget();
            }
        };
        let groups = requests.iter().enumerate().map(|(index, request)| {
            let prompt = request.prompt.text.as_str();
            let slow = self.script.slow.clone().filter(|(slow, _)| *slow == prompt);
            let group = if self.script.failing.contains(prompt) {
                Err(EngineError::GroupFailed {
                    reason: "scripted",
                    detail: format!("{prompt:?} fails"),
                })
            } else {
                Ok(self.group(request))
            };
            async move {
                if let Some((_, slow)) = slow {
                    slow.acquire().await.unwrap().forget();
                }
                (index, group)
            }
        });
        let groups: FuturesUnordered<_> = groups.collect();
        futures::stream::once(held)
            .map(|()| None)
            .chain(groups.map(Some))
            .filter_map(std::future::ready)
            .boxed()
    }

    fn encode(&self, text: &str, _rendered: bool) -> Result<Vec<i32>, EngineError> {
        match text.chars().find(|c| !c.is_ascii()) {
            Some(c) => Err(EngineError::BadRequest(format!(
                "{c:?} is not in the vocabulary"
            ))),
            None => Ok(text.bytes().map(i32::from).collect()),
        }
    }

    fn spell(&self, tokens: &[i32]) -> Result<String, EngineError> {
        let tokens: Vec<_> = tokens.iter().map(i32::to_string).collect();
        Ok(tokens.join(" "))
    }

    /// Says `+`, whatever the messages are.
    fn following(
        &self,
        _chat: &str,
        _completion: usize,
        _stop: Option<i32>,
    ) -> Result<Following, EngineError> {
        Ok(Following {
            tokens: vec![i32::from(b'+')],
            rewriting: None,
        })
    }
}

/// Reward of 1, except for the groups that are to fail, by their order of arrival.
pub(super) struct ScriptedReward {
    failing: BTreeSet<usize>,
    seen: usize,
    hold: Option<Arc<Semaphore>>,
}

impl ScriptedReward {
    pub(super) fn failing(groups: impl IntoIterator<Item = usize>) -> Self {
        Self {
            failing: groups.into_iter().collect(),
            seen: 0,
            hold: None,
        }
    }

    /// Creates a reward that takes a permit of the semaphore in every call.
    pub(super) fn held(hold: Arc<Semaphore>) -> Self {
        Self {
            failing: BTreeSet::new(),
            seen: 0,
            hold: Some(hold),
        }
    }
}

#[async_trait]
impl Reward for ScriptedReward {
    async fn score(
        &mut self,
        items: Vec<RewardItem>,
    ) -> Result<Vec<Result<RewardScore, RewardFailure>>, Error> {
        if let Some(hold) = &self.hold {
            hold.acquire().await.unwrap().forget();
        }
        let group_size = usize::from(super::stage::GROUP);
        let scores = (0..items.len()).map(|index| {
            let group = self.seen + index / group_size;
            // One failed completion fails the whole group.
            if self.failing.contains(&group) && index % group_size == 1 {
                let detail = "no answer".to_owned();
                Err(RewardFailure {
                    reason: FailureReason::Timeout,
                    detail,
                })
            } else {
                Ok(RewardScore {
                    reward: 1.0,
                    parts: None,
                })
            }
        });
        let scores = scores.collect();
        self.seen += items.len() / group_size;
        Ok(scores)
    }

    fn needs_answer(&self) -> bool {
        false
    }
}
