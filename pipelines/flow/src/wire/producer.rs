//! Construction of a producer with the local engine.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vintage_bus::TopicTable;
use vintage_control::PolicyVersion;
use vintage_local::LocalEngine;
use vintage_rollout::{ProducerSummary, Worker, WorkerSetup};
use vintage_settings::RunConfig;

use crate::{
    broker::Log,
    error::{Error, Result},
    event::{Events, RunEvent},
    folder::RunFolder,
    prepared::Prepared,
};

/// First part of the producer's id, before what is new in every process.
const PRODUCER: &str = "local";

/// Inputs of one producer process.
pub(crate) struct ProducerParts<'a> {
    /// Settings of the run.
    pub(crate) config: &'a RunConfig,
    /// Folder and store of the run.
    pub(crate) folder: &'a RunFolder,
    /// Broker and topics.
    pub(crate) log: &'a Log,
    /// Prompts and reward.
    pub(crate) inputs: Prepared,
    /// Updates of the run, where they are known.
    pub(crate) updates: Option<u64>,
    /// True if `updates` is from the run's own settings.
    pub(crate) updates_of_run: bool,
}

/// Checks prompts against model and reward, and builds the producer.
pub(crate) async fn open(parts: ProducerParts<'_>) -> Result<Worker> {
    let ProducerParts {
        config,
        folder,
        log,
        mut inputs,
        ..
    } = parts;
    let policy = config.learner.policy.clone();
    let weights = folder.weights(&policy);
    let engine = LocalEngine::open(weights, policy.clone(), PolicyVersion::ZERO).await?;
    let worker = Worker::new(WorkerSetup {
        bus: log.bus.clone(),
        topics: log.topics.clone(),
        table: TopicTable::builtin(),
        policy,
        engine: Box::new(engine),
        reward: inputs.reward(config)?,
        prompts: inputs.task.train,
        producer: PRODUCER
            .parse()
            .map_err(|error| Error::Bug(format!("naming the producer: {error}")))?,
        rollout: config.rollout.clone(),
        seed: config.seed,
        groups_per_update: config.learner.live_groups() as u64,
        updates: parts.updates,
        updates_of_run: parts.updates_of_run,
        journal_dir: Some(folder.journals()),
    })?;
    Ok(worker)
}

/// Runs a producer to its end and passes its events on.
pub(crate) async fn produce(
    worker: Worker,
    stop: CancellationToken,
    events: Events,
) -> Result<ProducerSummary> {
    let (tell, mut reported) = mpsc::unbounded_channel();
    let forwarding = tokio::spawn(async move {
        while let Some(event) = reported.recv().await {
            let _nobody_listens = events.send(RunEvent::Producer(event));
        }
    });
    let summary = worker.run(stop, tell).await?;
    forwarding
        .await
        .map_err(Error::panicked("the event forwarder"))?;
    Ok(summary)
}
