//! Virtual clock: events in the order of their times, and of their creation at one time.

use std::{collections::BTreeMap, time::Duration};

use vintage_grants::Tick;

/// Moment of the simulation, in microseconds since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Time(u64);

impl Time {
    pub(super) const START: Self = Self(0);

    /// Returns the moment `seconds` later. The fraction of a microsecond is cut.
    pub(super) fn after(self, seconds: f64) -> Self {
        Self(self.0.saturating_add((seconds * 1e6) as u64))
    }

    /// Returns the time from `earlier` on.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    pub(super) fn seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Returns the moment by the granter's clock.
    pub(super) fn tick(self) -> Tick {
        Tick(self.0 / 1000)
    }
}

/// Events that are still to come.
#[derive(Debug)]
pub(super) struct Clock<E> {
    now: Time,
    count: u64,
    events: BTreeMap<(Time, u64), E>,
}

impl<E> Clock<E> {
    pub(super) fn new() -> Self {
        Self {
            now: Time::START,
            count: 0,
            events: BTreeMap::new(),
        }
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Adds an event; one for a time that is past comes next.
    pub(super) fn at(&mut self, time: Time, event: E) {
        self.events.insert((time.max(self.now), self.count), event);
        self.count += 1;
    }

    /// Goes to the next event and returns it.
    pub(super) fn next(&mut self) -> Option<E> {
        let ((time, _), event) = self.events.pop_first()?;
        self.now = time;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Time};

    #[test]
    fn events_come_by_time_and_then_by_creation() {
        let mut clock = Clock::new();
        let at = |seconds| Time::START.after(seconds);
        for (seconds, event) in [(2.0, 'c'), (1.0, 'a'), (1.0, 'b')] {
            clock.at(at(seconds), event);
        }
        assert_eq!((clock.next(), clock.now()), (Some('a'), at(1.0)));
        clock.at(at(0.5), 'x');
        let rest: Vec<_> = std::iter::from_fn(|| clock.next()).collect();
        assert_eq!(rest, ['b', 'x', 'c'], "the past comes next");
        assert_eq!(clock.now(), at(2.0));
    }
}
