//! Versions that are rounded to bf16 and stored as deltas, through kills of learner and producer.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vintage_tests::{Kafka, audited, place, python, replayed, run, vintage};

use crate::{fleet::Fleet, roles::interrupt};

const UPDATES: u64 = 48;

/// Returns the manifests of the published versions.
fn manifests(out: &Path) -> Result<BTreeMap<u64, Value>> {
    let mut manifests = BTreeMap::new();
    for entry in std::fs::read_dir(out.join("weights/lead"))? {
        let folder = entry?.path();
        let name = folder.file_name().and_then(|name| name.to_str());
        let version = name.context("a version")?.parse()?;
        let manifest = std::fs::read(folder.join("manifest.json"))?;
        manifests.insert(version, serde_json::from_slice(&manifest)?);
    }
    Ok(manifests)
}

fn deep(out: &Path) -> Result<Value> {
    let mut command = vintage(["audit", "--deep", "--output", "json"]);
    command.arg(out);
    Ok(serde_json::from_str(&run(command)?.stdout)?)
}

/// Exports a version, which is whole there, and returns the digest of its file.
fn exported(out: &Path, to: &Path, version: u64) -> Result<String> {
    let mut command = vintage(["export", "--output", "json", "--policy-version"]);
    command.arg(version.to_string());
    command.arg("--to").arg(to).arg(out);
    run(command)?.json()?;
    let mut sum = Command::new("sha256sum");
    sum.arg(to.join("model.safetensors"));
    let sum = run(sum)?.stdout;
    let digest = sum.split_whitespace().next().context("a digest")?;
    Ok(digest.to_owned())
}

#[test]
fn rounded_deltas_survive_kills_and_are_replayed_bit_for_bit() -> Result<()> {
    let (folder, _) = place()?;
    let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    let settings = [
        &*format!("learner.steps={UPDATES}"),
        "learner.publish.precision=bf16",
        "learner.publish.full_every=8",
        "gate.max_staleness=4",
        "learner.mismatch.every=2",
        "evaluation.every=16",
    ];
    let fleet = Fleet::new(folder.path(), "deltas", &kafka, &settings)?;
    let mut learner = fleet.start("learn")?;
    let archive = fleet.start("archive")?;
    let producer = fleet.start("rollout")?;
    fleet.until(9, &mut learner)?;
    producer.kill()?;
    // It joins in the middle of a chain, without anything before it.
    let producer = fleet.start("rollout")?;
    fleet.until(18, &mut learner)?;
    learner.kill()?;
    let mut learner = fleet.start("learn")?;
    fleet.until(31, &mut learner)?;
    learner.kill()?;
    let learned = fleet.start("learn")?.wait()?.json()?;
    ensure!(learned["finished"] == true, "{learned}");
    producer.wait()?.json()?;
    interrupt(&archive)?;
    archive.wait()?.json()?;

    let audit = audited(&fleet.out)?;
    ensure!(audit["holds"] == true, "{audit}");
    let audit = deep(&fleet.out)?;
    ensure!(audit["holds"] == true, "{audit}");
    let replayed = replayed(&fleet.out, UPDATES)?;
    ensure!(replayed["identical"] == true, "{replayed}");

    let manifests = manifests(&fleet.out)?;
    let (mut deltas, mut last) = (Vec::new(), None);
    for (version, manifest) in manifests.iter().filter(|(version, _)| **version > 0) {
        ensure!(manifest["precision"] == "bf16", "{manifest}");
        let place = fleet.out.join(format!("weights/lead/{version}"));
        if let Some(base) = manifest["delta"]["base"].as_u64() {
            ensure!(manifests.contains_key(&base), "{base} of {version} is kept");
            ensure!(
                place.join("model.delta").is_file() && !place.join("model.safetensors").exists()
            );
            deltas.push(*version);
        } else {
            ensure!(
                place.join("model.safetensors").is_file(),
                "{version} is whole"
            );
        }
        last = Some(manifest);
    }
    ensure!(!deltas.is_empty(), "{manifests:?}");
    ensure!(last.context("versions")?["weights_sha256"] == replayed["weights_sha256"]);
    // A reader that shares no code with ours, by the description of the format alone.
    let newest = deltas.last().context("a delta")?;
    let mut reader = Command::new(python());
    reader.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/delta.py"));
    reader.arg(&fleet.out).arg(newest.to_string());
    let read = run(reader)?;
    let digest = manifests[newest]["weights_sha256"].as_str();
    ensure!(
        Some(read.stdout.trim()) == digest,
        "{} {}",
        read.stdout,
        read.stderr
    );
    for version in &deltas {
        let to = folder.path().join(format!("exported-{version}"));
        let digest = exported(&fleet.out, &to, *version)?;
        ensure!(manifests[version]["weights_sha256"] == digest, "{digest}");
    }
    // What engines reported is what the rounded versions give.
    let mut checks = 0;
    for result in fleet.results(UPDATES)? {
        for found in result["mismatch"].as_array().into_iter().flatten() {
            ensure!(found["mean"].as_f64() < Some(1e-5), "{found:#}");
            checks += 1;
        }
    }
    ensure!(checks > 0, "no engine was checked");

    // A damaged delta is found, and named.
    let delta = fleet
        .out
        .join(format!("weights/lead/{}/model.delta", deltas[0]));
    let mut bytes = std::fs::read(&delta)?;
    bytes.pop();
    std::fs::write(&delta, bytes)?;
    let audit = deep(&fleet.out)?;
    let findings = audit["findings"].to_string();
    let named = format!("{}/model.delta is corrupt", deltas[0]);
    ensure!(
        audit["holds"] == false && findings.contains(&named),
        "{audit}"
    );
    Ok(())
}
