//! What must hold of a run that was killed and has drained, each read from its own record.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use serde_json::Value;
use vintage_archive::{Filter, Reader};
use vintage_control::{Offset, Partition, Plan, PolicyAnnouncement, Topics, UpdateResult};
use vintage_store::Store;

use super::Stage;
use crate::{Kafka, exact, run};

/// What a breach does to a run's promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breach {
    /// Acknowledged and nowhere, or in no account.
    Lost,
    /// Archived or trained twice.
    Duplicated,
    /// Weights, plans and announcements disagree.
    Diverging,
}

/// Every breach, with how it was found.
pub type Findings = Vec<(Breach, String)>;

/// Checks a drained run from all sides.
pub fn check(stage: &Stage, kafka: &Kafka) -> Result<Findings> {
    let folder = stage.run();
    let plans = plans(&folder)?;
    let mut found = audit(stage, kafka, &plans)?;
    found.extend(announced(stage, kafka, &plans)?);
    found.extend(replay(&folder, plans.len() as u64)?);
    Ok(found)
}

/// A run's plans, in order and without a gap in their numbers.
pub fn plans(folder: &Path) -> Result<Vec<Plan>> {
    numbered(&folder.join("plans/lead"))
}

/// Results of a run's updates, in the same way.
pub(super) fn results(folder: &Path) -> Result<Vec<UpdateResult>> {
    numbered(&folder.join("results/lead"))
}

fn numbered<T: serde::de::DeserializeOwned>(folder: &Path) -> Result<Vec<T>> {
    let mut found = Vec::new();
    for number in 0.. {
        let path = folder.join(format!("{number}.json"));
        let Ok(text) = fs::read_to_string(&path) else {
            break;
        };
        let record = serde_json::from_str(&text);
        found.push(record.with_context(|| path.display().to_string())?);
    }
    Ok(found)
}

/// `vintage replay --exact`: the plans give the recorded weights again.
pub fn replay(folder: &Path, updates: u64) -> Result<Findings> {
    let ended = run(exact(folder))?;
    let told: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
    let whole = told["identical"] == true && told["updates"] == updates;
    Ok(if whole {
        Vec::new()
    } else {
        let why = format!("replay of {updates} updates: {told} {}", ended.stderr);
        vec![(Breach::Diverging, why)]
    })
}

/// Every announced version has a plan, and the hash that its result has.
pub fn announced(stage: &Stage, kafka: &Kafka, plans: &[Plan]) -> Result<Findings> {
    let results = results(&stage.run())?;
    let mut found = Findings::new();
    for payload in kafka.read(&topics(stage)?.policies())? {
        let told: PolicyAnnouncement = serde_json::from_slice(&payload)?;
        let version = told.version.0 as usize;
        if version == 0 {
            continue;
        }
        if version > plans.len() {
            let why = format!("version {version} was announced, and no plan made it");
            found.push((Breach::Diverging, why));
        }
        let recorded = results.get(version - 1).map(|result| result.weights_sha256);
        if recorded != Some(told.weights_sha256) {
            let why = format!(
                "version {version} was announced as {}, its result says {recorded:?}",
                told.weights_sha256
            );
            found.push((Breach::Diverging, why));
        }
    }
    Ok(found)
}

type Number = (String, u64);

/// Log, archive, journals and plans against one another.
pub fn audit(stage: &Stage, kafka: &Kafka, plans: &[Plan]) -> Result<Findings> {
    let mut found = Findings::new();
    let topic = topics(stage)?.rollouts();
    let (archived, records) = archived(&stage.run(), &topic, &mut found)?;
    for (partition, low, high) in kafka.marks(&topic)? {
        let held = records.get(&partition).map_or(0, BTreeSet::len) as i64;
        let written = high.0 - low.0;
        if held != written {
            let why = format!("partition {partition} has {written} records, the archive {held}");
            found.push((Breach::Lost, why));
        }
    }
    for number in journaled(&stage.run())?.difference(&archived) {
        let why = format!("group {number:?} was acknowledged and is not in the archive");
        found.push((Breach::Lost, why));
    }
    let mut accounted = BTreeMap::new();
    for plan in plans {
        for group in &plan.groups {
            let number = (group.producer.clone(), group.producer_seq);
            if let Some(before) = accounted.insert(number.clone(), plan.version) {
                let why = format!("group {number:?} is in plans {before} and {}", plan.version);
                found.push((Breach::Duplicated, why));
            }
            if !archived.contains(&number) {
                let why = format!("plan {} trained {number:?}, not archived", plan.version);
                found.push((Breach::Lost, why));
            }
        }
    }
    Ok(found)
}

type Records = BTreeMap<Partition, BTreeSet<Offset>>;

/// Numbers of the archived groups, and the archived offsets by partition.
fn archived(
    folder: &Path,
    topic: &str,
    found: &mut Findings,
) -> Result<(BTreeSet<Number>, Records)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let store = Store::open(&folder.join("archive").to_string_lossy())?;
    let (mut numbers, mut records) = (BTreeSet::new(), Records::new());
    let read = runtime.block_on(async {
        let reader = Reader::new(store, topic);
        let mut messages = reader.merged(&Filter::default()).await?;
        while let Some(message) = messages.next().await? {
            let at = message.record;
            if !records.entry(at.partition).or_default().insert(at.offset) {
                found.push((Breach::Duplicated, format!("{at:?} is archived twice")));
            }
            if let Ok(headers) = message.headers {
                numbers.insert((headers.producer, headers.producer_seq));
            }
        }
        vintage_archive::Result::Ok(())
    });
    if let Err(error) = read {
        // A gap or an overlap of the chain, a damaged file.
        found.push((Breach::Lost, error.to_string()));
    }
    Ok((numbers, records))
}

/// Numbers that the log acknowledged, by the producers' own journals.
fn journaled(folder: &Path) -> Result<BTreeSet<Number>> {
    let mut numbers = BTreeSet::new();
    let Ok(entries) = folder.join("producers").read_dir() else {
        return Ok(numbers);
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(&path)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            numbers.insert((name.clone().into_owned(), line.parse()?));
        }
    }
    Ok(numbers)
}

fn topics(stage: &Stage) -> Result<Topics> {
    let run = stage.settings.iter().find_map(|s| s.strip_prefix("run="));
    Ok(Topics {
        namespace: "vintage".parse()?,
        run: run.context("a stage names its run")?.parse()?,
    })
}
