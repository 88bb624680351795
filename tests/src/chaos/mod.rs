//! A supervisor that kills: real roles run as processes on a real three-node Kafka, are ended by
//! SIGKILL at the points of `vintage-faults` or at random, are started again, and are checked once
//! they have drained.

mod check;
mod episode;
mod recorded;
mod report;
mod stage;

pub use check::{Breach, Findings, check, plans};
pub use episode::{Episode, Outcome};
pub use recorded::recorded;
pub use report::{Blow, Report, Row};
pub use stage::{Order, RoleProcess, Stage, Strike, Who};

use vintage_faults::POINTS;

/// Returns every fault point that a role can reach. Points of the store belong to both roles that
/// write to it.
pub fn points_of(who: Who) -> Vec<&'static str> {
    let prefixes: &[&str] = match who {
        Who::Learner => &["learner.", "store."],
        Who::Sink(_) => &["archive.", "store."],
        Who::Rollout => &["rollout."],
    };
    let names = POINTS.iter().map(|point| point.name);
    names
        .filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
        .collect()
}
