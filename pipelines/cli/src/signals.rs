//! Handling of ^C and SIGTERM: the first asks for an orderly end, the second ends at once.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use crate::progress::Screen;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Signal;

/// Time that the process takes to end after the second signal.
pub(crate) const LET_GO: Duration = Duration::from_millis(200);

/// Signals that the process has received, as commands and the main function see them.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    /// Token cancelled by the first signal: finish the work in progress.
    pub(crate) stop: CancellationToken,
    /// Token cancelled by the second signal: end at once.
    pub(crate) abort: CancellationToken,
    first: Arc<AtomicU8>,
}

const NONE: u8 = 0;
const INTERRUPT: u8 = 1;
const TERMINATE: u8 = 2;

impl Signals {
    /// Starts to listen for signals.
    pub(crate) fn listen(screen: Screen) -> io::Result<Self> {
        let signals = Self {
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            first: Arc::new(AtomicU8::new(NONE)),
        };
        let interrupts = signal(SignalKind::interrupt())?;
        let terminations = signal(SignalKind::terminate())?;
        tokio::spawn(signals.clone().hear(interrupts, terminations, screen));
        Ok(signals)
    }

    /// Returns the first signal that was received, if any.
    pub(crate) fn received(&self) -> Option<Signal> {
        match self.first.load(Ordering::Acquire) {
            NONE => None,
            INTERRUPT => Some(Signal::Interrupt),
            _ => Some(Signal::Terminate),
        }
    }

    async fn hear(self, mut interrupts: Stream, mut terminations: Stream, screen: Screen) {
        for token in [&self.stop, &self.abort] {
            let code = tokio::select! {
                _ = interrupts.recv() => INTERRUPT,
                _ = terminations.recv() => TERMINATE,
            };
            let first =
                self.first
                    .compare_exchange(NONE, code, Ordering::AcqRel, Ordering::Acquire);
            if first.is_ok() {
                screen.line("stopping: finishing what is under way (again to stop at once)");
            }
            token.cancel();
        }
        // A verb that computes without a pause sees neither token.
        tokio::time::sleep(LET_GO).await;
        let signal = self.received().unwrap_or(Signal::Interrupt);
        signal.code().leave()
    }
}
