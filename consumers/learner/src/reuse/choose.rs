//! Choice of groups to train again: a function of the window, the rule, the seed and the update.

use std::collections::BTreeMap;

use vintage_control::{ReplayRule, ReusedGroup, Sampler, UpdateNumber};
use vintage_curate::{Candidate, CandidateId, Curator, Kind};
use vintage_trajectory::{GroupId, Rows};

use super::{Kept, ReuseWindow};
use crate::{draw::uniform, host::mean, intake::ReadyGroup};

impl ReuseWindow {
    /// Chooses up to `wanted` groups for `update`, in the order in which they were trained first.
    pub(crate) fn choose(
        &self,
        update: UpdateNumber,
        wanted: usize,
        rule: ReplayRule,
        seed: u64,
    ) -> Vec<(ReusedGroup, ReadyGroup)> {
        let mut places = match rule.sampler {
            Sampler::Curated => self.curated(wanted, seed),
            Sampler::Newest => (0..self.kept.len()).rev().take(wanted).collect(),
            Sampler::Uniform => self.drawn(update, wanted, seed, |_| 1.0),
            Sampler::Spread => self.drawn(update, wanted, seed, |kept| spread(&kept.group)),
            Sampler::Priority => {
                let decay = rule.window as f64 / 2.0;
                self.drawn(update, wanted, seed, |kept| {
                    let age = (update.0 - kept.first_trained.0) as f64;
                    mean_reward(&kept.group).abs() * (-age / decay).exp()
                })
            }
        };
        places.sort_unstable();
        let chosen = places.into_iter().map(|place| &self.kept[place]);
        chosen
            .map(|kept| {
                let reused = ReusedGroup {
                    group: kept.group.planned.clone(),
                    first_trained: kept.first_trained,
                };
                (reused, kept.group.clone())
            })
            .collect()
    }

    /// Returns the places of the set that covers prompts, outcomes and lengths best. A group counts
    /// for less with every use, and not at all where its rewards are all equal, so there may be
    /// fewer than `wanted`.
    fn curated(&self, wanted: usize, seed: u64) -> Vec<usize> {
        let Ok(mut curator) = Curator::new(Kind::default(), wanted, seed) else {
            return Vec::new();
        };
        let mut places = BTreeMap::new();
        for (place, kept) in self.kept.iter().enumerate() {
            // A group whose numbers are not finite was refused by the intake.
            if let Some(candidate) = candidate(kept)
                && curator.insert(&candidate).is_ok()
            {
                places.insert(candidate.id, place);
            }
        }
        let chosen = curator.chosen().into_iter();
        chosen.filter_map(|id| places.get(&id).copied()).collect()
    }

    /// Draws places without replacement, each with a probability in proportion to its weight
    /// (Efraimidis and Spirakis: the largest `ln(u) / w` win). Groups of weight 0 are taken last.
    fn drawn(
        &self,
        update: UpdateNumber,
        wanted: usize,
        seed: u64,
        weight: impl Fn(&Kept) -> f64,
    ) -> Vec<usize> {
        let key = |kept: &Kept| {
            // Unlike its id, the place of a group does not depend on the clock.
            let (first_trained, place) = kept.order();
            let mut group = [0; 16];
            group[..8].copy_from_slice(&first_trained.0.to_le_bytes());
            group[8..].copy_from_slice(&(place as u64).to_le_bytes());
            let drawn = uniform(seed, update, group);
            drawn.ln() / weight(kept).max(f64::MIN_POSITIVE)
        };
        let mut keys: Vec<_> = self.kept.iter().map(key).zip(0..).collect();
        keys.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        keys.into_iter()
            .take(wanted)
            .map(|(_, place)| place)
            .collect()
    }
}

fn candidate(kept: &Kept) -> Option<Candidate> {
    let group = &kept.group;
    let of_rows = |value: fn(&Rows, usize) -> f64| {
        let parts = group.parts.iter();
        mean(parts.flat_map(move |rows| (0..rows.len()).map(move |row| value(rows, row))))
    };
    let first = group.parts.first().filter(|rows| !rows.is_empty())?;
    Some(Candidate {
        id: CandidateId(group.planned.group.parse::<GroupId>().ok()?.0),
        prompt: first.prompt_id(0).to_owned(),
        version: group.max_version(),
        mean_reward: mean_reward(group),
        correct: of_rows(|rows, row| f64::from(rows.reward(row) >= 1.0)),
        mean_length: of_rows(|rows, row| rows.completion_tokens(row).len() as f64),
        spread: spread(group) / f64::from(kept.uses + 1),
        sketch: Vec::new(),
    })
}

fn mean_reward(group: &ReadyGroup) -> f64 {
    mean(rewards(group))
}

/// Returns the mean distance of a group's rewards from their mean.
fn spread(group: &ReadyGroup) -> f64 {
    let middle = mean_reward(group);
    mean(rewards(group).map(|reward| (reward - middle).abs()))
}

fn rewards(group: &ReadyGroup) -> impl Iterator<Item = f64> {
    let parts = group.parts.iter();
    parts.flat_map(|rows| (0..rows.len()).map(|row| f64::from(rows.reward(row))))
}
