//! Baselines that never ask the objective.

use serde::{Deserialize, Serialize};

use super::Structure;
use crate::{
    candidate::hash,
    draw::Draw,
    live::{Handle, LiveSet},
    objective::Objective,
    oracle::Oracle,
};

/// Uniform sample of the live set. What is drawn depends on the seed and on the live set, so that a
/// curator that was rebuilt draws the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Uniform {
    k: usize,
    seed: u64,
}

impl Uniform {
    pub(crate) fn new(k: usize, seed: u64) -> Self {
        Self { k, seed }
    }
}

impl<O: Objective> Structure<O> for Uniform {
    fn best(&self, _: &mut Oracle<O>, live: &LiveSet<O::Features>) -> Vec<Handle> {
        let mut all: Vec<_> = live.since(0).collect();
        let ids = |handle: Option<&Handle>| {
            let element = handle.and_then(|handle| live.get(*handle));
            element.map_or(0, |element| hash(&element.id.0))
        };
        // A live set that only grows at its end and shrinks at its front has a name in these three.
        let place = [ids(all.first()), ids(all.last()), all.len() as u64];
        Draw::new(self.seed, place).shuffle_front(&mut all, self.k);
        all.truncate(self.k);
        all
    }
}

/// Elements inserted last, the last one first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Newest {
    k: usize,
}

impl Newest {
    pub(crate) fn new(k: usize) -> Self {
        Self { k }
    }
}

impl<O: Objective> Structure<O> for Newest {
    fn best(&self, _: &mut Oracle<O>, live: &LiveSet<O::Features>) -> Vec<Handle> {
        live.since(0).rev().take(self.k).collect()
    }
}
