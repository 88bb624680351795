//! `vintage experiment staleness` and `reuse`: runs that are interrupted and killed end with the table of those that
//! were not; other settings are refused; a run that fails is told.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use vintage_tests::{Running, audited, place, replayed, run, vintage};

use crate::small;

const UPDATES: u64 = 40;

/// Returns the command of two losses at two values of staleness on prompts in `folder`.
fn grid(folder: &Path, out: &Path) -> Result<Command> {
    of(folder, out, UPDATES)
}

fn of(folder: &Path, out: &Path, updates: u64) -> Result<Command> {
    let mut command = vintage(["experiment", "staleness", "--losses", "m2po,grpo"]);
    command.args([
        "--staleness",
        "0,tail-3",
        "--seeds",
        "1",
        "--lr",
        "1e-3",
        "--jobs",
        "2",
    ]);
    command
        .args(["--updates", &updates.to_string(), "--out"])
        .arg(out);
    small(folder, &mut command)?;
    command.args(["--set", "evaluation.every=10"]);
    command.args(["--set", "learner.prompts_per_update=4"]);
    Ok(command)
}

/// Gives the runs of an experiment a task so small that each takes a second.
fn small(folder: &Path, command: &mut Command) -> Result<()> {
    let train = small::prompts(folder)?;
    let held = folder.join("held.jsonl");
    let row = |digit: u8| format!("{{\"prompt\":\"{digit}{digit}=\",\"answer\":\"{digit}\"}}\n");
    std::fs::write(&held, (0..10).map(row).collect::<String>())?;
    for setting in [
        format!("prompts.train={}", train.display()),
        format!("prompts.heldout={}", held.display()),
        "warm_start.steps=30".to_owned(),
        "evaluation.prompts=10".to_owned(),
        "rollout.max_tokens=2".to_owned(),
    ] {
        command.args(["--set", &setting]);
    }
    Ok(())
}

/// Returns what a command printed, without the path of the page.
fn table(stdout: &str) -> &str {
    stdout
        .rsplit_once("\n\n")
        .map_or(stdout, |(table, _)| table)
}

/// Starts the command, and waits until the run `arm` has done some of its updates.
fn half_way(command: Command, out: &Path, arm: &str) -> Result<Running> {
    let mut process = Running::start(command)?;
    let results = out.join(arm).join("results/lead");
    let deadline = Instant::now() + Duration::from_secs(120);
    let done = |results: &PathBuf| results.read_dir().map_or(0, Iterator::count);
    while done(&results) < 8 {
        ensure!(Instant::now() < deadline, "{arm} never began");
        ensure!(
            process.runs_for(Duration::from_millis(20)),
            "it ended before"
        );
    }
    Ok(process)
}

#[test]
fn a_grid_that_was_interrupted_and_killed_ends_with_the_same_table() -> Result<()> {
    let (folder, out) = place()?;
    let whole = run(grid(folder.path(), &out)?)?;
    ensure!(whole.status.success(), "{}", whole.stderr);
    ensure!(
        whole.stdout.contains("4 of 4 runs finished"),
        "{}",
        whole.stdout
    );
    ensure!(
        whole.stderr.contains("4 runs: 2 losses"),
        "{}",
        whole.stderr
    );

    let again = folder.path().join("again");
    let command = || grid(folder.path(), &again);
    let process = half_way(command()?, &again, "m2po-0-0")?;
    process.signal(Signal::INT)?;
    let interrupted = process.wait()?;
    // It ended with what it had: how many of the runs had begun is a matter of timing.
    ensure!(
        interrupted.status.code() == Some(130),
        "{}",
        interrupted.stderr
    );
    ensure!(
        !interrupted.stdout.contains("4 of 4 runs finished"),
        "{}",
        interrupted.stdout
    );

    half_way(command()?, &again, "m2po-tail-3-0")?.kill()?;
    let resumed = run(command()?)?;
    ensure!(resumed.status.success(), "{}", resumed.stderr);
    assert_eq!(table(&resumed.stdout), table(&whole.stdout));

    // Each arm is a run like any other.
    let arm = again.join("grpo-tail-3-0");
    let audited = audited(&arm)?;
    ensure!(audited["holds"] == true, "{audited}");
    replayed(&arm, UPDATES)?;
    // Batches of four groups with ages up to 3, most of them young.
    let result = arm.join("results/lead/30.json");
    let result: Value = serde_json::from_slice(&std::fs::read(&result)?)?;
    let ages = result["staleness"].as_object().context("staleness")?;
    assert_eq!(ages.keys().collect::<Vec<_>>(), ["0", "1", "2"]);
    let cosine = result["gradient_cosine"].as_f64().context("a cosine")?;
    ensure!(cosine.abs() <= 1.0, "{cosine}");

    // Nothing is left to do, and the numbers are in the folder.
    let finished = run(command()?)?;
    ensure!(finished.stderr.is_empty(), "{}", finished.stderr);
    assert_eq!(table(&finished.stdout), table(&whole.stdout));
    let numbers: Value = serde_json::from_slice(&std::fs::read(again.join("staleness.json"))?)?;
    ensure!(numbers["finished"] == 4, "{numbers}");
    let page = std::fs::read_to_string(again.join("staleness.html"))?;
    for text in [
        "Which losses can use old data",
        "Staleness tail-3",
        "m2po",
        "grpo",
        "<svg",
    ] {
        ensure!(page.contains(text), "the page lacks {text}");
    }

    // Another experiment in the same folder is refused before anything is started.
    let with = |more: [&str; 2]| {
        let mut command = command()?;
        command.args(more);
        anyhow::Ok(command)
    };
    let others = [
        with(["--lr", "1e-4"])?,
        with(["--task", "sums"])?,
        of(folder.path(), &again, 30)?,
    ];
    for other in others {
        let refused = run(other)?;
        ensure!(refused.status.code() == Some(2), "{}", refused.stderr);
        ensure!(refused.stderr.contains("m2po-0-0"), "{}", refused.stderr);
    }
    // More of the same is not: a dry run says what is left.
    let more = run(with(["--dry-run", "--staleness=5"])?)?;
    ensure!(
        more.stdout.starts_with("6 runs") && more.stdout.contains("4 done already"),
        "{}",
        more.stdout
    );
    Ok(())
}

#[test]
fn runs_that_fail_are_told_and_counted() -> Result<()> {
    let (folder, out) = place()?;
    let mut command = grid(folder.path(), &out)?;
    // Prompts that are trained on cannot be held out.
    let train = folder.path().join("digits.jsonl");
    command
        .arg("--set")
        .arg(format!("prompts.heldout={}", train.display()));
    let ended = run(command)?;
    ensure!(ended.status.code() == Some(3), "{}", ended.stderr);
    ensure!(
        ended.stdout.contains("0 of 4 runs finished, 4 failed"),
        "{}",
        ended.stdout
    );
    let reason = "grpo-tail-3-0: FAILED: ";
    let line = ended.stdout.lines().find(|line| line.starts_with(reason));
    let line = line.context("the reason of a run that failed")?;
    ensure!(line.contains("held-out prompt"), "{line}");
    let page = std::fs::read_to_string(out.join("staleness.html"))?;
    ensure!(
        page.contains("grpo-tail-3-0: FAILED"),
        "the page is silent about it"
    );
    Ok(())
}

#[test]
fn a_setting_of_the_experiment_itself_is_not_the_users() -> Result<()> {
    let (folder, out) = place()?;
    let mut command = grid(folder.path(), &out)?;
    command.args(["--set", "gate.exact=7"]);
    let refused = run(command)?;
    ensure!(refused.status.code() == Some(2), "{}", refused.stderr);
    ensure!(refused.stderr.contains("--staleness"), "{}", refused.stderr);
    ensure!(!out.exists(), "a refused experiment leaves nothing");
    Ok(())
}

/// Returns the command of hybrids: 10 updates of every way, two runs at a time.
fn hybrids(folder: &Path, out: &Path) -> Result<Command> {
    let mut command = vintage(["experiment", "reuse", "hybrid", "--seeds", "1"]);
    command.args(["--groups", "160", "--lr", "1e-3", "--jobs", "2", "--out"]);
    command.arg(out);
    small(folder, &mut command)?;
    command.args(["--set", "rollout.group_size=4"]);
    Ok(command)
}

#[test]
fn hybrids_that_were_killed_end_with_the_same_table() -> Result<()> {
    let (folder, out) = place()?;
    let whole = run(hybrids(folder.path(), &out)?)?;
    ensure!(whole.status.success(), "{}", whole.stderr);
    ensure!(
        whole.stdout.contains("7 of 7 runs finished"),
        "{}",
        whole.stdout
    );
    let again = folder.path().join("again");
    half_way(hybrids(folder.path(), &again)?, &again, "hybrid_m2po-0")?.kill()?;
    let resumed = run(hybrids(folder.path(), &again)?)?;
    ensure!(resumed.status.success(), "{}", resumed.stderr);
    assert_eq!(table(&resumed.stdout), table(&whole.stdout));

    // What a hybrid trained is accounted for, and gives the same weights again.
    let arm = again.join("hybrid_slope-0");
    ensure!(audited(&arm)?["holds"] == true, "{}", arm.display());
    replayed(&arm, 10)?;
    let numbers: Value = serde_json::from_slice(&std::fs::read(again.join("reuse.json"))?)?;
    let rows = numbers["rows"].as_array().context("rows")?;
    let archive = rows.iter().find(|row| row["way"] == "archive");
    let archive = archive.context("the way on the archive")?;
    ensure!(archive["groups"] == 10, "{archive}");
    let share = &archive["means"]["effective_rows"];
    ensure!(
        share
            .as_f64()
            .is_some_and(|share| share > 0.0 && share <= 1.0),
        "{archive}"
    );
    let page = std::fs::read_to_string(again.join("reuse.html"))?;
    ensure!(
        page.contains("hybrid_slope") && page.contains("<svg"),
        "the page is empty"
    );
    Ok(())
}
