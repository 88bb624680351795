//! Structures that keep a chosen set while elements come and go.

mod baseline;
mod greedy;
mod levels;
mod sieve;

use serde::{Deserialize, Serialize};

pub(crate) use self::greedy::top_up;
use self::{
    baseline::{Newest, Uniform},
    greedy::LazyGreedy,
    levels::DynamicLevels,
    sieve::Sieve,
};
use crate::{
    error::{Error, Result},
    live::{Element, Handle, LiveSet},
    objective::Objective,
    oracle::Oracle,
};

/// Chosen set under insertions and deletions. An element comes only if its value alone is above 0.
///
/// A structure's state is a function of the operations; asking for the set leaves it as it is. That
/// is what makes a state that was rebuilt by replaying the operations the same, whoever asked when.
pub(crate) trait Structure<O: Objective> {
    /// Takes an element that the live set has just got. Structures that only look at the live set
    /// when asked do nothing.
    fn insert(&mut self, _: &mut Oracle<O>, _: &LiveSet<O::Features>, _: Handle) {}

    /// Lets go of an element that the live set has no more.
    fn delete(
        &mut self,
        _: &mut Oracle<O>,
        _: &LiveSet<O::Features>,
        _: Handle,
        _: &Element<O::Features>,
    ) {
    }

    /// Returns the set that the structure keeps: at most k live elements, each once.
    fn best(&self, oracle: &mut Oracle<O>, live: &LiveSet<O::Features>) -> Vec<Handle>;

    /// Returns elements at hand from which a set of fewer than k is filled up. Some may be deleted,
    /// some may come twice.
    fn others(&self) -> Vec<Handle> {
        Vec::new()
    }
}

/// Kind of curator, with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// Levels of samples from buckets of equal gain, for each guess of the optimum: our
    /// reconstruction of the fully dynamic structure of Banihashem et al. (ICML 2023), whose
    /// abstract is all that we could read. Value at least 1/2 − ε of the optimum in the mean, and
    /// oracle calls per update that do not grow with the live set. Random; depends on history.
    DynamicLevels {
        /// Accuracy ε, from 0.01 to 0.5.
        epsilon: f64,
        /// Rebuilds a level also when a share ε of its *sample* was deleted, not of its bucket
        /// alone. Wanted where deletions depend on the choice: see [`Curator`](crate::Curator).
        eager: bool,
    },
    /// Sieve-streaming (Badanidiyuru et al., KDD 2014): one pass with a threshold for each guess of
    /// the optimum. A deletion from a guess's set reruns that guess over the live set. Value at
    /// least 1/2 − ε of the optimum, always. A function of the live set in its order.
    Sieve {
        /// Accuracy ε, from 0.01 to 0.5.
        epsilon: f64,
    },
    /// Lazy greedy on the live set (Minoux 1978): value at least 1 − 1/e of the optimum.
    LazyGreedy {
        /// Number of insertions and deletions between two computations; meanwhile deleted members
        /// are missing. 0: computed when the set is asked for, which makes it a function of the live
        /// set.
        every: u64,
    },
    /// Baseline: a uniform sample, another one whenever the live set has changed.
    Uniform,
    /// Baseline: those inserted last.
    Newest,
}

impl Default for Kind {
    /// Returns lazy greedy when asked for: the best value, and the fewest calls at a learner's sizes
    /// (`docs/curation.md`).
    fn default() -> Self {
        Self::LazyGreedy { every: 0 }
    }
}

impl Kind {
    /// Returns true if the chosen set depends on the live set and the order of its insertions
    /// alone: such a curator is rebuilt by inserting what lives, others by replaying every operation.
    pub fn is_function_of_live_set(&self) -> bool {
        match self {
            Self::Sieve { .. } | Self::Uniform | Self::Newest => true,
            Self::LazyGreedy { every } => *every == 0,
            Self::DynamicLevels { .. } => false,
        }
    }

    /// Checks that the settings are in range.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::DynamicLevels { epsilon, .. } | Self::Sieve { epsilon }
                if !(0.01..=0.5).contains(epsilon) =>
            {
                Err(Error::Setting {
                    name: "epsilon",
                    value: *epsilon,
                    range: "from 0.01 to 0.5",
                })
            }
            _ => Ok(()),
        }
    }
}

/// Structure of any kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) enum AnyStructure<O: Objective> {
    DynamicLevels(DynamicLevels<O>),
    Sieve(Sieve<O>),
    LazyGreedy(LazyGreedy),
    Uniform(Uniform),
    Newest(Newest),
}

impl<O: Objective> AnyStructure<O> {
    /// Creates an empty structure, whose settings are in range.
    pub(crate) fn new(kind: Kind, k: usize, seed: u64) -> Self {
        match kind {
            Kind::DynamicLevels { epsilon, eager } => {
                Self::DynamicLevels(DynamicLevels::new(epsilon, eager, k, seed))
            }
            Kind::Sieve { epsilon } => Self::Sieve(Sieve::new(epsilon, k)),
            Kind::LazyGreedy { every } => Self::LazyGreedy(LazyGreedy::new(every, k)),
            Kind::Uniform => Self::Uniform(Uniform::new(k, seed)),
            Kind::Newest => Self::Newest(Newest::new(k)),
        }
    }

    fn inner(&self) -> &dyn Structure<O> {
        match self {
            Self::DynamicLevels(structure) => structure,
            Self::Sieve(structure) => structure,
            Self::LazyGreedy(structure) => structure,
            Self::Uniform(structure) => structure,
            Self::Newest(structure) => structure,
        }
    }

    fn inner_mut(&mut self) -> &mut dyn Structure<O> {
        match self {
            Self::DynamicLevels(structure) => structure,
            Self::Sieve(structure) => structure,
            Self::LazyGreedy(structure) => structure,
            Self::Uniform(structure) => structure,
            Self::Newest(structure) => structure,
        }
    }
}

impl<O: Objective> Structure<O> for AnyStructure<O> {
    fn insert(&mut self, oracle: &mut Oracle<O>, live: &LiveSet<O::Features>, handle: Handle) {
        self.inner_mut().insert(oracle, live, handle);
    }

    fn delete(
        &mut self,
        oracle: &mut Oracle<O>,
        live: &LiveSet<O::Features>,
        handle: Handle,
        gone: &Element<O::Features>,
    ) {
        self.inner_mut().delete(oracle, live, handle, gone);
    }

    fn best(&self, oracle: &mut Oracle<O>, live: &LiveSet<O::Features>) -> Vec<Handle> {
        self.inner().best(oracle, live)
    }

    fn others(&self) -> Vec<Handle> {
        self.inner().others()
    }
}
