//! Watch over a process: forwards its events, and adds the lines of the standstill detection.

use std::time::Duration;
use vintage_settings::RunConfig;

use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Account, Role, Standstill};
use crate::{
    event::{Events, RunEvent},
    health::Health,
};

/// Watch over the events of a process. Dropping it ends the watch and releases the listener's
/// sender.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Sender for the events of the process.
    pub(crate) events: Events,
    end: DropGuard,
    watching: JoinHandle<Account>,
}

impl Watch {
    /// Watches the events until [`Watch::end`], and forwards all of them to `listener`.
    pub(crate) fn over(role: Role, config: &RunConfig, listener: &Events) -> Self {
        let state = Standstill::new(role, config.learner.steps, Health::of(config));
        let (events, received) = mpsc::unbounded_channel();
        // Nothing else says what a process waits for until a broker has answered.
        if let Some(first) = connecting(&config.broker) {
            let _received_below = events.send(RunEvent::Phase(first));
        }
        let end = CancellationToken::new();
        let watching = watch(state, received, listener.clone(), end.clone());
        Self {
            events,
            end: end.drop_guard(),
            watching: tokio::spawn(watching),
        }
    }

    /// Processes the events sent so far, ends the watch and returns the account.
    pub(crate) async fn end(self) -> Account {
        drop(self.end);
        // A panic in the watch was reported, and must not cost the result.
        self.watching.await.unwrap_or_default()
    }
}

/// First phase of a process that needs a broker outside of it.
fn connecting(broker: &str) -> Option<String> {
    match broker {
        "embedded" => None,
        "local" => Some("starting or joining the local broker".to_owned()),
        address => Some(format!("connecting to the broker at {address}")),
    }
}

async fn watch(
    mut state: Standstill,
    mut received: UnboundedReceiver<RunEvent>,
    listener: Events,
    end: CancellationToken,
) -> Account {
    let begun = Instant::now();
    let pass = |state: &mut Standstill, event: RunEvent, now: Duration| {
        let warning = state.observe(&event, now);
        let _nobody_listens = listener.send(event);
        if let Some(line) = warning {
            let _nobody_listens = listener.send(RunEvent::Warning(line));
        }
    };
    loop {
        let due = state.due().map(|due| begun + due);
        tokio::select! {
            event = received.recv() => match event {
                Some(event) => pass(&mut state, event, begun.elapsed()),
                None => break,
            },
            () = end.cancelled() => break,
            () = tokio::time::sleep_until(due.unwrap_or(begun)), if due.is_some() => {}
        }
        if let Some(line) = state.tick(begun.elapsed()) {
            let _nobody_listens = listener.send(RunEvent::Standstill(line));
        }
    }
    while let Ok(event) = received.try_recv() {
        pass(&mut state, event, begun.elapsed());
    }
    state.account(begun.elapsed())
}
