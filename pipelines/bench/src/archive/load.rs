//! Loading of a topic with rollouts for `vintage bench archive`.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use vintage_bus::{Bus, TopicTable};
use vintage_control::{BadName, Topics};

use crate::{
    error::{Error, Result},
    synthetic::{Synthetic, SyntheticMessage},
};

/// Number of completions in a message. A message has 8 of 722 tokens, as in the measurements by
/// which the encodings were chosen.
const ROWS: u16 = 8;
const TOKENS: usize = 722;
const PARTITIONS: i32 = 4;
/// Number of messages on their way to the broker at a time.
const IN_FLIGHT: usize = 64;

/// Contents of the topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loaded {
    pub(super) messages: u64,
    pub(super) payload_bytes: u64,
    /// Number of completion tokens.
    pub(super) tokens: u64,
}

/// Creates `topic` and publishes at least `bytes` bytes of payload.
pub(super) async fn topic(bus: &Bus, topic: &str, bytes: u64) -> Result<Loaded> {
    let name = |text: &str| {
        text.parse()
            .map_err(|error: BadName| Error::Failed(error.to_string()))
    };
    let run = Topics {
        namespace: name("vintage")?,
        run: name("bench")?,
    };
    let mut spec = TopicTable::builtin()
        .specs(&run, PARTITIONS, 1)
        .swap_remove(0);
    spec.name = topic.to_owned();
    bus.ensure_topics(&[spec]).await?;
    let producer = bus.producer("bench")?;
    let mut synthetic = Synthetic::new(1, ROWS, TOKENS);
    let first = SyntheticMessage::new(&synthetic.clone().group(0), 0)?.payload;
    let messages = bytes.div_ceil(first.len() as u64).max(1);
    let payloads = stream::iter(0..messages)
        .map(|number| {
            let made = SyntheticMessage::new(&synthetic.group(number), number);
            let producer = &producer;
            async move {
                let SyntheticMessage {
                    key,
                    headers,
                    payload,
                } = made?;
                let length = payload.len() as u64;
                producer.publish(topic, &key, headers, payload).await?;
                Ok::<_, Error>(length)
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
