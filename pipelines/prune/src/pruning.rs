//! Size of a prune, in objects and bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use vintage_control::{Name, PolicyVersion, PrunePolicy, PruneRecord, PrunedFiles, PrunedNumbers};

use crate::{
    Run,
    choose::{Choice, Facts, Place},
    facts::{Size, Sizes},
};

/// Objects that go, by class. Objects that an earlier prune recorded and did not delete are among it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pruning {
    /// Policy by which was chosen.
    pub asked: PrunePolicy,
    /// Weights by policy.
    pub versions: BTreeMap<Name, PrunedNumbers>,
    /// Checkpoints by learner.
    pub checkpoints: BTreeMap<Name, PrunedNumbers>,
    /// First part of the archive, by partition.
    pub archive: Vec<PrunedFiles>,
    /// Journals by producer.
    pub journals: BTreeMap<String, u64>,
    /// Number of objects over all classes.
    pub objects: u64,
    /// Size of the objects in bytes.
    pub bytes: u64,
    /// Classes that were asked for and of which nothing goes, with the reason.
    pub notes: Vec<String>,
    /// Record of the part that no earlier prune recorded.
    #[serde(skip)]
    pub(crate) fresh: PruneRecord,
    #[serde(skip)]
    pub(crate) choice: Choice,
    /// Records of earlier prunes that name the archive's parts, by partition.
    #[serde(skip)]
    pub(crate) recorded_by: BTreeMap<Place, String>,
}

impl Pruning {
    /// Returns true if nothing goes.
    pub fn is_empty(&self) -> bool {
        self.objects == 0
    }

    pub(crate) fn of(
        run: &Run<'_>,
        asked: &PrunePolicy,
        choice: Choice,
        facts: &Facts,
        sizes: &Sizes,
        earlier: &[(String, PruneRecord)],
    ) -> Self {
        let known = |of: fn(&PruneRecord) -> &BTreeMap<Name, PrunedNumbers>, name: &Name| {
            let said = earlier
                .iter()
                .filter_map(|(_, record)| of(record).get(name));
            let said = said.flat_map(|numbers| numbers.versions.iter().copied());
            said.collect::<BTreeSet<_>>()
        };
        let mut fresh = PruneRecord::new(asked.clone());
        let mut versions = BTreeMap::new();
        for (policy, gone) in &choice.versions {
            let sizes = &sizes.versions[policy];
            versions.insert(policy.clone(), numbers(gone.iter(), sizes));
            let known = known(|record| &record.versions, policy);
            insert(&mut fresh.versions, policy, gone.difference(&known), sizes);
        }
        let mut checkpoints = BTreeMap::new();
        for (learner, gone) in &choice.checkpoints {
            let sizes = &sizes.checkpoints[learner];
            checkpoints.insert(learner.clone(), numbers(gone.iter(), sizes));
            let known = known(|record| &record.checkpoints, learner);
            insert(
                &mut fresh.checkpoints,
                learner,
                gone.difference(&known),
                sizes,
            );
        }
        let (mut archive, mut recorded_by) = (Vec::new(), BTreeMap::new());
        for (&(incarnation, partition), stored) in &sizes.files {
            let place = (incarnation, partition);
            let held = facts
                .files
                .get(&place)
                .and_then(|bases| bases.first())
                .copied();
            let chosen = choice.archive.get(&place).copied();
            // Without a new choice, files before the first one held are left of an earlier prune.
            let Some(next) = chosen.or(held) else {
                continue;
            };
            let gone: Vec<_> = stored.iter().filter(|file| file.base < next).collect();
            if gone.is_empty() {
                continue;
            }
            let files = PrunedFiles {
                topic: run.reader.topic().to_owned(),
                incarnation,
                partition,
                next,
                objects: gone.len() as u64,
                bytes: gone.iter().map(|file| file.bytes).sum(),
            };
            let mut said = earlier.iter();
            let said = said.find(|(_, record)| {
                record.archive.iter().any(|of| {
                    let there = (&of.topic, of.incarnation, of.partition);
                    there == (&files.topic, incarnation, partition) && of.next >= next
                })
            });
            match said {
                Some((path, _)) => drop(recorded_by.insert(place, path.clone())),
                None if chosen.is_some() => fresh.archive.push(files.clone()),
                None => {}
            }
            archive.push(files);
        }
        let mut journals = BTreeMap::new();
        for journal in run.journals {
            journals.insert(journal.producer.clone(), journal.bytes);
            let said = earlier.iter().any(|(_, record)| {
                let runs = record.journals.get(&journal.producer);
                runs.is_some_and(|runs| journal.numbers.runs().eq(runs.iter().copied()))
            });
            if !said {
                let runs = journal.numbers.runs().collect();
                fresh.journals.insert(journal.producer.clone(), runs);
            }
        }
        let of_numbers = versions.values().chain(checkpoints.values());
        let of_numbers = of_numbers.map(|of: &PrunedNumbers| (of.objects, of.bytes));
        let of_files = archive.iter().map(|of| (of.objects, of.bytes));
        let of_journals = journals.values().map(|bytes| (1, *bytes));
        let all = of_numbers.chain(of_files).chain(of_journals);
        let (objects, bytes) = all.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        let mut pruning = Self {
            asked: asked.clone(),
            versions,
            checkpoints,
            archive,
            journals,
            objects,
            bytes,
            notes: Vec::new(),
            fresh,
            choice,
            recorded_by,
        };
        pruning.note(run, facts);
        pruning
    }

    /// Adds a note for each class that was asked for and of which nothing goes.
    fn note(&mut self, run: &Run<'_>, facts: &Facts) {
        for learner in &facts.learners {
            if !learner.checkpoints.values().any(|usable| *usable) {
                self.notes.push(format!(
                    "learner {} has no checkpoint to continue from: the weights of {} and what it \
                     may read of the archive stay",
                    learner.name, learner.policy
                ));
            }
        }
        let mut none = |asked: bool, is_empty: bool, what: &str| {
            if asked && is_empty {
                self.notes.push(format!(
                    "no {what} may go: all are needed, kept or gone already"
                ));
            }
        };
        none(
            self.asked.keep_versions.is_some(),
            self.versions.is_empty(),
            "version",
        );
        none(
            self.asked.keep_checkpoints.is_some(),
            self.checkpoints.is_empty(),
            "checkpoint",
        );
        none(
            self.asked.archive_before.is_some(),
            self.archive.is_empty(),
            "archive file",
        );
        if self.asked.journals && run.journals.is_empty() {
            let why = "no journal may go: there is none here, or a process works in the folder";
            self.notes.push(why.to_owned());
        }
    }
}

fn insert<'a>(
    into: &mut BTreeMap<Name, PrunedNumbers>,
    name: &Name,
    gone: impl Iterator<Item = &'a PolicyVersion>,
    sizes: &BTreeMap<PolicyVersion, Size>,
) {
    let numbers = numbers(gone, sizes);
    if !numbers.versions.is_empty() {
        into.insert(name.clone(), numbers);
    }
}

fn numbers<'a>(
    gone: impl Iterator<Item = &'a PolicyVersion>,
    sizes: &BTreeMap<PolicyVersion, Size>,
) -> PrunedNumbers {
    let mut numbers = PrunedNumbers::default();
    for version in gone {
        let size = sizes.get(version).copied().unwrap_or_default();
        numbers.versions.push(*version);
        numbers.objects += size.objects;
        numbers.bytes += size.bytes;
    }
    numbers
}
