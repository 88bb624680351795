//! Choice of the groups to recompute, and of the versions under which they are.

use std::collections::{BTreeMap, BTreeSet};

use vintage_control::PolicyVersion;

/// Group of an archive, by the versions that sampled its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    /// Id of the group. Ids are digests, so the least of them are a random sample.
    pub id: String,
    /// Oldest version of any token, from which the group's staleness is counted, as the gate does.
    pub oldest: PolicyVersion,
    /// Newest version of any token. No earlier version could have trained on the group.
    pub newest: PolicyVersion,
}

/// Limits on what is recomputed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Largest number of groups at each age.
    pub groups: usize,
    /// Number of versions under which groups of one age are recomputed, if there are as many.
    pub versions: usize,
}

/// Groups of one age that are to be recomputed under one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Age that is meant, in updates: 0 or a power of two.
    pub age: u64,
    /// Version under which the groups are recomputed.
    pub version: PolicyVersion,
    /// Groups as indices, those nearest to the age first.
    pub groups: Vec<usize>,
}

/// Returns the largest difference of a group's staleness from the age that it stands for: none below
/// 8, an eighth from there on. Neighbouring ages never share a group.
pub fn tolerance(age: u64) -> u64 {
    age / 8
}

/// Chooses groups at the ages 0, 1, 2, 4, 8 and so on, as far as a version that is `there` has groups
/// of that age. The result is by version, then age.
///
/// Versions are taken one by one: first those that have groups of most ages that still lack
/// versions, so that ages are compared under the same versions and few are fetched; of equals the one
/// farthest from those taken; then the newest. The result does not depend on the order of the groups.
pub fn choose(groups: &[Sampled], there: &[PolicyVersion], bounds: Bounds) -> Vec<Chosen> {
    let by_version = Index::of(groups);
    let there: BTreeSet<_> = there.iter().copied().collect();
    let versions = bounds.versions.clamp(1, there.len().max(1));
    let share = bounds.groups.div_ceil(versions).max(1);
    // Ages of which a version has groups, and whether it has at least half of its share.
    let mut reach: BTreeMap<PolicyVersion, BTreeMap<u64, bool>> = BTreeMap::new();
    for &version in &there {
        for age in ages(version) {
            let count = by_version.at(version, age).take(share).count();
            if count > 0 {
                let ages = reach.entry(version).or_default();
                ages.insert(age, 2 * count >= share);
            }
        }
    }
    let mut taken: Vec<PolicyVersion> = Vec::new();
    let mut seen: BTreeMap<(u64, bool), usize> = BTreeMap::new();
    loop {
        let lacks = |age: u64, well: bool| seen.get(&(age, well)).is_none_or(|&n| n < versions);
        let gain = |ages: &BTreeMap<u64, bool>| {
            let well = ages
                .iter()
                .filter(|(age, well)| **well && lacks(**age, true));
            let any = ages.keys().filter(|age| lacks(**age, false));
            (well.count(), any.count())
        };
        let rest = reach.iter().filter(|(version, _)| !taken.contains(version));
        let next = rest
            .map(|(version, ages)| {
                let away = taken.iter().map(|other| version.0.abs_diff(other.0)).min();
                (gain(ages), away, *version)
            })
            .max();
        let Some(((well, any), _, version)) = next else {
            break;
        };
        if well + any == 0 {
            break;
        }
        for (&age, &well) in &reach[&version] {
            *seen.entry((age, false)).or_default() += 1;
            if well {
                *seen.entry((age, true)).or_default() += 1;
            }
        }
        taken.push(version);
    }
    let mut left: BTreeMap<u64, usize> = BTreeMap::new();
    let mut chosen = Vec::new();
    for version in taken {
        for &age in reach[&version].keys() {
            let left = left.entry(age).or_insert(bounds.groups);
            let mut near: Vec<_> = by_version.at(version, age).collect();
            near.sort_by_key(|&at| {
                let group = &groups[at];
                let staleness = version.staleness_of(group.oldest).0;
                (staleness.abs_diff(age), &group.id)
            });
            near.truncate(share.min(*left));
            *left -= near.len();
            if !near.is_empty() {
                chosen.push(Chosen {
                    age,
                    version,
                    groups: near,
                });
            }
        }
    }
    chosen.sort_by_key(|chosen| (chosen.version, chosen.age));
    chosen
}

/// Returns the ages at which a version may have groups.
fn ages(version: PolicyVersion) -> impl Iterator<Item = u64> {
    let powers = (0..u64::BITS).map(|bit| 1 << bit);
    let oldest = version.0;
    std::iter::once(0).chain(powers.take_while(move |age| age - tolerance(*age) <= oldest))
}

/// Groups by their oldest version.
struct Index<'a> {
    groups: &'a [Sampled],
    by_oldest: BTreeMap<PolicyVersion, Vec<usize>>,
}

impl<'a> Index<'a> {
    fn of(groups: &'a [Sampled]) -> Self {
        let mut by_oldest: BTreeMap<PolicyVersion, Vec<usize>> = BTreeMap::new();
        for (at, group) in groups.iter().enumerate() {
            by_oldest.entry(group.oldest).or_default().push(at);
        }
        Self { groups, by_oldest }
    }

    /// Returns the groups that stand for `age` under `version`.
    fn at(&self, version: PolicyVersion, age: u64) -> impl Iterator<Item = usize> {
        let near = tolerance(age);
        let newest = version.0.checked_sub(age - near);
        let range = newest.map(|newest| {
            let oldest = version.0.saturating_sub(age + near);
            self.by_oldest
                .range(PolicyVersion(oldest)..=PolicyVersion(newest))
        });
        let groups = range.into_iter().flatten().flat_map(|(_, groups)| groups);
        groups
            .copied()
            .filter(move |&at| self.groups[at].newest <= version)
    }
}
