//! Real time that the program's own code takes, update by update.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::median::median;

/// Real time of the program's own code: medians over updates, so that what else the machine does
/// counts little. Not a function of the seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// Time of the learner's intake per rollout, in microseconds.
    pub intake_us_per_rollout: f64,
    /// Time of the granter per slot, in microseconds.
    pub gate_us_per_slot: f64,
    /// Time of the granter each time it wakes, in microseconds.
    pub gate_us_per_wake: f64,
    /// Time of the producers' lease books per slot, in microseconds.
    pub books_us_per_slot: f64,
}

/// Part of the program whose time is taken.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Intake,
    Gate,
    Books,
}

/// Times of the updates that are done, and of the one that is under way.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    done: Vec<Lap>,
    lap: Lap,
}

#[derive(Debug, Clone, Copy, Default)]
struct Lap {
    intake: Duration,
    gate: Duration,
    books: Duration,
    wakes: u32,
}

impl Stopwatch {
    /// Adds the time of `work` to a part.
    pub(super) fn time<T>(&mut self, part: Part, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        let taken = start.elapsed();
        match part {
            Part::Intake => self.lap.intake += taken,
            Part::Gate => self.lap.gate += taken,
            Part::Books => self.lap.books += taken,
        }
        done
    }

    pub(super) fn wake(&mut self) {
        self.lap.wakes += 1;
    }

    /// Ends the lap of an update.
    pub(super) fn lap(&mut self) {
        self.done.push(std::mem::take(&mut self.lap));
    }

    /// Returns the medians of the updates in `range`, which take `groups` of `group_size` each.
    pub(super) fn measured(&self, range: Range<usize>, groups: u64, group_size: u16) -> Measured {
        let laps = self.done.get(range).unwrap_or_default();
        let of = |time: &dyn Fn(&Lap) -> f64| {
            if laps.is_empty() {
                0.0
            } else {
                median(laps.iter().map(time))
            }
        };
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        let (slots, rollouts) = (groups as f64, (groups * u64::from(group_size)) as f64);
        Measured {
            intake_us_per_rollout: of(&|lap| us(lap.intake) / rollouts),
            gate_us_per_slot: of(&|lap| us(lap.gate) / slots),
            gate_us_per_wake: of(&|lap| us(lap.gate) / f64::from(lap.wakes.max(1))),
            books_us_per_slot: of(&|lap| us(lap.books) / slots),
        }
    }

    pub(super) fn laps(&self) -> usize {
        self.done.len()
    }
}
