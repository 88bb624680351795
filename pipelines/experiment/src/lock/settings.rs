//! Settings of the experiment.

use serde::{Deserialize, Serialize};

use super::{
    class::Decoys,
    method::{Method, Scales},
    world::Chances,
};
use crate::error::{Result, require};

/// Largest number of codes: the class has twice as many functions.
const MOST_CODES: f64 = 20_000.0;

/// Settings of the combination lock and of what is run on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Number of seeds.
    pub seeds: u64,
    /// First seed.
    pub first_seed: u64,
    /// Number of layers H.
    pub horizon: usize,
    /// Number of actions A.
    pub actions: usize,
    /// Chance of a reward at the last right action.
    pub success: f64,
    /// Chance of a reward at the first wrong action.
    pub lure: f64,
    /// Chances q that the archive's policy does the right action.
    pub qualities: Vec<f64>,
    /// Number of live episodes T.
    pub episodes: usize,
    /// Share of the episodes, the last ones, in which every policy of a solved lock is optimal.
    pub last: f64,
    /// Functions of the class that promise nothing.
    pub decoys: Decoys,
    /// Settings of the methods.
    pub scales: Scales,
    /// Methods of the table.
    pub methods: Vec<Method>,
    /// Settings of the lock with noisy observations; left out if absent.
    pub observed: Option<ObservedSettings>,
}

/// Settings of the lock whose states are seen through noisy observations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedSettings {
    /// Numbers m of observations of a state.
    pub observations: Vec<usize>,
    /// Number of decoders, the right one included.
    pub decoders: usize,
    /// Chance q that the archive's policy does the right action.
    pub quality: f64,
}

impl Default for Settings {
    fn default() -> Self {
        let scales = Scales::default();
        Self {
            seeds: 100,
            first_seed: 0,
            horizon: 6,
            actions: 3,
            success: 0.9,
            lure: 0.1,
            qualities: vec![0.6, 0.4, 1.0 / 3.0],
            episodes: 150,
            last: 0.2,
            decoys: Decoys::default(),
            scales,
            methods: Method::table(scales),
            observed: Some(ObservedSettings::default()),
        }
    }
}

impl Default for ObservedSettings {
    fn default() -> Self {
        Self {
            observations: vec![1, 2, 4, 8, 16],
            decoders: 8,
            quality: 0.6,
        }
    }
}

impl Settings {
    /// Settings of a look that takes a few seconds: 10 seeds, one and four observations.
    pub fn quick() -> Self {
        Self {
            seeds: 10,
            observed: Some(ObservedSettings {
                observations: vec![1, 4],
                ..ObservedSettings::default()
            }),
            ..Self::default()
        }
    }

    /// Replaces the methods by those of the table with other settings.
    #[must_use]
    pub fn with_scales(self, scales: Scales) -> Self {
        Self {
            scales,
            methods: Method::table(scales),
            ..self
        }
    }

    pub(crate) fn chances(&self) -> Chances {
        Chances {
            success: self.success,
            lure: self.lure,
        }
    }

    /// Number of the last episodes that decide about a solved lock, at least 1.
    pub(crate) fn last(&self) -> usize {
        let count = (self.last * self.episodes as f64).ceil() as usize;
        count.clamp(1, self.episodes)
    }

    /// Refuses settings out of range.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) with the name, the value and the range.
    pub fn check(&self) -> Result<()> {
        let within = |value: f64| value > 0.0 && value <= 1.0;
        let number = |count: usize| count as f64;
        require(self.seeds >= 1, "seeds", self.seeds as f64, "at least 1")?;
        let (horizon, actions) = (number(self.horizon), number(self.actions));
        require(self.horizon >= 1, "horizon", horizon, "at least 1")?;
        require(self.actions >= 2, "actions", actions, "at least 2")?;
        let codes = actions.powf(horizon);
        require(
            codes <= MOST_CODES,
            "actions ^ horizon",
            codes,
            "at most 20000",
        )?;
        require(
            self.episodes >= 1,
            "episodes",
            number(self.episodes),
            "at least 1",
        )?;
        require(
            within(self.last),
            "last",
            self.last,
            "above 0 and at most 1",
        )?;
        require(
            within(self.success),
            "success",
            self.success,
            "above 0 and at most 1",
        )?;
        let holds = self.lure >= 0.0 && self.lure < self.success;
        require(holds, "lure", self.lure, "at least 0 and below success")?;
        let observed = self.observed.iter();
        let qualities = observed.clone().map(|observed| &observed.quality);
        for quality in self.qualities.iter().chain(qualities) {
            require(within(*quality), "q", *quality, "above 0 and at most 1")?;
        }
        for observed in observed {
            for count in &observed.observations {
                let range = "from 1 to 256";
                require(
                    (1..=256).contains(count),
                    "observations",
                    number(*count),
                    range,
                )?;
            }
            let holds = (1..=64).contains(&observed.decoders);
            require(holds, "decoders", number(observed.decoders), "from 1 to 64")?;
        }
        self.methods.iter().try_for_each(Method::check)
    }
}
