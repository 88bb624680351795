//! Arms of the experiment.

use serde::Serialize;
use vintage_control::AlgorithmName;

use super::ages::Staleness;
use crate::{
    course,
    error::{Result, require},
    text::as_name,
};

/// Largest number of runs of one experiment: folders of a run take up to hundreds of megabytes.
const MOST_ARMS: f64 = 10_000.0;

/// Losses, values of staleness and seeds, each combination of which is a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Grid {
    /// Losses, the one that others are compared with first.
    pub losses: Vec<Loss>,
    /// Values of staleness.
    pub staleness: Vec<Staleness>,
    /// First seed.
    pub first_seed: u64,
    /// Number of seeds.
    pub seeds: u64,
    /// Number of updates of a run.
    pub updates: u64,
}

/// Loss with its learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Loss {
    /// Name of the loss.
    pub name: AlgorithmName,
    /// Learning rate of its runs.
    pub lr: f64,
}

/// One run of the experiment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Arm {
    /// Loss.
    #[serde(serialize_with = "as_name")]
    pub loss: AlgorithmName,
    /// Learning rate.
    pub lr: f64,
    /// Staleness of every batch.
    pub staleness: Staleness,
    /// Seed of everything that is drawn.
    pub seed: u64,
}

impl Grid {
    /// Checks that there is something to run, and no run twice.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for an empty list, a value that is there twice, or a number
    /// out of range.
    pub fn check(&self) -> Result<()> {
        let least = |count: usize, name| require(count > 0, name, count as f64, "at least 1");
        least(self.losses.len(), "number of losses")?;
        least(self.staleness.len(), "number of values of staleness")?;
        require(self.seeds > 0, "seeds", self.seeds as f64, "at least 1")?;
        let updates = self.updates as f64;
        require(self.updates > 0, "updates", updates, "at least 1")?;
        let all = self.losses.len() as f64 * self.staleness.len() as f64 * self.seeds as f64;
        require(all <= MOST_ARMS, "number of runs", all, "at most 10000")?;
        for (at, value) in self.staleness.iter().enumerate() {
            let again = self.staleness[..at].contains(value);
            require(!again, "staleness", value.bound as f64, "listed once")?;
            let has_ages = !value.is_mixed() || value.bound > 0;
            require(
                has_ages,
                "bound of mixed ages",
                value.bound as f64,
                "at least 1",
            )?;
        }
        for (at, loss) in self.losses.iter().enumerate() {
            let again = self.losses[..at].iter().any(|one| one.name == loss.name);
            require(
                !again,
                "place of a loss in the list",
                at as f64,
                "the only one of its name",
            )?;
            let positive = loss.lr.is_finite() && loss.lr > 0.0;
            require(positive, "lr", loss.lr, "above 0")?;
        }
        Ok(())
    }

    /// Returns the runs in the order in which they begin: a whole table of the first seed before the next
    /// seed, so that an experiment that was stopped has comparable runs.
    pub fn arms(&self) -> Vec<Arm> {
        let seeds = (0..self.seeds).map(|seed| self.first_seed.saturating_add(seed));
        let of_seed = |seed| {
            let of_staleness = move |staleness: &Staleness| {
                let staleness = *staleness;
                let arm = move |loss: &Loss| Arm {
                    loss: loss.name,
                    lr: loss.lr,
                    staleness,
                    seed,
                };
                self.losses.iter().map(arm)
            };
            self.staleness.iter().flat_map(of_staleness)
        };
        seeds.flat_map(of_seed).collect()
    }
}

impl course::Arm for Arm {
    /// Returns loss, staleness and seed.
    fn name(&self) -> String {
        format!("{}-{}-{}", self.loss.as_str(), self.staleness, self.seed)
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}
