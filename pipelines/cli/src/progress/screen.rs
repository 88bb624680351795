use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use indicatif::{MultiProgress, ProgressBar};

/// Standard error, shared by bars and log lines; lines are written above the bars.
#[derive(Debug, Clone, Default)]
pub(crate) struct Screen {
    bars: MultiProgress,
    /// Buffer that receives lines instead of standard error; for tests.
    captured: Option<Arc<Mutex<Vec<u8>>>>,
}

impl Screen {
    /// Creates the screen of the process's standard error.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Writes a line of text.
    pub(crate) fn line(&self, text: &str) {
        // A closed standard error must not stop a run.
        let _closed = self.write(format!("{text}\n").as_bytes());
    }

    /// Writes bytes above the bars; used for log lines.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if let Some(captured) = &self.captured {
            let mut captured = captured
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            captured.extend_from_slice(bytes);
            return Ok(());
        }
        self.bars.suspend(|| io::stderr().lock().write_all(bytes))
    }

    pub(super) fn add(&self, bar: ProgressBar) -> ProgressBar {
        self.bars.add(bar)
    }

    #[cfg(test)]
    pub(super) fn capture() -> (Self, Arc<Mutex<Vec<u8>>>) {
        let captured = Arc::new(Mutex::new(Vec::new()));
        let bars = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden());
        (
            Self {
                bars,
                captured: Some(captured.clone()),
            },
            captured,
        )
    }
}
