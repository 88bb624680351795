//! Roles of `vintage run`: started in the order of the dataflow, stopped in the order that loses no
//! record.

use std::time::Duration;
use vintage_settings::RunConfig;

use async_trait::async_trait;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use vintage_archive::{SinkHandle, SinkSummary};
use vintage_control::{Incarnation, Offset, Partition, RecordId};
use vintage_learner::{Devices, Durability, DurableLog, LearnerSummary, Outlet};
use vintage_rollout::ProducerSummary;

use crate::{
    broker::Log,
    error::{Error, Result},
    event::Events,
    folder::RunFolder,
    prepared::Prepared,
    prune::acknowledged,
    wire::{self, learner::WiredLearner},
};

/// Folder, log and devices that the roles of a process work on.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// Folder and store of the run.
    pub(super) folder: &'a RunFolder,
    /// Broker and topics.
    pub(super) log: &'a Log,
    /// Devices that updates may be computed on.
    pub(super) devices: &'static dyn Devices,
}

/// Running archive, learner, producer and evaluator of one process.
pub(super) struct Roles {
    sink: SinkHandle,
    archive: JoinHandle<Result<SinkSummary>>,
    learner: JoinHandle<Result<LearnerSummary>>,
    producer: JoinHandle<Result<ProducerSummary>>,
    evaluator: Option<JoinHandle<Result<()>>>,
    stop_learner: CancellationToken,
    stop_producer: CancellationToken,
    log: (vintage_bus::Bus, String),
}

impl Roles {
    /// Starts all roles. If one fails to start, the ones already started are stopped. `stop` ends a wait for
    /// inference servers.
    pub(super) async fn start(
        config: &RunConfig,
        on: Place<'_>,
        prepared: Prepared,
        events: &Events,
        stop: &CancellationToken,
    ) -> Result<Self> {
        let Place {
            folder,
            log,
            devices,
        } = on;
        let topic = log.topics.rollouts();
        if log.volatile {
            // The embedded broker trims a record only after both learner and archive have read it.
            log.bus.expect_consumers(&topic, 2);
        }
        let mut started = Started::default();
        let (sink, archive) = start_sink(config, folder, log).await?;
        started.sink = Some(sink.clone());
        if !log.volatile {
            // Records that earlier producers left in the log are counted before a new producer
            // starts.
            wire::archive::drain(&sink, &log.bus, &topic).await?;
        }

        let (evaluations, evaluator) =
            wire::evaluator::start(config, folder, &prepared.task, events).await?;
        started
            .tasks
            .extend(evaluator.as_ref().map(JoinHandle::abort_handle));
        let (tell, _ends_with_the_learner) =
            wire::learner::forward(config, events.clone(), evaluations);
        let durability: Box<dyn Durability> = if log.volatile {
            Box::new(ArchiveFirst {
                sink: sink.clone(),
                incarnation: log.incarnation,
            })
        } else {
            Box::new(DurableLog)
        };
        let ended = acknowledged(folder.store(), &folder.journals()).await?;
        let learning = wire::learner::open(wire::learner::LearnerParts {
            config,
            folder,
            log: Some(log),
            outlet: Outlet::new(log.bus.producer("learner")?, log.topics.clone(), tell),
            start: None,
            durability,
            leader: None,
            // The folder is this process's, and every producer before it left a journal.
            grants: Some(ended.into_keys().collect()),
            events,
            devices,
        })
        .await?;
        let stop_learner = CancellationToken::new();
        let learner = tokio::spawn(learn(learning, stop_learner.clone()));
        started.tasks.push(learner.abort_handle());

        let worker = wire::producer::open(wire::producer::ProducerParts {
            config,
            folder,
            log,
            inputs: prepared,
            updates: Some(config.learner.steps),
            updates_of_run: true,
            patience: patience(folder, config.rollout.patience_seconds),
            stop,
            program: None,
        })
        .await?;
        let stop_producer = CancellationToken::new();
        let producer = tokio::spawn(wire::producer::produce(
            worker,
            stop_producer.clone(),
            events.clone(),
        ));
        let log = (log.bus.clone(), topic);
        started.all();
        Ok(Self {
            sink,
            archive,
            learner,
            producer,
            evaluator,
            stop_learner,
            stop_producer,
            log,
        })
    }

    /// Waits until the learner ends, `stop` is cancelled, or a role fails; then stops every role in
    /// order: the learner (writes a checkpoint), the producer (publishes the groups being sampled),
    /// the archive (takes all acknowledged records), the evaluator.
    pub(super) async fn finish(mut self, stop: &CancellationToken) -> Result<LearnerSummary> {
        let (mut learned, mut produced, mut archived) = (None, None, None);
        tokio::select! {
            outcome = &mut self.learner => learned = Some(joined("the learner", outcome)),
            outcome = &mut self.producer => produced = Some(joined("the producer", outcome)),
            outcome = &mut self.archive => archived = Some(joined("the archive", outcome)),
            () = stop.cancelled() => {}
        }
        if let Some(Ok(_)) = produced {
            // All groups of the run are published; the learner continues alone.
            tokio::select! {
                outcome = &mut self.learner => learned = Some(joined("the learner", outcome)),
                outcome = &mut self.archive => archived = Some(joined("the archive", outcome)),
                () = stop.cancelled() => {}
            }
        }
        self.stop_learner.cancel();
        self.stop_producer.cancel();
        let learned = match learned {
            Some(outcome) => outcome,
            None => joined("the learner", self.learner.await),
        };
        let produced = match produced {
            Some(outcome) => outcome,
            None => joined("the producer", self.producer.await),
        };
        let drained = if archived.is_none() && produced.is_ok() {
            let (bus, topic) = &self.log;
            wire::archive::drain(&self.sink, bus, topic).await
        } else {
            Ok(())
        };
        self.sink.shutdown();
        let archived = match archived {
            Some(outcome) => outcome,
            None => joined("the archive", self.archive.await),
        };
        let evaluated = match self.evaluator {
            Some(evaluator) => joined("the evaluator", evaluator.await),
            None => Ok(()),
        };
        // Archive and producer first: a failure of the drain or of the learner may be a consequence
        // of theirs.
        archived?;
        drained?;
        produced?;
        let learned = learned?;
        evaluated?;
        Ok(learned)
    }
}

/// Roles that are already running while the remaining ones are started. Dropping it shuts them down, unless
/// [`Started::all`] was called.
#[derive(Default)]
struct Started {
    sink: Option<SinkHandle>,
    tasks: Vec<AbortHandle>,
}

impl Started {
    /// Marks the start as complete, so that dropping this stops no role.
    fn all(&mut self) {
        self.sink = None;
        self.tasks.clear();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(sink) = &self.sink {
            sink.shutdown();
        }
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn learn(learning: WiredLearner, stop: CancellationToken) -> Result<LearnerSummary> {
    Box::pin(learning.run(&stop)).await
}

/// Returns the time for which a role waits for the run's store. A bucket may come back by itself; room
/// on this machine's disk is made by its user, whom the end of the run tells.
pub(super) fn patience(folder: &RunFolder, seconds: f64) -> Duration {
    if folder.store().is_remote() {
        Duration::from_secs_f64(seconds)
    } else {
        Duration::ZERO
    }
}

async fn start_sink(
    config: &RunConfig,
    folder: &RunFolder,
    log: &Log,
) -> Result<(SinkHandle, JoinHandle<Result<SinkSummary>>)> {
    let beside = wire::archive::Beside::Learner {
        patience: patience(folder, config.archive.patience_seconds),
    };
    let (sink, task) = wire::archive::start(config, folder, log, beside).await?;
    Ok((
        sink,
        tokio::spawn(async move { Ok(task.await.map_err(Error::panicked("the archive"))??) }),
    ))
}

fn joined<T>(role: &'static str, outcome: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    outcome.map_err(Error::panicked(role))?
}

/// Durability on the embedded log, which is lost with this process: a record is durable once the
/// archive has committed it.
struct ArchiveFirst {
    sink: SinkHandle,
    incarnation: Incarnation,
}

impl ArchiveFirst {
    /// Returns the ends of `records`. Those of earlier incarnations came from the archive, so they are
    /// durable already.
    fn ends(&self, records: &[RecordId]) -> Vec<(Partition, Offset)> {
        let live = records
            .iter()
            .filter(|record| record.incarnation == self.incarnation);
        live.map(|record| (record.partition, record.offset.next()))
            .collect()
    }
}

#[async_trait]
impl Durability for ArchiveFirst {
    fn ask(&mut self, records: &[RecordId]) {
        self.sink.ask_for(self.ends(records));
    }

    async fn ensure(&mut self, records: &[RecordId]) -> vintage_learner::Result<()> {
        let committed = self.sink.commit_up_to(self.ends(records)).await;
        committed.map_err(vintage_learner::Error::durability_failed)
    }
}

#[cfg(test)]
mod tests;
