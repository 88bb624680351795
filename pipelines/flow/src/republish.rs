//! Entry point of `vintage replay --to`: publishes archived groups to a topic, with their original
//! values, keys, headers and timestamps.
//!
//! Each partition of the target receives the records of the same partition of the archived topic,
//! in their order, except those passed over. The last record of a partition therefore tells what to
//! append next. There is no other bookkeeping: a replay that was killed resumes from there.

mod amount;
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

pub use self::amount::CopiedAmount;
use self::{copy::Copier, publish::Republisher, tail::Tails};
use crate::{
    broker::Broker,
    error::{Error, Result},
    event::{Events, RunEvent},
    folder::{archive_in, open_store},
    replay::only_topic,
};

/// Maximum number of groups read and not yet handed to the producer.
const READ_AHEAD: usize = 16;

/// Target topic, selection and rate of a replay.
#[derive(Debug, Clone)]
pub struct Republication {
    /// Name of the target topic, which is created if it does not exist.
    pub to: String,
    /// Filters that select the groups.
    pub selection: Selection,
    /// Maximum rate in groups per second; `None` for no limit.
    pub groups_per_second: Option<f64>,
}

/// Result of a replay to a topic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Republished {
    /// Name of the archived topic.
    pub topic: String,
    /// Name of the target topic.
    pub to: String,
    /// Number of partitions of both topics.
    pub partitions: i32,
    /// Archived records examined; each was taken or passed over.
    pub records: u64,
    /// Groups that the filters took, whether published before or now.
    pub taken: CopiedAmount,
    /// Taken groups that an earlier process of this replay had published.
    pub already_there: CopiedAmount,
    /// Taken groups that this process published. A group counts once its last record is
    /// acknowledged.
    pub published: CopiedAmount,
    /// Payload bytes published by this process.
    pub bytes: u64,
    /// Published records whose payload was originally encoded by another program: the values are
    /// the same, the bytes differ, and the `crc32c` header matches the new bytes.
    pub reencoded: u64,
    /// Number of records not taken, by reason: the filter that refused them, `quarantined`,
    /// `duplicate`, or `incomplete` for parts of a group that never became whole.
    pub passed_over: BTreeMap<String, u64>,
    /// True if the archive was read to its end and everything taken is in the target.
    pub finished: bool,
    /// Wall time of this process in seconds.
    pub seconds: f64,
}

/// Replays the archive of the run in `folder` to a topic of the broker that the settings name. When
/// `stop` is cancelled, records in flight are awaited; the same call resumes from there.
pub async fn republish(
    config: &RunConfig,
    folder: &Path,
    wanted: &Republication,
    stop: &CancellationToken,
    events: &Events,
) -> Result<Republished> {
    let store = archive_in(&open_store(folder)?);
    let reader = Reader::new(store.clone(), &only_topic(folder, &store).await?);
    if reader.topic() == wanted.to {
        return Err(Error::Setting {
            setting: format!("--to {}", wanted.to),
            reason: "that is the archived topic itself, and a replay goes to one of its own; name \
                     another"
                .to_owned(),
        });
    }
    reader.refuse_pruned().await?;
    tokio::select! {
        // Nothing was begun, so the caller gets the error of a replay that was stopped at once.
        () = stop.cancelled() => return Err(Error::Interrupted),
        taken = places::takes_something(&reader, &wanted.selection) => taken?,
    }
    let broker = Broker::open(config, Some(folder)).await?;
    let outcome = onto(&broker, config, &reader, wanted, stop, events).await;
    broker.close_after(outcome).await
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
    let publisher = Republisher::new(producer, &wanted.to, tails, wanted.groups_per_second);
    let published = publisher.run(bus, receive, stop).await;
    let read = reading
        .await
        .map_err(Error::panicked("reading the archive"))?;
    let (published, read) = (published?, read?);

    let finished =
        read.ended && published.amount.records + read.there.records == read.taken.records;
    let passed_over = read.passed_over();
    if finished && read.counts.records != read.taken.records + passed_over.values().sum::<u64>() {
        return Err(Error::Bug(format!(
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

/// Returns the number of partitions of the archived topic, the maximum over its incarnations.
async fn partitions(reader: &Reader) -> Result<i32> {
    let mut count = 1;
    for incarnation in reader.incarnations().await? {
        let last = reader.partitions(incarnation).await?.into_iter().max();
        count = count.max(last.map_or(0, |last| last.0 + 1));
    }
    Ok(count)
}

/// Returns the specification of the target: a rollouts topic with unlimited retention. Archived
/// records may be older than any retention and would be deleted on arrival.
fn spec(broker: &Broker, config: &RunConfig, to: &str, partitions: i32) -> Result<TopicSpec> {
    let rollouts = config.topic_names().rollouts();
    let mut specs = broker.specs(config).into_iter();
    let mut spec = specs
        .find(|spec| spec.name == rollouts)
        .ok_or_else(|| Error::Bug(format!("the table of topics has no {rollouts}")))?;
    to.clone_into(&mut spec.name);
    spec.partitions = partitions;
    spec.config.insert("retention.ms".into(), "-1".into());
    Ok(spec)
}
