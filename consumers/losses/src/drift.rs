//! Warning before a collapse: how far the policy is from what sampled its data, over many updates.

use std::collections::VecDeque;

/// Divergence of a policy from what sampled its data, over the last [`Drift::WINDOW`] updates.
///
/// In runs on old data M2 over the tokens that M2PO bounds stays near its usual values while a policy drifts
/// away, and single updates are far away in runs that end well. The mean over a window tells the two apart.
#[derive(Debug, Clone, Default)]
pub struct Drift {
    recent: VecDeque<f64>,
}

impl Drift {
    /// Number of updates of the mean.
    pub const WINDOW: usize = 25;

    /// Mean divergence, in nats a token, beyond which runs lost what they had learned or learned nothing: the
    /// middle between those that did and those that did not on the task `sort`. What it was worth on
    /// others: `docs/staleness.md`, "A warning".
    pub const FAR: f64 = 0.7;

    /// Takes the divergence of an update: mean over its tokens of log sampled less log new probability, in nats.
    /// Returns the mean over the window if that is full and the mean is above [`Drift::FAR`].
    pub fn take(&mut self, divergence: f64) -> Option<f64> {
        if self.recent.len() == Self::WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(divergence);
        let mean = self.recent.iter().sum::<f64>() / Self::WINDOW as f64;
        (self.recent.len() == Self::WINDOW && mean > Self::FAR).then_some(mean)
    }
}

#[cfg(test)]
mod tests {
    use super::Drift;

    #[test]
    fn a_window_that_is_far_on_average_warns_and_a_few_updates_do_not() {
        let mut drift = Drift::default();
        // One update in three is far, and the mean is 0.5.
        let near = (0..90).map(|at| if at % 3 == 0 { 1.5 } else { 0.0 });
        assert!(near.into_iter().all(|one| drift.take(one).is_none()));
        let first = (0..30).find_map(|at| Some((at, drift.take(1.5)?)));
        let (at, mean) = first.expect("a warning");
        assert!(at < 10 && mean > Drift::FAR, "{at} {mean}");
        assert!(
            (0..30).filter_map(|_| drift.take(0.0)).count() < 15,
            "it is over"
        );
    }

    #[test]
    fn a_window_that_is_not_full_says_nothing() {
        let mut drift = Drift::default();
        assert!((1..Drift::WINDOW).all(|_| drift.take(9.0).is_none()));
        assert!(drift.take(9.0).is_some());
    }
}
