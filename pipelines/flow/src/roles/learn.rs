//! Entry point of `vintage learn`: the lead of a run, or a follower beside it.

use std::{collections::BTreeSet, path::Path, time::Duration};
use vintage_config::{Key, Layers, Resolved};
use vintage_settings::{RunConfig, SourceKind};

use tokio_util::sync::CancellationToken;
use vintage_control::{LearnerStart, Name, PartitionResume};
use vintage_learner::{Devices, DurableLog, Leader, LearnerSummary, Outlet};
use vintage_store::Patience;

use super::join::{Reads, join, refuse_embedded};
use crate::{
    announcements::{Announcements, PlansOf, refuse_another_run},
    broker::Log,
    devices::devices,
    error::{Error, Result},
    event::{Events, RunEvent},
    folder::{RunFolder, config_file, learner_config},
    hub::fetch_missing,
    input_digests::{By, Given, Lead, Made, hold, hold_version_zero},
    preflight,
    prepared::Prepared,
    presence::Presence,
    standstill::{self, EndNotice, watch::Watch},
    start::resume_points,
    version_zero::{adopt_version_zero, ensure_version_zero},
    wire::{self, learner::WiredLearner},
};

/// Returns the settings that a learner of the run in `out` starts from: its own recorded settings
/// if it has any, else those of the learner it follows (`follows`) or of the lead, under the given
/// name. Without a `name` it is the lead. Empty if the folder holds no run.
pub fn learner_base(out: &Path, name: Option<&Name>, follows: Option<&Name>) -> Result<Layers> {
    let key = |key: &str| Key::new(key.split('.'));
    let named = |layers: Layers, name: &Name| {
        let layers = layers.flag("--name", &key("learner.name"), name);
        layers.flag("--name", &key("learner.policy"), name)
    };
    let of_run = config_file(out);
    if !of_run.is_file() {
        // A name belongs to a follower, which joins an existing run: see `await_run`.
        return Ok(Layers::new());
    }
    let lead = vintage_config::read(&of_run)?.learner.name;
    let name = name.unwrap_or(&lead);
    if let Some(own) = learner_config(out, name)? {
        return Ok(Layers::new().recorded(&own)?);
    }
    let model = follows.unwrap_or(&lead);
    let model = learner_config(out, model)?
        .ok_or_else(|| no_learner(format!("--follow-plans {model}"), out))?;
    let policies = vintage_config::read(&model)?.learner.trained_policies();
    let policies: Vec<_> = policies.iter().map(|name| format!("\"{name}\"")).collect();
    let policies = format!("[{}]", policies.join(", "));
    let mut layers = named(Layers::new().recorded(&model)?, name);
    layers = layers.flag("--name", &key("learner.lineages"), &policies);
    if follows.is_none() {
        layers = layers.flag("--name", &key("learner.start"), &"earliest");
        layers = layers.flag("--name", &key("learner.follow_plans"), &"none");
    }
    Ok(layers)
}

/// Error of a setting that names a learner of which the run has no settings.
fn no_learner(setting: String, run: &Path) -> Error {
    Error::Setting {
        setting,
        reason: format!("{} has no learner of that name", run.display()),
    }
}

/// Trains until all updates are done, `stop` is cancelled, or the recorded log or the followed
/// plans end. A lead creates version 0 if it is missing; a follower copies the lead's. `accept`
/// names the settings whose input files are allowed to have changed; only a lead may use it.
pub async fn learn(
    resolved: &Resolved<RunConfig>,
    out: &Path,
    accept: &[String],
    stop: &CancellationToken,
    events: &Events,
) -> Result<(LearnerSummary, EndNotice)> {
    learn_on(devices(), resolved, out, accept, stop, events).await
}

/// Trains as [`learn`] does, with updates computed on the caller's `devices`.
pub async fn learn_on(
    devices: &'static dyn Devices,
    resolved: &Resolved<RunConfig>,
    out: &Path,
    accept: &[String],
    stop: &CancellationToken,
    events: &Events,
) -> Result<(LearnerSummary, EndNotice)> {
    let watch = Watch::over(standstill::Role::Learner, &resolved.config, events);
    let learning = learn_watched(devices, resolved, out, accept, stop, &watch);
    let summary = Box::pin(learning).await?;
    Ok((summary, watch.end().await))
}

async fn learn_watched(
    devices: &'static dyn Devices,
    resolved: &Resolved<RunConfig>,
    out: &Path,
    accept: &[String],
    stop: &CancellationToken,
    watch: &Watch,
) -> Result<LearnerSummary> {
    let events = &watch.events;
    let config = &resolved.config;
    let of_run = config_file(out);
    let lead = if of_run.is_file() {
        Some(vintage_config::read(&of_run)?).filter(|run| run.learner.name != config.learner.name)
    } else {
        None
    };
    if !of_run.is_file() {
        fetch_missing(config, events, stop).await?;
    }
    let resolved = &resolved.again()?;
    let config = &resolved.config;
    let recorded = config.learner.source == SourceKind::Archive;
    let (folder, log, checked) = match (&lead, recorded) {
        (None, false) => {
            let (folder, log, checked) = join(resolved, out, Reads::Batches, watch, stop).await?;
            (folder, Some(log), checked)
        }
        // A recorded log needs no broker: no producer samples from the resulting versions.
        (None, true) => {
            let checked = if of_run.is_file() {
                None
            } else {
                Some(preflight::check_files(config, preflight::Trains::Here)?)
            };
            let folder = RunFolder::share(out, resolved)?;
            watch.board.opened(folder.store());
            watch.board.serve(config)?;
            (folder, None, checked)
        }
        (Some(_), true) => {
            let folder = RunFolder::follow(out, resolved)?;
            watch.board.opened(folder.store());
            watch.board.serve(config)?;
            (folder, None, None)
        }
        (Some(_), false) => {
            refuse_embedded(config)?;
            preflight::check_broker(config).await?;
            let folder = RunFolder::follow(out, resolved)?;
            watch.board.opened(folder.store());
            watch.board.serve(config)?;
            let log = Log::start(config, folder.path(), &folder.archive()).await?;
            watch.board.connected(&log);
            (folder, Some(log), None)
        }
    };
    let folder = folder.patient(Patience {
        longest: Duration::from_secs_f64(config.learner.patience_seconds),
        cancel: stop.clone(),
    });
    let role = Role {
        config,
        accept,
        lead: lead.as_ref(),
        folder: &folder,
        log: log.as_ref(),
        devices,
    };
    // A learner scores nothing: the reward was opened to check the answers.
    let checked = checked.map(|checked| Prepared {
        reward: None,
        ..checked
    });
    let outcome = Box::pin(role.learn(checked, stop, events)).await;
    match log {
        Some(log) => log.stop_after(outcome).await,
        None => outcome,
    }
}

/// One learner with its settings, folder and log.
struct Role<'a> {
    config: &'a RunConfig,
    /// Settings whose input files are allowed to have changed.
    accept: &'a [String],
    /// Settings of the run's lead; `None` if this learner is the lead.
    lead: Option<&'a RunConfig>,
    folder: &'a RunFolder,
    log: Option<&'a Log>,
    devices: &'static dyn Devices,
}

impl Role<'_> {
    async fn learn(
        &self,
        checked: Option<Prepared>,
        stop: &CancellationToken,
        events: &Events,
    ) -> Result<LearnerSummary> {
        let Self { folder, log, .. } = *self;
        folder.prove_store().await?;
        let Some(log) = log else {
            return self.learn_alone(checked, stop, events).await;
        };
        let presence = tokio::select! {
            claimed = Presence::claim(log, self.config, events) => claimed?,
            () = stop.cancelled() => return Err(Error::Interrupted),
        };
        let outcome = Box::pin(self.learn_alone(checked, stop, events)).await;
        if let Some(presence) = presence {
            presence.end().await;
        }
        outcome
    }

    /// Trains as the only learner of its policy.
    async fn learn_alone(
        &self,
        checked: Option<Prepared>,
        stop: &CancellationToken,
        events: &Events,
    ) -> Result<LearnerSummary> {
        let Self { log, .. } = *self;
        let (tell, forwarding) = wire::learner::forward(self.config, events.clone(), None);
        let outlet = match log {
            Some(log) => Outlet::new(log.bus.producer("learner")?, log.topics.clone(), tell),
            None => Outlet::without_log(tell),
        };
        let learning = tokio::select! {
            ready = self.ready(checked, outlet, events) => ready?,
            () = stop.cancelled() => return Err(Error::Interrupted),
        };
        let _nobody_listens = events.send(RunEvent::Phase("training".to_owned()));
        let learned = Box::pin(learning.run(stop)).await?;
        forwarding
            .await
            .map_err(Error::panicked("the event forwarder"))?;
        Ok(learned)
    }

    /// Opens the learner at its last checkpoint, with all the sources it reads.
    async fn ready(
        &self,
        checked: Option<Prepared>,
        outlet: Outlet,
        events: &Events,
    ) -> Result<WiredLearner> {
        let Self {
            config,
            folder,
            log,
            ..
        } = *self;
        let policy = &config.learner.policy;
        if let Some(log) = log {
            let records = folder.records(&config.learner.name);
            refuse_another_run(log, &folder.weights(policy), policy, &records).await?;
        }
        self.version_zero(checked, events).await?;
        let leader = self.leader(events).await?;
        let start = match &config.learner.follow_plans {
            Some(leader) => Some(self.start_of(leader).await?),
            None => None,
        };
        wire::learner::open(wire::learner::LearnerParts {
            config,
            folder,
            log,
            outlet,
            start,
            durability: Box::new(DurableLog),
            leader,
            grants: self.lead.is_none().then(BTreeSet::new),
            events,
            devices: self.devices,
        })
        .await
    }

    /// Makes sure that the weights training starts from are in the store: a lead creates version 0,
    /// a follower waits for the lead's and copies it.
    async fn version_zero(&self, checked: Option<Prepared>, events: &Events) -> Result<()> {
        let weights = self.folder.weights(&self.config.learner.policy);
        let Some(run) = self.lead else {
            let inputs = Prepared::in_folder(checked, self.config, self.folder.path())?;
            let given = Given::to_lead(&inputs.task, self.config)?;
            given.warn_of_unheld(&self.config.rollout, events);
            let store = self.folder.store();
            let made = Made::of(self.folder, self.config).await?;
            let accept = self.accept;
            let lead = By::Lead(Lead { accept, made });
            hold(store, &given, lead, self.folder.path()).await?;
            ensure_version_zero(&weights, self.config, &inputs.task, inputs.model, events).await?;
            return hold_version_zero(&weights, &self.config.learner.policy).await;
        };
        if let Some(name) = self.accept.first() {
            return Err(Error::Setting {
                setting: format!("--accept {name}"),
                reason: format!(
                    "learner {} is a follower; the files of the run are its own learner's to accept",
                    self.config.learner.name
                ),
            });
        }
        let policy = &run.learner.policy;
        let from = self.folder.weights(policy);
        if let (Some(log), None) = (self.log, from.latest().await?) {
            // The lead creates version 0 and announces it afterwards.
            let mut announcements = Announcements::open(log, "learner-first").await?;
            announcements.first_of(policy, events).await?;
        }
        adopt_version_zero(&weights, &from).await
    }

    /// Returns the resume points at which the followed learner began, and records them as this
    /// learner's start. Empty if the followed learner has no recorded start.
    async fn start_of(&self, leader: &Name) -> Result<Vec<PartitionResume>> {
        let Some(theirs) = self.folder.records(leader).start().await? else {
            return Ok(Vec::new());
        };
        let learner = self.config.learner.name.clone();
        let own = self.folder.records(&learner);
        let own = own.write_start(&LearnerStart { learner, ..theirs }).await?;
        Ok(resume_points(&own))
    }

    /// Opens the plans of the learner to follow, if one is set. On a live log, waits for its first
    /// announcement.
    async fn leader(&self, events: &Events) -> Result<Option<Box<dyn Leader>>> {
        let Some(leader) = &self.config.learner.follow_plans else {
            return Ok(None);
        };
        let out = self.folder.path();
        let theirs = learner_config(out, leader)?
            .ok_or_else(|| no_learner(format!("learner.follow_plans = \"{leader}\""), out))?;
        let theirs = vintage_config::read(&theirs)?.learner;
        let announcements = match self.log {
            Some(_) if theirs.source == SourceKind::Archive => {
                return Err(Error::SilentLeader {
                    leader: leader.clone(),
                });
            }
            Some(log) => {
                let client = format!("learner-{}", self.config.learner.name);
                let mut announcements = Announcements::open(log, &client).await?;
                // The first announcement comes after that learner has recorded where it begins to
                // read.
                announcements.first_of(&theirs.policy, events).await?;
                Some(announcements)
            }
            None => None,
        };
        let plans =
            PlansOf::open(self.folder.records(leader), theirs.policy, announcements).await?;
        Ok(Some(Box::new(plans)))
    }
}
