//! Log-probs that engines report, against those of the versions that sampled.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vintage_tests::{Kafka, Running, audited, faulted, number, place, run, vintage};

use crate::{fleet::Fleet, roles::interrupt, small};

fn measured(out: &Path) -> Result<vintage_tests::Ended> {
    let mut command = vintage(["mismatch", "--by-producer", "--output", "json"]);
    command.arg(out);
    run(command)
}

fn mean(engine: &Value) -> Result<f64> {
    engine["mismatch"]["mean"].as_f64().context("a mean")
}

#[test]
fn the_engine_of_this_program_reports_what_its_versions_give() -> Result<()> {
    let (folder, out) = place()?;
    let mut command = small::digits(folder.path(), &out)?;
    for setting in [
        "learner.steps=12",
        "learner.keep_versions=64",
        "learner.mismatch.every=2",
        "rollout.temperature=0.7",
    ] {
        command.args(["--set", setting]);
    }
    small::finished(command)?;
    let report = measured(&out)?.json()?;
    let engines = report["engines"].as_array().context("engines")?;
    ensure!(
        engines.len() == 1 && mean(&engines[0])? < 1e-5,
        "{report:#}"
    );
    ensure!(
        number(&engines[0]["mismatch"], "tokens")? > 100,
        "{report:#}"
    );
    ensure!(report["left_out"] == serde_json::json!({}), "{report:#}");

    // And the same of what the learner measured meanwhile.
    let mut checks = 0;
    for update in 0..12 {
        let path = out.join(format!("results/lead/{update}.json"));
        let result: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        for found in result["mismatch"].as_array().into_iter().flatten() {
            ensure!(found["mean"].as_f64() < Some(1e-5), "{found:#}");
            checks += 1;
        }
    }
    ensure!(checks > 0, "no engine was checked in twelve updates");
    Ok(())
}

/// Tests a producer whose engine never changes its weights, and labels its tokens as if it did,
/// beside one that does: its groups are refused, and it ends with the reason.
#[test]
fn an_engine_with_stale_weights_is_refused_and_the_other_trains_on() -> Result<()> {
    const UPDATES: u64 = 60;
    let (folder, _) = place()?;
    let kafka = Kafka::up(&folder.path().join("kafka"), 1)?;
    let settings = [
        &*format!("learner.steps={UPDATES}"),
        "gate.max_staleness=4",
        "learner.keep_versions=100",
        "learner.optimizer.lr=0.01",
        "learner.mismatch.every=1",
        "learner.mismatch.tolerance=0.02",
    ];
    let fleet = Fleet::new(folder.path(), "stale", &kafka, &settings)?;
    let learner = fleet.start("learn")?;
    let archive = fleet.start("archive")?;
    let mut stale = Running::start(faulted(&fleet.role("rollout"), "mistake.stale_weights"))?;
    // It stays with the version that it loads first: version 0, if nobody else samples before it.
    ensure!(stale.says("published")?, "{}", stale.wait()?.stderr);
    let honest = fleet.start("rollout")?;
    let learned = learner.wait()?;
    let said = learned.stderr.clone();
    ensure!(learned.json()?["finished"] == true, "{said}");
    ensure!(
        said.contains("its groups are refused") || said.contains("groups are refused"),
        "{said}"
    );
    honest.wait()?.json()?;
    let refused = stale.wait()?;
    ensure!(refused.status.code() == Some(2), "{}", refused.stderr);
    for part in [
        "the lead learner refuses this producer",
        "those of version 0",
        "learner.mismatch.tolerance",
    ] {
        ensure!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    interrupt(&archive)?;
    archive.wait()?.json()?;

    let audited = audited(&fleet.out)?;
    ensure!(audited["holds"] == true, "{audited:#}");
    let rejected = &audited["learners"]["lead"]["rejected"];
    ensure!(
        rejected["logprob_mismatch"].as_u64() > Some(0),
        "{rejected:#}"
    );

    let ended = measured(&fleet.out)?;
    ensure!(ended.status.code() == Some(3), "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout)?;
    let engines = report["engines"].as_array().context("engines")?;
    ensure!(engines.len() == 2, "{report:#}");
    let (right, wrong): (Vec<_>, Vec<_>) = engines.iter().partition(|of| of["cause"].is_null());
    ensure!(right.len() == 1 && mean(right[0])? < 1e-5, "{report:#}");
    let cause = wrong[0]["cause"].as_str().context("a cause")?;
    ensure!(cause.contains("those of version 0"), "{cause}");
    Ok(())
}
