//! Warning before a collapse: how far the policy is from what sampled its data, over many updates.

use std::collections::VecDeque;

/// Divergence of a policy from what sampled its data, over the last [`Drift::WINDOW`] updates.
///
/// In runs on old data M2 over the tokens that M2PO bounds stays near its usual values while a policy drifts
/// away, and single updates are far away in runs that end well. The mean over a window leaves those out.
#[derive(Debug, Clone, Default)]
pub struct Drift {
    recent: VecDeque<f64>,
}

impl Drift {
    /// Number of updates of the mean.
    pub const WINDOW: usize = 25;

    /// Mean divergence, in nats a token, beyond which every run went that lost what it had learned, or learned
    /// nothing: chosen between those and others on the task `sort` at high learning rates. Of runs that
    /// learned, three in ten went there too (`docs/staleness.md`, "A warning").
    pub const FAR: f64 = 0.7;

    /// Mean divergence below which a policy that was far is near again.
    pub const NEAR: f64 = 0.5;

    /// Takes the divergence of an update: mean over its tokens of log sampled less log new probability, in nats.
    /// Returns the mean over the window once that is full.
    pub fn take(&mut self, divergence: f64) -> Option<f64> {
        if self.recent.len() == Self::WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(divergence);
        let mean = self.recent.iter().sum::<f64>() / Self::WINDOW as f64;
        (self.recent.len() == Self::WINDOW).then_some(mean)
    }
}

#[cfg(test)]
mod tests {
    use super::Drift;

    #[test]
    fn the_mean_is_that_of_the_last_updates_once_there_are_enough() {
        let mut drift = Drift::default();
        assert!((1..Drift::WINDOW).all(|_| drift.take(9.0).is_none()));
        assert_eq!(drift.take(9.0), Some(9.0));
        let last = (0..Drift::WINDOW).filter_map(|_| drift.take(0.5)).last();
        assert_eq!(last, Some(0.5), "what came before is forgotten");
    }
}
