//! Checks of a run that was killed repeatedly and has drained.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;
use vintage_control::{Plan, UpdateResult};

use super::Stage;
use crate::{audit::both, exact, kafka::Kafka, run};

/// Kind of broken guarantee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breach {
    /// A record was acknowledged and is nowhere, or is in no account.
    Lost,
    /// A record was archived or trained twice.
    Duplicated,
    /// Weights, plans and announcements disagree.
    Diverging,
}

/// List of breaches, each with its description.
pub type Findings = Vec<(Breach, String)>;

/// Checks a run: compares both auditors, and runs its plans again. Returns the breaches found.
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
    let replayed: Value = serde_json::from_str(&run(exact(&folder))?.stdout).unwrap_or_default();
    if replayed["identical"] != true || replayed["updates"] != trained {
        found.push((
            Breach::Diverging,
            format!("replay of {trained} updates: {replayed}"),
        ));
    }
    Ok(found)
}

/// Classifies a finding of an audit by its words.
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

/// Reads a run's plans from number 0 up to the first missing one.
pub fn plans(folder: &Path) -> Result<Vec<Plan>> {
    numbered(&folder.join("plans/lead"))
}

/// Reads the results of a run's updates from number 0 up to the first missing one.
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
