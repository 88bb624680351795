//! Entry point of `vintage run`: broker, archive, learner, producer and evaluator in one process.

mod roles;

use std::{path::Path, time::Instant};
use vintage_config::Resolved;
use vintage_settings::{RunConfig, SourceKind};

use tokio_util::sync::CancellationToken;
use vintage_archive::Reader;
use vintage_audit::tally;
use vintage_learner::Devices;
use vintage_report::{SUMMARY_FILE, read_summary};
use vintage_store::Patience;

use self::roles::{Place, Roles};
use crate::{
    announcements::refuse_another_run,
    archive_source::archive_of,
    broker::Log,
    devices::devices,
    error::{Error, Result},
    event::{Events, RunEvent},
    folder::{RunFolder, config_file, write_whole},
    hub::fetch_missing,
    input_digests::{By, Given, Lead, Made, hold, hold_version_zero},
    preflight,
    prepared::Prepared,
    presence::Presence,
    prune::acknowledged,
    standstill::{Role, watch::Watch},
    summary::{Summary, SummaryInputs, Totals},
    version_zero::ensure_version_zero,
};

/// Runs all roles until the learner has done its updates or `stop` is cancelled, and leaves all
/// results in `out`. Called again with the same folder, it resumes the run; for a finished run it
/// returns the saved summary at once. `accept` names the settings whose input files are allowed to
/// have changed since the last start.
pub async fn run(
    resolved: &Resolved<RunConfig>,
    out: &Path,
    accept: &[String],
    stop: &CancellationToken,
    events: &Events,
) -> Result<Summary> {
    run_on(devices(), resolved, out, accept, stop, events).await
}

/// Runs all roles as [`run`] does, with updates computed on the caller's `devices`.
pub async fn run_on(
    devices: &'static dyn Devices,
    resolved: &Resolved<RunConfig>,
    out: &Path,
    accept: &[String],
    stop: &CancellationToken,
    events: &Events,
) -> Result<Summary> {
    let watch = Watch::over(Role::Learner, &resolved.config, events);
    let run = run_watched(devices, resolved, out, accept, stop, &watch);
    let mut summary = Box::pin(run).await?;
    let account = watch.end().await;
    summary.standstill = account.standstill.filter(|_| !summary.finished);
    Ok(summary)
}

async fn run_watched(
    devices: &'static dyn Devices,
    resolved: &Resolved<RunConfig>,
    out: &Path,
    accept: &[String],
    stop: &CancellationToken,
    watch: &Watch,
) -> Result<Summary> {
    let events = &watch.events;
    let started = Instant::now();
    let config = &resolved.config;
    refuse_others_learner(config)?;
    let phase = |text: &str| {
        let _nobody_listens = events.send(RunEvent::Phase(text.to_owned()));
    };
    let is_new = !config_file(out).is_file();
    if is_new {
        // Before the warm start: an archive that is not there is a mistake in the settings.
        archive_of(config).await?;
        fetch_missing(config, events, stop).await?;
    }
    // The model is present only from here on, so defaults that depend on it are resolved again.
    let resolved = &resolved.again()?;
    let config = &resolved.config;
    let checked = if is_new {
        phase("checking prompts, model and reward");
        Some(preflight::check(config, preflight::Trains::Here, stop).await?)
    } else {
        None
    };
    let folder = RunFolder::take(out, resolved)?;
    watch.board.opened(folder.store());
    watch.board.serve(config)?;
    if let Some(summary) = finished_summary(&folder, config)? {
        return Ok(summary);
    }
    folder.prove_store().await?;
    let longest = roles::patience(&folder, config.learner.patience_seconds);
    let cancel = stop.clone();
    let folder = folder.patient(Patience { longest, cancel });
    phase("loading prompts");
    let mut inputs = Prepared::in_folder(checked, config, folder.path())?;
    let given = Given::to_lead(&inputs.task, config)?;
    given.warn_of_unheld(&config.rollout, events);
    let made = Made::of(&folder, config).await?;
    let lead = By::Lead(Lead { accept, made });
    hold(folder.store(), &given, lead, out).await?;
    let weights = folder.weights(&config.learner.policy);
    let model = inputs.model.take();
    ensure_version_zero(&weights, config, &inputs.task, model, events).await?;
    hold_version_zero(&weights, &config.learner.policy).await?;
    if stop.is_cancelled() {
        return Err(Error::Interrupted);
    }
    phase("starting the broker");
    let log = Log::start(config, folder.path(), &folder.archive()).await?;
    watch.board.connected(&log);
    let presence = match Presence::claim(&log, config, events).await {
        Ok(presence) => presence,
        Err(refused) => return log.stop_after(Err(refused)).await,
    };
    let training = Instant::now();
    let outcome = async {
        let records = folder.records(&config.learner.name);
        refuse_another_run(&log, &weights, &config.learner.policy, &records).await?;
        phase("training");
        let on = Place {
            folder: &folder,
            log: &log,
            devices,
        };
        let roles = Roles::start(config, on, inputs, events, stop).await?;
        roles.finish(stop).await
    };
    let outcome = Box::pin(outcome).await;
    if let Some(presence) = presence {
        presence.end().await;
    }
    let training_seconds = training.elapsed().as_secs_f64();
    let stopped = log.stop().await;
    outcome?;
    stopped?;
    phase("counting");
    let mut summary = summarise(&folder, config).await?;
    summary.seconds = started.elapsed().as_secs_f64();
    summary.training_seconds = training_seconds;
    save_summary(&folder, &summary)?;
    Ok(summary)
}

/// Refuses learner settings that `vintage run` does not support: an archive as source, another
/// learner's plans, a start other than `earliest`. The learner of a run trains on what that run
/// samples, from its first record.
fn refuse_others_learner(config: &RunConfig) -> Result<()> {
    let learner = &config.learner;
    let (setting, reason) = if learner.source == SourceKind::Archive {
        (
            "learner.source = \"archive\"",
            "a run samples its own rollouts; train from an archive with `vintage learn`",
        )
    } else if learner.follow_plans.is_some() {
        (
            "learner.follow_plans",
            "a run's own learner plans itself; follow it with `vintage learn --name NAME \
             --follow-plans`",
        )
    } else if learner.start != "earliest" {
        (
            "learner.start",
            "a run's own learner begins with its first rollout; start another in the middle with \
             `vintage learn --name NAME --start`",
        )
    } else {
        return Ok(());
    };
    Err(Error::Setting {
        setting: setting.to_owned(),
        reason: reason.to_owned(),
    })
}

/// Computes the summary of a run from the records in its folder. Both durations are 0; the caller
/// fills them in.
pub(crate) async fn summarise(folder: &RunFolder, config: &RunConfig) -> Result<Summary> {
    let policy = &config.learner.policy;
    let records = folder.records(&config.learner.name);
    let weights = folder.weights(policy);
    let version = weights.latest().await?.unwrap_or_default();
    let manifest = weights
        .manifest(version)
        .await?
        .ok_or_else(|| Error::Vanished {
            policy: policy.clone(),
            version,
        })?;
    let reader = Reader::new(folder.archive(), &config.topic_names().rollouts());
    let journals = acknowledged(folder.store(), &folder.journals()).await?;
    let tally = tally(&reader, &journals, &records).await?;
    let totals = Totals::read(folder.store(), &records, config, version).await?;
    Ok(totals.summary(&SummaryInputs {
        version,
        finished: version.0 >= config.learner.steps,
        evaluate_every: config.evaluation.every,
        judged_by_program: config.rollout.is_judged_by_program(),
        tally: &tally,
        weights_sha256: manifest.weights_sha256,
        seconds: 0.0,
        training_seconds: 0.0,
    }))
}

fn finished_summary(folder: &RunFolder, config: &RunConfig) -> Result<Option<Summary>> {
    let Some(summary) = read_summary::<Summary>(folder.path())? else {
        return Ok(None);
    };
    Ok((summary.updates >= config.learner.steps).then_some(summary))
}

fn save_summary(folder: &RunFolder, summary: &Summary) -> Result<()> {
    let text = serde_json::to_string_pretty(summary)
        .map_err(|error| Error::Bug(format!("writing the summary: {error}")))?;
    write_whole(&folder.path().join(SUMMARY_FILE), &(text + "\n"))
}
