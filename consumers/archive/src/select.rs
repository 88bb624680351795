//! Selection of groups of an archive, and of the row groups that need not be read for it.

use std::{collections::BTreeSet, ops::RangeInclusive};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use vintage_control::{INCOMPLETE_AFTER_RECORDS, Incarnation, Partition, PolicyVersion};
use vintage_trajectory::GroupId;

use crate::{
    bounds::{Bounds, hull, overlap},
    head::MessageHead,
};

/// Condition on the groups to take; the default takes all of them. A group is taken if every filter
/// wants it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Takes only groups of these incarnations of the topic.
    pub incarnations: Option<BTreeSet<Incarnation>>,
    /// Takes only groups of these partitions.
    pub partitions: Option<BTreeSet<Partition>>,
    /// Takes only groups whose first record has a Kafka timestamp in this range, in milliseconds
    /// since the epoch.
    pub timestamps_ms: Option<RangeInclusive<i64>>,
    /// Takes only groups whose versions, from the oldest token's to the newest's, meet this range.
    pub versions: Option<RangeInclusive<PolicyVersion>>,
    /// Takes only groups of prompts that one of these patterns matches; empty for all prompts.
    pub prompts: Vec<PromptPattern>,
    /// Takes only groups whose mean reward is in this range.
    pub rewards: Option<RangeInclusive<f64>>,
    /// Takes only a share of the groups.
    pub sample: Option<GroupSample>,
}

/// Share of the groups, drawn by the group's id: the same groups every time, whatever else is
/// selected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSample {
    /// Share of the groups that is taken, from 0 to 1.
    pub share: f64,
    /// Seed of the draw; another seed takes other groups.
    pub seed: u64,
}

/// Filter that refused a group; if several would, the first in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedBy {
    /// Refused by [`Selection::incarnations`].
    Incarnation,
    /// Refused by [`Selection::partitions`].
    Partition,
    /// Refused by [`Selection::timestamps_ms`].
    Time,
    /// Refused by [`Selection::versions`].
    Version,
    /// Refused by [`Selection::prompts`].
    Prompt,
    /// Refused by [`Selection::rewards`].
    Reward,
    /// Refused by [`Selection::sample`].
    Sample,
}

/// Pattern of prompt ids, in which `*` matches any characters and `?` any one character.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PromptPattern(pub String);

impl PromptPattern {
    /// Returns true if the pattern matches the whole of a prompt's id.
    pub fn matches(&self, id: &str) -> bool {
        let (pattern, id): (Vec<_>, Vec<_>) = (self.0.chars().collect(), id.chars().collect());
        let (mut at, mut from) = (0, 0);
        // Position of the last star in the pattern, and the end of the characters it has taken.
        let mut star = None;
        while from < id.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, from));
                    at += 1;
                }
                Some(&expected) if expected == '?' || expected == id[from] => {
                    at += 1;
                    from += 1;
                }
                _ => {
                    let Some((star_at, taken)) = star else {
                        return false;
                    };
                    star = Some((star_at, taken + 1));
                    (at, from) = (star_at + 1, taken + 1);
                }
            }
        }
        pattern[at..].iter().all(|&rest| rest == '*')
    }
}

impl GroupSample {
    /// Returns true if the sample contains the group.
    pub fn takes(&self, group: &GroupId) -> bool {
        let digest = Sha256::new_with_prefix(b"vintage.sample/1")
            .chain_update(self.seed.to_le_bytes())
            .chain_update(group.0)
            .finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        // 53 bits: the precision of an f64.
        let drawn = (u64::from_be_bytes(first) >> 11) as f64 / (1_u64 << 53) as f64;
        drawn < self.share
    }
}

impl Selection {
    /// Returns true if a filter needs the filter values of heads (versions or rewards).
    pub(crate) fn looks_inside(&self) -> bool {
        self.versions.is_some() || self.rewards.is_some()
    }

    pub(crate) fn refuses_place(
        &self,
        incarnation: Incarnation,
        partition: Partition,
    ) -> Option<RefusedBy> {
        if excludes(self.incarnations.as_ref(), &incarnation) {
            return Some(RefusedBy::Incarnation);
        }
        excludes(self.partitions.as_ref(), &partition).then_some(RefusedBy::Partition)
    }

    pub(crate) fn refuses_time(&self, timestamp_ms: Option<i64>) -> bool {
        self.timestamps_ms
            .as_ref()
            .is_some_and(|wanted| !timestamp_ms.is_some_and(|at| wanted.contains(&at)))
    }

    /// Returns the filter that refuses a whole group, given the heads of its parts; `None` if it is
    /// taken.
    pub(crate) fn refuses<'a>(
        &self,
        parts: &(impl Iterator<Item = &'a MessageHead> + Clone),
    ) -> Option<RefusedBy> {
        if self.refuses_time(parts.clone().map(|head| head.timestamp_ms).min().flatten()) {
            return Some(RefusedBy::Time);
        }
        let values = || parts.clone().filter_map(|head| head.filter_values.as_ref());
        if let Some(wanted) = &self.versions {
            let versions = || values().filter_map(|values| values.versions);
            let oldest = versions().map(|(oldest, _)| oldest).min();
            let newest = versions().map(|(_, newest)| newest).max();
            let meets = oldest
                .zip(newest)
                .is_some_and(|found| overlap(wanted, found));
            if !meets {
                return Some(RefusedBy::Version);
            }
        }
        if !self.prompts.is_empty() {
            let first = parts.clone().next();
            let prompt = first.and_then(|head| head.prompt.as_deref()).unwrap_or("");
            if !self.prompts.iter().any(|pattern| pattern.matches(prompt)) {
                return Some(RefusedBy::Prompt);
            }
        }
        if let Some(wanted) = &self.rewards {
            let sum: f64 = values().map(|values| values.reward).sum();
            let rows: usize = parts.clone().map(|head| head.rows).sum();
            if !wanted.contains(&(sum / rows as f64)) {
                return Some(RefusedBy::Reward);
            }
        }
        let sample = self.sample.as_ref()?;
        let group = parts
            .clone()
            .find_map(|head| Some(head.headers.as_ref().ok()?.group));
        (!group.is_some_and(|group| sample.takes(&group))).then_some(RefusedBy::Sample)
    }

    /// Returns, for each row group of a partition, the filter for which it need not be read, or
    /// `None` if it must be.
    ///
    /// The parts of a whole group are at most [`INCOMPLETE_AFTER_RECORDS`] records apart. A row
    /// group is skipped only if the row groups within that distance of it, taken together, cannot
    /// be wanted: then no group with a part in it can be.
    pub(crate) fn prune(&self, groups: &[Bounds]) -> Vec<Option<RefusedBy>> {
        let spread = INCOMPLETE_AFTER_RECORDS as i64;
        let near = |at: usize| {
            let offsets = groups[at].offsets;
            let meets = move |other: &&Bounds| match (offsets, other.offsets) {
                (Some((first, last)), Some((other_first, other_last))) => {
                    other_first <= last.saturating_add(spread)
                        && other_last >= first.saturating_sub(spread)
                }
                _ => true,
            };
            // Bounds ascend: the neighbours are directly before and after it.
            let before = groups[..at].iter().rev().take_while(meets);
            before.chain(groups[at..].iter().take_while(meets))
        };
        let versions = self.versions.as_ref().map(|wanted| {
            let bound = |version: PolicyVersion| i64::try_from(version.0).unwrap_or(i64::MAX);
            bound(*wanted.start())..=bound(*wanted.end())
        });
        let pruned = |at: usize| {
            let none_of = |found: fn(&Bounds) -> Option<(i64, i64)>,
                           wanted: Option<&RangeInclusive<i64>>| {
                let wanted = wanted?;
                let hull = hull(near(at).map(found))?;
                (!overlap(wanted, hull)).then_some(())
            };
            if none_of(|bounds| bounds.timestamps, self.timestamps_ms.as_ref()).is_some() {
                return Some(RefusedBy::Time);
            }
            if none_of(|bounds| bounds.versions, versions.as_ref()).is_some() {
                return Some(RefusedBy::Version);
            }
            let wanted = self.rewards.as_ref()?;
            let hull = hull(near(at).map(|bounds| bounds.rewards))?;
            (!overlap(wanted, hull)).then_some(RefusedBy::Reward)
        };
        (0..groups.len()).map(pruned).collect()
    }
}

fn excludes<T: Ord>(wanted: Option<&BTreeSet<T>>, found: &T) -> bool {
    wanted.is_some_and(|wanted| !wanted.contains(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_a_shell_would() {
        for (pattern, id, expected) in [
            ("gsm8k-7", "gsm8k-7", true),
            ("gsm8k-7", "gsm8k-70", false),
            ("gsm8k-*", "gsm8k-70", true),
            ("*-70", "gsm8k-70", true),
            ("g*8*0", "gsm8k-70", true),
            ("g*8*1", "gsm8k-70", false),
            ("gsm8k-?", "gsm8k-7", true),
            ("gsm8k-?", "gsm8k-70", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("**a", "bca", true),
            ("ü?", "üb", true),
        ] {
            let found = PromptPattern(pattern.to_owned()).matches(id);
            assert_eq!(found, expected, "{pattern} {id}");
        }
    }

    #[test]
    fn a_sample_is_the_same_groups_every_time_and_about_its_share() {
        let group = |number: u32| {
            let mut id = [7; 16];
            id[..4].copy_from_slice(&number.to_le_bytes());
            GroupId(id)
        };
        let sample = |share, seed| GroupSample { share, seed };
        let taken = |sample: GroupSample| -> Vec<u32> {
            (0..10_000)
                .filter(|&number| sample.takes(&group(number)))
                .collect()
        };
        let tenth = taken(sample(0.1, 3));
        assert!((900..1100).contains(&tenth.len()), "{}", tenth.len());
        assert_eq!(tenth, taken(sample(0.1, 3)));
        // A larger share of the same seed holds the smaller one.
        let fifth = taken(sample(0.2, 3));
        assert!(tenth.iter().all(|number| fifth.contains(number)));
        assert_ne!(tenth, taken(sample(0.1, 4)));
        assert_eq!(taken(sample(1.0, 0)).len(), 10_000);
        assert!(taken(sample(0.0, 0)).is_empty());
    }

    fn bounds(first: i64, versions: (i64, i64), rewards: (f64, f64)) -> Bounds {
        Bounds {
            offsets: Some((first, first + 999)),
            timestamps: Some((first, first + 999)),
            versions: Some(versions),
            rewards: Some(rewards),
        }
    }

    #[test]
    fn row_groups_are_passed_over_only_where_their_neighbours_are_unwanted_too() {
        let groups: Vec<_> = (0..10)
            .map(|at| bounds(at * 1000, (at, at), (0.0, 0.0)))
            .collect();
        let versions = Selection {
            versions: Some(PolicyVersion(5)..=PolicyVersion(5)),
            ..Selection::default()
        };
        let read: Vec<_> = (0..10)
            .filter(|&at| versions.prune(&groups)[at].is_none())
            .collect();
        // 1024 records before and after reach into two row groups of 1000 on either side.
        assert_eq!(read, [3, 4, 5, 6, 7]);
        assert_eq!(versions.prune(&groups)[0], Some(RefusedBy::Version));
    }

    #[test]
    fn a_mean_between_two_row_groups_keeps_both() {
        let groups = [
            bounds(0, (0, 0), (0.0, 0.0)),
            bounds(1000, (0, 0), (1.0, 1.0)),
        ];
        let halves = Selection {
            rewards: Some(0.4..=0.6),
            ..Selection::default()
        };
        assert_eq!(halves.prune(&groups), [None, None]);
        let far = [groups[0], bounds(5000, (0, 0), (1.0, 1.0))];
        assert_eq!(halves.prune(&far), [Some(RefusedBy::Reward); 2]);
        let unknown = [Bounds::default()];
        assert_eq!(halves.prune(&unknown), [None]);
    }
}
