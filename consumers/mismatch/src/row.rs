use vintage_control::PolicyVersion;
use vintage_trajectory::{LogprobMode, PolicySpan, Rows};

/// Rollout whose log-probs can be computed again.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Engine that sampled it.
    pub engine: String,
    /// Id of its group, 32 hexadecimal digits.
    pub group: String,
    /// Number of the rollout within its group.
    pub sample_index: u16,
    /// Token ids of the prompt, at least one.
    pub prompt: Vec<u32>,
    /// Token ids of the completion.
    pub completion: Vec<u32>,
    /// Log-prob that the engine reported of each completion token, in nats.
    pub reported: Vec<f32>,
    /// True for every completion token that was sampled; log-probs of others mean nothing.
    pub sampled: Vec<bool>,
    /// Sampling temperature, above 0.
    pub temperature: f32,
    /// True if the log-probs are those at temperature 1, whatever the sampling temperature was.
    pub raw: bool,
    /// Versions that sampled the tokens, as spans in ascending order.
    pub spans: Vec<PolicySpan>,
}

/// Limits of the model that recomputes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest prompt and completion, in tokens.
    pub context: usize,
    /// Size of the vocabulary.
    pub vocabulary: usize,
}

/// Reasons for which a rollout's log-probs are not computed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Incomparable {
    /// The log-probs are over the tokens that top-p and top-k kept, which the model does not know.
    Truncated,
    /// The rollout is longer than the model takes, or holds tokens outside its vocabulary.
    OutOfRange,
    /// No token was sampled.
    Empty,
}

impl Incomparable {
    /// Returns the reason in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "log-probs over the tokens that top_p and top_k keep",
            Self::OutOfRange => "too long for the model, or tokens outside its vocabulary",
            Self::Empty => "no sampled token",
        }
    }
}

impl Row {
    /// Takes row `row` of rows that [`vintage_trajectory::validate`] accepts.
    pub fn take(rows: &Rows, row: usize, limits: Limits) -> Result<Self, Incomparable> {
        let mode = rows.logprob_mode(row);
        if mode == LogprobMode::Truncated {
            return Err(Incomparable::Truncated);
        }
        let ids = |tokens: &[i32]| -> Option<Vec<u32>> {
            let known =
                |token: &i32| usize::try_from(*token).is_ok_and(|id| id < limits.vocabulary);
            let ids = tokens
                .iter()
                .map(|token| known(token).then_some(*token as u32));
            ids.collect()
        };
        let prompt = ids(rows.prompt_tokens(row)).ok_or(Incomparable::OutOfRange)?;
        let completion = ids(rows.completion_tokens(row)).ok_or(Incomparable::OutOfRange)?;
        if prompt.is_empty() || prompt.len() + completion.len() > limits.context {
            return Err(Incomparable::OutOfRange);
        }
        let sampled: Vec<_> = (0..completion.len())
            .map(|token| rows.is_trained(row, token))
            .collect();
        if !sampled.contains(&true) {
            return Err(Incomparable::Empty);
        }
        Ok(Self {
            engine: rows.engine(row).to_owned(),
            group: rows.group_id(row).to_string(),
            sample_index: rows.sample_index(row),
            prompt,
            completion,
            reported: rows.behavior_logprobs(row).to_vec(),
            sampled,
            temperature: rows.temperature(row),
            raw: mode == LogprobMode::Raw,
            spans: rows.policy_spans(row).collect(),
        })
    }

    /// Returns the temperature at which the engine says its log-probs are.
    pub(crate) fn reported_temperature(&self) -> f32 {
        if self.raw { 1.0 } else { self.temperature }
    }

    /// Returns the version that sampled a completion token.
    pub(crate) fn version_of(&self, token: usize) -> PolicyVersion {
        let before = |span: &&PolicySpan| usize::try_from(span.start).is_ok_and(|at| at <= token);
        let span = self.spans.iter().rfind(before);
        span.map_or(PolicyVersion::ZERO, |span| span.version)
    }

    /// Returns the positions of the sampled tokens of `version`.
    pub(crate) fn positions(&self, version: PolicyVersion) -> impl Iterator<Item = usize> {
        let sampled = self.sampled.iter().enumerate();
        sampled
            .filter(|(_, sampled)| **sampled)
            .map(|(position, _)| position)
            .filter(move |position| self.version_of(*position) == version)
    }
}
