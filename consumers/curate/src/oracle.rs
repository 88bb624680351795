//! Oracle: the objective, with a count of how often it was asked.

use serde::{Deserialize, Serialize};

use crate::{
    live::{Element, Handle, LiveSet},
    objective::Objective,
};

/// Objective whose calls are counted: each gain is one call. Adding a candidate to a set is none,
/// because its gain was asked for before.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Oracle<O: Objective> {
    objective: O,
    /// Number of calls; no part of the state, because asking for a set costs calls, too.
    #[serde(skip)]
    calls: u64,
}

/// Set of elements, as the objective sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Set<O: Objective> {
    inside: O::Chosen,
    /// Value of the set: the sum of its members' gains.
    pub(crate) value: f64,
    /// Number of members.
    pub(crate) size: usize,
}

impl<O: Objective> Default for Set<O> {
    fn default() -> Self {
        Self {
            inside: O::Chosen::default(),
            value: 0.0,
            size: 0,
        }
    }
}

impl<O: Objective> Oracle<O> {
    pub(crate) fn new(objective: O) -> Self {
        Self {
            objective,
            calls: 0,
        }
    }

    pub(crate) fn objective(&self) -> &O {
        &self.objective
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }

    /// Returns the value of one candidate alone.
    pub(crate) fn single(&mut self, features: &O::Features, weight: f64) -> f64 {
        self.calls += 1;
        self.objective.gain(&O::Chosen::default(), features, weight)
    }

    /// Returns the gain of an element by a set. That of the empty set is known already.
    pub(crate) fn gain(&mut self, set: &Set<O>, element: &Element<O::Features>) -> f64 {
        if set.size == 0 {
            return element.single;
        }
        self.calls += 1;
        let Element {
            features, weight, ..
        } = element;
        self.objective.gain(&set.inside, features, *weight)
    }

    /// Adds an element, whose gain is known, to a set.
    pub(crate) fn add(&self, set: &mut Set<O>, element: &Element<O::Features>, gain: f64) {
        let Element {
            features, weight, ..
        } = element;
        self.objective.add(&mut set.inside, features, *weight);
        set.value += gain;
        set.size += 1;
    }

    /// Returns the value of some elements, without counting calls: for reports.
    pub(crate) fn value(&mut self, live: &LiveSet<O::Features>, members: &[Handle]) -> f64 {
        let calls = self.calls;
        let value = self.set(live, members).value;
        self.calls = calls;
        value
    }

    /// Returns the set of those of some elements that live.
    pub(crate) fn set(&mut self, live: &LiveSet<O::Features>, members: &[Handle]) -> Set<O> {
        let mut set = Set::default();
        for element in members.iter().filter_map(|member| live.get(*member)) {
            let gain = self.gain(&set, element);
            self.add(&mut set, element, gain);
        }
        set
    }
}
