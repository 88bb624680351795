//! Control records of learners: listed early, read later, added to the ledger in order.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use vintage_control::{
    CheckpointManifest, Deviation, LearnerStart, Name, Plan, PolicyVersion, UpdateNumber,
    UpdateResult,
};
use vintage_store::{Store, Weights};

use crate::{error::Result, findings::Findings, ledger::Ledger};

/// Records that a learner had left when the audit listed them.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) name: Name,
    pub(super) plans: BTreeSet<u64>,
    results: BTreeSet<u64>,
    checkpoints: BTreeSet<u64>,
}

/// Records that all learners had left when the audit listed them.
#[derive(Debug)]
pub(super) struct Listings {
    pub(super) learners: Vec<Listing>,
    /// Every learner with a record, including those that are not audited.
    pub(super) everybody: Vec<Name>,
    /// Versions after 0 with weights or an evaluation: policy, update that made it, path of the
    /// record.
    made: Vec<(Name, UpdateNumber, String)>,
}

impl Listings {
    /// Lists the records of every learner, or of one. Plans are listed last, so that a listed
    /// record that follows from a plan has its plan listed too.
    pub(super) async fn read(store: &Store, only: Option<&Name>) -> Result<Self> {
        let weights = store.list("weights").await?;
        let evaluations = store.list("evaluations").await?;
        let checkpoints = store.list("checkpoints").await?;
        let results = store.list("results").await?;
        let plans = store.list("plans").await?;
        let of = |paths: &[String], kind: &str, end: &str| -> Vec<(Name, u64)> {
            let paths = paths.iter();
            paths.filter_map(|path| parse(path, kind, end)).collect()
        };
        let made = |paths: &[String], kind: &str, end: &str| -> Vec<(Name, UpdateNumber, String)> {
            let made = paths.iter().filter_map(|path| {
                let (policy, version) = parse(path, kind, end)?;
                let update = UpdateNumber::that_made(PolicyVersion(version))?;
                Some((policy, update, path.clone()))
            });
            made.collect()
        };
        let published = made(&weights, "weights/", "/manifest.json");
        let evaluated = made(&evaluations, "evaluations/", ".json");
        let checkpoints = of(&checkpoints, "checkpoints/", "/manifest.json");
        let results = of(&results, "results/", ".json");
        let plans = of(&plans, "plans/", ".json");
        let everybody = [&checkpoints, &results, &plans];
        let everybody: BTreeSet<_> = everybody
            .iter()
            .flat_map(|of| of.iter().map(|(n, _)| n.clone()))
            .collect();
        let listed = everybody
            .iter()
            .filter(|name| only.is_none_or(|only| only == *name));
        let learners = listed.map(|name| {
            let mine = |all: &[(Name, u64)]| {
                all.iter()
                    .filter(|(of, _)| of == name)
                    .map(|(_, version)| *version)
                    .collect()
            };
            Listing {
                name: name.clone(),
                plans: mine(&plans),
                results: mine(&results),
                checkpoints: mine(&checkpoints),
            }
        });
        Ok(Self {
            learners: learners.collect(),
            made: published.into_iter().chain(evaluated).collect(),
            everybody: everybody.into_iter().collect(),
        })
    }

    /// Returns true if no learner left any record.
    pub(super) fn are_empty(&self) -> bool {
        self.everybody.is_empty() && self.made.is_empty()
    }

    /// Reports a breach for every version that no plan of its policy's learner made.
    pub(super) fn made_by_plans(
        &self,
        trained: &BTreeMap<String, &Listing>,
        all_learners: bool,
        findings: &mut Findings,
    ) {
        for (policy, update, record) in &self.made {
            let made = match trained.get(policy.as_str()) {
                Some(by) => by.plans.contains(&update.0),
                None => !all_learners,
            };
            if !made {
                findings.breach("versions without a plan", || {
                    format!(
                        "{record}: there is a version {} of {policy}, and no plan of update \
                         {update} that made it",
                        update.version_after()
                    )
                });
            }
        }
    }
}

impl Listing {
    /// Returns the number of recorded updates: all records are of updates below it.
    pub(super) fn end(&self) -> u64 {
        let updates = [&self.plans, &self.results].map(|of| of.last().map_or(0, |last| last + 1));
        let checkpoint = self.checkpoints.last().copied().unwrap_or(0);
        updates.into_iter().fold(checkpoint, u64::max)
    }

    /// Adds all records to the ledger, version by version.
    pub(super) async fn add_to(
        &self,
        store: &Store,
        ledger: &mut Ledger<'_>,
        findings: &mut Findings,
    ) -> Result<()> {
        let name = &self.name;
        let start: Option<LearnerStart> =
            get(store, &format!("starts/{name}.json"), findings).await?;
        if let Some(start) = start {
            ledger.began_at(&start);
        }
        let all = [&self.plans, &self.results, &self.checkpoints];
        let end = all
            .iter()
            .filter_map(|of| of.last())
            .max()
            .map_or(0, |last| last + 1);
        let planned = self.plans.last().map_or(0, |last| last + 1);
        let noted = self.results.last().map_or(0, |last| last + 1);
        let paths = (0..end).flat_map(|number| {
            let manifest = self.checkpoints.contains(&number);
            let manifest = manifest.then(|| checkpoint_of(name, number));
            let records = ["plans", "results"].map(|kind| record_of(kind, name, number));
            manifest.into_iter().chain(records)
        });
        let mut objects = store.lane(paths);
        for number in 0..end {
            let update = UpdateNumber(number);
            if self.checkpoints.contains(&number) {
                let path = checkpoint_of(name, number);
                // Older checkpoints may be pruned while this reads.
                let manifest: Option<CheckpointManifest> =
                    parsed(objects.next().await?, &path, findings);
                if let Some(manifest) = manifest {
                    ledger.checkpoint(update.version_before(), &manifest, findings);
                }
            }
            let path = record_of("plans", name, number);
            let plan: Option<Plan> = parsed(objects.next().await?, &path, findings);
            match &plan {
                Some(plan) if self.plans.contains(&number) => {
                    ledger.plan(update, plan, findings);
                }
                None if number < planned => {
                    findings.breach("plans missing", || {
                        format!("{path} is missing, and later plans are there")
                    });
                }
                _ => {}
            }
            let path = record_of("results", name, number);
            let result: Option<UpdateResult> = parsed(objects.next().await?, &path, findings);
            match result {
                Some(result) => ledger.result(update, &result, plan.as_ref(), findings),
                None if is_missing(number, planned, noted) => {
                    findings.breach("results missing", || {
                        format!("{path} is missing, and later records are there")
                    });
                }
                None => {}
            }
        }
        for path in store.list(&format!("deviations/{name}")).await? {
            let deviation: Option<Deviation> = get(store, &path, findings).await?;
            if let Some(deviation) = deviation {
                note(&path, &deviation, findings);
            }
        }
        if let Some(policy) = ledger.policy().and_then(|policy| policy.parse().ok()) {
            published(store, policy, findings).await?;
        }
        Ok(())
    }
}

/// Returns true if an update without a result should have one, where `planned` updates have plans and
/// the last result is of update `noted` − 1. The last two may have plans alone: one is recorded while
/// the next is computed. A copy of the folder made for a replay has no results at all.
fn is_missing(number: u64, planned: u64, noted: u64) -> bool {
    noted > 0 && (number + 1 < noted || number + 2 < planned)
}

/// Notes an update that gave other weights when it was run again, on a device that may do so.
fn note(path: &str, deviation: &Deviation, findings: &mut Findings) {
    let update = deviation.update();
    let Deviation {
        recorded_sha256,
        computed_sha256,
        taken,
        ..
    } = deviation;
    findings.note(
        "updates that gave other weights when they were run again",
        || {
            let then = if *taken {
                "the recorded ones were taken"
            } else {
                "the next update began with them"
            };
            format!(
                "{path}: update {update}, run again, gave weights {computed_sha256} instead of \
             {recorded_sha256}, as a GPU may; {then}"
            )
        },
    );
}

/// Reads every published version of every policy and compares it with its manifest.
pub(super) async fn weights(store: &Store, findings: &mut Findings) -> Result<()> {
    let paths = store.list("weights").await?;
    let policy = |path: &String| -> Option<Name> {
        let (name, _) = path.strip_prefix("weights/")?.split_once('/')?;
        name.parse().ok()
    };
    let policies: BTreeSet<_> = paths.iter().filter_map(policy).collect();
    for policy in policies {
        let weights = Weights::new(store.clone(), policy);
        for version in weights.versions().await? {
            for fault in weights.check(version).await? {
                findings.breach("files of versions that are not as published", || {
                    fault.to_string()
                });
            }
        }
    }
    Ok(())
}

/// Adds the digests under which a policy's versions are published.
async fn published(store: &Store, policy: Name, findings: &mut Findings) -> Result<()> {
    let weights = Weights::new(store.clone(), policy.clone());
    for version in weights.versions().await? {
        // Versions that are no longer needed may be removed while this reads.
        if let Some(manifest) = weights.manifest(version).await? {
            let file = format!("weights/{policy}/{version}/manifest.json");
            findings.digest(policy.as_str(), version, manifest.weights_sha256, &file);
        }
    }
    Ok(())
}

/// Reads a record; `None` if it does not exist or cannot be read, which is reported as a breach.
async fn get<T: DeserializeOwned>(
    store: &Store,
    path: &str,
    findings: &mut Findings,
) -> Result<Option<T>> {
    Ok(parsed(store.get(path).await?, path, findings))
}

/// Returns a record; `None` if it does not exist or cannot be read, which is reported as a breach.
fn parsed<T: DeserializeOwned>(
    bytes: Option<impl AsRef<[u8]>>,
    path: &str,
    findings: &mut Findings,
) -> Option<T> {
    match serde_json::from_slice(bytes?.as_ref()) {
        Ok(record) => Some(record),
        Err(error) => {
            findings.breach("records that cannot be read", || format!("{path}: {error}"));
            None
        }
    }
}

fn record_of(kind: &str, learner: &Name, number: u64) -> String {
    format!("{kind}/{learner}/{number}.json")
}

fn checkpoint_of(learner: &Name, version: u64) -> String {
    format!("checkpoints/{learner}/{version}/manifest.json")
}

/// Parses a path of the form `<kind><name>/<number><end>`.
fn parse(path: &str, kind: &str, end: &str) -> Option<(Name, u64)> {
    let (name, number) = path.strip_prefix(kind)?.split_once('/')?;
    Some((name.parse().ok()?, number.strip_suffix(end)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::is_missing;

    #[test]
    fn the_last_two_updates_may_lack_results() {
        let missing = |planned, noted| -> Vec<u64> {
            (0..planned)
                .filter(|number| is_missing(*number, planned, noted))
                .collect()
        };
        // Every number here is of an update without a result.
        assert_eq!(missing(6, 4), [0, 1, 2, 3]);
        assert_eq!(missing(6, 6), [0, 1, 2, 3, 4]);
        assert_eq!(missing(6, 0), [0; 0], "a copy for a replay");
        assert!(!is_missing(4, 6, 4) && !is_missing(5, 6, 4));
        assert!(is_missing(4, 7, 4), "three plans without a result");
        assert!(is_missing(4, 6, 6), "a result after it");
    }
}
