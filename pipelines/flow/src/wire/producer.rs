//! Construction of a producer with the engine that the settings name.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vintage_bus::TopicTable;
use vintage_config::secret;
use vintage_control::{Name, PolicyVersion};
use vintage_given::{Desk, GivenEngine, GivenReward, GivenSettings};
use vintage_local::LocalEngine;
use vintage_remote::{RemoteEngine, RemoteSetup};
use vintage_rollout::{Engine, ProducerSummary, Reward, Worker, WorkerSetup};
use vintage_settings::{EngineKind, RunConfig};
use vintage_store::{Patience, Weights};

use crate::{
    broker::Log,
    error::{Error, Result},
    event::{Events, RunEvent},
    folder::RunFolder,
    host,
    prepared::Prepared,
};

/// Program that samples in place of the engine that the settings name.
#[derive(Clone)]
pub struct Program {
    /// First part of the producer's id.
    pub name: Name,
    /// Place where it takes slots and answers them.
    pub desk: Desk,
    /// True if the run's own reward scores what comes without a reward.
    pub scores: bool,
}

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
    /// Time for which a store is waited for that is away while the producer runs.
    pub(crate) patience: Duration,
    /// Ends the wait for inference servers, and for the store.
    pub(crate) stop: &'a CancellationToken,
    /// Program that samples; `None` for the engine of the settings.
    pub(crate) program: Option<&'a Program>,
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
    let patience = Patience {
        longest: parts.patience,
        cancel: parts.stop.clone(),
    };
    let weights = Weights::new(folder.store().clone().patient(patience), policy.clone());
    // Servers may take minutes to start.
    let engine = tokio::select! {
        opened = engine(config, folder, weights, parts.program) => opened?,
        () = parts.stop.cancelled(), if config.rollout.engine != EngineKind::Local => {
            return Err(Error::Interrupted);
        }
    };
    let (name, reward, environment) = match parts.program {
        None => (
            config.rollout.engine.as_str(),
            inputs.reward(config)?,
            inputs.environment(config)?,
        ),
        Some(program) => {
            let own = program.scores.then(|| inputs.reward(config)).transpose()?;
            let reward: Box<dyn Reward> = Box::new(GivenReward::new(own));
            (program.name.as_str(), reward, None)
        }
    };
    let worker = Worker::new(WorkerSetup {
        bus: log.bus.clone(),
        topics: log.topics.clone(),
        table: TopicTable::builtin(),
        policy,
        engine,
        reward,
        environment,
        prompts: inputs.task.train,
        // First part of the producer's id, before what is new in every process.
        producer: host::named(name)
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

/// Opens the engine of a program, or the one that the settings name.
async fn engine(
    config: &RunConfig,
    folder: &RunFolder,
    weights: Weights,
    program: Option<&Program>,
) -> Result<Box<dyn Engine>> {
    let policy = config.learner.policy.clone();
    if let Some(Program { name, desk, scores }) = program {
        let settings = GivenSettings {
            name: name.to_string(),
            exact: config.gate.exact.is_some(),
            scores: *scores,
        };
        let engine = GivenEngine::open(weights, &policy, desk.clone(), settings).await?;
        return Ok(Box::new(engine));
    }
    if config.rollout.engine == EngineKind::Local {
        let engine = LocalEngine::open(weights, policy, PolicyVersion::ZERO).await?;
        return Ok(Box::new(engine));
    }
    let key = config.rollout.server.key.clone();
    let key: BTreeMap<_, _> = key.map(|key| ("key".to_owned(), key)).into_iter().collect();
    let mut key = secret::reveal("rollout.server", &key).map_err(Error::Value)?;
    let engine = RemoteEngine::open(RemoteSetup {
        weights,
        policy,
        rollout: config.rollout.clone(),
        folder: folder.served(),
        key: key.remove("key"),
    });
    Ok(Box::new(engine.await?))
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
