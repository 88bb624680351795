//! Epochs: every prompt is asked once before any is asked twice, across clean ends, kills and
//! several producers.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use vintage_archive::Reader;
use vintage_store::Store;
use vintage_tests::{Kafka, Running, place, replayed, run};
use vintage_trajectory::Rows;

use crate::{roles::interrupt, small};

const PROMPTS: usize = 80;
/// Number of updates; with four prompts per update, an epoch.
const STEPS: usize = 20;

fn prompts(folder: &Path) -> Result<PathBuf> {
    let row = |i| {
        format!(
            "{{\"id\":\"q{i}\",\"prompt\":\"{i:02}=\",\"answer\":\"{}\"}}\n",
            i % 10
        )
    };
    let path = folder.join("prompts.jsonl");
    std::fs::write(&path, (0..PROMPTS).map(row).collect::<String>())?;
    Ok(path)
}

/// Returns a command of a verb in a run of one epoch.
fn epoch(verb: &str, out: &Path, prompts: &Path, settings: &[&str]) -> Command {
    let mut command = small::verb(verb, out);
    let steps = format!("learner.steps={STEPS}");
    let prompts = format!("prompts.train={}", prompts.display());
    for setting in [&*steps, &*prompts, "learner.checkpoint_every=3"]
        .iter()
        .chain(settings)
    {
        command.args(["--set", setting]);
    }
    command
}

/// Runs processes that are ended by `end` once an update is done, then one to the end.
fn run_in_pieces(
    command: impl Fn() -> Command,
    out: &Path,
    end: impl Fn(Running) -> Result<()>,
) -> Result<()> {
    for update in [2, 6, 11, 15] {
        let mut running = Running::start(command())?;
        let result = out.join(format!("results/lead/{update}.json"));
        let mut runs = true;
        while runs && !result.exists() {
            runs = running.runs_for(Duration::from_millis(5));
        }
        if runs {
            end(running)?;
        } else {
            // A fast machine has done all updates by now.
            let ended = running.wait()?;
            ensure!(ended.status.success(), "{}", ended.stderr);
        }
    }
    small::finished(command())?;
    Ok(())
}

/// Returns the number of archived groups of each prompt.
fn archived(out: &Path) -> Result<BTreeMap<String, u64>> {
    let store = Store::open(&out.join("archive").to_string_lossy())?;
    let reader = Reader::new(store, "vintage.run.rollouts.v1");
    let mut asked = BTreeMap::new();
    Runtime::new()?.block_on(async {
        for incarnation in reader.incarnations().await? {
            for partition in reader.partitions(incarnation).await? {
                let mut heads = reader
                    .heads(incarnation, partition, vintage_control::Offset(0))
                    .await?;
                while let Some(head) = heads.next().await? {
                    *asked.entry(head.prompt.context("a prompt")?).or_insert(0) += 1;
                }
            }
        }
        Ok(asked)
    })
}

fn each_once(asked: &BTreeMap<String, u64>) -> Result<()> {
    let groups: u64 = asked.values().sum();
    ensure!(
        asked.len() == PROMPTS && groups == PROMPTS as u64,
        "{groups} groups of {} prompts: {asked:?}",
        asked.len()
    );
    Ok(())
}

#[test]
fn an_epoch_over_clean_ends_asks_every_prompt_once() -> Result<()> {
    let (folder, out) = place()?;
    let prompts = prompts(folder.path())?;
    let command = || epoch("run", &out, &prompts, &[]);
    run_in_pieces(command, &out, |running| {
        interrupt(&running)?;
        running.wait().map(drop)
    })?;
    each_once(&archived(&out)?)?;
    replayed(&out, STEPS as u64)?;
    Ok(())
}

#[test]
fn an_epoch_over_clean_ends_under_the_exact_rule_asks_every_prompt_once() -> Result<()> {
    let (folder, out) = place()?;
    let prompts = prompts(folder.path())?;
    let command = || epoch("run", &out, &prompts, &["gate.exact=1"]);
    run_in_pieces(command, &out, |running| {
        interrupt(&running)?;
        running.wait().map(drop)
    })?;
    each_once(&archived(&out)?)
}

#[test]
fn an_epoch_over_kills_asks_every_prompt_once() -> Result<()> {
    let (folder, out) = place()?;
    let prompts = prompts(folder.path())?;
    let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    let broker = format!("broker={}", kafka.address());
    let command = || epoch("run", &out, &prompts, &[&broker]);
    run_in_pieces(command, &out, |running| running.kill().map(drop))?;
    each_once(&archived(&out)?)
}

#[test]
fn two_producers_and_the_life_of_one_that_was_killed_share_the_epochs() -> Result<()> {
    let (folder, out) = place()?;
    let prompts = prompts(folder.path())?;
    let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    let broker = format!("broker={}", kafka.address());
    let role = |verb: &str| {
        let settings = [
            &*broker,
            "gate.max_staleness=3",
            "rollout.concurrent_groups=2",
        ];
        let mut command = epoch(verb, &out, &prompts, &settings);
        // Long enough that the third has work left: it counts what both before it published.
        command.args(["--set", "learner.steps=600"]);
        command
    };
    let mut learner = Running::start(role("learn"))?;
    let first = Running::start(role("rollout"))?;
    let second = Running::start(role("rollout"))?;
    while !out.join("results/lead/4.json").exists() {
        ensure!(
            learner.runs_for(Duration::from_millis(5)),
            "it ended before: {}",
            learner.wait()?.stderr
        );
    }
    first.kill()?;
    let third = Running::start(role("rollout"))?;
    let learned = learner.wait()?.json()?;
    ensure!(learned["finished"] == true, "{learned}");
    for producer in [second, third] {
        let produced = producer.wait()?;
        ensure!(produced.status.success(), "{}", produced.stderr);
    }
    let mut asked = BTreeMap::new();
    for payload in kafka.read("vintage.run.rollouts.v1")? {
        let rows = Rows::decode(&payload)?;
        *asked.entry(rows.prompt_id(0).to_owned()).or_insert(0_u64) += 1;
    }
    let least = asked.values().min().context("groups")?;
    let most = asked.values().max().context("groups")?;
    // The prompts that the killed one had in hand are asked by the one that started after it.
    ensure!(
        asked.len() == PROMPTS && most - least <= 1,
        "{} prompts: {asked:?}",
        asked.len()
    );
    let audited = vintage_tests::audited(&out)?;
    ensure!(audited["holds"] == true, "{audited}");
    Ok(())
}

#[test]
fn a_producer_ends_with_its_run_whatever_it_was_told() -> Result<()> {
    let (folder, out) = place()?;
    let prompts = prompts(folder.path())?;
    let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    let broker = format!("broker={}", kafka.address());
    let mut producer = epoch("rollout", &out, &prompts, &[&broker, "learner.steps=400"]);
    producer.args(["--set", "gate.max_staleness=100"]);
    let mut learner = epoch(
        "learn",
        &out,
        &prompts,
        &[&broker, "gate.max_staleness=100"],
    );
    learner.args(["--steps", "5"]);
    let producer = Running::start(producer)?;
    let learned = run(learner)?.json()?;
    ensure!(learned["finished"] == true, "{learned}");
    let produced = producer.wait()?.json()?;
    ensure!(
        produced["groups"] == 5 * 4,
        "nothing for updates that never come: {produced}"
    );
    Ok(())
}
