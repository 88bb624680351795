//! Property tests of the choice: whatever a run looks like, what is needed stays.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection, option, prelude::*};
use vintage_control::{Incarnation, Name, Offset, Partition, PolicyVersion, PrunePolicy};

use super::{Choice, Facts, LearnerFacts, Place, PolicyFacts, choose, is_young};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

const PLACES: [Place; 2] = [
    (Incarnation(0), Partition(0)),
    (Incarnation(1), Partition(0)),
];

fn learner(number: usize) -> impl Strategy<Value = LearnerFacts> {
    let checkpoints = collection::btree_map(0..300_u64, any::<bool>(), 0..6);
    let reads = collection::vec(option::of(0..100_i64), PLACES.len());
    let unfinished = collection::btree_set(0..300_u64, 0..4);
    let anchors = collection::btree_set(0..300_u64, 0..4);
    let young = collection::btree_set(0..300_u64, 0..40);
    // Learner 2 publishes the policy of learner 1, as after a change of name.
    let policy = format!("policy-{}", number.min(1));
    (
        1..20_u64,
        0..40_u64,
        checkpoints,
        reads,
        unfinished,
        anchors,
        young,
    )
        .prop_map(
            move |(keep_versions, reach, checkpoints, reads, unfinished, anchors, young)| {
                LearnerFacts {
                    young: young.into_iter().map(PolicyVersion).collect(),
                    anchors: anchors.into_iter().map(PolicyVersion).collect(),
                    name: name(&format!("learner-{number}")),
                    policy: name(&policy),
                    keep_versions,
                    reach,
                    unfinished: unfinished.into_iter().map(PolicyVersion).collect(),
                    checkpoints: checkpoints
                        .into_iter()
                        .map(|(version, usable)| (PolicyVersion(version), usable))
                        .collect(),
                    reads_from: PLACES
                        .into_iter()
                        .zip(reads)
                        .filter_map(|(place, from)| Some((place, Offset(from?))))
                        .collect(),
                }
            },
        )
}

fn policy() -> impl Strategy<Value = PolicyFacts> {
    let set = |most| collection::btree_set(0..320_u64, 0..most);
    let deltas = collection::vec(any::<bool>(), 60);
    let sets = (set(60), set(20), set(20), deltas, set(60));
    sets.prop_map(
        |(versions, unevaluated, unfinished, deltas, young)| PolicyFacts {
            young: young.into_iter().map(PolicyVersion).collect(),
            // Some versions are deltas on the one before.
            bases: versions
                .iter()
                .skip(1)
                .zip(&versions)
                .zip(deltas)
                .filter(|(_, is_delta)| *is_delta)
                .map(|((version, base), _)| (PolicyVersion(*version), PolicyVersion(*base)))
                .collect(),
            unfinished: unfinished.into_iter().map(PolicyVersion).collect(),
            unevaluated: unevaluated
                .intersection(&versions)
                .copied()
                .map(PolicyVersion)
                .collect(),
            versions: versions.into_iter().map(PolicyVersion).collect(),
        },
    )
}

fn facts() -> impl Strategy<Value = Facts> {
    let learners = (learner(0), learner(1), learner(2), 0..=3_usize);
    let policies = collection::vec(policy(), 3);
    let files = collection::vec(collection::btree_set(0..100_i64, 0..12), PLACES.len());
    let offsets = || option::of(0..100_i64);
    let parts = (learners, policies, files, offsets(), offsets());
    parts.prop_map(|((a, b, c, count), policies, files, next, young)| {
        let mut learners = vec![a, b, c];
        learners.truncate(count);
        let mut facts = Facts {
            learners,
            policies: (0..).zip(policies).map(named).collect(),
            files: PLACES
                .into_iter()
                .zip(files)
                .map(|(place, bases)| (place, bases.into_iter().map(Offset).collect()))
                .collect(),
            young_from: young
                .map(|young| (PLACES[0], Offset(young)))
                .into_iter()
                .collect(),
            unmarked: next
                .map(|next| (PLACES[0], Offset(next)))
                .into_iter()
                .collect(),
        };
        // A checkpoint can be used only if its version is published.
        for learner in &mut facts.learners {
            let versions = &mut facts.policies.get_mut(&learner.policy).unwrap().versions;
            let usable = learner.checkpoints.iter().filter(|(_, usable)| **usable);
            versions.extend(usable.map(|(version, _)| *version));
        }
        facts
    })
}

fn named((number, policy): (usize, PolicyFacts)) -> (Name, PolicyFacts) {
    (name(&format!("policy-{number}")), policy)
}

fn asked() -> impl Strategy<Value = PrunePolicy> {
    let number = || option::of(0..30_u64);
    (number(), number(), number(), number()).prop_map(|(versions, every, checkpoints, before)| {
        PrunePolicy {
            keep_versions: versions,
            keep_every: every,
            keep_checkpoints: checkpoints,
            archive_before: before.map(PolicyVersion),
            journals: false,
            older_than_seconds: None,
        }
    })
}

/// Applies a choice, as deleting does.
fn after(facts: &Facts, choice: &Choice) -> Facts {
    let mut left = facts.clone();
    for learner in &mut left.learners {
        for version in choice.checkpoints.get(&learner.name).into_iter().flatten() {
            learner.checkpoints.remove(version);
            learner.unfinished.remove(version);
        }
    }
    for (policy, gone) in &choice.versions {
        let of = left.policies.get_mut(policy).unwrap();
        of.versions.retain(|version| !gone.contains(version));
        of.unfinished.retain(|version| !gone.contains(version));
    }
    for (place, next) in &choice.archive {
        left.files
            .get_mut(place)
            .unwrap()
            .retain(|base| base >= next);
    }
    left
}

fn newest_usable(learner: &LearnerFacts) -> Option<PolicyVersion> {
    let usable = learner
        .checkpoints
        .iter()
        .rev()
        .find(|(_, usable)| **usable);
    usable.map(|(version, _)| *version)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// A learner that starts again finds its checkpoint, the weights of that and of everything
    /// after it; producers find what they may be asked to load; version 0 stays.
    #[test]
    fn what_a_learner_or_a_producer_needs_stays(facts in facts(), asked in asked()) {
        let left = after(&facts, &choose(&facts, &asked));
        for (policy, of) in &facts.policies {
            let kept = &left.policies[policy].versions;
            let stays = |version: &PolicyVersion| kept.contains(version);
            let newest = of.versions.last().copied().unwrap_or_default();
            prop_assert!(of.versions.range(..=PolicyVersion::ZERO).all(stays));
            prop_assert!(of.unevaluated.iter().all(stays), "an evaluation waits for it");
            prop_assert!(of.versions.last().is_none_or(stays));
            let deltas = of.bases.iter().filter(|(version, _)| kept.contains(version));
            prop_assert!(deltas.into_iter().all(|(_, base)| stays(base)), "what a delta is on");
            let learners = facts.learners.iter().filter(|by| by.policy == *policy);
            let mut owned = false;
            for learner in learners {
                owned = true;
                let again = newest_usable(learner).unwrap_or_default();
                prop_assert!(of.versions.range(again..).all(stays), "from its checkpoint on");
                let oldest = newest.0.saturating_sub(learner.reach.max(learner.keep_versions - 1));
                let reached = of.versions.range(PolicyVersion(oldest)..);
                prop_assert!(reached.into_iter().all(stays), "within its reach");
                let anchors = of.versions.intersection(&learner.anchors);
                prop_assert!(anchors.into_iter().all(stays), "a penalty is measured from it");
            }
            prop_assert!(owned || kept == &of.versions, "nobody is known to publish it");
        }
        for (before, now) in facts.learners.iter().zip(&left.learners) {
            prop_assert_eq!(newest_usable(before), newest_usable(now));
            let versions = &left.policies[&now.policy].versions;
            for (version, usable) in &now.checkpoints {
                prop_assert!(!usable || versions.contains(version), "its weights stay with it");
            }
        }
    }

    /// Checks that the last file of every partition stays, and every record from the first that
    /// anybody reads.
    #[test]
    fn what_anybody_reads_of_the_archive_stays(facts in facts(), asked in asked()) {
        let choice = choose(&facts, &asked);
        for (place, next) in &choice.archive {
            let recorded = facts.unmarked.get(place).is_some_and(|most| next <= most);
            prop_assert!(asked.archive_before.is_some() || recorded);
        }
        for (place, next) in &choice.archive {
            let bases = &facts.files[place];
            prop_assert!(bases.contains(next) && bases.first() < Some(next));
            prop_assert!(!facts.learners.is_empty());
            for learner in &facts.learners {
                let from = learner.reads_from.get(place).copied().unwrap_or_default();
                prop_assert!(*next <= from, "{} reads from {from}", learner.name);
            }
        }
    }

    /// Checks that what was not asked for stays, and that a second prune finds nothing more.
    #[test]
    fn only_what_was_asked_for_goes_and_once(facts in facts(), asked in asked()) {
        let choice = choose(&facts, &asked);
        for (learner, gone) in &choice.checkpoints {
            let learner = facts.learners.iter().find(|by| by.name == *learner).unwrap();
            let recorded = gone.is_subset(&learner.unfinished);
            prop_assert!(asked.keep_checkpoints.is_some() || recorded);
        }
        for (policy, gone) in &choice.versions {
            let newest = facts.policies[policy].versions.last().unwrap().0;
            for version in gone.difference(&facts.policies[policy].unfinished) {
                prop_assert!(asked.keep_versions.is_some());
                prop_assert!(version.0 + asked.keep_versions.unwrap() <= newest);
                if let Some(every) = asked.keep_every.filter(|every| *every > 0) {
                    prop_assert!(!version.0.is_multiple_of(every));
                }
            }
        }
        prop_assert_eq!(choose(&after(&facts, &choice), &asked), Choice::default());
    }
}

proptest! {
    /// Checks that what is younger than asked for stays, unless an earlier prune recorded it, and that
    /// an age only ever makes less of it go.
    #[test]
    fn what_is_young_stays(facts in facts(), asked in asked()) {
        let choice = choose(&facts, &asked);
        let mut ageless = facts.clone();
        ageless.young_from.clear();
        for learner in &mut ageless.learners {
            learner.young.clear();
        }
        for of in ageless.policies.values_mut() {
            of.young.clear();
        }
        let all = choose(&ageless, &asked);
        for learner in &facts.learners {
            let Some(gone) = choice.checkpoints.get(&learner.name) else { continue };
            let recorded = &learner.unfinished;
            prop_assert!(gone.iter().all(|at| !learner.young.contains(at) || recorded.contains(at)));
            prop_assert!(gone.is_subset(&all.checkpoints[&learner.name]));
        }
        for (policy, gone) in &choice.versions {
            let of = &facts.policies[policy];
            let recorded = &of.unfinished;
            prop_assert!(gone.iter().all(|at| !of.young.contains(at) || recorded.contains(at)));
            prop_assert!(gone.is_subset(&all.versions[policy]));
        }
        for (place, next) in &choice.archive {
            let young = facts.young_from.get(place).copied().unwrap_or(Offset(i64::MAX));
            let recorded = facts.unmarked.get(place).copied();
            prop_assert!(*next <= young || Some(*next) <= recorded);
            prop_assert!(next <= &all.archive[place]);
        }
    }

    #[test]
    fn an_object_is_young_up_to_its_age(written in -1_000_000..1_000_000_i64, age in 0..1000_u64) {
        let ms = age as i64 * 1000;
        prop_assert!(!is_young(written, written + ms, Some(age)));
        prop_assert!(is_young(written, written + ms - 1, Some(age)));
        prop_assert!(!is_young(written, written - 1, None), "no age was asked for");
    }
}

/// A run of 100 updates with a checkpoint every 25, as a learner leaves it.
fn usual() -> Facts {
    let versions = |of: &[u64]| -> BTreeSet<_> { of.iter().copied().map(PolicyVersion).collect() };
    let checkpoints = [50, 75, 100].map(|version| (PolicyVersion(version), true));
    Facts {
        learners: vec![LearnerFacts {
            name: name("lead"),
            policy: name("lead"),
            keep_versions: 4,
            reach: 16,
            unfinished: BTreeSet::new(),
            young: BTreeSet::new(),
            anchors: BTreeSet::new(),
            checkpoints: checkpoints.into(),
            reads_from: PLACES.map(|place| (place, Offset(40))).into(),
        }],
        policies: BTreeMap::from([(
            name("lead"),
            PolicyFacts {
                versions: versions(&[0, 25, 50, 75, 85, 90, 97, 98, 99, 100]),
                unevaluated: BTreeSet::new(),
                unfinished: BTreeSet::new(),
                young: BTreeSet::new(),
                bases: BTreeMap::new(),
            },
        )]),
        unmarked: BTreeMap::new(),
        young_from: BTreeMap::new(),
        files: PLACES
            .map(|place| (place, vec![Offset(0), Offset(20), Offset(40), Offset(60)]))
            .into(),
    }
}

#[test]
fn a_usual_run_keeps_its_last_checkpoint_and_what_producers_reach() {
    let asked = PrunePolicy {
        keep_versions: Some(1),
        keep_checkpoints: Some(1),
        archive_before: Some(PolicyVersion(100)),
        ..PrunePolicy::default()
    };
    let choice = choose(&usual(), &asked);
    let numbers = |of: &BTreeMap<Name, BTreeSet<PolicyVersion>>| -> Vec<u64> {
        of[&name("lead")].iter().map(|version| version.0).collect()
    };
    assert_eq!(numbers(&choice.checkpoints), [50, 75]);
    // 85 is 15 updates old, and a producer may still be asked for what is 16 old.
    assert_eq!(numbers(&choice.versions), [25, 50, 75]);
    assert_eq!(
        choice.archive,
        PLACES.map(|place| (place, Offset(40))).into()
    );

    let spared = PrunePolicy {
        keep_every: Some(50),
        ..asked
    };
    assert_eq!(numbers(&choose(&usual(), &spared).versions), [25, 75]);
}
