//! State of a process that its endpoints show, shared between the watch, which writes it, and the
//! listener, which reads it on its own thread.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use vintage_bus::Readers;
use vintage_model::Computed;
use vintage_settings::{EngineKind, RunConfig};
use vintage_store::{Contact, Store};
use vintage_telemetry::Status;

use crate::{
    broker::Log,
    error::{Error, Result},
    event::RunEvent,
    health::Health,
    live::{Live, page, view::Verdict},
    standstill::{EndNotice, Role, Standstill},
    vitals::{Outside, SILENCE, Vitals},
};

/// Minimum interval between two looks at what is outside of the events.
const LOOK: Duration = Duration::from_millis(500);
/// Time between two looks after which the process, or its machine, was paused.
const PAUSED: Duration = Duration::from_secs(5);

/// Shared state of a process.
#[derive(Debug)]
pub(crate) struct Board {
    begun: Instant,
    /// Statistics of the log's readers and the name of the topic of rollouts, once the process is
    /// connected.
    log: OnceLock<(Arc<Readers>, String)>,
    /// Addresses of the brokers.
    brokers: OnceLock<String>,
    /// Location of the store, and whether it answers, once the process has opened it.
    store: OnceLock<(String, Arc<Contact>)>,
    states: Mutex<States>,
}

#[derive(Debug)]
struct States {
    standstill: Standstill,
    vitals: Vitals,
    live: Live,
    /// Time at which the watch last ran.
    heard: Duration,
    /// Time at which was last looked at what is outside of the events.
    looked: Duration,
    /// True once the watch has ended, after which it is not expected to run.
    ended: bool,
}

impl Board {
    pub(crate) fn new(role: Role, config: &RunConfig) -> Self {
        let steps = config.learner.steps;
        let rollout = &config.rollout;
        let mut group = Duration::from_secs_f64(rollout.reward.timeout_seconds);
        if rollout.environment.is_set() {
            let turn = Duration::from_secs_f64(rollout.environment.timeout_seconds);
            group = turn.saturating_mul(rollout.environment.max_turns);
        }
        if rollout.engine != EngineKind::Local {
            // Nothing is heard of a completion while a server computes it.
            group = group.max(rollout.server.reply());
        }
        Self {
            begun: Instant::now(),
            log: OnceLock::new(),
            brokers: OnceLock::new(),
            store: OnceLock::new(),
            states: Mutex::new(States {
                standstill: Standstill::new(role, steps, Health::of(config)),
                vitals: Vitals::new(role, steps, group),
                live: Live::new(role, config),
                heard: Duration::ZERO,
                looked: Duration::ZERO,
                ended: false,
            }),
        }
    }

    /// Serves this state at `metrics.listen` until the process ends, if that is set.
    ///
    /// # Errors
    /// The address cannot be parsed, or not listened on.
    pub(crate) fn serve(self: &Arc<Self>, config: &RunConfig) -> Result<()> {
        if let Some(listen) = &config.metrics.listen {
            let address = vintage_telemetry::parse_address(listen).map_err(Error::Value)?;
            let status = Arc::clone(self);
            vintage_telemetry::serve(address, status)?;
        }
        Ok(())
    }

    /// Names the store, whose outages are shown from now on.
    pub(crate) fn opened(&self, store: &Store) {
        // A process has one store.
        let _opened_before = self
            .store
            .set((store.location(), Arc::clone(store.contact())));
    }

    /// Names the log, whose lag and connections are shown from now on.
    pub(crate) fn connected(&self, log: &Log) {
        // A process has one log.
        let _connected_before = self
            .log
            .set((Arc::clone(log.bus.readers()), log.topics.rollouts()));
        let _known_before = self.brokers.set(log.bus.bootstrap().to_owned());
    }

    fn states(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Takes up an event; returns a warning if one is due at once.
    pub(crate) fn observe(&self, event: &RunEvent) -> Option<String> {
        let now = self.now();
        let mut states = self.states();
        states.heard = now;
        states.vitals.observe(event, now);
        states.live.observe(event, now);
        let warning = states.standstill.observe(event, now);
        if let Some(warning) = &warning {
            states.live.warn(warning);
        }
        warning
    }

    /// Notes that the watch runs, and what is seen from outside; returns the next line about a
    /// standstill if it is due.
    pub(crate) fn tick(&self) -> Option<String> {
        let now = self.now();
        let mut states = self.states();
        states.heard = now;
        let since = now.saturating_sub(states.looked);
        if since >= LOOK {
            states.looked = now;
            if since >= PAUSED {
                states.vitals.resume(now);
            }
            let outside = self.outside();
            states.standstill.outage(outside.outage.clone(), now);
            states.vitals.look(outside, now);
        }
        states.standstill.tick(now)
    }

    /// Returns the time at which the next line about a standstill is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.states().standstill.due().map(|due| self.begun + due)
    }

    /// Returns the final account.
    pub(crate) fn end(&self) -> EndNotice {
        let now = self.now();
        let mut states = self.states();
        states.ended = true;
        states.standstill.account(now)
    }

    fn outside(&self) -> Outside {
        let mut outside = Outside {
            computed: Computed::now(),
            outage: self.outage(),
            ..Outside::default()
        };
        if let Some((readers, rollouts)) = self.log.get() {
            for lag in readers.lags().iter().filter(|lag| lag.topic == *rollouts) {
                let of = match lag.reader.as_str() {
                    LEARNER => &mut outside.learner_lag,
                    _ => &mut outside.archive_lag,
                };
                *of.get_or_insert_default() += lag.records;
            }
        }
        outside
    }

    /// Returns which of broker and store does not answer, in words.
    fn outage(&self) -> Option<String> {
        let spelled = |time: Duration| vintage_human::duration(time.as_secs_f64());
        let of_log = self.log.get().and_then(|(readers, _)| readers.outage());
        if let (Some(time), Some(brokers)) = (of_log, self.brokers.get()) {
            return Some(format!(
                "no broker at {brokers} has answered for {}",
                spelled(time)
            ));
        }
        let (location, contact) = self.store.get()?;
        let outage = contact.outage()?;
        Some(format!(
            "the store {location} has not served for {}: {}",
            spelled(outage.time),
            outage.reason
        ))
    }

    fn verdicts(&self) -> (Verdict, Verdict) {
        let now = self.now();
        let states = self.states();
        if states.ended {
            let ends = "the role has ended";
            return (Ok(ends.to_owned()), Err(ends.to_owned()));
        }
        let still = now.saturating_sub(states.heard);
        if still >= SILENCE {
            let hangs = format!(
                "the event loop of the process has not run for {}",
                vintage_human::duration(still.as_secs_f64())
            );
            return (Err(hangs.clone()), Err(hangs));
        }
        let health = states.vitals.health(now);
        let line = || states.standstill.line(now);
        (health, states.vitals.readiness(now, line))
    }
}

/// Client id of the consumer that a learner reads the log with.
pub(crate) const LEARNER: &str = "learner";

impl Status for Board {
    fn health(&self) -> Verdict {
        self.verdicts().0
    }

    fn readiness(&self) -> Verdict {
        self.verdicts().1
    }

    fn live(&self) -> String {
        let (health, readiness) = self.verdicts();
        let lags = self.log.get().map(|(readers, rollouts)| {
            let mut lags = readers.lags();
            lags.retain(|lag| lag.topic == *rollouts);
            lags
        });
        let now = self.now();
        let states = self.states();
        let mut view = states.live.view(now, lags.unwrap_or_default());
        view.health = health.into();
        view.ready = readiness.into();
        view.doing = states.vitals.doing(now);
        view.standstill = states.standstill.account(now).standstill;
        drop(states);
        serde_json::to_string(&view).unwrap_or_else(|error| {
            serde_json::json!({ "error": format!("writing the state: {error}") }).to_string()
        })
    }

    fn page(&self) -> String {
        page()
    }
}
