use std::{future::poll_fn, path::Path, pin::pin, slice, sync::Arc, task::Poll};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesOrdered};
use tokio::sync::mpsc::{Receiver, UnboundedSender};
use vintage_bus::{Bus, Delivery, TopicTable};
use vintage_control::{Metric, Name, PolicyVersion, SlotNumber, Topics};
use vintage_faults::point;
use vintage_trajectory::{Excerpt, GroupId, Headers, Trajectory, encode, encoded_len, split};

use crate::{
    error::Error, event::ProducerEvent, journal::Journal, leasing::Leases, worker::judge::Judged,
};

/// Maximum number of groups in flight to the log. Enough to hide the broker's latency; few enough
/// that a crash leaves little in doubt.
const IN_FLIGHT: usize = 64;

/// Publishes groups in the order it receives them, under numbers without gaps.
///
/// A group is numbered only once it is encoded. A number can therefore lack a group only if the log
/// refuses the message, which ends the producer.
pub(crate) struct Publisher {
    producer: Arc<vintage_bus::Producer>,
    topic: String,
    run: Name,
    /// Value of the `producer` header.
    name: String,
    next_seq: u64,
    part_limit: usize,
    row_limit: usize,
    journal: Option<Journal>,
    leases: Leases,
    events: UnboundedSender<ProducerEvent>,
}

/// Totals of what the log acknowledged to one publisher.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Published {
    pub(crate) groups: u64,
    pub(crate) rows: u64,
    pub(crate) tokens: u64,
}

/// Headers and payload of one message.
type OutgoingPart = (Vec<(String, Vec<u8>)>, Bytes);

/// Numbered group that is being sent.
struct Outgoing {
    parts: Vec<OutgoingPart>,
    id: GroupId,
    seq: u64,
    slot: SlotNumber,
    batch: i64,
    version: PolicyVersion,
    rows: u64,
    tokens: u64,
    reward: f32,
    equal: bool,
    cut: u64,
    excerpt: Option<Box<Excerpt>>,
}

/// Finish reason of a completion that reached its length limit.
const LENGTH: &str = "length";

impl Publisher {
    pub(crate) fn open(
        bus: &Bus,
        topics: &Topics,
        table: &TopicTable,
        name: &str,
        journal_dir: Option<&Path>,
        leases: Leases,
        events: UnboundedSender<ProducerEvent>,
    ) -> Result<Self, Error> {
        let producer = bus
            .producer(name)
            .map_err(Error::bus(format!("connect producer {name}")))?;
        Ok(Self {
            producer: Arc::new(producer),
            topic: topics.rollouts(),
            run: topics.run.clone(),
            name: name.to_owned(),
            next_seq: 0,
            part_limit: table.part_limit_bytes(),
            row_limit: table.row_limit_bytes(),
            journal: journal_dir
                .map(|dir| Journal::create(dir, name))
                .transpose()?,
            leases,
            events,
        })
    }

    /// Publishes until the channel ends and the log has acknowledged everything.
    ///
    /// After an error no further group is sent, but groups in flight are still awaited and noted.
    pub(crate) async fn run(mut self, mut groups: Receiver<Judged>) -> Result<Published, Error> {
        let mut published = Published::default();
        let mut in_flight = FuturesOrdered::new();
        let mut open = true;
        let mut failure = None;
        while open || !in_flight.is_empty() {
            tokio::select! {
                biased;
                Some(sent) = in_flight.next(), if !in_flight.is_empty() => {
                    let noted = match sent {
                        Ok((group, place)) => self.note(&group, place, &mut published),
                        Err(error) => Err(error),
                    };
                    if let Err(error) = noted {
                        failure.get_or_insert(error);
                        open = false;
                    }
                }
                group = groups.recv(), if open && in_flight.len() < IN_FLIGHT => {
                    match group.map(|group| self.number(group)) {
                        None => open = false,
                        Some(Err(error)) => {
                            failure.get_or_insert(error);
                            open = false;
                        }
                        Some(Ok(group)) => {
                            point("rollout.numbered", self.next_seq - published.groups);
                            let (producer, topic) = (Arc::clone(&self.producer), self.topic.clone());
                            in_flight.push_back(send(producer, topic, group));
                        }
                    }
                }
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        self.producer
            .flush()
            .await
            .map_err(Error::bus(format!("flush producer {}", self.name)))?;
        Ok(published)
    }

    /// Encodes a group and assigns its number.
    fn number(&mut self, group: Judged) -> Result<Outgoing, Error> {
        let Judged { slot, rows } = group;
        let first = rows.first().ok_or_else(|| Error::EngineAnswer {
            engine: self.name.clone(),
            found: "a group of no completions".to_owned(),
            expected: "at least one".to_owned(),
        })?;
        let (id, batch, policy) = (first.group_id, first.batch, first.policy.clone());
        let prompt = first.prompt_id.clone();
        let excerpt = Excerpt::of(first).map(Box::new);
        let tokens = rows
            .iter()
            .map(|row| row.completion_tokens.len() as u64)
            .sum();
        let reward = rows.iter().map(|row| row.reward).sum::<f32>() / rows.len() as f32;
        let equal = rows
            .iter()
            .all(|row| row.reward.total_cmp(&first.reward).is_eq());
        let cut = rows
            .iter()
            .filter(|row| row.finish_reason == LENGTH)
            .count() as u64;
        let count = rows.len() as u64;
        let refuse = |source| Error::Encode {
            group: id.to_string(),
            prompt: prompt.clone(),
            source: Box::new(source),
        };
        let parts = self.cut(rows).map_err(refuse)?;
        let of = parts.len() as u32;
        let mut outgoing = Outgoing {
            parts: Vec::with_capacity(parts.len()),
            id,
            seq: self.next_seq,
            slot,
            batch,
            version: PolicyVersion::ZERO,
            rows: count,
            tokens,
            reward,
            equal,
            cut,
            excerpt,
        };
        for (part, rows) in (1..).zip(&parts) {
            let payload = encode(rows).map_err(refuse)?;
            let versions = || {
                rows.iter()
                    .flat_map(|row| &row.policy_spans)
                    .map(|span| span.version)
            };
            let (oldest, newest) = (versions().min(), versions().max());
            let headers = Headers {
                run: self.run.clone(),
                policy: policy.clone(),
                group: id,
                rows: rows.len() as u32,
                part: (part, of),
                batch,
                min_policy_version: oldest.unwrap_or_default(),
                max_policy_version: newest.unwrap_or_default(),
                producer: self.name.clone(),
                producer_seq: outgoing.seq,
                crc32c: crc32c::crc32c(&payload),
                slot: Some(slot),
                replay_of: None,
                traceparent: None,
            };
            outgoing.version = outgoing.version.max(headers.max_policy_version);
            outgoing.parts.push((headers.to_pairs(), payload));
        }
        self.next_seq += 1;
        Ok(outgoing)
    }

    /// Splits a group into messages: by the part limit if every row fits it, otherwise one row per
    /// message.
    fn cut(
        &self,
        rows: Vec<Trajectory>,
    ) -> Result<Vec<Vec<Trajectory>>, vintage_trajectory::Error> {
        let mut largest = 0;
        for row in &rows {
            largest = largest.max(encoded_len(slice::from_ref(row))?);
        }
        if largest <= self.part_limit {
            return split(rows, self.part_limit);
        }
        let mut parts = Vec::with_capacity(rows.len());
        for row in rows {
            parts.extend(split(vec![row], self.row_limit)?);
        }
        Ok(parts)
    }

    /// Records an acknowledged group: journal, counters and progress event.
    fn note(
        &mut self,
        group: &Outgoing,
        place: Delivery,
        published: &mut Published,
    ) -> Result<(), Error> {
        let in_hand = self.next_seq - published.groups;
        point("rollout.acknowledged", in_hand);
        if let Some(journal) = &mut self.journal {
            journal.acknowledge(group.seq)?;
        }
        self.leases.published(group.slot);
        published.groups += 1;
        metrics::counter!(Metric::GROUPS_PRODUCED.name).increment(1);
        point("rollout.journaled", in_hand - 1);
        published.rows += group.rows;
        published.tokens += group.tokens;
        // The receiver may be gone, because watching is optional.
        let _ = self.events.send(ProducerEvent::Published {
            group: group.id,
            partition: place.partition,
            offset: place.offset,
            seq: group.seq,
            batch: group.batch,
            version: group.version,
            rows: group.rows,
            tokens: group.tokens,
            bytes: group
                .parts
                .iter()
                .map(|(_, payload)| payload.len() as u64)
                .sum(),
            parts: group.parts.len() as u32,
            reward: group.reward,
            equal: group.equal,
            cut: group.cut,
            excerpt: group.excerpt.clone(),
        });
        Ok(())
    }
}

/// Sends the parts of a group in order; returns the place of the first once the log has acknowledged
/// all of them.
async fn send(
    producer: Arc<vintage_bus::Producer>,
    topic: String,
    group: Outgoing,
) -> Result<(Outgoing, Delivery), Error> {
    let mut first = None;
    for (part, (headers, payload)) in group.parts.iter().enumerate() {
        if part > 0 {
            point("rollout.part", (group.parts.len() - part) as u64);
        }
        let publishing = producer.publish(&topic, &group.id.0, headers.clone(), payload.clone());
        let place = outstanding(publishing).await.map_err(Error::bus(format!(
            "publish group number {} to {topic}",
            group.seq
        )))?;
        first.get_or_insert(place);
    }
    let first = first.ok_or_else(|| Error::EngineAnswer {
        engine: group.id.to_string(),
        found: "a group of no messages".to_owned(),
        expected: "at least one".to_owned(),
    })?;
    Ok((group, first))
}

/// Awaits an acknowledgement, with a fault-injection point once the message is sent.
async fn outstanding<T>(publishing: impl Future<Output = T>) -> T {
    let mut publishing = pin!(publishing);
    let begun = poll_fn(|context| Poll::Ready(publishing.as_mut().poll(context))).await;
    if let Poll::Ready(done) = begun {
        return done;
    }
    point("rollout.sent", 1);
    publishing.await
}
