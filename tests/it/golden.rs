//! A run of an earlier build is read by this one: `tests/golden/run` is added to and never edited.
//!
//! It was made on 2026-11-28 by `vintage run --steps 4 --seed 7 --set warm_start.steps=300
//! --set evaluation.prompts=32 --set learner.prompts_per_update=4 --set learner.checkpoint_every=2
//! --set run=golden`; prompts, moments and all weights but those of version 0 were left out.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use vintage_tests::{copy, exact, number, place, run, vintage};

/// Copies the golden run, because reading a run may leave files in its folder.
fn golden() -> Result<(TempDir, PathBuf)> {
    let (folder, out) = place()?;
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/run"),
        &out,
    )?;
    Ok((folder, out))
}

#[test]
fn an_older_run_is_audited() -> Result<()> {
    let (_folder, out) = golden()?;
    let mut command = vintage(["audit", "--output", "json"]);
    command.arg(&out);
    let audited = run(command)?.json()?;
    ensure!(audited["holds"] == true, "{audited}");
    let counts = &audited["learners"]["lead"];
    ensure!(number(counts, "trained")? == 16, "{audited}");
    ensure!(number(counts, "archived")? == 16, "{audited}");
    Ok(())
}

#[test]
fn an_older_run_has_a_report() -> Result<()> {
    let (_folder, out) = golden()?;
    let mut command = vintage(["report", "--output", "json"]);
    command.arg(&out);
    let report = run(command)?.json()?;
    ensure!(number(&report, "updates")? == 4, "{report}");
    ensure!(out.join("report.html").is_file(), "{report}");
    Ok(())
}

/// The bits are those of the machine that made the run; another kind of CPU is recognised.
#[test]
fn an_older_run_is_replayed() -> Result<()> {
    let (_folder, out) = golden()?;
    let replayed: Value = serde_json::from_str(&run(exact(&out))?.stdout)?;
    if replayed["identical"] != true {
        let deviation = &replayed["first_deviation"];
        ensure!(deviation["other_machine"] == true, "{replayed}");
        return Ok(());
    }
    ensure!(number(&replayed, "updates")? == 4, "{replayed}");
    let summary: Value = serde_json::from_slice(&std::fs::read(out.join("summary.json"))?)?;
    ensure!(
        replayed["weights_sha256"] == summary["weights_sha256"],
        "{replayed}"
    );
    Ok(())
}
