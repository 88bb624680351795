//! Sieve-streaming with deletions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Structure;
use crate::{
    ladder,
    live::{Element, Handle, LiveSet},
    objective::Objective,
    oracle::{Oracle, Set},
};

/// One sieve for each guess of the optimum, (1 + ε)^j.
///
/// The optimum is between the largest value of one element, m, and k·m, so guesses are kept from m to
/// 2k·m. A sieve is at any time what one pass over the live elements in their order would give:
/// deleting an element that it did not take changes nothing, and after the deletion of a
/// member the pass is repeated from that member on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Sieve<O: Objective> {
    k: usize,
    base: f64,
    guesses: BTreeMap<i64, Guess<O>>,
}

/// Set of one guess.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
struct Guess<O: Objective> {
    optimum: f64,
    set: Set<O>,
    /// Members in their order.
    members: Vec<Handle>,
}

impl<O: Objective> Guess<O> {
    fn new(optimum: f64) -> Self {
        Self {
            optimum,
            set: Set::default(),
            members: Vec::new(),
        }
    }

    /// Takes an element if its gain is an even share of what is missing to half of the guess.
    fn offer(
        &mut self,
        oracle: &mut Oracle<O>,
        k: usize,
        handle: Handle,
        element: &Element<O::Features>,
    ) {
        let room = k.saturating_sub(self.set.size);
        if room == 0 {
            return;
        }
        let gain = oracle.gain(&self.set, element);
        if gain > 0.0 && gain * room as f64 >= self.optimum / 2.0 - self.set.value {
            oracle.add(&mut self.set, element, gain);
            self.members.push(handle);
        }
    }

    /// Passes over the live elements that were inserted at `order` or later.
    fn pass(&mut self, oracle: &mut Oracle<O>, live: &LiveSet<O::Features>, k: usize, order: u64) {
        for handle in live.since(order) {
            if self.set.size >= k {
                return;
            }
            if let Some(element) = live.get(handle) {
                self.offer(oracle, k, handle, element);
            }
        }
    }
}

impl<O: Objective> Sieve<O> {
    pub(crate) fn new(epsilon: f64, k: usize) -> Self {
        Self {
            k,
            base: 1.0 + epsilon,
            guesses: BTreeMap::new(),
        }
    }

    /// Returns the exponents of the guesses that are kept, and forgets all others.
    fn bound(&mut self, live: &LiveSet<O::Features>) -> std::ops::Range<i64> {
        let Some(largest) = live.largest() else {
            self.guesses.clear();
            return 0..0;
        };
        let low = ladder::ceil(self.base, largest);
        let high = ladder::floor(self.base, 2.0 * self.k as f64 * largest);
        self.guesses
            .retain(|exponent, _| (low..=high).contains(exponent));
        low..high + 1
    }
}

impl<O: Objective> Structure<O> for Sieve<O> {
    fn insert(&mut self, oracle: &mut Oracle<O>, live: &LiveSet<O::Features>, handle: Handle) {
        let Some(element) = live.get(handle) else {
            return;
        };
        for exponent in self.bound(live) {
            let optimum = ladder::power(self.base, exponent);
            // A guess that is new is above 2k times every element before: it would have taken none.
            let guess = self.guesses.entry(exponent);
            let guess = guess.or_insert_with(|| Guess::new(optimum));
            guess.offer(oracle, self.k, handle, element);
        }
    }

    fn delete(
        &mut self,
        oracle: &mut Oracle<O>,
        live: &LiveSet<O::Features>,
        handle: Handle,
        gone: &Element<O::Features>,
    ) {
        for exponent in self.bound(live) {
            let optimum = ladder::power(self.base, exponent);
            let Some(guess) = self.guesses.get_mut(&exponent) else {
                let mut guess = Guess::new(optimum);
                guess.pass(oracle, live, self.k, 0);
                self.guesses.insert(exponent, guess);
                continue;
            };
            let place = guess.members.iter().position(|member| *member == handle);
            if let Some(place) = place {
                guess.members.truncate(place);
                guess.set = oracle.set(live, &guess.members);
                guess.pass(oracle, live, self.k, gone.order);
            }
        }
    }

    fn best(&self, _: &mut Oracle<O>, _: &LiveSet<O::Features>) -> Vec<Handle> {
        let guesses = self.guesses.values();
        let best = guesses.max_by(|a, b| a.set.value.total_cmp(&b.set.value));
        best.map_or_else(Vec::new, |guess| guess.members.clone())
    }

    fn others(&self) -> Vec<Handle> {
        let members = self.guesses.values().flat_map(|guess| &guess.members);
        members.copied().collect()
    }
}
