//! `vintage prune`: what nobody needs goes, what was pruned is named, and a kill in the middle loses
//! nothing.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vintage_tests::{both, copy, faulted, number, place, run, vintage};

use crate::small;

/// Policy of the prunes here: everything that may go.
const ASKED: [&str; 7] = [
    "--keep-versions",
    "3",
    "--keep-checkpoints",
    "1",
    "--archive-before",
    "1000",
    "--journals",
];

/// Returns the command of a run in `out` that keeps many checkpoints and every second version.
fn training(folder: &Path, out: &Path, steps: u64) -> Result<Command> {
    let mut command = small::digits(folder, out)?;
    command.args(["--steps", &steps.to_string()]);
    for setting in [
        "gate.max_staleness=2",
        "evaluation.every=2",
        "learner.checkpoint_every=4",
        "learner.keep_checkpoints=5",
    ] {
        command.args(["--set", setting]);
    }
    Ok(command)
}

fn prune(out: &Path, more: &[&str]) -> Command {
    let mut command = vintage(["prune", "--output", "json"]);
    command.arg(out).args(ASKED).args(more);
    command
}

/// Returns the paths of all files below a folder, locks and the report apart.
fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let (mut found, mut open) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in next.read_dir()? {
            let path = entry?.path();
            let hidden = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
            if path.is_dir() {
                open.push(path);
            } else if !hidden {
                found.insert(path.strip_prefix(folder)?.to_owned());
            }
        }
    }
    Ok(found)
}

fn below(files: &BTreeSet<PathBuf>, prefix: &str, end: &str) -> Vec<String> {
    let paths = files.iter().map(|path| path.display().to_string());
    paths
        .filter(|path| path.starts_with(prefix) && path.ends_with(end))
        .collect()
}

/// Runs a command that must be refused with exit code 2, and returns what it said.
fn refused(command: Command) -> Result<String> {
    let ended = run(command)?;
    ensure!(
        ended.status.code() == Some(2),
        "{}\n{}",
        ended.status,
        ended.stderr
    );
    Ok(ended.stderr)
}

fn counts(audited: &Value) -> Result<Value> {
    let mut counts = audited["learners"]["lead"].clone();
    let counted = counts.as_object_mut().context("an account")?;
    // What the archive holds is less afterwards, and nothing else is.
    counted.remove("archived");
    counted.remove("partitions");
    Ok(counts)
}

#[test]
fn what_is_pruned_is_named_and_the_run_goes_on() -> Result<()> {
    let (folder, out) = place()?;
    small::finished(training(folder.path(), &out, 20)?)?;
    let before = files(&out)?;
    let books = both(&out, None)?;
    ensure!(books["holds"] == true, "{books}");

    // Without --apply, nothing changes.
    let would = run(prune(&out, &[]))?.json()?;
    ensure!(
        would["applied"] == false && would["record"].is_null(),
        "{would}"
    );
    ensure!(files(&out)? == before, "a dry run changed the folder");

    let pruned = run(prune(&out, &["--apply"]))?.json()?;
    ensure!(pruned["record"] == "prunes/0.json", "{pruned}");
    ensure!(pruned["objects"] == would["objects"] && pruned["bytes"] == would["bytes"]);
    let after = files(&out)?;
    let gone = before.difference(&after).count() as u64;
    ensure!(
        gone == number(&pruned, "objects")?,
        "{gone} files are gone: {pruned}"
    );
    let versions = below(&after, "weights/lead/", "/manifest.json");
    // Version 0, the newest four that the settings promise, and none between.
    let kept = [0, 17, 18, 19, 20].map(|n| format!("weights/lead/{n}/manifest.json"));
    ensure!(versions == kept, "{versions:?}");
    ensure!(below(&after, "checkpoints/", "/manifest.json").len() == 1);
    ensure!(below(&after, "producers/", ".acks").is_empty());
    let archived = |files| below(files, "archive/", ".parquet").len();
    ensure!(archived(&after) < archived(&before) && archived(&after) > 0);

    // The books hold, with the same counts, by both auditors.
    let audited = both(&out, None)?;
    ensure!(audited["holds"] == true, "{audited}");
    ensure!(counts(&audited)? == counts(&books)?, "{audited}\n{books}");
    ensure!(
        audited["notes"].to_string().contains("prunes/0.json"),
        "{audited}"
    );

    // What is gone is refused by name.
    let said = refused(vintage_tests::exact(&out))?;
    ensure!(
        said.contains("`vintage prune` deleted the files before it"),
        "{said}"
    );
    let mut export = vintage(["export", "--policy-version", "10", "--to"]);
    export.arg(folder.path().join("exported")).arg(&out);
    let said = refused(export)?;
    ensure!(
        said.contains("`vintage prune` deleted them (prunes/0.json)"),
        "{said}"
    );
    let mut learn = small::verb("learn", &out);
    learn.args(["--name", "late", "--set", "learner.source=archive"]);
    let said = refused(learn)?;
    ensure!(
        said.contains("deleted the first groups of partition"),
        "{said}"
    );
    for verb in ["report", "inspect"] {
        let mut command = vintage([verb]);
        command.arg(&out);
        let ended = run(command)?;
        ensure!(ended.status.success(), "{verb}: {}", ended.stderr);
    }

    // A second prune finds nothing; the run goes on as if nothing had happened.
    let again = run(prune(&out, &["--apply"]))?.json()?;
    ensure!(
        again["objects"] == 0 && again["record"].is_null(),
        "{again}"
    );
    let summary = small::finished(training(folder.path(), &out, 30)?)?;
    ensure!(number(&summary, "updates")? == 30, "{summary}");
    let audited = both(&out, None)?;
    ensure!(audited["holds"] == true, "{audited}");
    Ok(())
}

#[test]
fn a_prune_killed_at_any_step_loses_nothing_and_the_next_one_finishes_it() -> Result<()> {
    let (folder, out) = place()?;
    small::finished(training(folder.path(), &out, 20)?)?;
    let whole = folder.path().join("whole");
    copy(&out, &whole)?;
    run(prune(&whole, &["--apply"]))?.json()?;
    let expected = files(&whole)?;
    let before = files(&out)?;
    let staying: BTreeSet<_> = expected.intersection(&before).cloned().collect();
    for (number, fault) in [
        "prune.recorded=kill",
        "prune.marked=kill",
        "prune.deleted=kill@1",
        "prune.deleted=kill@5",
        "prune.deleted=kill@9",
    ]
    .into_iter()
    .enumerate()
    {
        let killed = folder.path().join(format!("killed-{number}"));
        copy(&out, &killed)?;
        let ended = run(faulted(&prune(&killed, &["--apply"]), fault))?;
        ensure!(ended.status.code().is_none(), "{fault}: {}", ended.status);
        let left = files(&killed)?;
        ensure!(
            left.is_superset(&staying),
            "{fault}: what was to stay is gone"
        );
        let audited = both(&killed, None)?;
        ensure!(audited["holds"] == true, "{fault}: {audited}");

        // Even if less is asked for: what was recorded goes.
        let mut finish = vintage(["prune", "--output", "json", "--apply"]);
        finish.arg(&killed).args(["--keep-versions", "1000"]);
        let finished = run(finish)?.json()?;
        ensure!(finished["record"].is_null(), "{fault}: {finished}");
        ensure!(files(&killed)? == expected, "{fault}: not finished");
        let audited = both(&killed, None)?;
        ensure!(audited["holds"] == true, "{fault}: {audited}");
    }
    Ok(())
}

#[test]
fn a_prune_of_a_run_at_work_leaves_what_it_needs() -> Result<()> {
    let (folder, out) = place()?;
    let mut training = vintage_tests::Running::start(training(folder.path(), &out, 400)?)?;
    let results = out.join("results/lead");
    while results.read_dir().map_or(0, Iterator::count) < 100 {
        let more = training.runs_for(std::time::Duration::from_millis(20));
        ensure!(more, "it ended by itself");
    }
    let pruned = run(prune(&out, &["--apply"]))?.json()?;
    ensure!(number(&pruned, "objects")? > 0, "{pruned}");
    ensure!(
        pruned["journals"] == serde_json::json!({}),
        "a producer is at work: {pruned}"
    );
    let ended = training.wait()?;
    let summary = ended.json()?;
    ensure!(
        summary["finished"] == true && summary["balanced"] == true,
        "{summary}"
    );
    let audited = both(&out, None)?;
    ensure!(audited["holds"] == true, "{audited}");
    Ok(())
}
