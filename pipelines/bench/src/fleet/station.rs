//! Part of the way that serves one after the other.

use std::time::Duration;

use super::clock::Time;

/// Part of stated capacity. Whoever comes while it is busy waits.
#[derive(Debug, Clone)]
pub(super) struct Station {
    per_second: f64,
    free_at: Time,
    busy: Duration,
}

impl Station {
    /// Creates a part that serves `per_second` units in a second.
    pub(super) fn new(per_second: f64) -> Self {
        Self {
            per_second,
            free_at: Time::START,
            busy: Duration::ZERO,
        }
    }

    /// Serves `units` that come at `now`; returns the end.
    pub(super) fn serve(&mut self, now: Time, units: f64) -> Time {
        let start = self.free_at.max(now);
        self.free_at = start.after(units / self.per_second);
        self.busy += self.free_at.since(start);
        self.free_at
    }

    /// Returns the share of the time until `now` in which the part was busy.
    pub(super) fn share(&self, now: Time) -> f64 {
        let ahead = self.free_at.since(now);
        self.busy.saturating_sub(ahead).as_secs_f64() / now.seconds().max(1e-6)
    }

    pub(super) fn free_at(&self) -> Time {
        self.free_at
    }
}

#[cfg(test)]
mod tests {
    use super::{Station, Time};

    #[test]
    fn a_station_serves_one_after_the_other_and_counts_what_was_served() {
        let mut station = Station::new(10.0);
        let at = |seconds| Time::START.after(seconds);
        assert_eq!(station.serve(at(1.0), 10.0), at(2.0));
        assert_eq!(station.serve(at(1.5), 20.0), at(4.0), "it waits");
        assert_eq!(station.serve(at(6.0), 20.0), at(8.0));
        assert!((station.share(at(8.0)) - 5.0 / 8.0).abs() < 1e-9);
        assert!(
            (station.share(at(7.0)) - 4.0 / 7.0).abs() < 1e-9,
            "half is to come"
        );
    }
}
