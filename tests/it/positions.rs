//! Logs whose last offsets hold no record, or records that cannot be read yet: no reader may wait
//! for them. Also topics that grow while they are read.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use vintage_control::Topics;
use vintage_tests::{Running, Served, audit, python, replayed, run, vintage};

use crate::{roles::Broker, small};

fn topics(run: &str) -> Result<Topics> {
    Ok(Topics {
        namespace: "vintage".parse()?,
        run: run.parse()?,
    })
}

/// Runs a script of `tests/python` to its end.
fn python_of(script: &str, args: &[&str]) -> Result<()> {
    let mut command = Command::new(python());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    command.arg(folder.join(script)).args(args);
    let ended = run(command)?;
    ensure!(ended.status.success(), "{args:?}: {}", ended.stderr);
    Ok(())
}

fn transacted(address: &str, end: &str, topics: &[String]) -> Result<()> {
    let topics = topics.iter().map(String::as_str);
    let args: Vec<_> = [address, end].into_iter().chain(topics).collect();
    python_of("transaction.py", &args)
}

fn at(mut command: Command, address: &str) -> Command {
    command.args(["--broker", address]);
    command
}

/// Sends ^C to the archive of a run once it archives; returns its output.
fn archived(out: &Path, address: &str) -> Result<String> {
    let mut archive = at(small::verb("archive", out), address);
    archive.arg("-v");
    let mut archive = Running::start(archive)?;
    ensure!(archive.says("archiving")?, "{}", archive.wait()?.stderr);
    archive.signal(Signal::INT)?;
    let ended = archive.wait()?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    Ok(ended.stderr)
}

/// Checks that an action does not wait for a missing record, for which a reader gives up after 10 s
/// or never.
fn soon<T>(what: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let done = act()?;
    let took = begun.elapsed();
    ensure!(took < Duration::from_secs(10), "{what} took {took:?}");
    Ok(done)
}

#[test]
fn where_the_log_ends_with_no_record_nobody_waits() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kafka = folder.path().join("kafka");
    let broker = Broker::up(&kafka)?;
    let address = &broker.address;
    let out = folder.path().join("run");
    run(at(
        vintage(["topics", "apply", "--output", "json"]),
        address,
    ))?
    .json()?;
    let topics = topics("run")?;
    // Before the run starts, in all four topics: at the start of the run, of the producer, and of
    // the gate.
    transacted(address, "commit", &topics.all())?;
    transacted(address, "abort:100", &topics.all())?;
    let mut training = small::digits(folder.path(), &out)?;
    training.args(["--broker", address]);
    let summary = small::finished(training)?;
    ensure!(summary["trained"] == 12, "{summary}");
    replayed(&out, 3)?;

    transacted(address, "commit", &topics.all())?;
    let books = soon("the audit", || audit(&out, &[]))?;
    ensure!(books.status.success(), "{}\n{}", books.stdout, books.stderr);
    ensure!(!books.stdout.contains("did not come"), "{}", books.stdout);
    let mut inspect = at(vintage(["inspect"]), address);
    inspect.args([&topics.rollouts(), "--limit", "1000"]);
    let inspected = soon("inspect", || run(inspect))?;
    ensure!(inspected.status.success(), "{}", inspected.stderr);
    archived(&out, address)?;

    let rollouts = topics.rollouts();
    let _open = Served::start("transaction.py", [&address[..], "open", &rollouts], "")?;
    let said = archived(&out, address)?;
    ensure!(
        said.contains("a transaction of another program is open"),
        "{said}"
    );
    let books = soon("the audit", || audit(&out, &[]))?;
    ensure!(books.status.success(), "{}\n{}", books.stdout, books.stderr);
    ensure!(
        books.stdout.contains("cannot be read yet"),
        "{}",
        books.stdout
    );
    Ok(())
}

/// Tests that learner and archive read partitions which did not exist when they began, and that the
/// settings which the run recorded do not prevent resuming.
#[test]
fn partitions_that_are_added_to_a_live_topic_are_read() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kafka = folder.path().join("kafka");
    let broker = Broker::up(&kafka)?;
    let address = &broker.address;
    let out = folder.path().join("run");
    let prompts = small::prompts(folder.path())?;
    let role = |name: &str| {
        let mut command = at(small::verb(name, &out), address);
        command.args(["--set", &format!("prompts.train={}", prompts.display())]);
        command.args(["--set", "topics.partitions=1"]);
        command
    };
    let topics = topics("run")?;
    let rollouts = topics.rollouts();
    run(at(
        vintage(["topics", "apply", "--set", "topics.partitions=1"]),
        address,
    ))?;
    let mut learner = Running::start(role("learn"))?;
    python_of("announced.py", &[address, &topics.policies()])?;
    let mut archive = role("archive");
    archive.arg("-v");
    let mut archive = Running::start(archive)?;
    ensure!(archive.says("archiving")?, "{}", archive.wait()?.stderr);

    python_of("topic.py", &[address, &rollouts, "grow", "8"])?;
    ensure!(learner.says("has grown")?, "{}", learner.wait()?.stderr);
    let producer = Running::start(role("rollout"))?;
    let learned = learner.wait()?.json()?;
    ensure!(learned["finished"] == true, "{learned}");
    ensure!(learned["groups_trained"] == 12, "{learned}");
    let produced = producer.wait()?;
    ensure!(produced.status.success(), "{}", produced.stderr);
    archive.signal(Signal::INT)?;
    let ended = archive.wait()?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    replayed(&out, 3)?;
    let books = audit(&out, &[])?;
    ensure!(books.status.success(), "{}\n{}", books.stdout, books.stderr);

    // The recorded settings have one partition.
    let mut again = small::verb("run", &out);
    again.args(["--broker", address, "--steps", "6"]);
    again.args(["--set", &format!("prompts.train={}", prompts.display())]);
    let summary = small::finished(again)?;
    ensure!(summary["updates"] == 6, "{summary}");
    // The current number may be given too.
    let mut resumed = small::verb("run", &out);
    resumed.args([
        "--broker",
        address,
        "--steps",
        "7",
        "--set",
        "topics.partitions=8",
    ]);
    resumed.args(["--set", &format!("prompts.train={}", prompts.display())]);
    small::finished(resumed)?;
    replayed(&out, 7)?;
    let books = audit(&out, &[])?;
    ensure!(books.status.success(), "{}\n{}", books.stdout, books.stderr);
    Ok(())
}

#[test]
fn a_topic_that_loses_records_is_refused_or_warned_of() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kafka = folder.path().join("kafka");
    let broker = Broker::up(&kafka)?;
    let address = &broker.address;
    let prompts = small::prompts(folder.path())?;
    let role = |name: &str, of: &str| {
        let mut command = at(small::verb(name, &folder.path().join(of)), address);
        command.args(["--set", &format!("run={of}")]);
        command.args(["--set", &format!("prompts.train={}", prompts.display())]);
        command
    };
    let make = |topic: &str, setting: &str| {
        let size = "max.message.bytes=4194304";
        python_of("topic.py", &[address, topic, "make", "4", size, setting])
    };
    for (of, topic, setting) in [
        (
            "compacted",
            topics("compacted")?.rollouts(),
            "cleanup.policy=compact",
        ),
        (
            "expiring",
            topics("expiring")?.policies(),
            "cleanup.policy=delete",
        ),
    ] {
        make(&topic, setting)?;
        let mends = format!("--entity-name {topic} --add-config cleanup.policy=");
        for name in ["learn", "archive", "rollout", "run"] {
            let refused = run(role(name, of))?;
            ensure!(
                refused.status.code() == Some(2) && refused.stderr.contains(&mends),
                "{name}: {}\n{}",
                refused.status,
                refused.stderr
            );
        }
        let mut doctor = at(vintage(["doctor"]), address);
        doctor.args(["--set", &format!("run={of}")]);
        let doctor = run(doctor)?;
        ensure!(doctor.status.code() != Some(0), "{}", doctor.stdout);
        ensure!(doctor.stdout.contains(&mends), "{}", doctor.stdout);
        ensure!(doctor.stdout.contains(setting), "{}", doctor.stdout);
    }
    make(&topics("short")?.rollouts(), "retention.ms=3600000")?;
    let warned = run(role("run", "short"))?;
    ensure!(warned.status.success(), "{}", warned.stderr);
    let warning = "has retention.ms=3600000, not 604800000";
    ensure!(warned.stderr.contains(warning), "{}", warned.stderr);
    Ok(())
}
