//! A run's settings are its lead's: it alone writes them, and other roles wait until they are there.

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
    Error, Result,
    broker::connect,
    event::{Events, RunEvent},
    folder::config_file,
    inputs::{PATIENCE, check_broker},
};

/// How often the folder is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How many looks at the folder to one at the broker.
const LOOKS_A_QUESTION: u32 = 20;

/// Whose settings a role takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsOf {
    /// The run's, as its lead has written them.
    Lead,
    /// Its own: the folder has none, and the role was told which run's topics it works on.
    Role,
}

/// Waits until the settings of the run in `out` are there, and says so. A role that was told the
/// run's name in `own` need not wait where the broker has that run's topics: its lead works in
/// another folder, or there is none.
///
/// # Errors
/// [`Error::Interrupted`] if `stop` comes first; what ails a broker that was told.
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
        checked = check_broker(config) => checked.and_then(|()| Topics::told(own))?,
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
            // The lead writes the settings before it makes the topics.
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

/// Waits a moment for the run in `out` that the follower `name` is to join: a lead that was started
/// together with it may not have written its settings yet.
///
/// # Errors
/// [`Error::Usage`] if there is no run; [`Error::Interrupted`] if `stop` comes first.
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
            return Err(Error::Usage(format!(
                "--name {name}: there is no run in {}: it has no config.toml; check --out, and \
                 start the run's own learner first, without --name. To begin a run whose learner \
                 has another name, give --set learner.name={name} --set learner.policy={name}",
                out.display()
            )));
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

/// What a role says while it waits: at once what for, then what to do, at intervals that grow.
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

/// The topics of a run that a role was told by name.
struct Topics {
    bus: Bus,
    rollouts: String,
}

impl Topics {
    /// `None` where the name is the default one, or the broker is to be brought up in the folder.
    fn told(own: &Resolved<RunConfig>) -> Result<Option<Self>> {
        let config = &own.config;
        if !is_told(own, "run") || matches!(config.broker.as_str(), "embedded" | "local") {
            return Ok(None);
        }
        Ok(Some(Self {
            bus: connect(config, &config.broker)?,
            rollouts: config.topic_names().rollouts(),
        }))
    }

    async fn are_there(&self) -> Result<bool> {
        match self.bus.has_topic(&self.rollouts).await {
            // The broker answered a moment ago, and may again.
            Err(error) if error.is_retryable() => Ok(false),
            answered => Ok(answered?),
        }
    }
}

/// Whether anybody has given a value to this setting.
pub(super) fn is_told(settings: &Resolved<RunConfig>, key: &str) -> bool {
    let origin = settings.origin(&Key::new(key.split('.')));
    origin.is_some_and(|origin| *origin != Origin::Default)
}

/// A role with settings of its own looks out for the lead's: where those say another run, or
/// another place for it, the role was started with the wrong ones.
pub(super) struct LookOut {
    /// Cancelled when the role is to end.
    pub(super) stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<Result<()>>>,
}

impl LookOut {
    /// Begins to look, if the folder has no settings.
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

    /// What became of the role; what it should not have done comes first.
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
