//! Tests of the checks: a mistake is seeded into the program, and the check for it must find it.
//! The same run without the mistake must pass, so that nothing else is found.

use std::{
    path::Path,
    sync::mpsc::channel,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use vintage_tests::{
    Kafka, audited,
    chaos::{RoleProcess, Stage, Who},
    faulted, place, run,
};

use crate::small;

/// Interval at which a state is polled that no event announces.
const LOOK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);

/// Audits a small run with these faults, however it ends: it may notice a mistake itself.
fn seeded(faults: &str, settings: &[&str]) -> Result<Value> {
    let (folder, out) = place()?;
    let mut command = small::digits(folder.path(), &out)?;
    for setting in settings {
        command.args(["--set", setting]);
    }
    run(faulted(&command, faults))?;
    audited(&out)
}

fn found(audited: &Value, what: &str) -> Result<()> {
    let findings = audited["findings"].as_array().context("no findings")?;
    let mut lines = findings.iter().filter_map(Value::as_str);
    let named = lines.any(|line| line.contains(what));
    ensure!(
        audited["holds"] == false && named,
        "{what:?} is not in {audited:#}"
    );
    Ok(())
}

fn holds(audited: &Value) -> Result<()> {
    ensure!(audited["holds"] == true, "{audited:#}");
    Ok(())
}

#[test]
fn a_group_trained_twice_is_found_in_both_plans() -> Result<()> {
    // The copy waits behind everything that producers were ahead: 16 updates at most.
    let settings = ["learner.steps=30"];
    holds(&seeded("", &settings)?)?;
    let audited = seeded("mistake.train_twice", &settings)?;
    found(&audited, "was trained by update 0 already")
}

#[test]
fn an_update_run_before_its_plan_is_found_when_it_is_killed_between() -> Result<()> {
    let kill = "learner.announced=kill@2";
    holds(&seeded(kill, &[])?)?;
    let audited = seeded(&format!("{kill},mistake.announce_first"), &[])?;
    found(&audited, "update 1 was done, and there is no plan of it")
}

/// Tests training on a recorded log, much of which is too old: sixteen groups are sampled before
/// there is a second version.
#[test]
fn a_rejection_left_out_of_the_plan_is_missed() -> Result<()> {
    let (folder, log) = place()?;
    let mut record = small::digits(folder.path(), &log)?;
    record.args(["--set", "learner.steps=30"]);
    small::finished(record)?;
    let learn = |faults: &str| {
        let out = folder.path().join(format!("learner-{faults}"));
        let mut command = small::verb("learn", &out);
        for setting in [
            &format!("prompts.train={}", small::prompts(folder.path())?.display()),
            &format!("learner.archive={}", log.display()),
            "learner.source=archive",
            "learner.steps=30",
            "learner.max_age=1",
        ] {
            command.args(["--set", setting]);
        }
        let ended = run(faulted(&command, faults))?;
        ensure!(ended.status.success(), "{}", ended.stderr);
        audited(&out)
    };
    let right = learn("")?;
    holds(&right)?;
    let rejected = &right["learners"]["lead"]["rejected"];
    ensure!(rejected["too_stale"].as_u64() > Some(0), "{right:#}");
    found(&learn("mistake.silent_reject")?, "no plan before names it")
}

/// Plays `scene` on one Kafka, first without and then with `mistake`, which must lead to `finding`.
fn with_and_without(
    mistake: &str,
    scene: fn(&Path, &str, &Kafka, &str) -> Result<Value>,
    finding: &str,
) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    holds(&scene(folder.path(), "right", &kafka, "")?)?;
    found(&scene(folder.path(), "wrong", &kafka, mistake)?, finding)
}

/// Joins a fault and a mistake, which may be empty.
fn faults(fault: &str, mistake: &str) -> String {
    format!("{fault},{mistake}")
        .trim_end_matches(',')
        .to_owned()
}

/// Returns a stage for a run of one partition on `kafka`.
fn stage(folder: &Path, run: &str, kafka: &Kafka) -> Result<Stage> {
    let stage = Stage::new(&folder.join(run), run, kafka.address())?;
    Ok(stage.beside("one", &["topics.replication=1", "topics.partitions=1"]))
}

/// Sends the first ^C and waits for the end.
fn drained(mut process: RoleProcess) -> Result<()> {
    process.signal(Signal::INT)?;
    let status = process.reap()?;
    let well = matches!(status.code(), Some(0 | 130));
    ensure!(
        well,
        "{} ended ({status}):\n{}",
        process.who,
        process.said()
    );
    Ok(())
}

/// Stops a sink before its first file has a name, and continues it once another has written three.
/// Returns what an audit finds then.
fn late_sink(folder: &Path, run: &str, kafka: &Kafka, mistake: &str) -> Result<Value> {
    let stage = stage(folder, run, kafka)?;
    let (on_end, _nobody_asks) = channel();
    let learner = stage.start(Who::Learner, 0, "", &on_end)?;
    let producer = stage.start(Who::Rollout, 1, "", &on_end)?;
    // The first object is the one that all sinks agree on, the second the sink's first file.
    let faults = faults("store.synced=stop@2", mistake);
    let late = stage.start(Who::Sink(0), 2, &faults, &on_end)?;
    late.stopped()?;
    let other = stage.start(Who::Sink(1), 3, "store.linked=stop@3", &on_end)?;
    other.stopped()?;
    for sink in [&other, &late] {
        sink.signal(Signal::CONT)?;
    }
    for process in [producer, learner, other, late] {
        drained(process)?;
    }
    audited(&stage.run())
}

#[test]
fn a_file_renamed_over_another_breaks_the_chain() -> Result<()> {
    with_and_without(
        "mistake.overwrite",
        late_sink,
        "the files before end at offset",
    )
}

/// Kills a sink that closes no file with records in hand, and starts it again without that setting.
/// Returns what an audit finds then.
fn killed_sink(folder: &Path, run: &str, kafka: &Kafka, mistake: &str) -> Result<Value> {
    let stage = stage(folder, run, kafka)?;
    let topic = format!("vintage.{run}.rollouts.v1");
    let (on_end, ended) = channel();
    let learner = stage.start(Who::Learner, 0, "", &on_end)?;
    let producer = stage.start(Who::Rollout, 1, "", &on_end)?;
    let mut holding = stage.clone();
    holding
        .settings
        .push("archive.roll_seconds=3600".to_owned());
    let mut sink = holding.start(Who::Sink(0), 2, mistake, &on_end)?;
    let begun = Instant::now();
    // With the mistake, the records are committed to the group at once; otherwise once they are in
    // a file.
    while !mistake.is_empty() && kafka.committed("vintage-archive", &topic)? == 0 {
        let early = ended.recv_timeout(LOOK).is_ok() || begun.elapsed() > PATIENCE;
        ensure!(!early, "nothing was committed:\n{}", sink.said());
    }
    sink.signal(Signal::KILL)?;
    sink.reap()?;
    let committed = kafka.committed("vintage-archive", &topic)?;
    ensure!(
        (committed > 0) != mistake.is_empty(),
        "{committed} were committed"
    );
    // The first object is the one that all sinks agree on, whether any group was produced or not;
    // the second is the sink's first file.
    let faults = faults("store.linked=stop@2", mistake);
    let sink = stage.start(Who::Sink(0), 3, &faults, &on_end)?;
    sink.stopped()?;
    sink.signal(Signal::CONT)?;
    for process in [producer, learner, sink] {
        drained(process)?;
    }
    audited(&stage.run())
}

#[test]
fn a_sink_that_trusts_its_group_loses_what_the_audit_misses() -> Result<()> {
    with_and_without(
        "mistake.group_offset",
        killed_sink,
        "the files before end at offset 0",
    )
}
