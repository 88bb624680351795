//! The roles as processes of their own, on a real Kafka at an address.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use vintage_tests::{Running, number, run, vintage};

const STEPS: u64 = 40;

/// A broker brought up by `vintage broker up`, down again when dropped.
pub(crate) struct Broker<'a> {
    folder: &'a Path,
    /// As `host:port`.
    pub(crate) address: String,
}

impl<'a> Broker<'a> {
    /// Starts it in `folder` and waits until it is ready.
    pub(crate) fn up(folder: &'a Path) -> Result<Self> {
        let mut command = vintage(["broker", "up", "--output", "json", "--dir"]);
        command.arg(folder);
        let up = run(command)?.json()?;
        let address = up["bootstrap"]
            .as_str()
            .context("no bootstrap address")?
            .to_owned();
        Ok(Self { folder, address })
    }
}

impl Drop for Broker<'_> {
    fn drop(&mut self) {
        let mut command = vintage(["broker", "down", "--dir"]);
        command.arg(self.folder);
        let _down = run(command);
    }
}

fn role(name: &str, out: &Path, address: &str) -> Command {
    let mut command = vintage([name, "--out"]);
    command
        .arg(out)
        .args(["--set", &format!("broker={address}")]);
    command.args(["--set", &format!("learner.steps={STEPS}")]);
    command.args([
        "--set",
        "warm_start.steps=50",
        "--set",
        "evaluation.prompts=32",
    ]);
    command
}

#[test]
fn learner_producer_and_archive_meet_on_a_real_kafka() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kafka = folder.path().join("kafka");
    let broker = Broker::up(&kafka)?;
    let out = folder.path().join("run");

    let archive = Running::start(role("archive", &out, &broker.address))?;
    let producer = Running::start(role("rollout", &out, &broker.address))?;
    let learned = run(role("learn", &out, &broker.address))?;
    ensure!(learned.status.success(), "learn: {}", learned.stderr);
    let produced = producer.wait()?;
    ensure!(produced.status.success(), "rollout: {}", produced.stderr);
    // ^C drains: what is consumed is written.
    run({
        let mut command = Command::new("kill");
        command.args(["-INT", &archive.id().to_string()]);
        command
    })?;
    let archived = archive.wait()?;
    ensure!(archived.status.success(), "archive: {}", archived.stderr);

    let mut replay = vintage(["replay", "--output", "json", "--exact"]);
    replay.arg(&out);
    let replayed = run(replay)?.json()?;
    ensure!(replayed["identical"] == true, "{replayed}");
    ensure!(number(&replayed, "updates")? == STEPS, "{replayed}");
    Ok(())
}
