//! The checks are checked: a mistake is seeded into the program, and the check that is there for it
//! finds it. The same without the mistake passes, so that nothing else is found.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vintage_tests::{faulted, place, run};

use crate::{audit::audit, small};

/// Audits a small run with these faults, however it ends: it may notice a mistake itself.
fn seeded(faults: &str, settings: &[&str]) -> Result<Value> {
    let (folder, out) = place()?;
    let mut command = small::digits(folder.path(), &out)?;
    for setting in settings {
        command.args(["--set", setting]);
    }
    run(faulted(&command, faults))?;
    let ended = audit(&out, &[])?;
    let told: Value = serde_json::from_str(&ended.stdout)
        .with_context(|| format!("{}: {}", ended.status, ended.stderr))?;
    let code = if told["holds"] == true { 0 } else { 3 };
    ensure!(
        ended.status.code() == Some(code),
        "{}: {told}",
        ended.status
    );
    Ok(told)
}

fn found(told: &Value, what: &str) -> Result<()> {
    let findings = told["findings"].as_array().context("no findings")?;
    let mut lines = findings.iter().filter_map(Value::as_str);
    let named = lines.any(|line| line.contains(what));
    ensure!(
        told["holds"] == false && named,
        "{what:?} is not in {told:#}"
    );
    Ok(())
}

fn holds(told: &Value) -> Result<()> {
    ensure!(told["holds"] == true, "{told:#}");
    Ok(())
}

#[test]
fn a_group_trained_twice_is_found_in_both_plans() -> Result<()> {
    // The copy waits behind everything that producers were ahead: 16 updates at most.
    let settings = ["learner.steps=30"];
    holds(&seeded("", &settings)?)?;
    let told = seeded("mistake.train_twice", &settings)?;
    found(&told, "was trained by update 0 already")
}

#[test]
fn an_update_run_before_its_plan_is_found_when_it_is_killed_between() -> Result<()> {
    let kill = "learner.announced=kill@2";
    holds(&seeded(kill, &[])?)?;
    let told = seeded(&format!("{kill},mistake.announce_first"), &[])?;
    found(&told, "update 1 was done, and there is no plan of it")
}
