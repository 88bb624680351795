//! Choice of what may go: a pure function of what there is and of what was asked.
//!
//! What is needed is decided first and by itself; what the user asked for is taken from the rest.
//! Learners only move forward, so what nobody needs now nobody will need later: a learner that
//! trains meanwhile is safe.

use std::collections::{BTreeMap, BTreeSet};

use vintage_control::{Incarnation, Name, Offset, Partition, PolicyVersion, PrunePolicy};

/// Partition of one incarnation of a topic.
pub type Place = (Incarnation, Partition);

/// Learner with a record or settings in the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnerFacts {
    /// Name of the learner.
    pub name: Name,
    /// Policy that it publishes.
    pub policy: Name,
    /// Number of newest versions that its settings promise to keep.
    pub keep_versions: u64,
    /// Number of updates by which a producer may be behind: the bound on staleness.
    pub reach: u64,
    /// Versions with a checkpoint. `true` if a learner can continue from it: it is whole, and its
    /// version is published.
    pub checkpoints: BTreeMap<PolicyVersion, bool>,
    /// Versions whose checkpoint an earlier prune chose and did not finish deleting.
    pub unfinished: BTreeSet<PolicyVersion>,
    /// Versions whose checkpoint is younger than the age asked for.
    pub young: BTreeSet<PolicyVersion>,
    /// Versions from which the penalty of an update is measured that may be run again or comes next.
    pub anchors: BTreeSet<PolicyVersion>,
    /// First offset of each partition that this learner or an update that may be run again can
    /// still read, up to the version asked about; 0 for a partition that is not listed.
    pub reads_from: BTreeMap<Place, Offset>,
}

/// Policy with weights in the run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyFacts {
    /// Published versions.
    pub versions: BTreeSet<PolicyVersion>,
    /// Published versions that wait for their evaluation.
    pub unevaluated: BTreeSet<PolicyVersion>,
    /// Versions that an earlier prune chose and did not finish deleting, published or not.
    pub unfinished: BTreeSet<PolicyVersion>,
    /// Versions younger than the age asked for.
    pub young: BTreeSet<PolicyVersion>,
    /// Version on which each published one that is stored as a delta depends.
    pub bases: BTreeMap<PolicyVersion, PolicyVersion>,
}

impl PolicyFacts {
    /// Adds to `stays` what its versions are deltas on, directly or not.
    fn with_bases(&self, mut stays: BTreeSet<PolicyVersion>) -> BTreeSet<PolicyVersion> {
        // A base is older than its delta.
        for (version, base) in self.bases.iter().rev() {
            if stays.contains(version) {
                stays.insert(*base);
            }
        }
        stays
    }
}

/// Everything that decides what may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Learners, in any order.
    pub learners: Vec<LearnerFacts>,
    /// Policies by name.
    pub policies: BTreeMap<Name, PolicyFacts>,
    /// Base offsets of the archive's files, ascending.
    pub files: BTreeMap<Place, Vec<Offset>>,
    /// Base offset of the first file of each partition that is younger than the age asked for.
    pub young_from: BTreeMap<Place, Offset>,
    /// Offsets at which an earlier prune chose that the archive begins, where it does not say so
    /// yet.
    pub unmarked: BTreeMap<Place, Offset>,
}

/// Choice of what goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Versions by policy.
    pub versions: BTreeMap<Name, BTreeSet<PolicyVersion>>,
    /// Checkpoints by learner.
    pub checkpoints: BTreeMap<Name, BTreeSet<PolicyVersion>>,
    /// Offset before which the archive of a partition goes; always the base of a file that stays.
    pub archive: BTreeMap<Place, Offset>,
}

/// Returns true if an object that was written at `written_ms` is younger than `age_seconds` at
/// `now_ms`, and therefore stays. Times are in milliseconds since the epoch. One that seems to come
/// from the future, as by a store whose clock is ahead, is young.
pub fn is_young(written_ms: i64, now_ms: i64, age_seconds: Option<u64>) -> bool {
    let Some(age) = age_seconds else {
        return false;
    };
    let age_ms = i64::try_from(age.saturating_mul(1000)).unwrap_or(i64::MAX);
    now_ms.saturating_sub(written_ms) < age_ms
}

/// Chooses what goes.
pub fn choose(facts: &Facts, asked: &PrunePolicy) -> Choice {
    let mut choice = Choice::default();
    for learner in &facts.learners {
        let gone = checkpoints(learner, asked);
        if !gone.is_empty() {
            choice.checkpoints.insert(learner.name.clone(), gone);
        }
    }
    for (policy, of) in &facts.policies {
        let gone = versions(facts, policy, of, &choice.checkpoints, asked);
        if !gone.is_empty() {
            choice.versions.insert(policy.clone(), gone);
        }
    }
    for (place, bases) in &facts.files {
        let unmarked = facts.unmarked.get(place).copied();
        let most = match asked.archive_before {
            Some(_) => {
                let young = facts.young_from.get(place).copied();
                let old = young.unwrap_or(Offset(i64::MAX));
                // What an earlier prune recorded goes, however young it is.
                Some(unmarked.map_or(old, |recorded| recorded.max(old)))
            }
            None => unmarked,
        };
        if let Some(next) = most.and_then(|most| archive(facts, *place, bases, most)) {
            choice.archive.insert(*place, next);
        }
    }
    choice
}

/// Returns the checkpoints of a learner that go: those older than the newest ones that it can
/// continue from.
fn checkpoints(learner: &LearnerFacts, asked: &PrunePolicy) -> BTreeSet<PolicyVersion> {
    let usable = learner
        .checkpoints
        .iter()
        .rev()
        .filter(|(_, usable)| **usable);
    let usable: Vec<_> = usable.map(|(version, _)| *version).collect();
    let Some(newest) = usable.first() else {
        return BTreeSet::new();
    };
    let unfinished = learner.unfinished.range(..*newest).copied();
    let keep = asked
        .keep_checkpoints
        .map(|keep| usize::try_from(keep.max(1)));
    let oldest_kept = keep.and_then(|keep| usable.get(keep.unwrap_or(usize::MAX) - 1));
    let older = oldest_kept.map(|oldest| learner.checkpoints.range(..*oldest));
    let older = older.into_iter().flatten().map(|(version, _)| *version);
    let older = older.filter(|version| !learner.young.contains(version));
    older.chain(unfinished).collect()
}

/// Returns the versions of a policy that go.
fn versions(
    facts: &Facts,
    policy: &Name,
    of: &PolicyFacts,
    gone: &BTreeMap<Name, BTreeSet<PolicyVersion>>,
    asked: &PrunePolicy,
) -> BTreeSet<PolicyVersion> {
    let Some(newest) = of.versions.last() else {
        return BTreeSet::new();
    };
    let learners = || facts.learners.iter().filter(|by| by.policy == *policy);
    // Without a checkpoint a learner begins at version 0 again, and compares every version.
    let floor = learners().map(|learner| {
        let usable = learner
            .checkpoints
            .iter()
            .rev()
            .find(|(_, usable)| **usable);
        usable.map_or(PolicyVersion::ZERO, |(version, _)| *version)
    });
    let Some(floor) = floor.min() else {
        return BTreeSet::new(); // Nobody knows whose versions these are.
    };
    let behind =
        learners().map(|learner| learner.keep_versions.max(learner.reach.saturating_add(1)));
    let needed = behind.fold(1, u64::max);
    let is_older = |version: &PolicyVersion, keep| version.0.saturating_add(keep) <= newest.0;
    let is_base = |version: &PolicyVersion| {
        learners().any(|learner| {
            let goes = gone
                .get(&learner.name)
                .is_some_and(|gone| gone.contains(version));
            learner.checkpoints.contains_key(version) && !goes
        })
    };
    let is_asked_for = |version: &PolicyVersion| {
        let every = asked.keep_every.filter(|every| *every > 0);
        let stays = every.is_some_and(|every| version.0.is_multiple_of(every));
        !stays
            && !of.young.contains(version)
            && asked
                .keep_versions
                .is_some_and(|keep| is_older(version, keep.max(1)))
    };
    let is_needed = |version: &PolicyVersion| {
        *version == PolicyVersion::ZERO
            || *version >= floor
            || !is_older(version, needed)
            || of.unevaluated.contains(version)
            || is_base(version)
            || learners().any(|learner| learner.anchors.contains(version))
    };
    let old = of.versions.iter().filter(|version| is_asked_for(version));
    let old = old
        .chain(&of.unfinished)
        .filter(|version| !is_needed(version));
    let mut gone: BTreeSet<_> = old.copied().collect();
    let stays = of.with_bases(of.versions.difference(&gone).copied().collect());
    gone.retain(|version| !stays.contains(version));
    gone
}

/// Returns the offset, at most `most`, before which the archive of a partition goes; `None` if
/// nothing of it does. The last file stays, because a sink continues after it.
fn archive(facts: &Facts, place: Place, bases: &[Offset], most: Offset) -> Option<Offset> {
    let reads = facts.learners.iter();
    let reads = reads.map(|learner| learner.reads_from.get(&place).copied().unwrap_or_default());
    let from = reads.min()?.min(most);
    let stays = bases.partition_point(|base| *base <= from).checked_sub(1)?;
    (stays > 0).then(|| bases[stays])
}

#[cfg(test)]
mod tests;
