//! A topic full of rollouts.

use anyhow::Result;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use vintage_bus::{Bus, TopicTable};
use vintage_control::{Name, PolicyVersion, Topics};
use vintage_trajectory::{GroupId, Headers, LogprobMode, PolicySpan, Trajectory, encode};

/// As in the measurements that the encodings were chosen by: 8 completions of 722 tokens.
const ROWS: u16 = 8;
const TOKENS: usize = 722;
const PARTITIONS: i32 = 4;
/// Messages on their way to the broker at a time.
const IN_FLIGHT: usize = 64;

/// What the topic holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loaded {
    pub(super) messages: u64,
    pub(super) payload_bytes: u64,
    /// Of completions.
    pub(super) tokens: u64,
}

/// Creates `topic` and publishes at least so many bytes of payload.
pub(super) async fn topic(bus: &Bus, topic: &str, bytes: u64) -> Result<Loaded> {
    let run = Topics {
        namespace: "vintage".parse()?,
        run: "bench".parse()?,
    };
    let mut spec = TopicTable::builtin()
        .specs(&run, PARTITIONS, 1)
        .swap_remove(0);
    spec.name = topic.to_owned();
    bus.ensure_topics(&[spec]).await?;
    let producer = bus.producer("bench")?;
    let run: Name = "bench".parse()?;
    let mut text = Text(1);
    let (_, _, first) = message(&run, &mut text, 0)?;
    let messages = bytes.div_ceil(first.len() as u64).max(1);
    let mut text = Text(1);
    let payloads = stream::iter(0..messages)
        .map(|number| {
            let made = message(&run, &mut text, number);
            let producer = &producer;
            async move {
                let (key, headers, payload) = made?;
                let length = payload.len() as u64;
                producer.publish(topic, &key.0, headers, payload).await?;
                anyhow::Ok(length)
            }
        })
        .buffer_unordered(IN_FLIGHT);
    let payload_bytes = payloads
        .try_fold(0, async |sum, length| Ok(sum + length))
        .await?;
    Ok(Loaded {
        messages,
        payload_bytes,
        tokens: messages * u64::from(ROWS) * TOKENS as u64,
    })
}

/// Token ids drawn as a language's words are, few of them often, and log-probs with full
/// mantissas: harder to compress than text, whose ids repeat in phrases.
struct Text(u64);

impl Text {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn token(&mut self) -> i32 {
        (128_000_f64.powf(self.unit()) - 1.0) as i32
    }

    fn logprob(&mut self) -> f32 {
        (self.unit().max(1e-12).ln() * 0.6) as f32
    }
}

type Message = (GroupId, Vec<(String, Vec<u8>)>, Bytes);

fn message(run: &Name, text: &mut Text, number: u64) -> Result<Message> {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let group = GroupId(id);
    let version = PolicyVersion(number / 50);
    let prompt: Vec<_> = (0..TOKENS / 4).map(|_| text.token()).collect();
    let rows: Vec<_> = (0..ROWS)
        .map(|sample_index| Trajectory {
            group_id: group,
            group_size: ROWS,
            sample_index,
            policy: "lead".to_owned(),
            batch: -1,
            prompt_id: format!("prompt-{}", number % 1000),
            prompt_tokens: prompt.clone(),
            completion_tokens: (0..TOKENS).map(|_| text.token()).collect(),
            behavior_logprobs: (0..TOKENS).map(|_| text.logprob()).collect(),
            loss_mask: None,
            policy_spans: vec![PolicySpan { start: 0, version }],
            reward: f32::from(u8::from(text.unit() < 0.5)),
            reward_parts: None,
            finish_reason: "stop".to_owned(),
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            logprob_mode: LogprobMode::Full,
            engine: "local".to_owned(),
            created_at_us: 1_700_000_000_000_000 + number as i64 * 1000,
            generation_seconds: text.unit() as f32,
            prompt_text: None,
            completion_text: None,
            metadata: None,
        })
        .collect();
    let payload = encode(&rows)?;
    let headers = Headers {
        run: run.clone(),
        policy: "lead".to_owned(),
        group,
        rows: u32::from(ROWS),
        part: (1, 1),
        batch: -1,
        min_policy_version: version,
        max_policy_version: version,
        producer: "bench".to_owned(),
        producer_seq: number,
        crc32c: crc32c::crc32c(&payload),
        replay_of: None,
        traceparent: None,
    };
    Ok((group, headers.to_pairs(), payload))
}
