//! Roles of `vintage run`: started in the order of the dataflow, stopped in the order that loses no
//! record.

use std::time::Duration;

use async_trait::async_trait;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
};
use tokio_util::sync::CancellationToken;
use vintage_archive::{Reader, Sink, SinkHandle, SinkSummary};
use vintage_control::{Incarnation, PolicyVersion, RecordId};
use vintage_learner::{
    Durability, DurableLog, Inputs, Learner, LearnerEvent, LearnerSummary, Outlet,
};
use vintage_local::LocalEngine;
use vintage_rollout::{
    Engine as _, ProducerEvent, ProducerSummary, Worker, WorkerSetup, open_reward, read_journals,
};

use super::{is_evaluated, sink_options, writer};
use crate::{
    Error, Result,
    broker::Log,
    config::RunConfig,
    evaluate::Evaluator,
    event::{Events, RunEvent},
    folder::RunFolder,
    gate_base,
    handoff::HandOff,
    recorded::ends,
    roles::{Archives, lineages},
    settings::{learner_settings, rollout_config},
    start::{Places, decide},
    tasks::Task,
};

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
    /// Starts all roles. If one fails to start, the ones already started are stopped.
    pub(super) async fn start(
        config: &RunConfig,
        folder: &RunFolder,
        log: &Log,
        task: Task,
        events: &Events,
    ) -> Result<Self> {
        let policy = &config.learner.policy;
        let weights = folder.weights(policy);
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
            sink.drain_through(ends(&log.bus, &topic).await?).await?;
        }
        let records = folder.records(&config.learner.name);
        let reader = Reader::new(folder.archive(), &topic);
        let base = gate_base::of_archive(&reader, folder.store(), config).await?;

        let (evaluations, evaluator) = start_evaluator(config, folder, &task, events).await?;
        started
            .tasks
            .extend(evaluator.as_ref().map(JoinHandle::abort_handle));
        let learner_events = forward(config, events.clone(), evaluations);
        let producer = log.bus.producer("learner")?;
        let outlet = Outlet::new(producer, log.topics.clone(), learner_events);
        let archives = Archives::open(config, folder).await?;
        let settings = learner_settings(config, &weights, archives.blended.as_ref()).await?;
        let name = &config.learner.name;
        let places = Places {
            reader: &reader,
            log: Some(log),
        };
        let start = decide(&records, name, &config.learner.start, &places).await?;
        let life = writer(name);
        let learner =
            Learner::open(settings, life, records, weights.clone(), outlet, &start).await?;
        let source = HandOff::open(log, &reader, &learner.resume_points()).await?;
        let durability: Box<dyn Durability> = if log.volatile {
            Box::new(ArchiveFirst {
                sink: sink.clone(),
                incarnation: log.incarnation,
            })
        } else {
            Box::new(DurableLog)
        };
        let mut inputs = Inputs::new(Box::new(source), durability);
        inputs.blended = archives.blended(&learner).await?;
        inputs.lineages = lineages(config, Some(log)).await?;
        let stop_learner = CancellationToken::new();
        let learner = tokio::spawn(learn(learner, inputs, stop_learner.clone()));
        started.tasks.push(learner.abort_handle());

        let rollout = rollout_config(config, task.train.path())?;
        let worker = Worker::new(WorkerSetup {
            bus: log.bus.clone(),
            topics: log.topics.clone(),
            table: vintage_bus::TopicTable::builtin(),
            policy: policy.clone(),
            engine: Box::new(
                LocalEngine::open(weights, policy.clone(), PolicyVersion::ZERO).await?,
            ),
            reward: open_reward(&rollout.reward)?,
            prompts: task.train,
            config: rollout,
            seed: config.seed,
            // This process alone uses the folder, and every earlier producer process left one
            // journal.
            life: Some(read_journals(&folder.journals())?.len() as u64),
            groups_per_update: config.learner.live_groups() as u64,
            publish_every: config.learner.publish_every,
            updates: Some(config.learner.steps),
            base,
            // This process alone uses the folder, so no claims are needed.
            claims: None,
            journal_dir: Some(folder.journals()),
        })?;
        let stop_producer = CancellationToken::new();
        let producer = tokio::spawn(produce(worker, stop_producer.clone(), events.clone()));
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
            outcome = &mut self.learner => learned = Some(joined("learner", outcome)),
            outcome = &mut self.producer => produced = Some(joined("producer", outcome)),
            outcome = &mut self.archive => archived = Some(joined("archive", outcome)),
            () = stop.cancelled() => {}
        }
        if let Some(Ok(_)) = produced {
            // All groups of the run are published; the learner continues alone.
            tokio::select! {
                outcome = &mut self.learner => learned = Some(joined("learner", outcome)),
                outcome = &mut self.archive => archived = Some(joined("archive", outcome)),
                () = stop.cancelled() => {}
            }
        }
        self.stop_learner.cancel();
        self.stop_producer.cancel();
        let learned = match learned {
            Some(outcome) => outcome,
            None => joined("learner", self.learner.await),
        };
        let produced = match produced {
            Some(outcome) => outcome,
            None => joined("producer", self.producer.await),
        };
        if archived.is_none() && produced.is_ok() {
            let (bus, topic) = &self.log;
            self.sink.drain_through(ends(bus, topic).await?).await?;
        }
        self.sink.shutdown();
        let archived = match archived {
            Some(outcome) => outcome,
            None => joined("archive", self.archive.await),
        };
        let evaluated = match self.evaluator {
            Some(evaluator) => joined("evaluator", evaluator.await),
            None => Ok(()),
        };
        // Archive and producer first: a failure of the learner may be a consequence of theirs.
        archived?;
        produced?;
        let learned = learned?;
        evaluated?;
        Ok(learned)
    }
}

/// Roles that are already running while the others are started. Dropping it shuts them down, unless
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

async fn learn(
    learner: Learner,
    inputs: Inputs,
    stop: CancellationToken,
) -> Result<LearnerSummary> {
    Ok(learner.run(inputs, &stop).await?)
}

async fn produce(
    worker: Worker,
    stop: CancellationToken,
    events: Events,
) -> Result<ProducerSummary> {
    let (tell, mut told) = mpsc::unbounded_channel::<ProducerEvent>();
    let forwarding = tokio::spawn(async move {
        while let Some(event) = told.recv().await {
            let _nobody_listens = events.send(RunEvent::Producer(event));
        }
    });
    let summary = worker.run(stop, tell).await?;
    joined("event forwarder", forwarding.await.map(Ok))?;
    Ok(summary)
}

/// Forwards the learner's events to `events`, and the versions that are due for evaluation to the
/// evaluator.
fn forward(
    config: &RunConfig,
    events: Events,
    evaluations: Option<mpsc::UnboundedSender<PolicyVersion>>,
) -> mpsc::UnboundedSender<LearnerEvent> {
    let (tell, mut told) = mpsc::unbounded_channel();
    let (every, steps) = (config.evaluation.every, config.learner.steps);
    tokio::spawn(async move {
        while let Some(event) = told.recv().await {
            if let (LearnerEvent::Published(version), Some(evaluations)) = (&event, &evaluations)
                && is_evaluated(*version, every, steps)
            {
                let _evaluator_failed = evaluations.send(*version);
            }
            let _nobody_listens = events.send(RunEvent::Learner(event));
        }
    });
    tell
}

type Evaluations = Option<mpsc::UnboundedSender<PolicyVersion>>;

async fn start_evaluator(
    config: &RunConfig,
    folder: &RunFolder,
    task: &Task,
    events: &Events,
) -> Result<(Evaluations, Option<JoinHandle<Result<()>>>)> {
    let Some(prompts) = &task.heldout else {
        return Ok((None, None));
    };
    let rollout = rollout_config(config, prompts.path())?;
    let policy = config.learner.policy.clone();
    let weights = folder.weights(&policy);
    let (ask, asked) = mpsc::unbounded_channel();
    // Queues versions that an earlier process published and did not evaluate; versions that were
    // evaluated are skipped later.
    for version in weights.versions().await? {
        if is_evaluated(version, config.evaluation.every, config.learner.steps) {
            let _received_below = ask.send(version);
        }
    }
    let engine = LocalEngine::open(weights, policy.clone(), PolicyVersion::ZERO).await?;
    let mut prompts = prompts.clone();
    prompts.render(|messages| engine.render(messages).map_err(|error| error.to_string()))?;
    let evaluator = Evaluator {
        engine,
        reward: open_reward(&rollout.reward)?,
        prompts,
        count: config.evaluation.prompts,
        max_tokens: config.rollout.max_tokens,
        seed: config.seed,
        policy,
        store: folder.store().clone(),
        events: events.clone(),
    };
    Ok((Some(ask), Some(tokio::spawn(evaluator.run(asked)))))
}

async fn start_sink(
    config: &RunConfig,
    folder: &RunFolder,
    log: &Log,
) -> Result<(SinkHandle, JoinHandle<Result<SinkSummary>>)> {
    let mut options = sink_options(config, folder, log);
    // The learner of this process writes to the same store without retries, so the archive does not
    // wait for the store either: the run ends with the store's error and resumes when started
    // again.
    options.patience = Duration::ZERO;
    let (sink, task) = Sink::start(options, &log.bus).await?;
    Ok((
        sink,
        tokio::spawn(async move { Ok(task.await.map_err(panicked("archive"))??) }),
    ))
}

fn joined<T>(role: &str, outcome: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    outcome.map_err(panicked(role))?
}

fn panicked(role: &str) -> impl Fn(tokio::task::JoinError) -> Error {
    move |error| Error::Role(format!("the {role} panicked: {error}"))
}

/// Durability on the embedded log, which is lost with this process: a record is durable once the
/// archive has committed it.
struct ArchiveFirst {
    sink: SinkHandle,
    incarnation: Incarnation,
}

#[async_trait]
impl Durability for ArchiveFirst {
    async fn ensure(&mut self, records: &[RecordId]) -> vintage_learner::Result<()> {
        // Records of earlier incarnations came from the archive, so they are durable already.
        let live = records
            .iter()
            .filter(|record| record.incarnation == self.incarnation);
        let through = live
            .map(|record| (record.partition, record.offset.next()))
            .collect();
        let committed = self.sink.commit_through(through).await;
        committed.map_err(vintage_learner::Error::durability_failed)
    }
}
