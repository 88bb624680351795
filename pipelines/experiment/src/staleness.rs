//! Losses on old data (`vintage experiment staleness`): every loss at every staleness, with several seeds, as
//! full runs.
//!
//! The runs are processes that the command starts; here is what is computed about them: which there are, what
//! one came to, and the table over seeds with its intervals. All of it is a function of the records of runs.
//!
//! | module | job |
//! |---|---|
//! | `ages` | how old the groups of a batch are |
//! | `grid` | the arms and their order |
//! | `report` | means over seeds with intervals, differences from the first loss and from fresh data |
//! | `text` | the report as text |
//!
//! ```
//! use vintage_control::AlgorithmName::{Grpo, M2po};
//! use vintage_experiment::{course::{Arm as _, State}, staleness::{Grid, Loss, Report, Staleness, Trial}};
//!
//! let loss = |name| Loss { name, lr: 1e-4 };
//! let grid = Grid {
//!     losses: vec![loss(M2po), loss(Grpo)],
//!     staleness: vec![Staleness::same(0), "tail-256".parse()?],
//!     first_seed: 0,
//!     seeds: 1,
//!     updates: 400,
//! };
//! grid.check()?;
//! let names: Vec<_> = grid.arms().iter().map(|arm| arm.name()).collect();
//! assert_eq!(names, ["m2po-0-0", "grpo-0-0", "m2po-tail-256-0", "grpo-tail-256-0"]);
//!
//! let trials = grid.arms().into_iter().map(|arm| Trial::new(arm, arm.loss, State::NotBegun, &[], &[]));
//! let report = Report::new(grid, trials.collect());
//! assert_eq!((report.counts.finished, report.counts.unfinished), (0, 4));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ages;
mod grid;
mod report;
mod text;

pub use self::{
    ages::Staleness,
    grid::{Arm, Grid, Loss},
    report::{Cell, Contrast, Means, Report},
};

/// Run of the experiment with what it came to.
pub type Trial = crate::course::Trial<Arm>;

#[cfg(test)]
pub(crate) mod tests;
