//! Levels of samples for each guess of the optimum.
//!
//! This is our reconstruction of the fully dynamic structure of Banihashem, Biabani, Goudarzi,
//! Hajiaghayi, Jabbarzade and Monemizadeh (ICML 2023). We could read the abstract, not the paper: what
//! is certain is the result, 1/2 − ε of the optimum under insertions and deletions at a polylogarithmic
//! number of oracle calls per update. The steps below have the same reasons behind them, and constants of
//! our own.
//!
//! * For each guess g = (1 + ε)^j of the optimum there is one instance with the threshold τ = g / 2k.
//!   It holds the elements with τ ≤ f({e}) ≤ g: each element is in about log(2k) / ε of them.
//! * An instance peels its elements off in levels. R_1 is all of them; R_i those with a gain of at
//!   least τ by G_{i−1}, the union of the samples so far. R_i is divided into buckets of gains within a
//!   factor of 1 + ε; the sample S_i is drawn uniformly from the largest bucket, as large as it can
//!   be while a share of 1 − ε of the bucket still gains as much.
//! * The elements of R_i that the samples up to S_i have made worthless leave before R_{i+1}.
//!
//! Either |G| = k, and each member gained about what its bucket promised, at least τ: together g / 2. Or
//! no element outside gains τ, so that the optimum is at most f(G) + kτ = f(G) + g / 2. For the guess next
//! to the optimum both mean 1/2 − O(ε).
//!
//! A deletion from a bucket hits its sample only in proportion: whoever deletes does not know the
//! draws. So a level is rebuilt when a share ε of its *bucket* is gone, and the work is paid by that
//! many deletions. Until then deleted members stay in G for gains, and are left out of the answer.
//! An insertion goes as deep as its gain reaches, which is found by bisection, because gains fall with
//! depth; a level that has grown by half is rebuilt.

mod instance;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::instance::{Instance, Terms};
use super::Structure;
use crate::{
    ladder,
    live::{Element, Handle, LiveSet},
    objective::Objective,
    oracle::Oracle,
};

/// Instances of the structure, by the exponent of their guess.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct DynamicLevels<O: Objective> {
    terms: Terms,
    instances: BTreeMap<i64, Instance<O>>,
    depths: Depths,
}

/// Deepest level of every element in each of its instances.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Depths {
    /// Exponent of the first instance and depths from there on, by slot.
    slots: Vec<(i64, Vec<u16>)>,
}

impl Depths {
    /// Begins with an element in the instances from `first` on.
    fn begin(&mut self, handle: Handle, first: i64, instances: usize) {
        let slot = handle.slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, (0, Vec::new()));
        }
        let place = &mut self.slots[slot];
        place.0 = first;
        place.1.clear();
        place.1.resize(instances, 0);
    }

    /// Returns the exponents of an element's instances.
    fn instances(&self, handle: Handle) -> std::ops::Range<i64> {
        let place = self.slots.get(handle.slot as usize);
        place.map_or(0..0, |(first, depths)| *first..*first + depths.len() as i64)
    }

    fn place(&mut self, handle: Handle, exponent: i64) -> Option<&mut u16> {
        let (first, depths) = self.slots.get_mut(handle.slot as usize)?;
        depths.get_mut(usize::try_from(exponent - *first).ok()?)
    }

    /// Notes the deepest level of an element in one instance.
    pub(crate) fn set(&mut self, handle: Handle, exponent: i64, depth: usize) {
        if let Some(place) = self.place(handle, exponent) {
            *place = depth as u16;
        }
    }

    /// Returns the deepest level of an element in one instance.
    pub(crate) fn get(&mut self, handle: Handle, exponent: i64) -> usize {
        self.place(handle, exponent)
            .map_or(0, |depth| usize::from(*depth))
    }
}

impl<O: Objective> DynamicLevels<O> {
    pub(crate) fn new(epsilon: f64, eager: bool, k: usize, seed: u64) -> Self {
        Self {
            terms: Terms::new(epsilon, eager, k, seed),
            instances: BTreeMap::new(),
            depths: Depths::default(),
        }
    }

    /// Returns the exponents of the instances for an element of this value, first and last.
    fn exponents(&self, single: f64) -> (i64, i64) {
        let base = self.terms.base();
        let first = ladder::ceil(base, single);
        // A product and a quotient by 2k may round differently: the threshold decides.
        let mut last = ladder::floor(base, single * self.terms.double_k());
        while self.terms.threshold(last) > single {
            last -= 1;
        }
        (first, last.max(first))
    }
}

impl<O: Objective> Structure<O> for DynamicLevels<O> {
    fn insert(&mut self, oracle: &mut Oracle<O>, live: &LiveSet<O::Features>, handle: Handle) {
        let Some(element) = live.get(handle) else {
            return;
        };
        let (first, last) = self.exponents(element.single);
        self.depths
            .begin(handle, first, (last - first) as usize + 1);
        for exponent in first..=last {
            let instance = self.instances.entry(exponent);
            let instance = instance.or_insert_with(|| Instance::new(exponent, &self.terms));
            instance.insert(&self.terms, oracle, live, &mut self.depths, handle);
        }
    }

    fn delete(
        &mut self,
        oracle: &mut Oracle<O>,
        live: &LiveSet<O::Features>,
        handle: Handle,
        _: &Element<O::Features>,
    ) {
        for exponent in self.depths.instances(handle) {
            let Some(instance) = self.instances.get_mut(&exponent) else {
                continue;
            };
            instance.delete(&self.terms, oracle, live, &mut self.depths, handle);
            if instance.is_empty() {
                self.instances.remove(&exponent);
            }
        }
    }

    fn best(&self, oracle: &mut Oracle<O>, live: &LiveSet<O::Features>) -> Vec<Handle> {
        let mut best: Option<(f64, Vec<Handle>)> = None;
        for instance in self.instances.values() {
            let members = instance.members(live);
            let value = instance.value(oracle, live, &members);
            if best.as_ref().is_none_or(|(other, _)| value > *other) {
                best = Some((value, members));
            }
        }
        best.map_or_else(Vec::new, |(_, members)| members)
    }

    fn others(&self) -> Vec<Handle> {
        let samples = self.instances.values().flat_map(Instance::samples);
        samples.copied().collect()
    }
}
