//! Greedy choice with lazy evaluation.

use std::{cmp::Reverse, collections::BinaryHeap};

use serde::{Deserialize, Serialize};

use super::Structure;
use crate::{
    live::{Element, Handle, LiveSet},
    objective::Objective,
    oracle::{Oracle, Set},
};

/// Greedy set of the live elements, computed after every so many operations, or when asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LazyGreedy {
    k: usize,
    /// Number of operations between two computations; 0 computes when asked.
    every: u64,
    operations: u64,
    /// Set that was computed last; its members may have been deleted since.
    picked: Vec<Handle>,
}

impl LazyGreedy {
    pub(crate) fn new(every: u64, k: usize) -> Self {
        Self {
            k,
            every,
            operations: 0,
            picked: Vec::new(),
        }
    }

    fn count<O: Objective>(&mut self, oracle: &mut Oracle<O>, live: &LiveSet<O::Features>) {
        if self.every == 0 {
            return;
        }
        self.operations += 1;
        if self.operations.is_multiple_of(self.every) {
            self.picked = greedy(oracle, live, self.k);
        }
    }
}

impl<O: Objective> Structure<O> for LazyGreedy {
    fn insert(&mut self, oracle: &mut Oracle<O>, live: &LiveSet<O::Features>, _: Handle) {
        self.count(oracle, live);
    }

    fn delete(
        &mut self,
        oracle: &mut Oracle<O>,
        live: &LiveSet<O::Features>,
        _: Handle,
        _: &Element<O::Features>,
    ) {
        self.count(oracle, live);
    }

    fn best(&self, oracle: &mut Oracle<O>, live: &LiveSet<O::Features>) -> Vec<Handle> {
        if self.every == 0 {
            return greedy(oracle, live, self.k);
        }
        let picked = self.picked.iter().copied();
        picked
            .filter(|handle| live.get(*handle).is_some())
            .collect()
    }
}

/// Returns the greedy set of the whole live set: always the element of the largest gain, and of
/// equals the one inserted first.
pub(crate) fn greedy<O: Objective>(
    oracle: &mut Oracle<O>,
    live: &LiveSet<O::Features>,
    k: usize,
) -> Vec<Handle> {
    let mut picked = Vec::new();
    extend(oracle, live, &mut picked, k, Set::default(), live.ranked());
    picked
}

/// Fills a set up to `k` elements, greedily, from a pool of others.
pub(crate) fn top_up<O: Objective>(
    oracle: &mut Oracle<O>,
    live: &LiveSet<O::Features>,
    picked: &mut Vec<Handle>,
    k: usize,
    mut pool: Vec<Handle>,
) {
    if picked.len() >= k || pool.is_empty() {
        return;
    }
    let mut taken = picked.clone();
    taken.sort_unstable();
    pool.retain(|handle| live.get(*handle).is_some() && taken.binary_search(handle).is_err());
    let rank = |handle: &Handle| live.get(*handle).map(Bound::alone).map(Reverse);
    pool.sort_by_cached_key(rank);
    pool.dedup();
    let set = oracle.set(live, picked);
    extend(oracle, live, picked, k, set, pool.into_iter());
}

/// Upper bound of an element's gain: by diminishing returns, the gain it had by a smaller set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Bound {
    /// Bits of the gain, which is not negative: their order is that of the gains.
    gain: u64,
    order: Reverse<u64>,
}

impl Bound {
    fn alone<F>(element: &Element<F>) -> Self {
        Self {
            gain: element.single.to_bits(),
            order: Reverse(element.order),
        }
    }
}

/// Adds elements of `ranked`, which come by their value alone, largest first. An element is looked
/// at only when its bound is the largest: most never are.
fn extend<O: Objective>(
    oracle: &mut Oracle<O>,
    live: &LiveSet<O::Features>,
    picked: &mut Vec<Handle>,
    k: usize,
    mut set: Set<O>,
    ranked: impl Iterator<Item = Handle>,
) {
    let ranked = ranked.filter_map(|handle| Some((Bound::alone(live.get(handle)?), handle)));
    let mut ranked = ranked.peekable();
    // Bounds with the size of the set they were taken by: one of this size is the gain itself.
    let mut heap: BinaryHeap<(Bound, usize, Handle)> = BinaryHeap::new();
    while picked.len() < k {
        let top = heap.peek().map(|(bound, ..)| *bound);
        if let Some((bound, handle)) =
            ranked.next_if(|(bound, _)| top.is_none_or(|top| *bound > top))
        {
            heap.push((bound, 0, handle));
        }
        let Some((bound, size, handle)) = heap.pop() else {
            return;
        };
        let Some(element) = live.get(handle) else {
            continue;
        };
        let gain = f64::from_bits(bound.gain);
        if gain <= 0.0 {
            return;
        }
        if size == set.size {
            oracle.add(&mut set, element, gain);
            picked.push(handle);
        } else {
            let gain = oracle.gain(&set, element).to_bits();
            heap.push((Bound { gain, ..bound }, set.size, handle));
        }
    }
}
