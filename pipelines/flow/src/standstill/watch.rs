//! The watch over a process: passes its events on, and says with them what the state machine says.

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

/// Ends, and lets go of the sender it was given, when it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Where the process tells its events.
    pub(crate) events: Events,
    end: DropGuard,
    watching: JoinHandle<Account>,
}

impl Watch {
    /// Watches what is told until [`Watch::end`]; all of it goes on to `listener`.
    pub(crate) fn over(role: Role, config: &RunConfig, listener: &Events) -> Self {
        let state = Standstill::new(role, config.learner.steps, Health::of(config));
        let (events, told) = mpsc::unbounded_channel();
        let end = CancellationToken::new();
        let watching = watch(state, told, listener.clone(), end.clone());
        Self {
            events,
            end: end.drop_guard(),
            watching: tokio::spawn(watching),
        }
    }

    /// What was told so far, taken up, and how it stands.
    pub(crate) async fn end(self) -> Account {
        drop(self.end);
        // A panic there has been told, and is no reason to lose a result.
        self.watching.await.unwrap_or_default()
    }
}

async fn watch(
    mut state: Standstill,
    mut told: UnboundedReceiver<RunEvent>,
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
            event = told.recv() => match event {
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
    while let Ok(event) = told.try_recv() {
        pass(&mut state, event, begun.elapsed());
    }
    state.account(begun.elapsed())
}
