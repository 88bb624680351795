//! One role in a process of its own, on a broker and a folder that all share.

use std::{path::Path, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vintage_archive::{Sink, SinkHandle, SinkOptions, SinkSummary};
use vintage_bus::{Bus, ConsumerLimits, Event};
use vintage_control::{Offset, PolicyAnnouncement, PolicyVersion};
use vintage_learner::{DurableLog, Inputs, Learner, LearnerSummary, Outlet, Source};
use vintage_local::LocalEngine;
use vintage_rollout::{GateBase, ProducerSummary, Worker, WorkerSetup, open_reward};
use vintage_trajectory::Headers;

use crate::{
    Error, Result,
    base::ensure_version_zero,
    broker::Log,
    config::{Resolved, RunConfig, SourceKind},
    event::{Events, RunEvent},
    folder::RunFolder,
    inputs,
    recorded::{ArchiveSource, archive_of, ends, live_source},
    run::{serve_metrics, sink_options, writer},
    settings::{learner_settings, rollout_config},
    tasks::Task,
};

/// Archives the run's rollouts until `stop`; then what the log holds at that moment, and ends.
/// With `accept_gap` it goes on after records that retention deleted unarchived.
pub async fn archive(
    resolved: &Resolved<RunConfig>,
    out: &Path,
    accept_gap: bool,
    stop: &CancellationToken,
) -> Result<SinkSummary> {
    let (folder, log) = join(resolved, out, Reads::Log).await?;
    let outcome = archive_on(&resolved.config, &folder, &log, accept_gap, stop).await;
    log.stop_after(outcome).await
}

async fn archive_on(
    config: &RunConfig,
    folder: &RunFolder,
    log: &Log,
    accept_gap: bool,
    stop: &CancellationToken,
) -> Result<SinkSummary> {
    folder.prove_store().await?;
    let options = SinkOptions {
        accept_gap,
        group: config.archive.group.clone(),
        ..sink_options(config, folder, log)
    };
    let (sink, mut task) = Sink::start(options, &log.bus).await?;
    let panicked = |error| Error::Role(format!("the archive panicked: {error}"));
    tokio::select! {
        ended = &mut task => return Ok(ended.map_err(panicked)??),
        () = stop.cancelled() => {}
    }
    let drained = drain(&sink, log).await;
    sink.shutdown();
    let summary = task.await.map_err(panicked)??;
    drained.map(|()| summary)
}

async fn drain(sink: &SinkHandle, log: &Log) -> Result<()> {
    Ok(sink
        .drain_through(ends(&log.bus, &log.topics.rollouts()).await?)
        .await?)
}

/// Trains until all updates are done, or until `stop`, or until a recorded log ends. Makes
/// version 0 if there is none.
pub async fn learn(
    resolved: &Resolved<RunConfig>,
    out: &Path,
    stop: &CancellationToken,
    events: &Events,
) -> Result<LearnerSummary> {
    let config = &resolved.config;
    if config.learner.source == SourceKind::Archive {
        // A recorded log needs no broker: nobody samples from what comes of it.
        if !out.join("config.toml").is_file() {
            inputs::check_files(config)?;
        }
        let folder = RunFolder::share(out, resolved)?;
        serve_metrics(config)?;
        return learn_on(config, &folder, None, stop, events).await;
    }
    let (folder, log) = join(resolved, out, Reads::Prompts).await?;
    let outcome = learn_on(config, &folder, Some(&log), stop, events).await;
    log.stop_after(outcome).await
}

async fn learn_on(
    config: &RunConfig,
    folder: &RunFolder,
    log: Option<&Log>,
    stop: &CancellationToken,
    events: &Events,
) -> Result<LearnerSummary> {
    folder.prove_store().await?;
    let weights = folder.weights(&config.learner.policy);
    let task = Task::load(&config.prompts, folder.path())?;
    ensure_version_zero(&weights, config, &task, events).await?;
    let (tell, mut told) = mpsc::unbounded_channel();
    let outlet = match log {
        Some(log) => Outlet::new(log.bus.producer("learner")?, log.topics.clone(), tell),
        None => Outlet::without_log(tell),
    };
    let events = events.clone();
    let forwarding = tokio::spawn(async move {
        while let Some(event) = told.recv().await {
            let _nobody_listens = events.send(RunEvent::Learner(event));
        }
    });
    let settings = learner_settings(config, &weights).await?;
    let name = &config.learner.name;
    let records = folder.records(name);
    let learner = Learner::open(settings, writer(name), records, weights, outlet, &[]).await?;
    let resume = learner.resume_points();
    let source: Box<dyn Source> = if let Some(log) = log {
        Box::new(live_source(log, &resume).await?)
    } else {
        let reader = archive_of(config, folder.archive()).await?;
        Box::new(ArchiveSource::recorded(&reader, &resume).await?)
    };
    let inputs = Inputs::new(source, Box::new(DurableLog));
    let learned = learner.run(inputs, stop).await?;
    forwarding
        .await
        .map_err(|error| Error::Role(format!("the event forwarder panicked: {error}")))?;
    Ok(learned)
}

/// Produces rollouts until the learner has finished, or until `stop`. Waits for the first
/// announcement: before it there is nothing to sample from.
pub async fn rollout(
    resolved: &Resolved<RunConfig>,
    out: &Path,
    stop: &CancellationToken,
    events: &Events,
) -> Result<ProducerSummary> {
    let (folder, log) = join(resolved, out, Reads::Prompts).await?;
    let outcome = rollout_on(&resolved.config, &folder, &log, stop, events).await;
    log.stop_after(outcome).await
}

async fn rollout_on(
    config: &RunConfig,
    folder: &RunFolder,
    log: &Log,
    stop: &CancellationToken,
    events: &Events,
) -> Result<ProducerSummary> {
    let policy = config.learner.policy.clone();
    let task = Task::load(&config.prompts, folder.path())?;
    tokio::select! {
        announced = first_announcement(log) => announced?,
        () = stop.cancelled() => return Err(Error::Interrupted),
    }
    let rollout = rollout_config(config, task.train.path())?;
    let weights = folder.weights(&policy);
    let worker = Worker::new(WorkerSetup {
        bus: log.bus.clone(),
        topics: log.topics.clone(),
        table: vintage_bus::TopicTable::builtin(),
        policy: policy.clone(),
        engine: Box::new(LocalEngine::open(weights, policy, PolicyVersion::ZERO).await?),
        reward: open_reward(&rollout.reward)?,
        prompts: task.train,
        config: rollout,
        seed: config.seed,
        groups_per_update: config.learner.prompts_per_update as u64,
        publish_every: config.learner.publish_every,
        updates: Some(config.learner.steps),
        base: base_of_log(log).await?,
        journal_dir: Some(folder.journals()),
    })?;
    let (tell, mut told) = mpsc::unbounded_channel();
    let events = events.clone();
    let forwarding = tokio::spawn(async move {
        while let Some(event) = told.recv().await {
            let _nobody_listens = events.send(RunEvent::Producer(event));
        }
    });
    let produced = worker.run(stop.clone(), tell).await?;
    forwarding
        .await
        .map_err(|error| Error::Role(format!("the event forwarder panicked: {error}")))?;
    Ok(produced)
}

/// What a role takes from its user besides the settings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// The broker.
    Log,
    /// The broker, prompts and model.
    Prompts,
}

async fn join(
    resolved: &Resolved<RunConfig>,
    out: &Path,
    reads: Reads,
) -> Result<(RunFolder, Log)> {
    let config = &resolved.config;
    if config.broker == "embedded" {
        return Err(Error::Usage(
            "broker = \"embedded\" lives inside one process: a single role needs one that others \
             reach; use broker=local, or start one with `vintage broker up` and give \
             --broker HOST:PORT"
                .to_owned(),
        ));
    }
    if !out.join("config.toml").is_file() && reads == Reads::Prompts {
        inputs::check(config).await?;
    } else {
        inputs::check_broker(config).await?;
    }
    let folder = RunFolder::share(out, resolved)?;
    serve_metrics(config)?;
    let log = Log::start(config, folder.path(), &folder.archive()).await?;
    Ok((folder, log))
}

/// Returns once any version of any policy is announced.
async fn first_announcement(log: &Log) -> Result<()> {
    let topic = log.topics.policies();
    let mut announcements = from_the_start(&log.bus, &topic, "rollout-first").await?;
    while let Some(event) = announcements.next().await? {
        if let Event::Record(record) = event
            && let Some(payload) = record.payload
            && serde_json::from_slice::<PolicyAnnouncement>(&payload).is_ok()
        {
            return Ok(());
        }
    }
    Err(Error::Role(format!(
        "reading {topic} ended before the first announcement"
    )))
}

/// What the log holds already, by its headers: the gate counts all producers of the run.
async fn base_of_log(log: &Log) -> Result<GateBase> {
    let topic = log.topics.rollouts();
    let marks = log.bus.watermarks(&topic).await?;
    let mut left: u64 = marks
        .iter()
        .map(|(_, low, high)| (high.0 - low.0).max(0) as u64)
        .sum();
    let expired: u64 = marks.iter().map(|(_, low, _)| low.0.max(0) as u64).sum();
    let mut base = GateBase {
        published_before: expired,
        ..GateBase::default()
    };
    if left == 0 {
        return Ok(base);
    }
    let start = marks
        .iter()
        .map(|(partition, low, _)| (*partition, *low))
        .collect();
    let mut records = log
        .bus
        .consumer("rollout-base", &topic, start, ConsumerLimits::default())?;
    while left > 0 {
        // Offsets that hold no record leave the count above what comes: a record at or past the
        // marks, or silence, ends it.
        let next = tokio::time::timeout(Duration::from_secs(5), records.next()).await;
        let Ok(next) = next else { break };
        let Some(Event::Record(record)) = next? else {
            break;
        };
        left -= 1;
        let pairs = record
            .headers
            .iter()
            .map(|h| (h.key.as_str(), h.value.as_deref()));
        let Ok(headers) = Headers::parse(pairs) else {
            continue;
        };
        if headers.part.0 == 1 {
            base.published_before += 1;
            if headers.batch >= 0 {
                *base.filled.entry(headers.batch).or_default() += 1;
            }
        }
    }
    Ok(base)
}

async fn from_the_start(bus: &Bus, topic: &str, client: &str) -> Result<vintage_bus::Consumer> {
    let marks = bus.watermarks(topic).await?;
    let start: Vec<(_, Offset)> = marks.into_iter().map(|(p, low, _)| (p, low)).collect();
    Ok(bus.consumer(client, topic, start, ConsumerLimits::default())?)
}
