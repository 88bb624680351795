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
        checked = check_broker(config) => checked.and_then(|()| Topics::of(own))?,
        () = stop.cancelled() => return Err(Error::Interrupted),
    };
    let mut waiting = Waiting::new(out);
    for look in 0_u32.. {
        if file.is_file() {
            return Ok(SettingsOf::Lead);
        }
        if look.is_multiple_of(LOOKS_A_QUESTION)
            && let Some(topics) = &topics
        {
            if topics.are_there().await? {
                // The lead writes the settings before it creates the topics.
                let of_lead = file.is_file();
                return Ok(if of_lead {
                    SettingsOf::Lead
                } else {
                    SettingsOf::Role
                });
            }
            if waiting.is_due() {
                waiting.missing = topics.missing().await?;
            }
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
    /// Words for what the broker lacks, if one was asked.
    missing: Option<String>,
}

impl Waiting {
    fn new(out: &Path) -> Self {
        Self {
            out: out.to_owned(),
            since: Instant::now(),
            next: Duration::ZERO,
            missing: None,
        }
    }

    fn is_due(&self) -> bool {
        self.since.elapsed() >= self.next
    }

    fn tell(&mut self, events: &Events) {
        if !self.is_due() {
            return;
        }
        let waited = self.since.elapsed();
        let out = self.out.display();
        let mut text =
            format!("waiting for the settings of the run in {out}, which its learner writes");
        if self.next > Duration::ZERO {
            text = format!(
                "{text}: none after {:.0} s; start `vintage learn --out {out}`, or check --out",
                waited.as_secs_f64()
            );
        }
        if let Some(missing) = &self.missing {
            text = format!("{text}; {missing}");
        }
        self.next = if self.next.is_zero() {
            PATIENCE
        } else {
            3 * self.next
        };
        let _nobody_listens = events.send(RunEvent::Phase(text));
    }
}

/// Topics of a run on a broker at an address.
struct Topics {
    bus: Bus,
    names: vintage_control::Topics,
    /// True if the run was named explicitly. A role in a folder without settings works on topics of
    /// that run only.
    named: bool,
}

impl Topics {
    /// Connects to the broker. `None` if the broker is `embedded` or `local`, which are brought up in
    /// the folder.
    fn of(own: &Resolved<RunConfig>) -> Result<Option<Self>> {
        let config = &own.config;
        if matches!(config.broker.as_str(), "embedded" | "local") {
            return Ok(None);
        }
        Ok(Some(Self {
            bus: connect(config, &config.broker)?,
            names: config.topic_names(),
            named: is_set_explicitly(own, "run"),
        }))
    }

    /// Returns true if the run was named and its topics exist.
    async fn are_there(&self) -> Result<bool> {
        if !self.named {
            return Ok(false);
        }
        match self.bus.has_topic(&self.names.rollouts()).await {
            // The broker answered a moment ago; a transient error is tried again.
            Err(error) if error.is_retryable() => Ok(false),
            answered => Ok(answered?),
        }
    }

    /// Words what the broker lacks of the run, and which runs it has.
    async fn missing(&self) -> Result<Option<String>> {
        let topics = match self.bus.topics().await {
            Err(error) if error.is_retryable() => return Ok(None),
            answered => answered?,
        };
        let runs = runs_among(&topics);
        let runs = match &runs[..] {
            [] => "no topics of any run".to_owned(),
            some => format!("topics of {}", some.join(", ")),
        };
        let (bootstrap, names) = (self.bus.bootstrap(), &self.names);
        Ok(Some(if self.named {
            format!(
                "the broker at {bootstrap} has no topic {}, and {runs}: are the names right (run = \
                 \"{}\", namespace = \"{}\"), and is that run's learner started?",
                names.rollouts(),
                names.run,
                names.namespace
            )
        } else {
            format!(
                "on another host than the learner's, name the run by --set run=NAME: the broker at \
                 {bootstrap} has {runs}"
            )
        }))
    }
}

/// Names the runs that have a topic of rollouts.
fn runs_among(topics: &[String]) -> Vec<String> {
    let runs = topics.iter().filter_map(|topic| {
        let names = vintage_control::Topics::of_topic(topic).ok()?;
        let of_rollouts = names.rollouts() == *topic;
        of_rollouts.then(|| format!("run \"{}\" (namespace \"{}\")", names.run, names.namespace))
    });
    runs.collect()
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
