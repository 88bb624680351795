//! Three hosts in network namespaces of their own: learner, archive, Kafka and an S3 store at one,
//! producers at two others that differ in bandwidth and distance.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use vintage_tests::{
    Host, Link, Running, Served, exact, number, place, run, s3_options_at, vintage,
};

use crate::{
    roles::{Broker, interrupt},
    small,
};

const UPDATES: u64 = 300;
const BOUND: u64 = 8;
const GROUPS: u64 = 4;
/// Address of the center, which both sites reach.
const CENTER: &str = "10.77.0.1";
/// Secret of the S3 store, which takes any.
const SECRET: &str = "tests";
/// Longest time without an update: what a cut connection and a started learner take, on a busy
/// machine.
const STALL: Duration = Duration::from_secs(60);
/// Silence after which a producer loses its leases, with room for a busy machine.
const SILENCE: Duration = Duration::from_secs(12);

/// Settings with which every role is started, on whichever host.
struct Fleet<'a> {
    folder: &'a Path,
    prompts: PathBuf,
    settings: Vec<String>,
}

impl Fleet<'_> {
    /// Returns the command of a role in the folder `name`, which no other host sees.
    fn role(&self, verb: &str, name: &str) -> Command {
        let mut command = small::verb(verb, &self.folder.join(name));
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        let prompts = format!("prompts.train={}", self.prompts.display());
        command.args(["--set", &prompts]);
        command.env("AWS_SECRET_ACCESS_KEY", SECRET);
        command
    }

    fn start(&self, host: &Host, verb: &str, name: &str) -> Result<Running> {
        Running::start(host.at(&self.role(verb, name)))
    }
}

/// Results of the updates as they are published, read from the log by a client that is not ours.
struct Results {
    _kcat: Running,
    lines: Receiver<Value>,
    seen: BTreeMap<u64, Value>,
}

impl Results {
    fn of(center: &Host, address: &str) -> Result<Self> {
        let mut kcat = Command::new("kcat");
        kcat.args([
            "-C",
            "-u",
            "-q",
            "-b",
            address,
            "-t",
            "vintage.hosts.steps.v1",
        ]);
        kcat.args(["-o", "beginning", "-f", "%s\n"]);
        let (sender, lines) = channel();
        let kcat = Running::with_stdout(center.at(&kcat), move |line| {
            // The test may have ended.
            let _gone = serde_json::from_str(&line).map(|result| sender.send(result));
        })?;
        Ok(Self {
            _kcat: kcat,
            lines,
            seen: BTreeMap::new(),
        })
    }

    /// Waits until an update is done, and as long as `at_least` after the call.
    fn until(&mut self, update: u64, at_least: Duration) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < at_least || !self.seen.contains_key(&update) {
            let result = self.lines.recv_timeout(STALL);
            let result = result.with_context(|| {
                let last = self.seen.last_key_value();
                format!("no update within {STALL:?} after {last:?}")
            })?;
            self.seen.insert(number(&result, "version")?, result);
        }
        Ok(())
    }

    fn newest(&self) -> u64 {
        self.seen.last_key_value().map_or(0, |(update, _)| *update)
    }
}

/// Returns, by producer, the newest version that sampled any of its rollouts in the log.
fn newest_versions(center: &Host, address: &str) -> Result<BTreeMap<String, u64>> {
    let mut kcat = Command::new("kcat");
    kcat.args([
        "-C",
        "-e",
        "-q",
        "-b",
        address,
        "-t",
        "vintage.hosts.rollouts.v1",
    ]);
    kcat.args(["-o", "beginning", "-f", "%h\n"]);
    let read = run(center.at(&kcat))?;
    ensure!(read.status.success(), "kcat: {}", read.stderr);
    let mut newest = BTreeMap::new();
    for headers in read.stdout.lines() {
        let of = |name: &str| {
            let mut headers = headers
                .split(',')
                .filter_map(|header| header.split_once('='));
            let found = headers.find(|(key, _)| *key == name);
            found
                .map(|(_, value)| value)
                .with_context(|| format!("no {name} in {headers:?}"))
        };
        let version: u64 = of("max-policy-version")?.parse()?;
        let known: &mut u64 = newest.entry(of("producer")?.to_owned()).or_default();
        *known = version.max(*known);
    }
    Ok(newest)
}

#[test]
fn three_hosts_train_through_a_cut_a_kill_a_join_and_a_learner_that_returns() -> Result<()> {
    let (folder, _) = place()?;
    let folder = folder.path();
    let center = Host::first()?;
    center.ip(&format!("address add {CENTER}/32 dev lo"))?;
    let (near, far) = (center.another()?, center.another()?);
    let to_near = Link::join(&center, &near, "77.1", 200, 0)?;
    let _to_far = Link::join(&center, &far, "77.2", 20, 30)?;
    near.ip(&format!("route add {CENTER} via 10.77.1.1"))?;
    far.ip(&format!("route add {CENTER} via 10.77.2.1"))?;

    let data = folder.join("kafka");
    let three = ["--nodes", "3", "--listen", CENTER];
    let kafka = Broker::up_on(Some(&center), &data, &three)?;
    let s3 = Served::run(
        center.at(&Served::script("s3_server.py", ["runs", CENTER])),
        "",
    )?;
    let mut settings = vec![
        format!("broker={}", kafka.address),
        "run=hosts".to_owned(),
        "store=s3://runs/hosts".to_owned(),
        format!("learner.steps={UPDATES}"),
        format!("gate.max_staleness={BOUND}"),
        "learner.checkpoint_every=20".to_owned(),
    ];
    for (name, value) in s3_options_at(CENTER, s3.said().parse()?) {
        let given = if name == "aws_secret_access_key" {
            "env:AWS_SECRET_ACCESS_KEY".to_owned()
        } else {
            value
        };
        settings.push(format!("store_options.{name}={given:?}"));
    }
    let fleet = Fleet {
        folder,
        prompts: small::prompts(folder)?,
        settings,
    };

    let mut learner = fleet.start(&center, "learn", "center")?;
    if !learner.says("training")? {
        bail!("the learner ended: {:?}", learner.wait()?);
    }
    let archive = fleet.start(&center, "archive", "center")?;
    let mut results = Results::of(&center, &kafka.address)?;
    let doomed = fleet.start(&near, "rollout", "near")?;
    let cut_off = fleet.start(&near, "rollout", "near")?;
    let distant = fleet.start(&far, "rollout", "far")?;
    results.until(20, Duration::ZERO)?;

    // A producer dies for good.
    doomed.kill()?;
    results.until(results.newest() + 10, Duration::ZERO)?;

    // The near site is cut off for longer than the lead waits for its producers.
    to_near.cut(&center)?;
    results.until(results.newest() + 30, SILENCE)?;
    to_near.mend(&center)?;
    let mended = results.newest();
    // One joins late.
    let late = fleet.start(&far, "rollout", "far")?;
    results.until(results.newest() + 30, Duration::ZERO)?;

    // The learner dies and returns.
    learner.kill()?;
    let learner = fleet.start(&center, "learn", "center")?;
    results.until(UPDATES - 1, Duration::ZERO)?;

    let learned = learner.wait()?.json()?;
    ensure!(learned["finished"] == true, "{learned}");
    let newest = newest_versions(&center, &kafka.address)?;
    for producer in [cut_off, distant, late] {
        let produced = producer.wait()?.json()?;
        let name = produced["producer"].as_str().context("no name")?;
        // The one that was cut off samples again, with versions made since.
        let version = newest.get(name).copied().unwrap_or_default();
        ensure!(
            version > mended,
            "{name}: {version} in {newest:?}, mended at {mended}"
        );
    }
    interrupt(&archive)?;
    archive.wait()?.json()?;
    for (update, result) in &results.seen {
        let staleness = number(result, "max_staleness")?;
        ensure!(
            staleness <= BOUND,
            "update {update}: {staleness} in {result}"
        );
    }
    let at_center = |mut command: Command| {
        command.env("AWS_SECRET_ACCESS_KEY", SECRET);
        run(center.at(&command))?.json()
    };
    let out = folder.join("center");
    let mut audit = vintage(["audit", "--output", "json"]);
    audit.arg(&out);
    let audited = at_center(audit)?;
    ensure!(audited["holds"] == true, "{audited}");
    let account = &audited["learners"]["lead"];
    ensure!(number(account, "trained")? == UPDATES * GROUPS, "{account}");
    ensure!(number(account, "lost")? == 0, "{account}");
    let replayed = at_center(exact(&out))?;
    ensure!(replayed["identical"] == true, "{replayed}");
    ensure!(number(&replayed, "updates")? == UPDATES, "{replayed}");
    Ok(())
}
