//! What must hold of a run that was killed and has drained.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;
use vintage_control::{Plan, UpdateResult};

use super::Stage;
use crate::{Kafka, both, exact, run};

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

/// Both auditors on what is recorded, and the plans run again.
pub fn check(stage: &Stage, kafka: &Kafka) -> Result<Findings> {
    let folder = stage.run();
    let audited = both(&folder, Some(kafka.address()))?;
    let lines = audited["findings"].as_array().context("no findings")?;
    let mut found: Findings = lines
        .iter()
        .filter_map(Value::as_str)
        .map(|line| (breach(line), line.to_owned()))
        .collect();
    let trained = plans(&folder)?.len() as u64;
    let told: Value = serde_json::from_str(&run(exact(&folder))?.stdout).unwrap_or_default();
    if told["identical"] != true || told["updates"] != trained {
        found.push((
            Breach::Diverging,
            format!("replay of {trained} updates: {told}"),
        ));
    }
    Ok(found)
}

/// What a finding of an audit is, by its words.
fn breach(line: &str) -> Breach {
    let says = |words: &[&str]| words.iter().any(|word| line.contains(word));
    if says(&["twice", "already", "overlap"]) {
        Breach::Duplicated
    } else if says(&["nowhere", "gap", "no plan", "does not hold", "missing"]) {
        Breach::Lost
    } else {
        Breach::Diverging
    }
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
