//! Waiting for the settings of a run, which its lead alone writes into the run's folder.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use vintage_config::{Key, Origin, Resolved};
use vintage_settings::RunConfig;

use tokio_util::sync::CancellationToken;
use vintage_bus::Bus;
use vintage_control::Name;

use crate::{
    broker::PATIENCE,
    broker::connect,
    error::{Error, Result},
    event::{Events, RunEvent},
    folder::config_file,
    preflight::check_broker,
};

/// Interval between two checks of the folder.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Number of folder checks per check of the broker.
const LOOKS_A_QUESTION: u32 = 20;

/// Origin of the settings that a role works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsOf {
    /// Settings of the run, as its lead wrote them.
    Lead,
    /// Settings of the role itself: the folder has none, and the run of that name has topics on the
    /// broker.
    Role,
}

/// Waits until the settings of the run in `out` exist, and reports the wait as an event. A role
/// whose settings in `own` name the run does not wait if the broker has that run's topics: the lead
/// then works in another folder, or there is none.
///
/// # Errors
/// [`Error::Interrupted`] if `stop` is cancelled first; the error of the broker if it is named and
/// cannot be used.
pub async fn await_settings(
    own: &Resolved<RunConfig>,
    out: &Path,
    stop: &CancellationToken,
    events: &Events,
) -> Result<SettingsOf> {
    let file = config_file(out);
    if file.is_file() {
        return Ok(SettingsOf::Lead);
    }
    let config = &own.config;
    let topics = tokio::select! {
        checked = check_broker(config) => checked.and_then(|()| Topics::named(own))?,
        () = stop.cancelled() => return Err(Error::Interrupted),
    };
    let mut waiting = Waiting::new(out);
    for look in 0_u32.. {
        if file.is_file() {
            return Ok(SettingsOf::Lead);
        }
        if look.is_multiple_of(LOOKS_A_QUESTION)
            && let Some(topics) = &topics
            && topics.are_there().await?
        {
            // The lead writes the settings before it creates the topics.
            let of_lead = file.is_file();
            return Ok(if of_lead {
                SettingsOf::Lead
            } else {
                SettingsOf::Role
            });
        }
        waiting.tell(events);
        pause(stop).await?;
    }
    Err(Error::Interrupted)
}

/// Waits a limited time for the run in `out` that the follower `name` joins: a lead started at the
/// same moment may not have written its settings yet.
///
/// # Errors
/// [`Error::Setting`] if there is no run; [`Error::Interrupted`] if `stop` is cancelled first.
pub async fn await_run(
    out: &Path,
    name: &Name,
    stop: &CancellationToken,
    events: &Events,
) -> Result<()> {
    let file = config_file(out);
    let mut waiting = Waiting::new(out);
    while !file.is_file() {
        if waiting.since.elapsed() >= PATIENCE {
            return Err(Error::Setting {
                setting: format!("--name {name}"),
                reason: format!(
                    "there is no run in {}: it has no config.toml; check --out, and start the \
                     run's own learner first, without --name. To begin a run whose learner has \
                     another name, give --set learner.name={name} --set learner.policy={name}",
                    out.display()
                ),
            });
        }
        waiting.tell(events);
        pause(stop).await?;
    }
    Ok(())
}

async fn pause(stop: &CancellationToken) -> Result<()> {
    tokio::select! {
        () = tokio::time::sleep(LOOK_EVERY) => Ok(()),
        () = stop.cancelled() => Err(Error::Interrupted),
    }
}

/// Messages of a role that waits: at once the reason, then what to do, at growing intervals.
struct Waiting {
    out: PathBuf,
    since: Instant,
    next: Duration,
}

impl Waiting {
    fn new(out: &Path) -> Self {
        Self {
            out: out.to_owned(),
            since: Instant::now(),
            next: Duration::ZERO,
        }
    }

    fn tell(&mut self, events: &Events) {
        let waited = self.since.elapsed();
        if waited < self.next {
            return;
        }
        let out = self.out.display();
        let mut text =
            format!("waiting for the settings of the run in {out}, which its learner writes");
        if self.next > Duration::ZERO {
            text = format!(
                "{text}: none after {:.0} s; start `vintage learn --out {out}`, or check --out",
                waited.as_secs_f64()
            );
        }
        self.next = if self.next.is_zero() {
            PATIENCE
        } else {
            3 * self.next
        };
        let _nobody_listens = events.send(RunEvent::Phase(text));
    }
}

/// Topics of a run that was named explicitly, on a broker at an address.
struct Topics {
    bus: Bus,
    rollouts: String,
}

impl Topics {
    /// Connects to the broker. `None` if the run has its default name, or if the broker is
    /// `embedded` or `local`, which are brought up in the folder.
    fn named(own: &Resolved<RunConfig>) -> Result<Option<Self>> {
        let config = &own.config;
        if !is_set_explicitly(own, "run") || matches!(config.broker.as_str(), "embedded" | "local")
        {
            return Ok(None);
        }
        Ok(Some(Self {
            bus: connect(config, &config.broker)?,
            rollouts: config.topic_names().rollouts(),
        }))
    }

    async fn are_there(&self) -> Result<bool> {
        match self.bus.has_topic(&self.rollouts).await {
            // The broker answered a moment ago; a transient error is tried again.
            Err(error) if error.is_retryable() => Ok(false),
            answered => Ok(answered?),
        }
    }
}

/// Returns true if any source other than the built-in defaults set this setting.
pub(super) fn is_set_explicitly(settings: &Resolved<RunConfig>, key: &str) -> bool {
    let origin = settings.origin(&Key::new(key.split('.')));
    origin.is_some_and(|origin| *origin != Origin::Default)
}

/// Watch of the folder by a role that runs on settings of its own: once the lead's settings appear,
/// they must agree with the role's about the run and its places, or the role is stopped.
pub(super) struct SettingsWatch {
    /// Token that is cancelled to end the role; never the token of the whole process.
    pub(super) stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<Result<()>>>,
}

impl SettingsWatch {
    /// Begins to watch if the folder has no settings yet.
    pub(super) fn begin(config: &RunConfig, out: &Path, stop: &CancellationToken) -> Self {
        let file = config_file(out);
        if file.is_file() {
            return Self {
                stop: stop.clone(),
                task: None,
            };
        }
        let (own, out, stop) = (config.clone(), out.to_owned(), stop.child_token());
        let ending = stop.clone();
        let task = tokio::spawn(async move {
            while !file.is_file() {
                pause(&ending).await?;
            }
            let agrees = vintage_config::read(&file)
                .and_then(|lead| vintage_config::check_resumable(&own, &lead, &out));
            if agrees.is_err() {
                ending.cancel();
            }
            Ok(agrees?)
        });
        Self {
            stop,
            task: Some(task),
        }
    }

    /// Ends the watch and returns the outcome of the role. A disagreement with the lead's settings
    /// takes precedence.
    pub(super) async fn end<T>(self, outcome: Result<T>) -> Result<T> {
        self.stop.cancel();
        match self.task {
            None => outcome,
            Some(task) => match task.await {
                Ok(Err(error @ Error::Config(_))) => Err(error),
                _ => outcome,
            },
        }
    }
}

#[cfg(test)]
mod tests;
