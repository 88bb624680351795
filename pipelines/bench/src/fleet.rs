//! Fleet on paper (`vintage bench fleet`): the learner's intake, the granter of slots and the lease
//! books of the program, with simulated producers, network and updates on a virtual clock.
//!
//! What decides is the program's own code: [`Granter`](vintage_grants::Granter),
//! [`Intake`](vintage_learner::intake::Intake) and [`LeaseBook`](vintage_rollout::LeaseBook). What
//! takes time is simulated: each part of the way (a partition, the broker, decoding, the store, an
//! update) is a [`station`] of stated capacity that serves one after the other. The part that is
//! busy for the largest share of the run is the bottleneck.
//!
//! A simulation is a function of its settings and its seed, apart from the real time that the
//! program's own code took, which is in [`Measured`].

mod clock;
mod draw;
mod lead;
mod message;
mod network;
mod producer;
mod settings;
mod station;
mod stopwatch;
mod tally;
mod world;

use serde::Serialize;

pub use self::{
    network::Busy,
    settings::{Capacities, Churn, Fleet, Rule},
    stopwatch::Measured,
    tally::{Books, Control, Outcome, Staleness},
};
use crate::error::Result;

/// Real time of the program's own code in one stretch of a long run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stretch {
    /// Number of rollouts trained by the end of the stretch.
    pub rollouts: u64,
    /// Times of the updates of the stretch.
    pub measured: Measured,
}

/// Simulates a fleet.
///
/// # Errors
/// [`Error::Option`](crate::Error::Option) for settings out of range;
/// [`Error::Failed`](crate::Error::Failed) for a fleet that stands still, and for books that do not
/// balance; an error of the learner that it would stop for, too.
pub fn simulate(fleet: &Fleet) -> Result<Outcome> {
    fleet.check()?;
    world::World::new(fleet)?.run()
}

/// Measures the real code as a run grows to `rollouts`: one stretch for each power of ten from a
/// thousand on.
///
/// # Errors
/// As [`simulate`] does.
pub fn cost(fleet: &Fleet, rollouts: u64) -> Result<Vec<Stretch>> {
    let of_update = fleet.groups_per_update * u64::from(fleet.group_size);
    let long = Fleet {
        updates: rollouts.div_ceil(of_update.max(1)),
        ..fleet.clone()
    };
    long.check()?;
    let mut world = world::World::new(&long)?;
    let outcome = world.run()?;
    let mut stretches = Vec::new();
    let mut from = 0;
    let mut to = 1_000;
    while from < outcome.updates {
        let end = to.min(rollouts);
        let last = end.div_ceil(of_update).min(outcome.updates).max(from + 1);
        stretches.push(Stretch {
            rollouts: last * of_update,
            measured: world.measured(from as usize..last as usize),
        });
        (from, to) = (last, to * 10);
    }
    Ok(stretches)
}

#[cfg(test)]
mod tests;
