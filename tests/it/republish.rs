//! An archive replayed to a topic of a real Kafka: the same records in the same order, wherever the
//! replay was killed, and the same training from them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::runtime::Runtime;
use vintage_archive::{Filter, Reader};
use vintage_bus::{Bus, ConsumerLimits, Event, Header};
use vintage_control::Partition;
use vintage_store::Store;
use vintage_tests::{Kafka, Running, number, run, vintage};

use crate::small;

const STEPS: u64 = 20;

/// Record as any consumer sees it, without the headers that name its origin in an archive.
#[derive(Debug, PartialEq)]
struct Seen {
    timestamp_ms: Option<i64>,
    key: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    payload_crc32c: Option<u32>,
}

type Log = BTreeMap<Partition, Vec<Seen>>;

fn headers(headers: Vec<Header>) -> Vec<(String, Option<Vec<u8>>)> {
    let original = headers.into_iter().filter(|header| !is_origin(&header.key));
    original
        .map(|header| (header.key, header.value.map(Vec::from)))
        .collect()
}

fn is_origin(key: &str) -> bool {
    ["replay-of", "replay-from", "replay-selection"].contains(&key)
}

/// Returns the contents of a run's archive, by partition, in the order of incarnations.
async fn archived(out: &Path) -> Result<Log> {
    let store = Store::open(&out.join("archive").to_string_lossy())?;
    let topics = Reader::topics(&store).await?;
    let reader = Reader::new(store, topics.first().context("no archive")?);
    let mut log = Log::new();
    for incarnation in reader.incarnations().await? {
        for partition in reader.partitions(incarnation).await? {
            let filter = Filter::default();
            let mut messages = reader.messages(incarnation, partition, &filter).await?;
            while let Some(message) = messages.next().await? {
                log.entry(partition).or_default().push(Seen {
                    timestamp_ms: message.timestamp_ms,
                    key: message.key.map(Vec::from),
                    headers: headers(message.raw_headers),
                    payload_crc32c: message.payload_crc32c,
                });
            }
        }
    }
    Ok(log)
}

/// Returns the contents of a topic.
async fn published(address: &str, topic: &str) -> Result<Log> {
    let bus = Bus::connect(address, &BTreeMap::new())?;
    let marks = bus.watermarks(topic).await?;
    let mut left: i64 = marks.iter().map(|(_, low, high)| high.0 - low.0).sum();
    let start = marks.iter().map(|(partition, low, _)| (*partition, *low));
    let mut records = bus.consumer("test", topic, start.collect(), ConsumerLimits::default())?;
    let mut log = Log::new();
    while left > 0 {
        if let Some(Event::Record(record)) = records.next().await? {
            left -= 1;
            let origins = record.headers.iter().filter(|h| is_origin(&h.key)).count();
            ensure!(origins == 3, "{:?}", record.headers);
            log.entry(record.partition).or_default().push(Seen {
                timestamp_ms: record.timestamp_ms,
                key: record.key.map(Vec::from),
                headers: headers(record.headers),
                payload_crc32c: record.payload.as_deref().map(crc32c::crc32c),
            });
        }
    }
    Ok(log)
}

/// Returns the command `vintage replay OUT --to TOPIC`.
fn replay(out: &Path, to: &str, address: &str) -> Command {
    let mut command = vintage(["replay", "--output", "json", "--to", to]);
    command.args(["--broker", address]).arg(out);
    command
}

/// Waits until a topic holds `records` records.
async fn grown(address: &str, topic: &str, records: i64) -> Result<()> {
    let bus = Bus::connect(address, &BTreeMap::new())?;
    let asking = async {
        loop {
            // The topic may not exist yet. Growth has to be polled.
            let marks = bus.watermarks(topic).await.unwrap_or_default();
            if marks.iter().map(|(_, _, high)| high.0).sum::<i64>() >= records {
                break;
            }
        }
    };
    let patience = Duration::from_secs(120);
    let asked = tokio::time::timeout(patience, asking).await;
    asked.with_context(|| format!("{topic} never held {records} records"))
}

/// Records a small run whose log had three partitions and, started twice, two incarnations.
fn recorded(folder: &Path) -> Result<PathBuf> {
    let out = folder.join("run");
    for steps in [STEPS / 2, STEPS] {
        let mut command = small::digits(folder, &out)?;
        command.args(["--steps", &steps.to_string()]);
        command.args(["--set", "topics.partitions=3"]);
        command.args(["--set", "learner.prompts_per_update=32"]);
        small::finished(command)?;
    }
    Ok(out)
}

fn total(object: &Value) -> u64 {
    let counts = object.as_object().into_iter().flatten();
    counts.filter_map(|(_, count)| count.as_u64()).sum()
}

#[test]
fn a_replay_killed_at_any_moment_leaves_no_gap_and_no_repeat() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    let address = kafka.address();
    let out = recorded(folder.path())?;
    let runtime = Runtime::new()?;
    let expected = runtime.block_on(archived(&out))?;
    let records = expected.values().map(Vec::len).sum::<usize>() as u64;
    ensure!(records >= 32 * STEPS, "{records} records");

    let to = "again";
    for kill_at in [1, 40, 41, 150, 300] {
        let mut command = replay(&out, to, address);
        // Slow enough to be killed meanwhile, fast enough that more than one group is in flight.
        command.args(["--rate", "1000"]);
        let replaying = Running::start(command)?;
        runtime.block_on(grown(address, to, kill_at))?;
        let died = replaying.kill()?;
        ensure!(died.status.code().is_none(), "{kill_at}: {}", died.stderr);
    }
    let done = run(replay(&out, to, address))?.json()?;
    ensure!(done["finished"] == true, "{done}");
    ensure!(number(&done, "records")? == records, "{done}");
    ensure!(number(&done["taken"], "records")? == records, "{done}");
    ensure!(number(&done["already_there"], "records")? >= 300, "{done}");
    ensure!(number(&done, "reencoded")? == 0, "{done}");
    let found = runtime.block_on(published(address, to))?;
    ensure!(found == expected, "{found:#?}\n{expected:#?}");

    // A finished replay publishes nothing again.
    let again = run(replay(&out, to, address))?.json()?;
    ensure!(again["already_there"] == again["taken"], "{again}");
    ensure!(number(&again["published"], "records")? == 0, "{again}");

    filters_take_what_they_say_and_nothing_else(&out, address)?;
    what_is_no_replay_of_this_archive_is_refused(&out, address)
}

fn filters_take_what_they_say_and_nothing_else(out: &Path, address: &str) -> Result<()> {
    let mut command = replay(out, "some", address);
    // The first process samples ahead, by version 0; the second begins with version STEPS / 2.
    command.args(["--versions", "5.."]);
    command.args(["--prompt", "*", "--reward", "0..1"]);
    command.args(["--sample", "0.5", "--seed", "1", "--rate", "1000"]);
    let done = run(command)?.json()?;
    let passed = &done["passed_over"];
    ensure!(number(passed, "version")? > 0, "{done}");
    ensure!(number(passed, "sample")? > 0, "{done}");
    let taken = number(&done["taken"], "records")?;
    ensure!(taken > 0, "{done}");
    ensure!(taken + total(passed) == number(&done, "records")?, "{done}");
    let found = Runtime::new()?.block_on(published(address, "some"))?;
    let seen = found.values().flatten();
    ensure!(seen.clone().count() as u64 == taken, "{done}");
    for record in seen {
        let newest = |(key, _): &&(String, _)| key == "max-policy-version";
        let value = record.headers.iter().find(newest);
        let value = value.and_then(|(_, value)| value.as_deref());
        let newest: u64 = std::str::from_utf8(value.unwrap_or_default())?.parse()?;
        ensure!(newest >= 5, "{record:?}");
    }
    Ok(())
}

fn what_is_no_replay_of_this_archive_is_refused(out: &Path, address: &str) -> Result<()> {
    let refused = |mut command: Command, flags: &[&str], why: &str| {
        let ended = run({
            command.args(flags);
            command
        })?;
        ensure!(ended.status.code() == Some(2), "{}", ended.stderr);
        ensure!(ended.stderr.contains(why), "{}", ended.stderr);
        anyhow::Ok(())
    };
    let other = &["--sample", "0.5"];
    refused(replay(out, "again", address), other, "with other filters")?;
    let itself = "vintage.run.rollouts.v1";
    refused(
        replay(out, itself, address),
        &[],
        "the archived topic itself",
    )?;

    // A topic that would lose them: the records are older than its retention.
    let mut apply = vintage(["topics", "apply", "--broker", address]);
    apply.args(["--set", "run=short", "--set", "topics.partitions=3"]);
    let applied = run(apply)?;
    ensure!(applied.status.success(), "{}", applied.stderr);
    let short = "vintage.short.rollouts.v1";
    refused(replay(out, short, address), &[], "retention.ms")
}

#[test]
fn training_on_a_replayed_topic_gives_the_weights_of_training_on_the_archive() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    let recorded = folder.path().join("recorded");
    let prompts = small::prompts(folder.path())?;
    let trained = |out: &str, verb: &str, flags: &[&str]| {
        let out = folder.path().join(out);
        let mut command = small::verb(verb, &out);
        command.args(flags).args(["--set", "learner.steps=12"]);
        // One partition: the order of a log with several is that of arrival.
        command.args(["--set", "topics.partitions=1", "--set"]);
        command.arg(format!("prompts.train={}", prompts.display()));
        let summary = run(command)?.json()?;
        ensure!(summary["finished"] == true, "{summary}");
        let weights = out.join("weights/lead/12/model.safetensors");
        std::fs::read(&weights).with_context(|| weights.display().to_string())
    };
    let first = trained("recorded", "run", &[])?;
    let archive = format!("learner.archive={}", recorded.display());
    let from_archive = ["--set", "learner.source=archive", "--set", &archive];
    let of_archive = trained("of-archive", "learn", &from_archive)?;

    let to = "vintage.again.rollouts.v1";
    let done = run(replay(&recorded, to, kafka.address()))?.json()?;
    ensure!(done["finished"] == true, "{done}");
    let from_topic = ["--broker", kafka.address(), "--set", "run=again"];
    let of_topic = trained("of-topic", "learn", &from_topic)?;
    ensure!(of_topic == of_archive, "topic and archive disagree");
    ensure!(of_topic == first, "the replay and the run disagree");
    Ok(())
}
