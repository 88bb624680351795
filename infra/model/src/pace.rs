//! Count of the layers that this process has computed, by purpose: a long computation that goes on
//! is told from one that hangs.

use std::sync::atomic::{AtomicU64, Ordering};

static TRAINED: AtomicU64 = AtomicU64::new(0);
static SAMPLED: AtomicU64 = AtomicU64::new(0);

/// Number of layers computed since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Computed {
    /// Layers computed for log-probs and gradients.
    pub trained: u64,
    /// Layers computed to sample completions.
    pub sampled: u64,
}

impl Computed {
    /// Returns the counts at the moment.
    pub fn now() -> Self {
        Self {
            trained: TRAINED.load(Ordering::Relaxed),
            sampled: SAMPLED.load(Ordering::Relaxed),
        }
    }

    /// Counts a layer computed for log-probs or gradients, here or on a device.
    pub fn count_trained() {
        TRAINED.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a layer computed to sample completions.
    pub(crate) fn count_sampled() {
        SAMPLED.fetch_add(1, Ordering::Relaxed);
    }
}
