//! Curators: a live set of groups, and the k of it to train again.

use serde::{Deserialize, Serialize};
use vintage_control::PolicyVersion;

use crate::{
    candidate::{Candidate, CandidateId},
    decay::Decay,
    error::{Error, Result},
    live::{Element, Handle, LiveSet},
    objective::{ConcaveOverGroups, Objective},
    oracle::Oracle,
    structure::{AnyStructure, Kind, Structure as _, top_up},
};

/// Largest weight of a candidate: sums and products of many stay far from infinity.
const LARGEST: f64 = 1e100;

/// Settings of a curator.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Kind of structure.
    pub kind: Kind,
    /// Number of candidates to choose, at least 1.
    pub k: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Factor by which a candidate's weight falls with each version of age, from 0.5 to 1.
    pub decay: f64,
}

/// Live set of candidates, and a chosen subset of at most `k` that is worth much together.
///
/// **Determinism.** The state is a function of settings and operations, to the bit and on any
/// machine: [`chosen`](Self::chosen) does not change it. A restarted learner repeats its insertions and
/// deletions in order; for a [kind](Kind::is_function_of_live_set) that does not depend on
/// history it inserts what lives. Or it stores the curator: as serialized it is a checkpoint, and
/// goes on as if it had never stopped. The count of calls is not part of it.
///
/// **Deletions that depend on the choice.** [`Kind::DynamicLevels`] promises its value against deletions
/// that do not know its draws. Expiry by version is such: it goes by age. Deleting groups because they
/// were chosen (after so many uses) is not: it removes the sample and leaves its bucket, and the
/// promise is void. Use its eager variant then, which rebuilds when a share ε of a sample is gone, for
/// more calls. [`Kind::Sieve`] and [`Kind::LazyGreedy`] draw nothing and need no such care.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Curator<O: Objective = ConcaveOverGroups> {
    settings: Settings,
    decay: Decay,
    oracle: Oracle<O>,
    live: LiveSet<O::Features>,
    structure: AnyStructure<O>,
    /// Answer to the last question, until the next operation.
    #[serde(skip)]
    answer: Option<Vec<Handle>>,
}

impl Curator {
    /// Creates a curator of the default objective, without decay.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting out of range.
    pub fn new(kind: Kind, k: usize, seed: u64) -> Result<Self> {
        let settings = Settings {
            kind,
            k,
            seed,
            decay: 1.0,
        };
        Self::with(ConcaveOverGroups::default(), settings)
    }
}

impl<O: Objective> Curator<O> {
    /// Creates a curator of any objective.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting out of range.
    pub fn with(objective: O, settings: Settings) -> Result<Self> {
        let Settings {
            kind,
            k,
            seed,
            decay,
        } = settings;
        kind.check()?;
        // Beyond, levels would not have numbers of 16 bits.
        if !(1..=1 << 15).contains(&k) {
            return Err(Error::Setting {
                name: "k",
                value: k as f64,
                range: "from 1 to 32768",
            });
        }
        Ok(Self {
            settings,
            decay: Decay::new(decay)?,
            oracle: Oracle::new(objective),
            live: LiveSet::default(),
            structure: AnyStructure::new(kind, k, seed),
            answer: None,
        })
    }

    /// Inserts a group.
    ///
    /// # Errors
    /// [`Error::Known`] for a group that is in the live set, and those of
    /// [`Objective::features`]. The curator is unchanged then.
    pub fn insert(&mut self, candidate: &Candidate) -> Result<()> {
        let (features, weight) = self.oracle.objective().features(candidate)?;
        self.insert_features(candidate.id, candidate.version, weight, features)
    }

    /// Inserts a candidate by its features and its weight before decay. One of weight 0 is in the live
    /// set, and never chosen.
    ///
    /// # Errors
    /// [`Error::Known`] and [`Error::Value`]. The curator is unchanged then.
    pub fn insert_features(
        &mut self,
        id: CandidateId,
        version: PolicyVersion,
        weight: f64,
        features: O::Features,
    ) -> Result<()> {
        if self.live.contains(id) {
            return Err(Error::Known(id));
        }
        if !(0.0..=LARGEST).contains(&weight) {
            return Err(Error::Value {
                id,
                what: "weight",
                value: weight,
                range: "from 0 to 1e100",
            });
        }
        self.answer = None;
        if self.decay.advance(version) {
            self.weigh_again();
        }
        let raw = weight;
        let weight = self.decay.weight(version, raw);
        let single = self.oracle.single(&features, weight);
        let handle = self.live.insert(Element {
            id,
            version,
            order: 0,
            raw,
            weight,
            single,
            features,
        });
        if single > 0.0 {
            self.structure.insert(&mut self.oracle, &self.live, handle);
        }
        Ok(())
    }

    /// Deletes a candidate.
    ///
    /// # Errors
    /// [`Error::Unknown`] for one that is not in the live set. The curator is unchanged then.
    pub fn delete(&mut self, id: CandidateId) -> Result<()> {
        let (handle, gone) = self.live.remove(id).ok_or(Error::Unknown(id))?;
        self.answer = None;
        if gone.single > 0.0 {
            let Self {
                structure,
                oracle,
                live,
                ..
            } = self;
            structure.delete(oracle, live, handle, &gone);
        }
        Ok(())
    }

    /// Deletes what has expired for a learner at version `now`: candidates that are more than
    /// `max_age` versions old, the oldest first. Returns their ids.
    ///
    /// # Errors
    /// None but those of [`Curator::delete`], which do not occur.
    pub fn expire(&mut self, now: PolicyVersion, max_age: u64) -> Result<Vec<CandidateId>> {
        let oldest = PolicyVersion(now.0.saturating_sub(max_age));
        let expired = self.live.below(oldest);
        for id in &expired {
            self.delete(*id)?;
        }
        Ok(expired)
    }

    /// Returns the chosen candidates: at most `k`, all of weight above 0. Those that are live are all
    /// chosen if there are no more than `k`. The state is left as it is; the answer is kept until the
    /// next operation.
    pub fn chosen(&mut self) -> Vec<CandidateId> {
        let answer = self.answer();
        let ids = answer.iter().filter_map(|handle| self.live.get(*handle));
        ids.map(|element| element.id).collect()
    }

    /// Returns the value of the chosen set. Only ratios of values mean something where weights decay.
    pub fn value(&mut self) -> f64 {
        let answer = self.answer();
        self.oracle.value(&self.live, &answer)
    }

    /// Returns the number of times that the objective was asked for a gain, since this value was
    /// made or restored.
    pub fn calls(&self) -> u64 {
        self.oracle.calls()
    }

    /// Returns the number of live candidates, those of weight 0 included.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Returns true if no candidate is live.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns true if a candidate is live.
    pub fn contains(&self, id: CandidateId) -> bool {
        self.live.contains(id)
    }

    /// Returns the settings.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Returns the value of the set that the structure keeps, before it is filled up.
    #[cfg(test)]
    pub(crate) fn unfilled(&mut self) -> f64 {
        let members = self.structure.best(&mut self.oracle, &self.live);
        self.oracle.value(&self.live, &members)
    }

    fn answer(&mut self) -> Vec<Handle> {
        if let Some(answer) = &self.answer {
            return answer.clone();
        }
        let answer = if self.live.worthy() <= self.settings.k {
            self.live.since(0).collect()
        } else {
            let mut picked = self.structure.best(&mut self.oracle, &self.live);
            let others = self.structure.others();
            top_up(
                &mut self.oracle,
                &self.live,
                &mut picked,
                self.settings.k,
                others,
            );
            picked
        };
        self.answer = Some(answer.clone());
        answer
    }

    /// Computes all weights from a later origin, and the structure from them.
    fn weigh_again(&mut self) {
        let Self {
            decay,
            oracle,
            live,
            settings,
            structure,
            ..
        } = self;
        let worthy = live.revise(|element| {
            element.weight = decay.weight(element.version, element.raw);
            element.single = oracle.single(&element.features, element.weight);
        });
        *structure = AnyStructure::new(settings.kind, settings.k, settings.seed);
        for handle in worthy {
            structure.insert(oracle, live, handle);
        }
    }
}
