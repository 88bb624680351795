//! Facts of a run, read from its store.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use vintage_archive::{Reader, Stored};
use vintage_control::{
    CheckpointManifest, Name, Plan, PolicyVersion, PrunePolicy, PruneRecord, UpdateNumber,
};
use vintage_store::{Records, Store, Weights, evaluation_path};

use crate::{
    choose::{Facts, LearnerFacts, Place, PolicyFacts, is_young},
    error::Result,
    reads::reads_from,
};

/// Settings of a learner that decide what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnerNeeds {
    /// Name of the learner.
    pub name: Name,
    /// Policy that it publishes.
    pub policy: Name,
    /// Number of newest versions that it keeps.
    pub keep_versions: u64,
    /// Number of updates by which a producer of the run may be behind.
    pub reach: u64,
    /// Interval of the versions that are evaluated, and the last of them; `None` if none are.
    pub evaluated: Option<(u64, u64)>,
}

/// Objects of one version, checkpoint or file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    /// Time at which the newest of them was written, in milliseconds since the epoch.
    written_ms: i64,
}

/// Returns the versions whose objects are younger than the age asked for.
fn young(of: &BTreeMap<PolicyVersion, Size>, asked: &PrunePolicy) -> BTreeSet<PolicyVersion> {
    let (now, age) = (now_ms(), asked.older_than_seconds);
    let young = of
        .iter()
        .filter(|(_, size)| is_young(size.written_ms, now, age));
    young.map(|(version, _)| *version).collect()
}

/// Returns the time now, in milliseconds since the epoch.
pub fn now_ms() -> i64 {
    since_epoch(SystemTime::now())
}

/// Returns a time in milliseconds since the epoch; 0 for one before it.
pub fn since_epoch(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Sizes of what the facts name.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    pub(crate) versions: BTreeMap<Name, BTreeMap<PolicyVersion, Size>>,
    pub(crate) checkpoints: BTreeMap<Name, BTreeMap<PolicyVersion, Size>>,
    pub(crate) files: BTreeMap<Place, Vec<Stored>>,
}

/// Reads the facts. Versions are listed before checkpoints, so that a checkpoint written meanwhile
/// only makes more of them needed.
pub(crate) async fn read(
    store: &Store,
    reader: &Reader,
    learners: &[LearnerNeeds],
    asked: &PrunePolicy,
    earlier: &[(String, PruneRecord)],
) -> Result<(Facts, Sizes)> {
    let (mut facts, mut sizes) = (Facts::default(), Sizes::default());
    let policies: BTreeSet<_> = learners.iter().map(|learner| &learner.policy).collect();
    for policy in policies {
        let there = numbered(store, &format!("weights/{policy}")).await?;
        let weights = Weights::new(store.clone(), policy.clone());
        let versions: BTreeSet<_> = weights.versions().await?.into_iter().collect();
        let recorded = earlier
            .iter()
            .filter_map(|(_, record)| record.versions.get(policy));
        let recorded = recorded.flat_map(|of| &of.versions).copied();
        let unfinished = recorded.filter(|version| there.contains_key(version));
        let evaluated = store.list(&format!("evaluations/{policy}")).await?;
        let evaluated: BTreeSet<_> = evaluated.into_iter().collect();
        let of_policy = || learners.iter().filter(|learner| learner.policy == *policy);
        let due = |version: &PolicyVersion| {
            of_policy()
                .filter_map(|learner| learner.evaluated)
                .any(|(every, last)| {
                    version.0 == last || every > 0 && version.0.is_multiple_of(every)
                })
        };
        let waiting = versions.iter().copied().filter(due);
        let unevaluated =
            waiting.filter(|version| !evaluated.contains(&evaluation_path(policy, *version)));
        let unevaluated = unevaluated.collect();
        let mut bases = BTreeMap::new();
        for version in &versions {
            let base = weights.base_of(*version).await?;
            bases.extend(base.map(|base| (*version, base)));
        }
        let of = PolicyFacts {
            young: young(&there, asked),
            unfinished: unfinished.collect(),
            versions,
            unevaluated,
            bases,
        };
        facts.policies.insert(policy.clone(), of);
        sizes.versions.insert(policy.clone(), there);
    }
    for settings in learners {
        let learner = learner(store, settings, asked, earlier, &mut sizes).await?;
        facts.learners.push(learner);
    }
    archive(reader, asked, earlier, &mut facts, &mut sizes).await?;
    Ok((facts, sizes))
}

async fn learner(
    store: &Store,
    settings: &LearnerNeeds,
    asked: &PrunePolicy,
    earlier: &[(String, PruneRecord)],
    sizes: &mut Sizes,
) -> Result<LearnerFacts> {
    let LearnerNeeds { name, policy, .. } = settings;
    let records = Records::new(store.clone(), name.clone());
    let weights = Weights::new(store.clone(), policy.clone());
    let there = numbered(store, &format!("checkpoints/{name}")).await?;
    let mut checkpoints = BTreeMap::new();
    let mut newest: Option<CheckpointManifest> = None;
    for version in records.checkpoints().await? {
        let Some(manifest) = records.checkpoint(version).await? else {
            continue; // Its learner has deleted it meanwhile.
        };
        let usable = weights.manifest(version).await?.is_some();
        checkpoints.insert(version, usable);
        newest = if usable { Some(manifest) } else { newest };
    }
    let recorded = earlier
        .iter()
        .filter_map(|(_, record)| record.checkpoints.get(name));
    let recorded = recorded.flat_map(|of| &of.versions).copied();
    let unfinished = recorded
        .filter(|version| there.contains_key(version))
        .collect();
    let start = records.start().await?;
    let at = newest.as_ref().map_or(0, |manifest| manifest.version.0);
    let kept = asked.archive_before.map_or(at, |before| before.0.min(at));
    let plans = plans(&records, UpdateNumber(kept)).await?;
    let last = match UpdateNumber::that_made(PolicyVersion(at)) {
        Some(update) => records.plan(update).await?,
        None => None,
    };
    let young = young(&there, asked);
    sizes.checkpoints.insert(name.clone(), there);
    Ok(LearnerFacts {
        anchors: plans.iter().chain(&last).flat_map(anchors).collect(),
        name: name.clone(),
        policy: policy.clone(),
        keep_versions: settings.keep_versions,
        reach: settings.reach,
        checkpoints,
        unfinished,
        young,
        reads_from: reads_from(start.as_ref(), newest.as_ref(), &plans),
    })
}

/// Reads the plans from `first` to the last.
async fn plans(records: &Records, first: UpdateNumber) -> Result<Vec<Plan>> {
    let mut plans = Vec::new();
    let mut lane = records.plans(first);
    while let Some(plan) = lane.next().await? {
        plans.push(plan);
    }
    Ok(plans)
}

async fn archive(
    reader: &Reader,
    asked: &PrunePolicy,
    earlier: &[(String, PruneRecord)],
    facts: &mut Facts,
    sizes: &mut Sizes,
) -> Result<()> {
    for incarnation in reader.incarnations().await? {
        for partition in reader.partitions(incarnation).await? {
            let place = (incarnation, partition);
            let recorded = earlier.iter().flat_map(|(_, record)| &record.archive);
            let recorded = recorded.filter(|files| {
                files.topic == reader.topic() && (files.incarnation, files.partition) == place
            });
            let recorded = recorded.map(|files| files.next).max();
            if recorded > reader.pruned(incarnation, partition).await? {
                facts.unmarked.extend(recorded.map(|next| (place, next)));
            }
            let bases = reader.bases(incarnation, partition).await?;
            let stored = reader.stored(incarnation, partition).await?;
            let (now, age) = (now_ms(), asked.older_than_seconds);
            let mut young = stored
                .iter()
                .filter(|file| is_young(file.written_ms, now, age));
            facts
                .young_from
                .extend(young.next().map(|file| (place, file.base)));
            facts.files.insert(place, bases);
            sizes.files.insert(place, stored);
        }
    }
    Ok(())
}

/// Lists the objects below `<folder>/<version>/`, and returns their sizes by version.
async fn numbered(store: &Store, folder: &str) -> Result<BTreeMap<PolicyVersion, Size>> {
    let mut sizes: BTreeMap<PolicyVersion, Size> = BTreeMap::new();
    for object in store.list_objects(folder).await? {
        let below = object
            .path
            .strip_prefix(folder)
            .and_then(|path| path.strip_prefix('/'));
        let version = below.and_then(|below| below.split_once('/'));
        if let Some(version) = version.and_then(|(version, _)| version.parse().ok()) {
            let size = sizes.entry(PolicyVersion(version)).or_default();
            size.objects += 1;
            size.bytes += object.bytes;
            size.written_ms = size.written_ms.max(object.written_ms);
        }
    }
    Ok(sizes)
}

/// Returns the versions that the penalty of a plan, or of the one after it, is measured from.
fn anchors(plan: &Plan) -> Vec<PolicyVersion> {
    let penalty = plan.reuse.kl;
    penalty.map_or_else(Vec::new, |kl| vec![kl.reference, kl.previous, plan.version])
}
