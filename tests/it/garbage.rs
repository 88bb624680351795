//! Invariant 9 on a live topic: any foreign record among a run's rollouts costs one record, with a
//! reason and its offset, visible in the metrics, and the run continues.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use vintage_tests::{
    Running, audit, both, free_port, metrics, number, place, python, replayed, run, vintage,
};

use crate::roles::Broker;

const TOPIC: &str = "vintage.run.rollouts.v1";

/// Record that was sent to the topic.
struct Sent {
    what: String,
    /// Partition and offset.
    at: (i64, i64),
    reason: String,
    quarantined: bool,
    number: Option<String>,
}

fn sent(line: &str) -> Result<Sent> {
    let record: Value = serde_json::from_str(line)?;
    let missing = |key: &str| format!("{key} in {line}");
    let text = |key: &str| record[key].as_str().with_context(|| missing(key));
    let place = |key: &str| record[key].as_i64().with_context(|| missing(key));
    Ok(Sent {
        what: text("what")?.to_owned(),
        at: (place("partition")?, place("offset")?),
        reason: text("reason")?.to_owned(),
        quarantined: record["quarantined"] == true,
        number: record["number"].as_str().map(str::to_owned),
    })
}

/// Reasons and details of rejections, by partition and offset of the records they name.
type Refused = BTreeMap<(i64, i64), Vec<(String, String)>>;

fn rejections(out: &Path, updates: u64) -> Result<Refused> {
    let mut found = Refused::new();
    for update in 0..updates {
        let text = std::fs::read_to_string(out.join(format!("plans/lead/{update}.json")))?;
        let plan: Value = serde_json::from_str(&text)?;
        for refused in plan["rejections"].as_array().into_iter().flatten() {
            let text = |key: &str| refused[key].as_str().unwrap_or_default().to_owned();
            for record in refused["records"].as_array().into_iter().flatten() {
                let at = record["partition"].as_i64().zip(record["offset"].as_i64());
                let said = (text("reason"), text("detail"));
                found
                    .entry(at.context("no offset")?)
                    .or_default()
                    .push(said);
            }
        }
    }
    Ok(found)
}

/// Returns every sample that `http://127.0.0.1:<port>/metrics` gives now, by name and labels.
fn scrape(port: u16) -> Result<BTreeMap<String, f64>> {
    let answer = metrics(port)?;
    let samples = answer.lines().filter(|line| line.starts_with("vintage_"));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').context("a sample without a value")?;
        Ok((name.to_owned(), value.parse()?))
    };
    samples.map(sample).collect()
}

/// Scrapes until every sample has reached its expected value.
fn counted(
    running: &mut Running,
    port: u16,
    expected: &BTreeMap<String, f64>,
) -> Result<BTreeMap<String, f64>> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let samples = scrape(port)?;
        let late =
            |(name, least): &(&String, &f64)| samples.get(*name).is_none_or(|value| value < *least);
        let late: Vec<_> = expected.iter().filter(late).collect();
        if late.is_empty() {
            return Ok(samples);
        }
        ensure!(
            Instant::now() < deadline,
            "not counted: {late:?} in {samples:#?}"
        );
        ensure!(
            running.runs_for(Duration::from_millis(100)),
            "the run ended before it counted {late:?}"
        );
    }
}

#[test]
fn foreign_records_on_a_live_topic_cost_one_record_each() -> Result<()> {
    let (folder, out) = place()?;
    let kafka = folder.path().join("kafka");
    let broker = Broker::up(&kafka)?;
    let port = free_port()?;
    // The run continues until everything was counted, and is stopped then.
    let mut command = vintage(["run", "--output", "json", "--out"]);
    command.arg(&out).args(["--broker", &broker.address]);
    command.args(["--steps", "100000", "--metrics", &port.to_string()]);
    for setting in [
        "warm_start.steps=5",
        "evaluation.prompts=16",
        "topics.partitions=1",
        "archive.roll_seconds=1",
    ] {
        command.args(["--set", setting]);
    }
    let mut running = Running::start(command)?;
    let mut garbage = Command::new(python());
    garbage.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/garbage.py"));
    garbage.args([&broker.address, TOPIC]);
    let garbage = run(garbage)?;
    ensure!(garbage.status.success(), "{}", garbage.stderr);
    let sent = garbage
        .stdout
        .lines()
        .map(sent)
        .collect::<Result<Vec<_>>>()?;
    ensure!(sent.len() > 1100, "{} records sent", sent.len());
    watched(&mut running, port, &sent)?;
    running.signal(Signal::INT)?;
    let ended = running.wait()?;
    ensure!(ended.status.code() == Some(130), "{}", ended.stderr);
    let summary: Value = serde_json::from_str(&ended.stdout)?;
    ensure!(summary["balanced"] == true, "{summary}");
    let updates = number(&summary, "updates")?;

    // Some numbered groups were refused, fewer than an update takes: they may make rollouts one
    // update staler than gate.max_staleness, 16; a slow machine adds some. If all 1,100 records
    // gave slots back to the gate, that would be 70 updates' worth.
    ensure!(number(&summary, "max_staleness")? <= 32, "{summary}");

    let refused = rejections(&out, updates)?;
    for record in &sent {
        let said = refused.get(&record.at).map_or(&[][..], Vec::as_slice);
        let reasons: Vec<_> = said.iter().map(|(reason, _)| reason.as_str()).collect();
        ensure!(
            reasons == [record.reason.as_str()],
            "{}: {said:?}",
            record.what
        );
        ensure!(!said[0].1.is_empty(), "{} without a word", record.what);
    }
    ensure!(
        refused.len() == sent.len(),
        "{} rejected, {} sent",
        refused.len(),
        sent.len()
    );
    accounted(&out, &broker.address, &sent)?;
    let replayed = replayed(&out, updates)?;
    ensure!(
        replayed["weights_sha256"] == summary["weights_sha256"],
        "{replayed} {summary}"
    );
    Ok(())
}

/// Checks that the metrics count each record under its reason.
fn watched(running: &mut Running, port: u16, sent: &[Sent]) -> Result<()> {
    let mut expected: BTreeMap<String, f64> = BTreeMap::new();
    let mut add = |name: String| *expected.entry(name).or_default() += 1.0;
    for record in sent {
        let reason = &record.reason;
        add(format!(
            "vintage_groups_rejected_total{{learner=\"lead\",reason=\"{reason}\"}}"
        ));
        if record.quarantined {
            add(format!(
                "vintage_records_quarantined_total{{reason=\"{reason}\"}}"
            ));
        }
    }
    let exact = expected.clone();
    let lag =
        format!("vintage_lag_records{{reader=\"learner\",topic=\"{TOPIC}\",partition=\"0\"}}");
    expected.extend([
        ("vintage_groups_produced_total".to_owned(), 1.0),
        (
            "vintage_groups_trained_total{learner=\"lead\"}".to_owned(),
            1.0,
        ),
        (
            "vintage_records_archived_total".to_owned(),
            sent.len() as f64,
        ),
        (
            "vintage_update_seconds_count{learner=\"lead\"}".to_owned(),
            1.0,
        ),
        (lag, 0.0),
    ]);
    let samples = counted(running, port, &expected)?;
    for (name, records) in exact {
        ensure!(
            samples[&name] == records,
            "{name}: {} of {records}",
            samples[&name]
        );
    }
    Ok(())
}

/// Checks that both auditors account for each record, and say why a group was not trained.
fn accounted(out: &Path, broker: &str, sent: &[Sent]) -> Result<()> {
    let audited = both(out, Some(broker))?;
    ensure!(audited["holds"] == true, "{audited}");
    let lead = &audited["learners"]["lead"];
    let groups = || sent.iter().filter(|record| record.reason != "duplicate");
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for record in groups() {
        *expected.entry(&record.reason).or_default() += 1;
    }
    ensure!(
        lead["rejected"] == serde_json::json!(expected),
        "{lead} {expected:?}"
    );
    ensure!(lead["lost"] == 0, "{lead}");
    let quarantined = sent.iter().filter(|record| record.quarantined).count();
    ensure!(lead["quarantined"] == quarantined, "{lead} {quarantined}");
    for record in groups() {
        let Some(number) = &record.number else {
            continue;
        };
        let answer = audit(out, &["--offline", "--rollout", number])?.json()?;
        let answer = &answer["answers"][0]["rollout"];
        ensure!(
            answer["reason"] == record.reason,
            "{}: {answer}",
            record.what
        );
        ensure!(
            answer["record"]["offset"] == record.at.1,
            "{}: {answer}",
            record.what
        );
    }
    Ok(())
}
