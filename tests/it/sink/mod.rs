//! The archive's fault matrix on a real Kafka, as the table in docs/archive.md lists it: whatever
//! happens to a sink, its archive ends up with the contents of the log, each record once.

mod place;

use std::{
    collections::BTreeSet,
    os::unix::process::ExitStatusExt as _,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{
    Resource, Rlimit, Signal, WaitId, WaitIdOptions, kill_process, prlimit, waitid,
};
use vintage_tests::{Kafka, Running, chaos, number, run};

use self::place::{Place, pid, stop};

/// Time after which a case fails, far beyond what any takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// Interval at which the output of a sink is polled.
const LOOK: Duration = Duration::from_millis(50);

type Case = fn(&Kafka) -> Result<()>;

/// Runs all cases on one broker: starting it takes longer than any of them.
#[test]
fn sinks_survive_the_fault_matrix() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kafka = Kafka::up(folder.path(), 1)?;
    let cases: [(&str, Case); 8] = [
        ("killed at every point", killed_at_every_point),
        ("a zombie changes nothing", a_zombie_changes_nothing),
        ("two sinks on every partition", two_sinks_on_every_partition),
        ("no room, for a while", no_room_for_a_while),
        ("a limit that is raised", a_limit_that_is_raised),
        ("retention passed the sink", retention_passed_the_sink),
        ("a topic that is recreated", a_recreated_topic_is_found_out),
        ("a group of sinks", a_group_of_sinks),
    ];
    for (name, case) in cases {
        let begun = Instant::now();
        case(&kafka).context(name)?;
        println!("{name}: {:?}", begun.elapsed());
    }
    Ok(())
}

fn killed_at_every_point(kafka: &Kafka) -> Result<()> {
    let place = Place::new(kafka, "points", 3)?;
    let points = chaos::points_of(chaos::Who::Sink(0));
    ensure!(points.len() == 7, "{points:?}");
    for point in &points {
        place.publish(12)?;
        // The store's first hit is `_meta.json` in the first process.
        let ended = run(place.faulty_sink(&format!("{point}=kill@2")))?;
        let killed = ended.status.signal() == Some(Signal::KILL.as_raw());
        ensure!(killed, "{point}: {} {}", ended.status, ended.stderr);
    }
    let strikes = place.strikes()?;
    let struck: Vec<_> = strikes.iter().filter_map(|s| s["point"].as_str()).collect();
    ensure!(struck == points, "{struck:?}");
    for strike in &strikes {
        ensure!(
            number(strike, "in_hand")? > 0,
            "a kill with nothing in hand: {strike}"
        );
    }
    place.drain()?;
    place.agrees()
}

/// Tests a sink that is frozen with a file in hand and resumes after its successor has archived the
/// same records and more.
fn a_zombie_changes_nothing(kafka: &Kafka) -> Result<()> {
    let place = Place::new(kafka, "zombie", 1)?;
    place.publish(6)?;
    let zombie = Running::start(place.faulty_sink("archive.encoded=stop"))?;
    let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::Pid(pid(&zombie)?), options)?;
    ensure!(
        status.is_some_and(|status| status.stopped()),
        "it did not stop: {status:?}"
    );
    place.publish(6)?;
    let successor = place.drain()?;
    ensure!(number(&successor, "messages")? == 12, "{successor}");
    let files = place.files()?;
    kill_process(pid(&zombie)?, Signal::CONT)?;
    let zombie = stop(zombie)?;
    ensure!(
        number(&zombie, "races_lost")? == 1 && number(&zombie, "files")? == 0,
        "{zombie}"
    );
    ensure!(place.files()? == files, "the zombie changed the archive");
    place.agrees()
}

/// Tests two sinks that each read everything and close files at different moments.
fn two_sinks_on_every_partition(kafka: &Kafka) -> Result<()> {
    let place = Place::new(kafka, "rivals", 2)?;
    place.publish(10)?;
    let mut rival = place.sink();
    rival.args(["--set", "archive.roll_bytes=100000"]);
    let mut sinks = [Running::start(place.sink())?, Running::start(rival)?];
    for sink in &mut sinks {
        ensure!(sink.says("archiving")?, "it ended by itself");
    }
    place.publish(30)?;
    let mut archived = 0;
    for sink in sinks {
        archived += number(&stop(sink)?, "messages")?;
    }
    ensure!(
        archived == 40,
        "{archived} records archived by the two together"
    );
    place.agrees()
}

fn no_room_for_a_while(kafka: &Kafka) -> Result<()> {
    let place = Place::new(kafka, "enospc", 1)?;
    // The meta file meets a read-only disk twice, then the first data file a full one.
    for (faults, trouble, times) in [
        ("store.create=enospc@1..4", "no_room", 4),
        ("store.create=erofs@1..2", "read_only", 2),
        ("store.sync=eio", "io", 1),
    ] {
        place.publish(4)?;
        let mut sink = Running::start(place.faulty_sink(faults))?;
        ensure!(
            sink.says("the archive is blocked")?,
            "{faults}: it ended by itself"
        );
        ensure!(
            sink.says("the archive goes on")?,
            "{faults}: it ended by itself"
        );
        let summary = stop(sink)?;
        ensure!(
            number(&summary["blocked"], trouble)? == times,
            "{faults}: {summary}"
        );
    }
    place.agrees()
}

/// Tests a limit of 40 KiB on files, in which no data file fits, that is raised later.
fn a_limit_that_is_raised(kafka: &Kafka) -> Result<()> {
    let place = Place::new(kafka, "limit", 1)?;
    place.publish(6)?;
    let sink = place.sink();
    let mut limited = Command::new("bash");
    // With the signal ignored, the write fails with EFBIG.
    limited.args(["-c", "trap '' XFSZ; ulimit -S -f 40; exec \"$0\" \"$@\""]);
    limited.arg(sink.get_program()).args(sink.get_args());
    for (name, value) in sink.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let mut sink = Running::start(limited)?;
    ensure!(sink.says("the archive is blocked")?, "it ended by itself");
    ensure!(place.files()?.is_empty(), "there was no room for a file");
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    prlimit(Some(pid(&sink)?), Resource::Fsize, unlimited)?;
    ensure!(sink.says("the archive goes on")?, "it ended by itself");
    let summary = stop(sink)?;
    ensure!(number(&summary["blocked"], "no_room")? > 0, "{summary}");
    place.agrees()
}

fn refused(sink: Command, words: &[&str]) -> Result<()> {
    let ended = run(sink)?;
    let output = || format!("{}\n{}", ended.status, ended.stderr);
    ensure!(ended.status.code() == Some(1), output());
    for word in words {
        ensure!(
            ended.stderr.contains(word),
            "{word:?} is not in {}",
            output()
        );
    }
    Ok(())
}

fn retention_passed_the_sink(kafka: &Kafka) -> Result<()> {
    let place = Place::new(kafka, "expired", 1)?;
    place.publish(10)?;
    place.drain()?;
    place.publish(10)?;
    place.meddle(&["expire", "14"])?;
    let words = ["4 records were deleted by retention", "--accept-gap"];
    refused(place.sink(), &words)?;
    let mut sink = place.sink();
    sink.arg("--accept-gap");
    let mut sink = Running::start(sink)?;
    ensure!(sink.says("the gap is accepted")?, "it ended by itself");
    ensure!(number(&stop(sink)?, "messages")? == 6);
    let lost: Vec<_> = place
        .files()?
        .iter()
        .filter_map(|file| file.footer.lost)
        .collect();
    let lost: Vec<_> = lost
        .iter()
        .map(|lost| (lost.first.0, lost.next.0))
        .collect();
    ensure!(lost == [(10, 14)], "{lost:?}");
    let mut archived = place.archived()?;
    ensure!(archived.len() == 16, "{archived:?}");
    archived.retain(|(_, offset), _| offset.0 >= 14);
    ensure!(archived == place.log()?, "{archived:?}");
    // A gap that is noted needs no acceptance.
    place.drain().map(drop)
}

fn a_recreated_topic_is_found_out(kafka: &Kafka) -> Result<()> {
    let place = Place::new(kafka, "recreated", 1)?;
    place.publish(10)?;
    place.drain()?;
    let before = place.archived()?;
    place.meddle(&["recreate"])?;
    place.publish(4)?;
    refused(
        place.sink(),
        &["the archive ends at offset 10", "recreated or truncated"],
    )?;
    place.publish(11)?;
    refused(
        place.sink(),
        &["offset 9", "has grown past the archive's end"],
    )?;
    ensure!(place.archived()? == before, "the archive changed");
    Ok(())
}

/// Tests three sinks that share three partitions; one is killed, one leaves, and the last has
/// everything.
fn a_group_of_sinks(kafka: &Kafka) -> Result<()> {
    let place = Place::new(kafka, "group", 3)?;
    let member = || {
        let mut sink = place.sink();
        sink.args(["--set", "archive.group=sinks"]);
        // The least the broker accepts: how long a killed member's partitions wait for another.
        sink.args(["--set", "broker_options.\"session.timeout.ms\"=6000"]);
        Running::start(sink)
    };
    let [mut stays, leaves, dies] = [member()?, member()?, member()?];
    let begun = Instant::now();
    loop {
        ensure!(
            begun.elapsed() < DEADLINE,
            "the members never shared the partitions"
        );
        place.publish(9)?;
        let published = place.log()?.len();
        while place.archived().map_or(0, |records| records.len()) < published {
            ensure!(
                begun.elapsed() < DEADLINE,
                "what was published is not archived"
            );
            ensure!(stays.runs_for(LOOK), "it ended by itself");
        }
        let files = place.files()?;
        let last = (0..3).filter_map(|p| files.iter().rfind(|f| f.footer.partition.0 == p));
        if last
            .map(|file| &file.footer.writer)
            .collect::<BTreeSet<_>>()
            .len()
            == 3
        {
            break;
        }
    }
    // For dashboards: a commit during a rebalance may be refused, and is repeated with the next
    // file only.
    while place.committed("sinks")? == 0 {
        ensure!(begun.elapsed() < DEADLINE, "the group never committed");
        ensure!(stays.runs_for(LOOK), "it ended by itself");
    }
    let (committed, held) = (place.committed("sinks")?, place.log()?.len());
    ensure!(
        committed as usize <= held,
        "{committed} of {held} were committed"
    );
    dies.kill()?;
    place.publish(9)?;
    // It waits for the dead one's partition, which only an expired session frees.
    stop(leaves)?;
    place.agrees()?;
    place.publish(9)?;
    stop(stays)?;
    place.agrees()
}
