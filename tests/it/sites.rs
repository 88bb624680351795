//! Producers on hosts without a shared folder: the guide's lines, outages of broker and store, and
//! sites that were set up wrongly.

pub(crate) mod gate;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use vintage_tests::{Kafka, Running, S3, free_port, get, run, s3_options, vintage};

use crate::{pages, roles::Broker, small};
use gate::Gate;

/// Time for which the store is away: more than the eight tries of one request take.
const AWAY: Duration = Duration::from_secs(35);
/// Time within which an outage shows, with room for a busy machine.
const SHOWS: Duration = Duration::from_secs(30);

/// Settings of every role of a run whose store is a bucket.
struct Site<'a> {
    folder: &'a Path,
    prompts: PathBuf,
    settings: Vec<String>,
}

impl<'a> Site<'a> {
    fn new(folder: &'a Path, broker: &str, run: &str) -> Result<Self> {
        Ok(Self {
            folder,
            prompts: small::prompts(folder)?,
            settings: vec![format!("broker={broker}"), format!("run={run}")],
        })
    }

    /// Returns the command of a role in a folder of its own, whose store answers at a port.
    fn role(&self, verb: &str, name: &str, store: &str, port: u16) -> Command {
        let mut command = small::verb(verb, &self.folder.join(name));
        let prompts = format!("prompts.train={}", self.prompts.display());
        for setting in self.settings.iter().chain([&prompts]) {
            command.args(["--set", setting]);
        }
        command.args(["--set", &format!("store={store}")]);
        for (option, value) in s3_options(port) {
            if !option.starts_with("aws_") {
                let option = format!("store_options.{option}={value:?}");
                command.args(["--set", &option]);
            }
        }
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            command.env(name, "tests");
        }
        command
    }
}

/// Waits until an endpoint gives a status and a text; returns the text.
fn until(process: &mut Running, port: u16, path: &str, status: u16, text: &str) -> Result<String> {
    let begun = Instant::now();
    loop {
        ensure!(process.runs_for(Duration::from_millis(200)), "it ended");
        let said = get(port, path)
            .map(|answer| (answer.status, answer.body))
            .unwrap_or_default();
        if said.0 == status && said.1.contains(text) {
            return Ok(said.1);
        }
        ensure!(
            begun.elapsed() < SHOWS,
            "{path} never said {text:?}: {said:?}"
        );
    }
}

#[test]
fn the_guides_lines_train_on_sites_without_a_shared_folder() -> Result<()> {
    let guide = pages::page("docs/guide.md")?;
    let (_, section) = guide
        .split_once("### A site without a shared folder")
        .context("the section")?;
    let blocks = pages::blocks(section);
    let of = |kind: &str| {
        let blocks = blocks.iter().filter(|(info, _)| info.starts_with(kind));
        blocks.map(|(_, lines)| lines.clone()).collect::<Vec<_>>()
    };
    let settings = of("toml").into_iter().next().context("settings")?;
    let mut lines = of("sh not-run: needs hosts").join("");
    let s3 = S3::up("runs")?;
    let folder = tempfile::tempdir()?;
    pages::write_prompts(folder.path())?;
    let settings = settings.replace("10.0.0.5:8333", &format!("127.0.0.1:{}", s3.port()));
    std::fs::write(folder.path().join("sites.toml"), settings)?;
    lines = lines.replace("10.0.0.5", "127.0.0.1");
    lines = lines.replace("9401", &free_port()?.to_string());
    let mut script = pages::script(folder.path(), &format!("set -euo pipefail\n{lines}"));
    script.env("AWS_ACCESS_KEY_ID", "tests");
    script.env("AWS_SECRET_ACCESS_KEY", "tests");
    let followed = run(script)?;
    ensure!(followed.status.success(), "{lines}\n{}", followed.stderr);
    let said = &followed.stderr;
    ensure!(said.contains("sampling as producer local-"), "{said}");

    // The site's folder alone is no run.
    let mut audit = vintage(["audit", "--offline"]);
    audit.arg(folder.path().join("site"));
    let refused = run(audit)?;
    ensure!(refused.status.code() == Some(2), "{}", refused.stderr);
    ensure!(
        refused
            .stderr
            .contains("holds only the journals of 1 producer"),
        "{}",
        refused.stderr
    );
    Ok(())
}

#[test]
fn roles_wait_for_store_and_broker_and_say_for_which() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let mut kafka = Kafka::up(&folder.join("kafka"), 1)?;
    let s3 = S3::up("runs")?;
    // One role's way to the store is shut at a time: a producer notices when it is to load a version
    // that the learner announced, a learner when it has groups that the producer sampled.
    let (gate, learners_gate) = (Gate::before(s3.port())?, Gate::before(s3.port())?);
    let site = Site::new(folder, kafka.address(), "away")?;
    let store = "s3://runs/away";
    let long = ["--set", "learner.steps=100000"];
    let mut learner = site.role("learn", "center", store, learners_gate.port);
    let trains = free_port()?;
    learner.args(long).args(["--metrics", &trains.to_string()]);
    let mut learner = Running::start(learner)?;
    let port = free_port()?;
    let mut producer = site.role("rollout", "site", store, gate.port);
    producer.args(long).args(["--metrics", &port.to_string()]);
    let mut producer = Running::start(producer)?;
    ensure!(producer.says("sampling as producer local-")?, "it ended");
    until(&mut producer, port, "/readyz", 200, "")?;
    until(&mut learner, trains, "/readyz", 200, "")?;

    gate.shut();
    let away = Instant::now();
    let said = until(
        &mut producer,
        port,
        "/readyz",
        503,
        "the store s3://runs/away",
    )?;
    let address = format!("127.0.0.1:{}", gate.port);
    ensure!(said.contains(&address), "{said}");
    let health = get(port, "/healthz")?;
    ensure!(health.status == 200, "{}", health.body);
    ensure!(health.body.contains(&address), "{}", health.body);
    ensure!(
        producer.says("has not served for")?,
        "the log does not say so"
    );
    outlives(&mut producer, away)?;
    gate.open();
    until(&mut producer, port, "/readyz", 200, "")?;
    until(&mut learner, trains, "/readyz", 200, "")?;

    learners_gate.shut();
    let away = Instant::now();
    until(
        &mut learner,
        trains,
        "/readyz",
        503,
        "the store s3://runs/away",
    )?;
    ensure!(
        learner.says("has not served for")?,
        "the log does not say so"
    );
    outlives(&mut learner, away)?;
    let updates = || -> Result<f64> {
        let metrics = get(trains, "/metrics")?.body;
        let mut counts = metrics
            .lines()
            .filter(|line| line.starts_with("vintage_update_seconds_count"));
        let count = counts.next().and_then(|line| line.rsplit(' ').next());
        Ok(count.context("no count of updates")?.parse()?)
    };
    let before = updates()?;
    learners_gate.open();
    until(&mut learner, trains, "/readyz", 200, "")?;
    until(&mut producer, port, "/readyz", 200, "")?;
    let back = Instant::now();
    while updates()? < before + 2.0 {
        ensure!(
            learner.runs_for(Duration::from_millis(200)) && back.elapsed() < SHOWS,
            "the learner does not go on"
        );
    }

    // Frozen nodes answer no more, and their connections stay.
    kafka.freeze(1)?;
    let expected = format!("no broker at {} has answered for", kafka.address());
    until(&mut producer, port, "/readyz", 503, &expected)?;
    ensure!(producer.says(&expected)?, "the log does not say so");
    kafka.thaw(1)?;
    until(&mut producer, port, "/readyz", 200, "")?;
    ensure!(learner.runs_for(Duration::ZERO), "the learner ended");
    Ok(())
}

/// Checks that a role is there [`AWAY`] after its store went away.
fn outlives(role: &mut Running, away: Instant) -> Result<()> {
    while away.elapsed() < AWAY {
        ensure!(role.runs_for(Duration::from_millis(200)), "it gave up");
    }
    Ok(())
}

#[test]
fn a_site_that_was_set_up_wrongly_is_told_what_is_wrong() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let data = folder.join("kafka");
    let broker = Broker::up(&data)?;
    let s3 = S3::up("runs")?;
    let site = Site::new(folder, &broker.address, "wrong")?;
    let store = "s3://runs/wrong";
    let mut learner = site.role("learn", "center", store, s3.port());
    learner.args(["--set", "learner.steps=100000"]);
    let mut learner = Running::start(learner)?;
    ensure!(learner.says("training")?, "the learner ended");

    let refused = |command: Command, code: i32, words: &[&str]| -> Result<()> {
        let begun = Instant::now();
        let ended = run(command)?;
        let said = &ended.stderr;
        ensure!(
            ended.status.code() == Some(code),
            "{}\n{said}",
            ended.status
        );
        for word in words {
            ensure!(said.contains(word), "{word:?} is not in: {said}");
        }
        ensure!(begun.elapsed() < 2 * SHOWS, "it took {:?}", begun.elapsed());
        Ok(())
    };
    let with = |settings: &[&str]| {
        let mut command = site.role("rollout", "site", store, s3.port());
        for setting in settings {
            command.args(["--set", setting]);
        }
        command
    };
    let others = [
        "rollout.max_tokens=1",
        "seed=3",
        "rollout.reward.kind=number",
    ];
    let words = [
        "rollout.max_tokens is 1 here and 2 in the run",
        "seed is 3 here and 0 in the run",
        "rollout.reward.kind is \"number\" here and \"exact\" in the run",
        "--accept rollout.max_tokens",
    ];
    refused(with(&others), 2, &words)?;
    refused(
        with(&["rollout.group_size=2"]),
        2,
        &["rollout.group_size is 2 here and 4 in the run"],
    )?;
    refused(
        site.role("rollout", "site", "s3://runs/elsewhere", s3.port()),
        2,
        &[
            "store = \"s3://runs/elsewhere\"",
            "holds no version 0 of policy lead",
        ],
    )?;
    refused(
        site.role("rollout", "site", "s3://nowhere/wrong", s3.port()),
        2,
        &["NoSuchBucket", "check the setting store"],
    )?;
    let mut keyless = with(&[]);
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        keyless.env_remove(name);
    }
    refused(
        keyless,
        2,
        &["no credentials for the store", "AWS_ACCESS_KEY_ID"],
    )?;

    // A second learner of the policy, in another folder and at another place of the store.
    for (name, place) in [("second", "s3://runs/second"), ("third", store)] {
        let second = site.role("learn", name, place, s3.port());
        let words = ["is running already on", "two learners share that name"];
        refused(second, 1, &words)?;
    }
    ensure!(learner.runs_for(Duration::ZERO), "the first learner ended");

    // Waits, and says for what.
    let waits = |command: Command, words: &[&str]| -> Result<()> {
        let mut process = Running::start(command)?;
        for word in words {
            ensure!(process.says(word)?, "it ended: {}", process.wait()?.stderr);
        }
        process.kill()?;
        Ok(())
    };
    waits(
        with(&["run=mistyped"]),
        &["has no topic vintage.mistyped.rollouts.v1, and topics of run \"wrong\""],
    )?;
    let mut nameless = small::verb("rollout", &folder.join("nameless"));
    nameless.args(["--broker", &broker.address]);
    waits(nameless, &["name the run by --set run=NAME: the broker at"])?;
    waits(
        with(&["learner.policy=other"]),
        &["announced there are lead (set learner.policy to the one to sample from)"],
    )?;

    // With the same settings it samples, and with fewer tokens where that is accepted.
    let mut shorter = with(&["rollout.max_tokens=1"]);
    shorter.args(["--accept", "rollout.max_tokens"]);
    waits(shorter, &["sampling as producer local-"])?;
    Ok(())
}
