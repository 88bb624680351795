//! `vintage replay --to`: groups of an archive into a topic, as they were.
//!
//! A partition of the target holds what the same partition of the archived topic held, in its
//! order, less what was passed over. What to append next therefore follows from a partition's own
//! last record, and there is no other bookkeeping: a replay that was killed goes on there.

mod copy;
mod places;
mod publish;
mod read;
mod tail;

use std::{collections::BTreeMap, path::Path, time::Instant};
use vintage_settings::RunConfig;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vintage_archive::{Reader, Selection};
use vintage_bus::TopicSpec;

use self::{copy::Copier, publish::Publisher, tail::Tails};
use crate::{
    Error, Result,
    broker::Broker,
    event::{Events, RunEvent},
    folder::open_store,
    replay::only_topic,
};

/// Groups read and not yet handed to the log.
const READ_AHEAD: usize = 16;

/// What to replay, where to, and how fast.
#[derive(Debug, Clone)]
pub struct Republication {
    /// The topic to fill. Created if it is not there.
    pub to: String,
    /// Which groups.
    pub selection: Selection,
    /// At most so many groups a second.
    pub groups_per_second: Option<f64>,
}

/// A count of whole groups, their records and their rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Prompt groups.
    pub groups: u64,
    /// Kafka records.
    pub records: u64,
    /// Trajectories.
    pub rows: u64,
}

/// What a replay to a topic did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Republished {
    /// The archived topic.
    pub topic: String,
    /// The topic it was replayed to.
    pub to: String,
    /// Partitions of both.
    pub partitions: i32,
    /// Records of the archive that were looked at: each was taken or passed over.
    pub records: u64,
    /// What the filters took: what was there already and what was published.
    pub taken: Amount,
    /// Of that, what an earlier life of this replay had published.
    pub already_there: Amount,
    /// Of that, what this one did. A group counts once its last record is acknowledged.
    pub published: Amount,
    /// Payload bytes published.
    pub bytes: u64,
    /// Published records whose payload another program had encoded: the same values in other bytes,
    /// with a `crc32c` header that fits them.
    pub reencoded: u64,
    /// Records not taken, by reason: the filter that refused them, `quarantined`, `duplicate`,
    /// or `incomplete` for parts of a group that never became whole.
    pub passed_over: BTreeMap<String, u64>,
    /// Whether the archive was read to its end.
    pub finished: bool,
    /// Wall time.
    pub seconds: f64,
}

/// Replays the archive of the run in `folder` to a topic of the broker that the settings name.
/// When `stop` is cancelled, what is on its way is awaited; the same call goes on from there.
pub async fn republish(
    config: &RunConfig,
    folder: &Path,
    wanted: &Republication,
    stop: &CancellationToken,
    events: &Events,
) -> Result<Republished> {
    let store = open_store(folder)?.at("archive");
    let reader = Reader::new(store.clone(), &only_topic(folder, &store).await?);
    if reader.topic() == wanted.to {
        return Err(Error::Usage(format!(
            "--to {}: that is the archived topic itself, and a replay goes to one of its own; \
             name another",
            wanted.to
        )));
    }
    tokio::select! {
        // Nothing was begun: the answer is that of a replay that was stopped at once.
        () = stop.cancelled() => return Err(Error::Interrupted),
        taken = places::takes_something(&reader, &wanted.selection) => taken?,
    }
    let broker = Broker::open(config, Some(folder)).await?;
    let outcome = onto(&broker, config, &reader, wanted, stop, events).await;
    let closed = broker.close().await;
    let done = outcome?;
    closed.map(|()| done)
}

async fn onto(
    broker: &Broker,
    config: &RunConfig,
    reader: &Reader,
    wanted: &Republication,
    stop: &CancellationToken,
    events: &Events,
) -> Result<Republished> {
    let begun = Instant::now();
    let partitions = partitions(reader).await?;
    let bus = broker.bus();
    bus.ensure_topics(&[spec(broker, config, &wanted.to, partitions)?])
        .await?;
    let copier = Copier::new(reader.topic(), &wanted.selection)?;
    let tails = Tails::read(bus, &wanted.to, reader, &copier).await?;
    let producer = bus.gapless_producer("replay")?;
    let phase = format!("replaying {} to {}", reader.topic(), wanted.to);
    let _nobody_listens = events.send(RunEvent::Phase(phase));

    let groups = reader.groups(&wanted.selection).await?;
    let (send, receive) = mpsc::channel(READ_AHEAD);
    let reading = read::Reading {
        groups,
        copier,
        tails: tails.last.clone(),
        out: send,
        stop: stop.clone(),
        events: events.clone(),
    };
    let reading = tokio::spawn(reading.run());
    let publisher = Publisher::new(producer, &wanted.to, tails, wanted.groups_per_second);
    let published = publisher.run(bus, receive, stop).await;
    let read = reading
        .await
        .map_err(|error| Error::Role(format!("reading the archive panicked: {error}")))?;
    let (published, read) = (published?, read?);

    let finished =
        read.ended && published.amount.records + read.there.records == read.taken.records;
    let passed_over = read.passed_over();
    if finished && read.counts.records != read.taken.records + passed_over.values().sum::<u64>() {
        return Err(Error::Role(format!(
            "of {} archived records {} were taken and {passed_over:?} passed over, which is not \
             all of them: please report this",
            read.counts.records, read.taken.records
        )));
    }
    Ok(Republished {
        topic: reader.topic().to_owned(),
        to: wanted.to.clone(),
        partitions,
        records: read.counts.records,
        taken: read.taken,
        already_there: read.there,
        published: published.amount,
        bytes: published.bytes,
        reencoded: published.reencoded,
        passed_over,
        finished,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

/// Partitions of the archived topic, over all its lives.
async fn partitions(reader: &Reader) -> Result<i32> {
    let mut count = 1;
    for incarnation in reader.incarnations().await? {
        let last = reader.partitions(incarnation).await?.into_iter().max();
        count = count.max(last.map_or(0, |last| last.0 + 1));
    }
    Ok(count)
}

/// The target as a rollouts topic that keeps everything: archived records may be older than any
/// retention, and would be deleted as soon as they are there.
fn spec(broker: &Broker, config: &RunConfig, to: &str, partitions: i32) -> Result<TopicSpec> {
    let rollouts = config.topic_names().rollouts();
    let mut specs = broker.specs(config).into_iter();
    let mut spec = specs
        .find(|spec| spec.name == rollouts)
        .ok_or_else(|| Error::Role(format!("the table of topics has no {rollouts}")))?;
    to.clone_into(&mut spec.name);
    spec.partitions = partitions;
    spec.config.insert("retention.ms".into(), "-1".into());
    Ok(spec)
}
