//! Number of backward passes that the directions take, and versions that they may be taken under.

use std::collections::BTreeSet;

use crate::choose::{Bounds, Chosen, Sampled, choose};
use vintage_control::PolicyVersion;

/// Number of gradients that each batch takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gradients {
    /// Number of losses, each of which has a gradient on every batch of old rollouts.
    pub losses: usize,
    /// Number of baselines, each of which has a gradient on every fresh batch.
    pub baselines: usize,
    /// Number of fresh batches under each version.
    pub fresh: usize,
    /// Largest number of groups in a batch.
    pub groups_per_batch: usize,
}

impl Gradients {
    /// Returns the number of backward passes over what was chosen. It is an upper bound: losses that give
    /// a batch the same weights share one.
    pub fn passes(&self, chosen: &[Chosen]) -> u64 {
        let old = chosen
            .iter()
            .map(|of| of.groups.len().div_ceil(self.groups_per_batch.max(1)) * self.losses);
        let versions: BTreeSet<_> = chosen.iter().map(|of| of.version).collect();
        (old.sum::<usize>() + versions.len() * self.fresh * self.baselines) as u64
    }

    /// Chooses as [`choose`] does, under as many versions of `bounds` as take at most `most` backward
    /// passes, and at least one. With fewer versions there are as many groups under each.
    pub fn choose_within(
        &self,
        groups: &[Sampled],
        there: &[PolicyVersion],
        bounds: Bounds,
        most: u64,
    ) -> Vec<Chosen> {
        let share = bounds.groups.div_ceil(bounds.versions.max(1));
        let mut versions = bounds.versions.max(1);
        loop {
            let fewer = Bounds {
                versions,
                groups: bounds.groups.min(share * versions),
            };
            let chosen = choose(groups, there, fewer);
            if versions == 1 || self.passes(&chosen) <= most {
                return chosen;
            }
            versions -= 1;
        }
    }
}
