//! Watch over a process: forwards its events, and adds the lines of the standstill detection.

use std::{sync::Arc, time::Duration};
use vintage_settings::RunConfig;

use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{EndNotice, Role};
use crate::{
    board::Board,
    event::{Events, RunEvent},
};

/// Interval at which the watch runs when nothing happens.
const TICK: Duration = Duration::from_millis(500);

/// Watch over the events of a process. Dropping it ends the watch and releases the listener's
/// sender.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Sender for the events of the process.
    pub(crate) events: Events,
    /// State of the process, as its endpoints show it.
    pub(crate) board: Arc<Board>,
    end: DropGuard,
    watching: JoinHandle<EndNotice>,
}

impl Watch {
    /// Watches the events until [`Watch::end`], and forwards all of them to `listener`.
    pub(crate) fn over(role: Role, config: &RunConfig, listener: &Events) -> Self {
        let board = Arc::new(Board::new(role, config));
        let (events, received) = mpsc::unbounded_channel();
        // Nothing else says what a process waits for until a broker has answered.
        if let Some(first) = connecting(&config.broker) {
            let _received_below = events.send(RunEvent::Phase(first));
        }
        let end = CancellationToken::new();
        let watching = watch(Arc::clone(&board), received, listener.clone(), end.clone());
        Self {
            events,
            board,
            end: end.drop_guard(),
            watching: tokio::spawn(watching),
        }
    }

    /// Processes the events sent so far, ends the watch and returns the account.
    pub(crate) async fn end(self) -> EndNotice {
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

async fn sleep_until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

async fn watch(
    board: Arc<Board>,
    mut received: UnboundedReceiver<RunEvent>,
    listener: Events,
    end: CancellationToken,
) -> EndNotice {
    let pass = |event: RunEvent| {
        let warning = board.observe(&event);
        let _nobody_listens = listener.send(event);
        if let Some(line) = warning {
            let _nobody_listens = listener.send(RunEvent::Warning(line));
        }
    };
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = board.due().map(Instant::from_std);
        tokio::select! {
            event = received.recv() => match event {
                Some(event) => pass(event),
                None => break,
            },
            () = end.cancelled() => break,
            _ = ticks.tick() => {}
            () = sleep_until(due), if due.is_some() => {}
        }
        if let Some(line) = board.tick() {
            let _nobody_listens = listener.send(RunEvent::Standstill(line));
        }
    }
    while let Ok(event) = received.try_recv() {
        pass(event);
    }
    board.end()
}
