//! Roles in processes of their own, which share one broker and one run folder.

mod join;
mod learn;
mod settings;

use std::{path::Path, time::Duration};
use vintage_config::Resolved;
use vintage_settings::RunConfig;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use vintage_archive::{SinkSummary, Taken};
use vintage_control::Name;
use vintage_rollout::ProducerSummary;

use self::{
    join::{Reads, join},
    settings::{SettingsWatch, is_set_explicitly},
};
pub use self::{
    learn::{learn, learn_on, learner_base},
    settings::{SettingsOf, await_run, await_settings},
};
pub use crate::wire::producer::Program;
use crate::{
    announcements::Announcements,
    broker::Log,
    error::{Error, Result},
    event::{Events, RunEvent},
    folder::{RunFolder, config_file},
    hub::fetch_missing,
    input_digests::{By, Given, hold, hold_sampling, hold_version_zero},
    prepared::Prepared,
    standstill::{EndNotice, Role, watch::Watch},
    wire,
};

/// Archives the run's rollouts until `stop` is cancelled, then up to the log's end at that moment.
/// With `accept_gap`, continues past records that retention deleted before they were archived.
pub async fn archive(
    resolved: &Resolved<RunConfig>,
    out: &Path,
    accept_gap: bool,
    stop: &CancellationToken,
    events: &Events,
) -> Result<(SinkSummary, EndNotice)> {
    let config = &resolved.config;
    let look_out = SettingsWatch::begin(config, out, stop);
    let watch = Watch::over(Role::Archive, config, events);
    let (folder, log, _no_inputs) = join(resolved, out, Reads::Log, &watch, stop).await?;
    let outcome = archive_on(
        config,
        &folder,
        &log,
        accept_gap,
        &look_out.stop,
        &watch.events,
    )
    .await;
    let outcome = look_out.end(outcome).await;
    let summary = log.stop_after(outcome).await?;
    Ok((summary, watch.end().await))
}

async fn archive_on(
    config: &RunConfig,
    folder: &RunFolder,
    log: &Log,
    accept_gap: bool,
    stop: &CancellationToken,
    events: &Events,
) -> Result<SinkSummary> {
    folder.prove_store().await?;
    let beside = wire::archive::Beside::Sinks { accept_gap };
    let (sink, mut task) = wire::archive::start(config, folder, log, beside).await?;
    let _nobody_listens = events.send(RunEvent::Phase("archiving".to_owned()));
    let telling = tokio::spawn(tell_taken(sink.taken(), events.clone()));
    let announced = Announcements::open(log, "archive-policies").await;
    let policy = config.learner.policy.clone();
    let hearing = tokio::spawn(tell_finished(announced, policy, events.clone()));
    // Both only tell, and end with this role.
    let _ends_too = AbortOnDrop([telling.abort_handle(), hearing.abort_handle()]);
    let panicked = Error::panicked("the archive");
    tokio::select! {
        ended = &mut task => {
            return Ok(ended.map_err(&panicked)??);
        }
        () = stop.cancelled() => {}
    }
    let drained = wire::archive::drain(&sink, &log.bus, &log.topics.rollouts()).await;
    sink.shutdown();
    let summary = task.await.map_err(&panicked)??;
    drained.map(|()| summary)
}

/// Tasks that are ended when this is dropped.
struct AbortOnDrop([tokio::task::AbortHandle; 2]);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

/// Sends whether the run's learner has finished, with every announcement of it. Who archives needs
/// no announcements, so one that cannot read them only knows less.
async fn tell_finished(opened: Result<Announcements>, policy: Name, events: Events) {
    let follow = async {
        let mut announcements = opened?;
        loop {
            let finished = announcements.next_of(&policy).await?;
            let _nobody_listens = events.send(RunEvent::Announced { finished });
        }
    };
    let Err::<std::convert::Infallible, Error>(error) = follow.await;
    tracing::debug!("announcements are not read: {error}");
}

/// Interval between [`RunEvent::Archived`] events; single records are not reported.
const TELL: Duration = Duration::from_millis(500);

/// Sends the sink's counts as [`RunEvent::Archived`] until the sink ends, at most once per
/// [`TELL`].
async fn tell_taken(mut taken: watch::Receiver<Taken>, events: Events) {
    loop {
        let now = taken.borrow_and_update().clone();
        let _nobody_listens = events.send(RunEvent::Archived {
            records: now.records,
            bad: now.quarantined,
        });
        tokio::time::sleep(TELL).await;
        if taken.changed().await.is_err() {
            return;
        }
    }
}

/// Produces rollouts until the learner has finished or `stop` is cancelled. Waits for the first
/// policy announcement, because without one there are no weights to sample from.
/// `accept` names the settings in which this producer may differ from its run.
pub async fn rollout(
    resolved: &Resolved<RunConfig>,
    out: &Path,
    accept: &[String],
    stop: &CancellationToken,
    events: &Events,
) -> Result<(ProducerSummary, EndNotice)> {
    rollout_of(None, resolved, out, accept, stop, events).await
}

/// Produces as [`rollout`] does, with completions that `program` samples. Its desk has ended when
/// this returns.
pub async fn rollout_by(
    program: &Program,
    resolved: &Resolved<RunConfig>,
    out: &Path,
    accept: &[String],
    stop: &CancellationToken,
    events: &Events,
) -> Result<(ProducerSummary, EndNotice)> {
    let produced = rollout_of(Some(program), resolved, out, accept, stop, events).await;
    program.desk.end();
    produced
}

async fn rollout_of(
    program: Option<&Program>,
    resolved: &Resolved<RunConfig>,
    out: &Path,
    accept: &[String],
    stop: &CancellationToken,
    events: &Events,
) -> Result<(ProducerSummary, EndNotice)> {
    let watch = Watch::over(Role::Producer, &resolved.config, events);
    let events = &watch.events;
    let of_run = config_file(out).is_file();
    if !of_run {
        fetch_missing(&resolved.config, events, stop).await?;
    }
    // Without the run's settings, the number of updates comes from the announcements, and a
    // number of this role's own holds only until they say another one.
    let is_known = of_run || is_set_explicitly(resolved, "learner.steps");
    let resolved = &resolved.again()?;
    let config = &resolved.config;
    let updates = Updates {
        number: is_known.then_some(config.learner.steps),
        of_run,
    };
    let look_out = SettingsWatch::begin(config, out, stop);
    let (folder, log, checked) = join(resolved, out, Reads::Prompts, &watch, stop).await?;
    let producer = Producer {
        program,
        config,
        accept,
        updates,
        folder: &folder,
        log: &log,
    };
    let outcome = producer.run(checked, &look_out.stop, events).await;
    let outcome = look_out.end(outcome).await;
    let summary = log.stop_after(outcome).await?;
    Ok((summary, watch.end().await))
}

/// Number of updates that a producer expects.
#[derive(Debug, Clone, Copy)]
struct Updates {
    number: Option<u64>,
    /// True if the number is from the run's own settings.
    of_run: bool,
}

/// One producer with its settings, folder and log.
struct Producer<'a> {
    program: Option<&'a Program>,
    config: &'a RunConfig,
    /// Settings in which it may differ from its run.
    accept: &'a [String],
    updates: Updates,
    folder: &'a RunFolder,
    log: &'a Log,
}

impl Producer<'_> {
    /// Samples from the first announcement on, with the inputs that were `checked` if any were.
    async fn run(
        self,
        checked: Option<Prepared>,
        stop: &CancellationToken,
        events: &Events,
    ) -> Result<ProducerSummary> {
        let Self {
            program,
            config,
            accept,
            updates,
            folder,
            log,
        } = self;
        let policy = config.learner.policy.clone();
        let inputs = Prepared::in_folder(checked, config, folder.path())?;
        let given = Given::to_producer(&inputs.task, config)?;
        // What the learner has recorded already is compared before anything is waited for; so a store
        // that cannot be used is told at once too.
        hold_sampling(folder.store(), &given, accept).await?;
        let mut announcements = Announcements::open(log, "rollout-first").await?;
        tokio::select! {
            announced = announcements.first_of(&policy, events) => announced?,
            () = stop.cancelled() => return Err(Error::Interrupted),
        }
        given.warn_of_unheld(&config.rollout, events);
        announcements.hold_store(config, folder).await?;
        hold(folder.store(), &given, By::Producer(accept), folder.path()).await?;
        hold_version_zero(&folder.weights(&policy), &policy).await?;
        let worker = wire::producer::open(wire::producer::ProducerParts {
            config,
            folder,
            log,
            inputs,
            updates: updates.number,
            updates_of_run: updates.of_run,
            patience: Duration::from_secs_f64(config.rollout.patience_seconds),
            stop,
            program,
        })
        .await?;
        let phase = format!("sampling as producer {}", worker.producer_id());
        let _nobody_listens = events.send(RunEvent::Phase(phase));
        wire::producer::produce(worker, stop.clone(), events.clone()).await
    }
}
