//! Standstills: a run that cannot continue says so within seconds, in every role, and in what it
//! prints at its end.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vintage_tests::{Ended, Running, number, place, run, vintage};

use crate::{
    roles::{Broker, interrupt},
    small,
};

/// Reward command that gives every completion a reward of 0.
const NOTHING: &str =
    r#"rollout.reward.command=['sed', '-u', 's/.*"id":"\([0-9]*\)".*/{"id":"\1","reward":0}/']"#;

#[test]
fn answers_that_are_all_worth_the_same_are_told_while_it_runs_and_at_its_end() -> Result<()> {
    let (folder, out) = place()?;
    let mut training = small::digits(folder.path(), &out)?;
    training.args(["--steps", "8", "--set", NOTHING]);
    let ended = run(training)?;
    let summary = ended.json()?;
    let line = ended
        .stderr
        .lines()
        .find(|line| line.contains("nothing was learned"));
    let line = line.with_context(|| format!("no line says so: {}", ended.stderr))?;
    ensure!(
        line.contains("equal_rewards 5; mean reward 0.000"),
        "{line}"
    );
    ensure!(
        number(&summary["idle_updates"], "equal_rewards")? == 8,
        "{summary}"
    );
    let warnings = summary["warnings"].to_string();
    ensure!(
        warnings.contains("8 of 8 updates changed nothing"),
        "{warnings}"
    );
    let text = std::fs::read_to_string(out.join("results/lead/3.json"))?;
    let result: Value = serde_json::from_str(&text)?;
    ensure!(result["equal_groups"] == result["groups"], "{result}");
    Ok(())
}

#[test]
fn every_role_alone_says_what_it_waits_for() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("kafka");
    let broker = Broker::up(&data)?;
    let role = |name: &str| {
        let mut command = vintage([name, "--output", "json", "--out"]);
        command.arg(folder.path().join("run"));
        command.args(["--broker", &broker.address, "--set", "warm_start.steps=10"]);
        Running::start(command)
    };
    let stopped = |mut process: Running, said: &str| -> Result<Ended> {
        ensure!(process.says(said)?, "it ended and never said {said:?}");
        interrupt(&process)?;
        process.wait()
    };
    // Nothing samples: the learner waits, and says so in its result too.
    let learner = role("learn")?;
    let said = "no update for 5 s: 0 of 16 groups for update 0 are there; no record came";
    let waited = stopped(learner, said)?;
    let summary: Value = serde_json::from_str(&waited.stdout)?;
    let standstill = summary["standstill"]
        .as_str()
        .with_context(|| summary.to_string())?;
    ensure!(standstill.contains("no record came"), "{standstill}");
    // Nothing trains any more: without a learner nobody grants slots. The next producer gets
    // no lease; a version was announced before it came.
    let (learner, mut producer) = (role("learn")?, role("rollout")?);
    ensure!(producer.says("published")?, "nothing was published");
    interrupt(&learner)?;
    learner.wait()?;
    for producer in [producer, role("rollout")?] {
        let produced = stopped(producer, "no lease granted for")?;
        let summary: Value = serde_json::from_str(&produced.stdout)?;
        let standstill = summary["standstill"].as_str().unwrap_or_default();
        ensure!(
            standstill.contains("no lease granted for")
                && standstill.contains("is the newest announced"),
            "{summary}"
        );
    }
    // Nothing samples any more.
    let archived = stopped(role("archive")?, "no record came for 5 s")?;
    let summary: Value = serde_json::from_str(&archived.stdout)?;
    ensure!(summary["standstill"].is_string(), "{summary}");
    ensure!(number(&summary, "messages")? > 0, "{summary}");
    Ok(())
}
