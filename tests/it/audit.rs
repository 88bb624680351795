//! Invariant 3: `vintage audit` and an independent second auditor, in Python, give the same numbers
//! of the same runs, and both find every tampering.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vintage_tests::{Running, audit, both, copy, number, place, python, run, vintage};

use crate::roles::Broker;

const STEPS: u64 = 30;

pub(crate) fn train(out: &Path, broker: &str) -> Command {
    let mut command = vintage(["run", "--output", "json", "--out"]);
    command.arg(out).args(["--steps", &STEPS.to_string()]);
    command.args(["--set", &format!("broker={broker}")]);
    for setting in [
        "warm_start.steps=5",
        "evaluation.prompts=16",
        "learner.checkpoint_every=5",
        "topics.partitions=2",
        // Several files in every partition, however fast the learner asks for them.
        "archive.roll_bytes=50000",
    ] {
        command.args(["--set", setting]);
    }
    command
}

fn lead(audited: &Value, key: &str) -> Result<u64> {
    number(&audited["learners"]["lead"], key)
}

/// Changes one control record.
fn edit(file: &Path, change: impl FnOnce(&mut Value)) -> Result<()> {
    let mut record: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    change(&mut record);
    Ok(std::fs::write(file, record.to_string())?)
}

/// Returns the archive's files of partition 0, of which there are several.
fn files(out: &Path) -> Result<Vec<PathBuf>> {
    let folder = out.join("archive/v1/topic=vintage.run.rollouts.v1/incarnation=0/p=00000");
    let mut files: Vec<_> = folder
        .read_dir()?
        .flatten()
        .map(|file| file.path())
        .collect();
    files.sort();
    ensure!(files.len() > 2, "{} files", files.len());
    Ok(files)
}

type Tamper = fn(&Path) -> Result<()>;

const TAMPERED: &[(&str, &str, Tamper)] = &[
    ("archive gap", "has a gap", |out| {
        Ok(std::fs::remove_file(&files(out)?[1])?)
    }),
    (
        "archive without its beginning",
        "which neither archive nor log holds",
        |out| Ok(std::fs::remove_file(&files(out)?[0])?),
    ),
    ("missing plan", "plans/lead/12.json is missing", |out| {
        Ok(std::fs::remove_file(out.join("plans/lead/12.json"))?)
    }),
    (
        "last plan missing",
        "update 29 was done, and there is no plan of it",
        |out| Ok(std::fs::remove_file(out.join("plans/lead/29.json"))?),
    ),
    ("trained twice", "was trained by update 3 already", |out| {
        let text = std::fs::read_to_string(out.join("plans/lead/3.json"))?;
        let other: Value = serde_json::from_str(&text)?;
        edit(&out.join("plans/lead/4.json"), |plan| {
            plan["groups"][0] = other["groups"][0].clone();
        })
    }),
    ("weights of another run", "version 11 of lead is", |out| {
        edit(&out.join("results/lead/10.json"), |result| {
            result["weights_sha256"] = json!("0".repeat(64));
        })
    }),
    (
        "group dropped from its plan",
        "no plan before names it",
        |out| {
            edit(&out.join("plans/lead/2.json"), |plan| {
                let groups = plan["groups"].as_array_mut().into_iter();
                groups.for_each(|groups| drop(groups.remove(0)));
            })
        },
    ),
];

#[test]
fn two_auditors_agree_on_a_clean_run_and_on_tampered_ones() -> Result<()> {
    let (folder, out) = place()?;
    let summary = run(train(&out, "embedded"))?.json()?;
    let audited = both(&out, None)?;
    ensure!(audited["holds"] == true, "{audited}");
    ensure!(lead(&audited, "trained")? == STEPS * 16, "{audited}");
    for term in ["produced", "trained", "rejected", "in_flight", "lost"] {
        ensure!(
            audited["learners"]["lead"][term] == summary[term],
            "{term}: {audited} {summary}"
        );
    }
    ensure!(
        audit(&out, &["--deep"])?.json()? == audited,
        "a deep look sees the same"
    );
    asked(&out)?;
    for (what, says, tamper) in TAMPERED {
        let copied = folder.path().join(what.replace(' ', "-"));
        copy(&out, &copied)?;
        tamper(&copied)?;
        let audited = both(&copied, None)?;
        let findings = audited["findings"].as_array().context("no findings")?;
        let found = findings
            .iter()
            .filter_map(Value::as_str)
            .any(|line| line.contains(says));
        ensure!(found && audited["holds"] == false, "{what}: {audited}");
    }
    deep(&out)
}

/// Tests the questions about the rollouts of an update and about the fate of one rollout.
fn asked(out: &Path) -> Result<()> {
    let answered = audit(out, &["--update", "7"])?.json()?;
    let groups = answered["answers"][0]["update"]["groups"]
        .as_array()
        .context("no groups")?;
    ensure!(groups.len() == 16, "{answered}");
    let rollout = format!(
        "{}/{}",
        groups[3]["producer"].as_str().context("no name")?,
        groups[3]["producer_seq"]
    );
    let id = groups[3]["group"].as_str().context("no id")?;
    for name in [rollout.as_str(), id] {
        let answered = audit(out, &["--rollout", name])?.json()?;
        let answered = &answered["answers"][0]["rollout"];
        ensure!(
            answered["fate"] == "trained" && answered["update"] == 7,
            "{answered}"
        );
    }
    let unknown = audit(out, &["--rollout", "nobody/0"])?;
    ensure!(unknown.status.code() == Some(3), "{}", unknown.stdout);
    ensure!(
        unknown
            .stdout
            .contains("no journal, log, archive or plan knows it"),
        "{}",
        unknown.stdout
    );
    Ok(())
}

/// Tests damage to content that only `--deep` finds.
fn deep(out: &Path) -> Result<()> {
    let mut tamper = Command::new(python());
    tamper.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/tamper.py"));
    let tampered = run({
        tamper.arg(out);
        tamper
    })?;
    ensure!(tampered.status.success(), "{}", tampered.stderr);
    ensure!(
        audit(out, &[])?.status.success(),
        "counts alone do not show it"
    );
    let deep = audit(out, &["--deep"])?;
    ensure!(deep.status.code() == Some(3), "{}", deep.stderr);
    ensure!(deep.stdout.contains("by its plan"), "{}", deep.stdout);
    Ok(())
}

#[test]
fn two_auditors_agree_on_killed_runs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kafka = folder.path().join("kafka");
    let broker = Broker::up(&kafka)?;
    for (name, address) in [("embedded", "embedded"), ("kafka", broker.address.as_str())] {
        let out = folder.path().join(format!("run-{name}"));
        for process in 1..=2 {
            let mut killed = Running::start(train(&out, address))?;
            if !killed.says("training")? {
                anyhow::bail!("{name} process {process} ended: {}", killed.wait()?.stderr);
            }
            killed.runs_for(Duration::from_millis(700 * process));
            killed.kill()?;
        }
        run(train(&out, address))?.json()?;
        let on_kafka = address != "embedded";
        let audited = both(&out, on_kafka.then_some(address))?;
        ensure!(audited["holds"] == true, "{name}: {audited}");
        ensure!(
            lead(&audited, "trained")? == STEPS * 16,
            "{name}: {audited}"
        );
        if on_kafka {
            ensure!(lead(&audited, "lost")? == 0, "{audited}");
        }
    }
    Ok(())
}
