//! Invariants 3 to 5: a run killed with SIGKILL at random moments resumes, loses nothing that a
//! real log acknowledged, and ends with weights that its own plans give again, bit for bit.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use vintage_tests::{Running, both, number, place, replayed, run, vintage};

const KILLS: usize = 10;
const STEPS: u64 = 150;
const GROUPS_PER_UPDATE: u64 = 16;

/// Groups of earlier updates in each update, two steps on each batch and a penalty, up to update 90.
const REMIX: &[&str] = &["--preset", "remix", "--set", "learner.reincarnation.at=90"];

fn command(out: &Path, broker: &str, more: &[&str]) -> std::process::Command {
    let mut command = vintage(["run", "--output", "json", "--out"]);
    command.arg(out).args(["--steps", &STEPS.to_string()]);
    command.args([
        "--set",
        &format!("broker={broker}"),
        "--set",
        "warm_start.steps=50",
    ]);
    command.args(["--set", "evaluation.prompts=32"]);
    command.args(more);
    command
}

/// Kills ten processes, lets the eleventh finish, and returns its summary.
fn killed_ten_times(out: &Path, broker: &str, seed: u64, more: &[&str]) -> Result<Value> {
    let mut random = StdRng::seed_from_u64(seed);
    for kill in 0..KILLS {
        let mut process = Running::start(command(out, broker, more))?;
        // One process in five is killed before training: while warming up, starting the broker,
        // recovering.
        let early = random.random_ratio(1, 5);
        let phase = if early { "loading prompts" } else { "training" };
        if !process.says(phase)? {
            // A fast machine has done all updates by now.
            let ended = process.wait()?;
            ensure!(
                ended.status.success() && kill > 2,
                "process {kill}: {}",
                ended.stderr
            );
            break;
        }
        let moment = Duration::from_millis(random.random_range(0..600));
        if process.runs_for(moment) {
            process.kill()?;
        }
    }
    run(command(out, broker, more))?.json()
}

fn check(out: &Path, summary: &Value, groups_per_update: u64) -> Result<()> {
    let trained = number(summary, "trained")?;
    ensure!(
        trained == STEPS * groups_per_update,
        "{trained} groups trained"
    );
    let rejected = summary["rejected"]
        .as_object()
        .into_iter()
        .flat_map(|r| r.values());
    let rejected: u64 = rejected.filter_map(Value::as_u64).sum();
    let accounted = trained + rejected + number(summary, "in_flight")? + number(summary, "lost")?;
    ensure!(
        number(summary, "produced")? == accounted,
        "the identity fails: {summary}"
    );

    let replayed = replayed(out, STEPS)?;
    ensure!(
        replayed["weights_sha256"] == summary["weights_sha256"],
        "{replayed} {summary}"
    );
    Ok(())
}

#[test]
fn killed_on_the_embedded_broker() -> Result<()> {
    let (_folder, out) = place()?;
    let summary = killed_ten_times(&out, "embedded", 11, &[])?;
    check(&out, &summary, GROUPS_PER_UPDATE)
}

#[test]
fn killed_on_a_real_kafka() -> Result<()> {
    let (_folder, out) = place()?;
    let summary = killed_ten_times(&out, "local", 13, &[])?;
    ensure!(number(&summary, "lost")? == 0, "{summary}");
    check(&out, &summary, GROUPS_PER_UPDATE)
}

/// Checks that what is used again is used again after a kill, too, and counted once.
#[test]
fn killed_while_groups_are_used_again() -> Result<()> {
    let (_folder, out) = place()?;
    let summary = killed_ten_times(&out, "embedded", 17, REMIX)?;
    // 40 % of 16 groups are used again.
    check(&out, &summary, 10)?;
    let audited = both(&out, None)?;
    ensure!(audited["holds"] == true, "{audited}");
    // The first update has nothing to use again, the last 60 use nothing.
    let reused = number(&audited["learners"]["lead"], "reused")?;
    ensure!(reused == 89 * 6, "{reused}");
    Ok(())
}
