//! Several learners on one log: followers, counterfactuals, starts, the archive behind the log.

mod blend;
mod expired;
mod followers;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use vintage_tests::{Kafka, Running, place, run, vintage};

use crate::{roles::interrupt, small};

/// Number of partitions of the log: each reader meets their records in another order.
const PARTITIONS: usize = 2;
/// Rollouts topic of a run with the default name.
const ROLLOUTS: &str = "vintage.run.rollouts.v1";

/// Small run on a real Kafka, whose roles are processes of their own.
struct Farm {
    kafka: Kafka,
    folder: TempDir,
    out: PathBuf,
}

impl Farm {
    fn new() -> Result<Self> {
        let (folder, out) = place()?;
        let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
        small::prompts(folder.path())?;
        Ok(Self { kafka, folder, out })
    }

    /// Returns the command of a role of the run that does `steps` updates in all.
    fn role(&self, verb: &str, steps: u64) -> Command {
        let mut command = vintage([verb, "--output", "json", "--out"]);
        command.arg(&self.out);
        if self.out.join("config.toml").is_file() {
            command.args(["--set", &format!("learner.steps={steps}")]);
            return command;
        }
        let prompts = self.folder.path().join("digits.jsonl");
        for setting in [
            format!("broker={}", self.kafka.address()),
            format!("learner.steps={steps}"),
            format!("prompts.train={}", prompts.display()),
            format!("topics.partitions={PARTITIONS}"),
            "learner.prompts_per_update=4".to_owned(),
            "learner.checkpoint_every=3".to_owned(),
            "learner.keep_versions=100".to_owned(),
            // Enough to be right now and then: without reward all losses are equal.
            "warm_start.steps=50".to_owned(),
            "learner.optimizer.lr=0.001".to_owned(),
            "rollout.max_tokens=2".to_owned(),
            "rollout.group_size=4".to_owned(),
            "gate.max_staleness=4".to_owned(),
            "archive.roll_seconds=0.3".to_owned(),
        ] {
            command.args(["--set", &setting]);
        }
        command
    }

    /// Returns the command `vintage learn` of a learner other than the run's own.
    fn follower(&self, name: &str, steps: u64, more: &[&str]) -> Command {
        let mut command = self.role("learn", steps);
        command.args(["--name", name]).args(more);
        command
    }

    /// Trains the lead up to `steps` on rollouts made for it, with an archive if `archived`.
    fn train(&self, steps: u64, archived: bool) -> Result<Value> {
        // The lead's settings are the run's: it must write them before the followers start.
        let mut lead = Running::start(self.role("learn", steps))?;
        let first = self.first_announcement(&mut lead)?;
        ensure!(first, "the lead ended early");
        let archive = if archived {
            Some(Running::start(self.role("archive", steps))?)
        } else {
            None
        };
        let producer = Running::start(self.role("rollout", steps))?;
        let learned = lead.wait()?.json()?;
        ensure!(learned["finished"] == true, "{learned}");
        producer.wait()?.json()?;
        if let Some(archive) = archive {
            interrupt(&archive)?;
            archive.wait()?.json()?;
        }
        Ok(learned)
    }

    /// Waits until the run has its settings; returns `false` if the lead ended before.
    fn first_announcement(&self, lead: &mut Running) -> Result<bool> {
        if self.out.join("config.toml").is_file() {
            return Ok(true);
        }
        lead.says("warm start")
    }

    /// Returns the hashes of a learner's versions, from 1.
    fn hashes(&self, learner: &str) -> Result<Vec<String>> {
        let hash = |result: &Value| result["weights_sha256"].as_str().map(str::to_owned);
        let results = self.numbered("results", learner)?;
        let hashes: Option<_> = results.iter().map(hash).collect();
        hashes.context("a result without a hash")
    }

    /// Returns a learner's records of one kind, such as `results`, in order.
    fn numbered(&self, kind: &str, learner: &str) -> Result<Vec<Value>> {
        let folder = self.out.join(kind).join(learner);
        let mut found = Vec::new();
        for number in 0.. {
            let Ok(text) = std::fs::read_to_string(folder.join(format!("{number}.json"))) else {
                break;
            };
            found.push(serde_json::from_str(&text)?);
        }
        Ok(found)
    }

    /// Checks that `vintage replay --exact` of one learner reproduces its `updates`.
    fn replays(&self, learner: &str, updates: u64) -> Result<()> {
        let mut command = vintage_tests::exact(&self.out);
        command.args(["--name", learner]);
        let replayed = run(command)?.json()?;
        ensure!(
            replayed["identical"] == true && replayed["updates"] == updates,
            "{learner}: {replayed}"
        );
        Ok(())
    }
}

/// Reads a text file.
fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}
