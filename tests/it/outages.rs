//! Outages of a log: it is away for a while, its topic is another one, or retention deleted records
//! that were not read yet. Also two learners under one name.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use vintage_tests::{Kafka, Running, audited, place, python, replayed, run};

use crate::{roles::Broker, small};

/// Returns the duration of an outage: longer than any single request to a broker may take (10 s),
/// so that each has failed once. `OUTAGE_SECONDS=120` is the long form.
fn outage() -> Duration {
    let seconds = std::env::var("OUTAGE_SECONDS").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(12))
}

fn at(mut command: Command, address: &str) -> Command {
    command.args(["--broker", address]);
    command
}

#[test]
fn a_broker_that_is_gone_a_while_is_waited_for() -> Result<()> {
    let (folder, out) = place()?;
    let mut kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    let mut training = at(small::digits(folder.path(), &out)?, kafka.address());
    training.args(["--steps", "200"]);
    let mut training = Running::start(training)?;
    // In the middle: updates are done, more are to come.
    let first = out.join("results/lead/5.json");
    while !first.exists() {
        ensure!(
            training.runs_for(Duration::from_millis(20)),
            "it ended before: {}",
            training.wait()?.stderr
        );
    }
    kafka.kill_all()?;
    ensure!(
        training.runs_for(outage()),
        "it gave up: {}",
        training.wait()?.stderr
    );
    kafka.start_all()?;
    let summary = training.wait()?.json()?;
    ensure!(
        summary["finished"] == true && summary["balanced"] == true,
        "{summary}"
    );
    ensure!(summary["lost"] == 0, "{summary}");
    replayed(&out, 200)?;
    Ok(())
}

fn outage_of(address: &str, topic: &str, what: &str) -> Result<()> {
    let mut command = Command::new(python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/outage.py"));
    let ended = run({
        command.args([address, topic, what]);
        command
    })?;
    ensure!(ended.status.success(), "{what}: {}", ended.stderr);
    Ok(())
}

/// Returns the command that continues a run of three updates to six.
fn go_on(name: &str, out: &Path, prompts: &Path, address: &str) -> Command {
    let mut command = at(small::verb(name, out), address);
    let prompts = format!("prompts.train={}", prompts.display());
    command.args(["--set", "learner.steps=6", "--set", &prompts]);
    command
}

fn refused(command: Command, words: &[&str]) -> Result<()> {
    let ended = run(command)?;
    ensure!(
        ended.status.code() == Some(1),
        "{}\n{}",
        ended.status,
        ended.stderr
    );
    for word in words {
        ensure!(
            ended.stderr.contains(word),
            "{word:?} is not in: {}",
            ended.stderr
        );
    }
    Ok(())
}

#[test]
fn another_log_and_an_expired_one_are_refused_by_sink_and_learner() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kafka = folder.path().join("kafka");
    let broker = Broker::up(&kafka)?;
    let address = &broker.address;
    let trained = |run: &str| -> Result<PathBuf> {
        let out = folder.path().join(run);
        let mut training = at(small::digits(folder.path(), &out)?, address);
        training.args(["--set", &format!("run={run}")]);
        small::finished(training)?;
        Ok(out)
    };
    let prompts = folder.path().join("digits.jsonl");

    let out = trained("recreated")?;
    outage_of(address, "vintage.recreated.rollouts.v1", "recreate")?;
    for (role, words) in [
        (
            "archive",
            ["the topic was recreated", "give the run another name"],
        ),
        ("learn", ["the topic was recreated", "start a new run"]),
    ] {
        let mut command = go_on(role, &out, &prompts, address);
        command.args(["--set", "run=recreated"]);
        refused(command, &words)?;
    }

    let out = trained("expired")?;
    outage_of(address, "vintage.expired.rollouts.v1", "expire")?;
    for (role, words) in [
        (
            "archive",
            ["records were deleted by retention unarchived", "lengthen"],
        ),
        (
            "learn",
            ["the log now starts", "retention passed this learner"],
        ),
    ] {
        let mut command = go_on(role, &out, &prompts, address);
        command.args(["--set", "run=expired"]);
        refused(command, &words)?;
    }
    Ok(())
}

#[test]
fn of_two_learners_of_one_name_one_is_refused() -> Result<()> {
    let (folder, out) = place()?;
    let kafka = folder.path().join("kafka");
    let broker = Broker::up(&kafka)?;
    let prompts = small::prompts(folder.path())?;
    let prompts = format!("prompts.train={}", prompts.display());
    let role = |name: &str| {
        let mut command = at(small::verb(name, &out), &broker.address);
        command.args(["--set", "learner.steps=100000", "--set", &prompts]);
        command
    };
    let _producer = Running::start(role("rollout"))?;
    let mut first = Running::start(role("learn"))?;
    while !out.join("plans/lead/3.json").exists() {
        ensure!(
            first.runs_for(Duration::from_millis(20)),
            "it ended before: {}",
            first.wait()?.stderr
        );
    }
    // The second hears the first one's signs of life. If the machine is too busy for those, it takes
    // the first one's plans for its own, interrupted, and catches up; the next plan is created once,
    // and the other one must end.
    let mut second = Running::start(role("learn"))?;
    let deadline = Instant::now() + Duration::from_secs(120);
    let loser = loop {
        ensure!(Instant::now() < deadline, "two learners of one name go on");
        if !second.runs_for(Duration::from_millis(20)) {
            break second;
        }
        if !first.runs_for(Duration::from_millis(20)) {
            break first;
        }
    };
    let ended = loser.wait()?;
    ensure!(
        ended.status.code() == Some(1),
        "{}\n{}",
        ended.status,
        ended.stderr
    );
    let why = "two learners share that name; stop one, or give this one another name";
    ensure!(ended.stderr.contains(why), "{}", ended.stderr);
    Ok(())
}

/// Tests a new folder with the name of another run: its rollouts would be mixed up with that run's.
#[test]
fn the_topics_of_another_run_are_refused() -> Result<()> {
    let (folder, out) = place()?;
    let kafka = folder.path().join("kafka");
    let broker = Broker::up(&kafka)?;
    let address = broker.address.as_str();
    small::finished(at(small::digits(folder.path(), &out)?, address))?;
    // With its seed too: version 0 is the same, but the run is not.
    let other = folder.path().join("other");
    for seed in ["seed=0", "seed=2"] {
        let mut mixed = at(small::digits(folder.path(), &other)?, address);
        mixed.args(["--set", seed]);
        let ended = run(mixed)?;
        ensure!(ended.status.code() == Some(2), "{}", ended.stderr);
        let why = "is another run's: it announces version 3 of policy lead";
        ensure!(ended.stderr.contains(why), "{}", ended.stderr);
        ensure!(ended.stderr.contains("--set run=NAME"), "{}", ended.stderr);
        std::fs::remove_dir_all(&other)?;
    }
    let audited = audited(&out)?;
    ensure!(audited["holds"] == true, "{audited}");
    let mut named = at(small::digits(folder.path(), &other)?, address);
    named.args(["--set", "run=other"]);
    small::finished(named)?;
    Ok(())
}
