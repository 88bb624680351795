//! Several producers of one run: one bound for all of them, and no slot sampled for nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use vintage_tests::{Kafka, Running, audited, number, place, replayed, run, vintage};

use crate::{roles::interrupt, small};

const GROUPS: u64 = 4;
const BOUND: u64 = 4;

/// Run on a real Kafka whose roles are processes of their own.
pub(crate) struct Fleet {
    /// Folder of the run.
    pub(crate) out: PathBuf,
    settings: Vec<String>,
    prompts: PathBuf,
}

impl Fleet {
    /// Names the run `out`, and its folder in `folder`.
    pub(crate) fn new(folder: &Path, out: &str, kafka: &Kafka, settings: &[&str]) -> Result<Self> {
        let mut settings: Vec<_> = settings.iter().map(|text| (*text).to_owned()).collect();
        settings.push(format!("broker={}", kafka.address()));
        settings.push(format!("run={out}"));
        Ok(Self {
            out: folder.join(out),
            settings,
            prompts: small::prompts(folder)?,
        })
    }

    pub(crate) fn role(&self, verb: &str) -> Command {
        let mut command = small::verb(verb, &self.out);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        let prompts = format!("prompts.train={}", self.prompts.display());
        command.args(["--set", &prompts, "--set", "learner.checkpoint_every=5"]);
        command
    }

    /// Starts a role.
    pub(crate) fn start(&self, verb: &str) -> Result<Running> {
        Running::start(self.role(verb))
    }

    /// Waits until an update is done; the learner must be running.
    pub(crate) fn until(&self, update: u64, learner: &mut Running) -> Result<()> {
        let result = self.out.join(format!("results/lead/{update}.json"));
        while !result.exists() {
            ensure!(
                learner.runs_for(Duration::from_millis(5)),
                "the learner ended before update {update}"
            );
        }
        Ok(())
    }

    /// Returns the results of the first updates.
    pub(crate) fn results(&self, updates: u64) -> Result<Vec<Value>> {
        (0..updates).map(|update| read(&self.out, update)).collect()
    }
}

fn read(out: &Path, update: u64) -> Result<Value> {
    let path = out.join(format!("results/lead/{update}.json"));
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_slice(&text)?)
}

/// Waits for the end of a role and returns its summary.
#[test]
fn producers_that_pause_die_and_join_stay_under_one_bound() -> Result<()> {
    const UPDATES: u64 = 80;
    let (folder, _) = place()?;
    let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    let settings = [
        &*format!("learner.steps={UPDATES}"),
        &*format!("gate.max_staleness={BOUND}"),
        "rollout.concurrent_groups=2",
    ];
    let fleet = Fleet::new(folder.path(), "pausing", &kafka, &settings)?;
    let mut learner = fleet.start("learn")?;
    let archive = fleet.start("archive")?;
    let mut producers = Vec::new();
    for _ in 0..4 {
        producers.push(fleet.start("rollout")?);
    }
    fleet.until(10, &mut learner)?;
    let (killed, paused) = (producers.remove(0), producers.remove(0));
    killed.kill()?;
    paused.signal(Signal::STOP)?;
    fleet.until(25, &mut learner)?;
    // The leases that were granted before are known to the next process of the learner.
    learner.kill()?;
    let mut learner = fleet.start("learn")?;
    fleet.until(40, &mut learner)?;
    producers.push(fleet.start("rollout")?);
    fleet.until(55, &mut learner)?;
    paused.signal(Signal::CONT)?;
    producers.push(paused);
    let learned = learner.wait()?.json()?;
    ensure!(learned["finished"] == true, "{learned}");
    for producer in producers {
        producer.wait()?.json()?;
    }
    interrupt(&archive)?;
    archive.wait()?.json()?;
    for result in fleet.results(UPDATES)? {
        let staleness = number(&result, "max_staleness")?;
        ensure!(staleness <= BOUND, "{staleness} in {result}");
    }
    let audited = audited(&fleet.out)?;
    ensure!(audited["holds"] == true, "{audited}");
    let account = &audited["learners"]["lead"];
    let [produced, trained] = ["produced", "trained"].map(|key| number(account, key));
    let (produced, trained) = (produced?, trained?);
    ensure!(trained == UPDATES * GROUPS, "{account}");
    // Work is shared: what was sampled twice is what the killed and the paused one had in hand,
    // three calls of two groups at most each. On a busy machine the three others may be late too
    // with what they had in hand while the learner was down.
    let repeated = account["rejected"]["slot_taken"].as_u64().unwrap_or(0);
    ensure!(repeated <= 2 * 6, "{account}");
    ensure!(produced - trained <= 5 * 6, "{account}");
    replayed(&fleet.out, UPDATES)?;
    Ok(())
}

#[test]
fn a_dead_producer_is_named_with_its_slots_and_another_fills_them() -> Result<()> {
    const UPDATES: u64 = 20;
    let (folder, _) = place()?;
    let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    let settings = [
        &*format!("learner.steps={UPDATES}"),
        &*format!("gate.max_staleness={BOUND}"),
    ];
    let fleet = Fleet::new(folder.path(), "dying", &kafka, &settings)?;
    let mut learner = fleet.start("learn")?;
    let archive = fleet.start("archive")?;
    let producer = fleet.start("rollout")?;
    fleet.until(5, &mut learner)?;
    producer.kill()?;
    // Nobody else samples, so the run waits until its slots are free again.
    let slots = loop {
        ensure!(learner.runs_for(Duration::from_millis(200)), "it ended");
        let audited = audited(&fleet.out)?;
        let notes = audited["notes"].as_array().context("notes")?;
        let mut notes = notes.iter().filter_map(Value::as_str);
        if let Some(note) = notes.find(|note| note.contains("fell silent with")) {
            break note.rsplit(": ").next().unwrap_or_default().to_owned();
        }
    };
    ensure!(
        slots.starts_with(|first: char| first.is_ascii_digit()),
        "{slots}"
    );
    let second = fleet.start("rollout")?;
    let learned = learner.wait()?.json()?;
    ensure!(learned["finished"] == true, "{learned}");
    second.wait()?.json()?;
    interrupt(&archive)?;
    archive.wait()?.json()?;
    let audited = audited(&fleet.out)?;
    ensure!(audited["holds"] == true, "{audited}");
    Ok(())
}

#[test]
fn an_exact_run_trains_on_the_same_prompts_whoever_samples_them() -> Result<()> {
    const UPDATES: u64 = 30;
    let (folder, _) = place()?;
    let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    let steps = format!("learner.steps={UPDATES}");
    let mut runs = Vec::new();
    for (out, producers) in [("alone", 1), ("shared", 3)] {
        let settings = [
            &*steps,
            "gate.exact=3",
            "gate.ages=uniform",
            "rollout.concurrent_groups=2",
        ];
        let fleet = Fleet::new(folder.path(), out, &kafka, &settings)?;
        let learner = fleet.start("learn")?;
        let archive = fleet.start("archive")?;
        let producing: Result<Vec<_>> = (0..producers).map(|_| fleet.start("rollout")).collect();
        learner.wait()?.json()?;
        let groups = producing?
            .into_iter()
            .map(|of| number(&of.wait()?.json()?, "groups"));
        let groups = groups.collect::<Result<Vec<_>>>()?;
        ensure!(groups.iter().sum::<u64>() == UPDATES * GROUPS, "{groups:?}");
        ensure!(
            groups.iter().filter(|groups| **groups > 0).count() > producers / 2,
            "{groups:?}"
        );
        interrupt(&archive)?;
        archive.wait()?.json()?;
        runs.push(trained_prompts(&fleet.out, UPDATES)?);
    }
    let [alone, shared] = &runs[..] else {
        unreachable!("two runs")
    };
    ensure!(alone == shared, "{alone:?} and {shared:?}");
    Ok(())
}

/// Returns the prompts of the groups that each update trained on, in the plan's order.
fn trained_prompts(out: &Path, updates: u64) -> Result<Vec<Vec<String>>> {
    let mut inspect = vintage(["inspect", "--rows", "--output", "json", "--limit", "100000"]);
    inspect.arg(out.join("archive"));
    let rows = run(inspect)?;
    ensure!(rows.status.success(), "{}", rows.stderr);
    let mut prompts = BTreeMap::new();
    for row in rows.stdout.lines() {
        let row: Value = serde_json::from_str(row)?;
        let of = |key: &str| {
            row[key]
                .as_str()
                .map(str::to_owned)
                .with_context(|| row.to_string())
        };
        prompts.insert(of("group_id")?, of("prompt_id")?);
    }
    let of_update = |update| {
        let path = out.join(format!("plans/lead/{update}.json"));
        let plan: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        let groups = plan["groups"].as_array().context("groups")?.iter();
        groups
            .map(|group| {
                let prompt = group["group"].as_str().and_then(|group| prompts.get(group));
                prompt
                    .cloned()
                    .with_context(|| format!("{group} is not archived"))
            })
            .collect()
    };
    (0..updates).map(of_update).collect()
}
