//! Synthetic rollouts for benchmarks, which compress about as well as those of a model.

use bytes::Bytes;
use vintage_control::{BadName, Name, PolicyVersion};
use vintage_trajectory::{GroupId, Headers, LogprobMode, PolicySpan, Trajectory, encode};

use crate::error::{Error, Result, of};

/// Generator of groups of one size; the same seed gives the same groups.
///
/// Token ids are drawn like the words of a language, few of them often, and log-probs have full
/// mantissas. They are harder to compress than text, whose ids repeat in phrases.
#[derive(Debug, Clone)]
pub struct Synthetic {
    state: u64,
    rows: u16,
    tokens: usize,
}

impl Synthetic {
    /// Size of the vocabulary in tokens, as in Llama 3.
    const VOCAB: f64 = 128_000.0;
    /// Number of groups per policy version.
    const GROUPS_OF_A_VERSION: u64 = 50;

    /// Creates a generator of groups with `rows` completions of `tokens` tokens each; prompts have
    /// a quarter as many tokens.
    ///
    /// `seed` must not be 0.
    pub fn new(seed: u64, rows: u16, tokens: usize) -> Self {
        Self {
            state: seed,
            rows,
            tokens,
        }
    }

    /// Generates the next group. Its id, version and time follow from `number`.
    pub fn group(&mut self, number: u64) -> Vec<Trajectory> {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let version = PolicyVersion(number / Self::GROUPS_OF_A_VERSION);
        let rows = self.rows;
        let prompt = self.ids(self.tokens / 4);
        let row = |sample_index| Trajectory {
            prompt_id: format!("prompt-{}", number % 1000),
            prompt_tokens: prompt.clone(),
            completion_tokens: self.ids(self.tokens),
            behavior_logprobs: (0..self.tokens).map(|_| self.logprob()).collect(),
            reward: f32::from(u8::from(self.unit() < 0.5)),
            created_at_us: 1_700_000_000_000_000 + number as i64 * 1000,
            generation_seconds: self.unit() as f32,
            ..small_row(GroupId(id), rows, sample_index, version)
        };
        (0..rows).map(row).collect()
    }

    fn ids(&mut self, count: usize) -> Vec<i32> {
        let id = |unit| (Self::VOCAB.powf(unit) - 1.0) as i32;
        (0..count).map(|_| id(self.unit())).collect()
    }

    fn logprob(&mut self) -> f32 {
        (self.unit().max(1e-12).ln() * 0.6) as f32
    }

    /// Draws uniformly from [0, 1). Uses xorshift, so that generating costs little compared with
    /// what is measured.
    fn unit(&mut self) -> f64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Message of a group, as a producer of a run named `bench` publishes it.
#[derive(Debug, Clone)]
pub struct SyntheticMessage {
    /// Key of the message: the group id, 16 bytes.
    pub key: Vec<u8>,
    /// Headers in wire form; see [`Headers`].
    pub headers: Vec<(String, Vec<u8>)>,
    /// Payload: one Arrow IPC stream.
    pub payload: Bytes,
}

impl SyntheticMessage {
    /// Encodes `rows`, one whole group, as number `seq` of its producer.
    ///
    /// # Errors
    /// [`Error::Because`] if the rows cannot form a message.
    pub fn new(rows: &[Trajectory], seq: u64) -> Result<Self> {
        let payload = encode(rows).map_err(of("encoding a group"))?;
        let run: Name = "bench"
            .parse()
            .map_err(|error: BadName| Error::Failed(error.to_string()))?;
        let headers = headers(run, rows, &payload, "bench", seq);
        let first = &rows[0];
        Ok(Self {
            key: first.group_id.0.to_vec(),
            headers: headers.to_pairs(),
            payload,
        })
    }
}

/// Returns a row of two tokens, whose reward is 0 or 1 by turns.
pub(crate) fn small_row(
    group_id: GroupId,
    group_size: u16,
    sample_index: u16,
    version: PolicyVersion,
) -> Trajectory {
    Trajectory {
        group_id,
        group_size,
        sample_index,
        policy: "lead".to_owned(),
        batch: -1,
        prompt_id: String::new(),
        prompt_tokens: vec![1],
        completion_tokens: vec![2],
        behavior_logprobs: vec![-1.0],
        loss_mask: None,
        policy_spans: vec![PolicySpan { start: 0, version }],
        reward: f32::from(sample_index % 2),
        reward_parts: None,
        finish_reason: "stop".to_owned(),
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        logprob_mode: LogprobMode::Full,
        engine: "local".to_owned(),
        created_at_us: 0,
        generation_seconds: 0.0,
        prompt_text: None,
        completion_text: None,
        metadata: None,
    }
}

/// Returns the headers of a whole group, sampled by one version and encoded as `payload`.
pub(crate) fn headers(
    run: Name,
    rows: &[Trajectory],
    payload: &[u8],
    producer: &str,
    producer_seq: u64,
) -> Headers {
    let first = &rows[0];
    let version = first.policy_spans[0].version;
    Headers {
        run,
        policy: first.policy.clone(),
        group: first.group_id,
        rows: rows.len() as u32,
        part: (1, 1),
        batch: first.batch,
        min_policy_version: version,
        max_policy_version: version,
        producer: producer.to_owned(),
        producer_seq,
        crc32c: crc32c::crc32c(payload),
        slot: None,
        replay_of: None,
        traceparent: None,
    }
}
