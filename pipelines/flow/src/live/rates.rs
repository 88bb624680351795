//! Rate of something over the last half minute.

use std::{collections::VecDeque, time::Duration};

/// Time over which a rate is measured.
const WINDOW: Duration = Duration::from_secs(30);

/// Amounts of the last [`WINDOW`], each with its time; amounts of one second are joined.
#[derive(Debug, Default)]
pub(super) struct Rate {
    first: Option<Duration>,
    amounts: VecDeque<(Duration, u64)>,
}

impl Rate {
    pub(super) fn note(&mut self, amount: u64, now: Duration) {
        self.first.get_or_insert(now);
        match self.amounts.back_mut() {
            Some((at, sum)) if at.as_secs() == now.as_secs() => *sum += amount,
            _ => self.amounts.push_back((now, amount)),
        }
        while self
            .amounts
            .front()
            .is_some_and(|(at, _)| *at + WINDOW < now)
        {
            self.amounts.pop_front();
        }
    }

    /// Returns the rate per second; 0 if there was nothing in the window.
    pub(super) fn per_second(&self, now: Duration) -> f64 {
        let recent = self.amounts.iter().filter(|(at, _)| *at + WINDOW >= now);
        let sum: u64 = recent.map(|(_, amount)| amount).sum();
        let known = self.first.map_or(WINDOW, |first| now.saturating_sub(first));
        sum as f64 / known.min(WINDOW).as_secs_f64().max(1.0)
    }
}
