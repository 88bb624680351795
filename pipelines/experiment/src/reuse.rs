//! Rollouts that are used more than once (`vintage experiment reuse`): ways to train on equal numbers of new
//! rollouts, with several seeds, as full runs.
//!
//! The runs are processes that the command starts; here is what is computed about them. Every run is on policy but
//! for what it uses again: `gate.exact = 0`, so that it is a function of its settings and its seed.
//!
//! | module | job |
//! |---|---|
//! | `way` | the ways of each comparison, with their settings |
//! | `report` | means over seeds with intervals, new rollouts to an accuracy, differences from the baseline |
//! | `text` | the report as text |
//!
//! ```
//! use vintage_experiment::{course::{Arm as _, State}, reuse::{Comparison, Plan, Report, Trial}};
//!
//! let plan = Plan { comparison: Comparison::Samplers, groups: 1600, first_seed: 0, seeds: 1, lr: 1e-4 };
//! plan.check()?;
//! let arms = plan.arms();
//! assert_eq!(arms[1].name(), "uniform-0");
//! // 10 of the 16 groups of an update are new.
//! assert_eq!(arms[1].way.updates(&plan), 160);
//!
//! let trials = arms.into_iter().map(|arm| Trial::new(arm, arm.way.loss, State::NotBegun, &[], &[]));
//! let report = Report::new(plan, 0.5, trials.collect());
//! assert_eq!((report.counts.finished, report.counts.unfinished), (0, 6));
//! # Ok::<(), vintage_experiment::Error>(())
//! ```

mod report;
mod text;
mod way;

pub use self::{
    report::{Contrast, Means, Report, Row},
    way::{Arm, Comparison, Plan, Way},
};

/// Run of the experiment with what it came to.
pub type Trial = crate::course::Trial<Arm>;

#[cfg(test)]
mod tests;
