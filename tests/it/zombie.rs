//! A learner that was stopped, superseded by other learners of its name, and continued can change
//! nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;
use vintage_tests::{Kafka, Running, faulty, number, place, replayed, run, scrubbed};

use crate::small;

/// Points at which processes are stopped, each further on in training than the one before.
const STOPS: [&str; 9] = [
    "learner.chosen=stop@2",
    "learner.planned=stop@2",
    "learner.updated=stop@2",
    "learner.weights=stop@2",
    "learner.published=stop@2",
    "learner.noted=stop@2",
    "learner.announced=stop@2",
    "learner.moments=stop@1",
    "learner.checkpointed=stop@1",
];
const STEPS: u64 = 40;

fn role(verb: &str, out: &Path, prompts: &Path, broker: &str, faults: &str) -> Command {
    let mut command = Command::new(faulty());
    scrubbed(&mut command);
    command.env("VINTAGE_FAULTS", faults);
    command.args([verb, "--output", "json", "--out"]).arg(out);
    for setting in [
        format!("broker={broker}"),
        format!("learner.steps={STEPS}"),
        format!("prompts.train={}", prompts.display()),
        "learner.prompts_per_update=4".to_owned(),
        "learner.checkpoint_every=2".to_owned(),
        "warm_start.steps=10".to_owned(),
        "rollout.max_tokens=2".to_owned(),
        "rollout.group_size=4".to_owned(),
        "gate.max_staleness=4".to_owned(),
        "topics.partitions=2".to_owned(),
    ] {
        command.args(["--set", &setting]);
    }
    command
}

fn pid(process: &Running) -> Result<Pid> {
    Pid::from_raw(process.id() as i32).context("a process without a number")
}

/// Waits until the process is stopped; returns `false` if it ends instead.
fn stopped(process: &Running) -> Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::Pid(pid(process)?), options)?;
    Ok(status.is_some_and(|status| status.stopped()))
}

/// Returns every file of the run's folder except the broker's, with its content.
fn files(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.is_dir() {
            found.append(&mut files(&path)?);
        } else {
            let bytes = std::fs::read(&path)?;
            found.insert(path, bytes);
        }
    }
    Ok(found)
}

#[test]
fn a_learner_that_was_stopped_and_overtaken_changes_nothing() -> Result<()> {
    let (folder, out) = place()?;
    let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    let prompts = small::prompts(folder.path())?;
    let role = |verb, faults| role(verb, &out, &prompts, kafka.address(), faults);

    let mut zombies = Vec::new();
    let mut producer = None;
    for stop in STOPS {
        let mut learner = Running::start(role("learn", stop))?;
        if producer.is_none() {
            // The first process makes version 0, and the run's settings.
            ensure!(learner.says("warm start")?, "{stop}");
            producer = Some(Running::start(role("rollout", ""))?);
        }
        if !stopped(&learner)? {
            anyhow::bail!("{stop}: it ended: {}", learner.wait()?.stderr);
        }
        zombies.push((stop, learner));
    }
    let archive = Running::start(role("archive", ""))?;
    let learned = run(role("learn", ""))?.json()?;
    ensure!(learned["finished"] == true, "{learned}");
    producer.context("a producer")?.wait()?.json()?;
    crate::roles::interrupt(&archive)?;
    archive.wait()?.json()?;

    let records_of = |topic: &str| kafka.read(&format!("vintage.run.{topic}.v1"));
    let (before, policies) = (files(&out)?, records_of("policies")?);
    for (stop, learner) in zombies {
        kill_process(pid(&learner)?, Signal::CONT)?;
        let ended = learner.wait()?;
        ensure!(ended.status.code() == Some(1), "{stop}: {}", ended.stderr);
        ensure!(
            ended.stderr.contains("two learners share that name"),
            "{stop}: {}",
            ended.stderr
        );
        let after = files(&out)?;
        let changed = |(path, bytes): &(&PathBuf, &Vec<u8>)| before.get(*path) != Some(*bytes);
        let changed: Vec<_> = after.iter().filter(changed).map(|(path, _)| path).collect();
        ensure!(
            changed.is_empty() && after.len() == before.len(),
            "{stop} changed {changed:?}"
        );
        ensure!(
            records_of("policies")? == policies,
            "{stop} announced something"
        );
    }
    let last: Value = serde_json::from_slice(policies.last().context("announcements")?)?;
    ensure!(
        number(&last, "version")? == STEPS && last["finished"] == true,
        "{last}"
    );
    replayed(&out, STEPS)?;
    Ok(())
}
