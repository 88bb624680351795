//! Runs both auditors of a run: `vintage audit`, and the second one in Python.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{Ended, python, run, vintage};

/// Runs `vintage audit` on the run in `out`, with JSON output.
pub fn audit(out: &Path, more: &[&str]) -> Result<Ended> {
    let mut command = vintage(["audit", "--output", "json"]);
    command.arg(out).args(more);
    run(command)
}

/// Returns the output of `vintage audit`, whether or not the check passes; verifies that the exit
/// code agrees.
pub fn audited(out: &Path) -> Result<Value> {
    let ended = audit(out, &[])?;
    let code = ended.status.code();
    ensure!(code == Some(0) || code == Some(3), "{}", ended.stderr);
    let output: Value = serde_json::from_str(&ended.stdout)
        .with_context(|| format!("not JSON: {:?}", ended.stdout))?;
    ensure!(output["holds"] == (code == Some(0)), "{output}");
    Ok(output)
}

/// Runs both auditors, verifies that they agree on every number and on the verdict, and returns the
/// output of `vintage audit`.
pub fn both(out: &Path, broker: Option<&str>) -> Result<Value> {
    let ours = audited(out)?;
    let mut theirs = Command::new(python());
    theirs.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/audit.py"));
    theirs.arg(out).args(broker);
    let theirs = run(theirs)?.json()?;
    let learners = theirs["learners"].as_object().context("no learners")?;
    let named = |of: &Value| -> Vec<String> {
        let named = of.as_object().into_iter().flatten();
        named.map(|(learner, _)| learner.clone()).collect()
    };
    ensure!(
        named(&ours["learners"]) == named(&theirs["learners"]) && !learners.is_empty(),
        "{ours}\n{theirs}"
    );
    for (learner, counts) in learners {
        let counts = counts.as_object().context("no counts")?;
        for (name, count) in counts {
            let own = &ours["learners"][learner][name];
            ensure!(
                own == count,
                "{learner} {name}: {own}, by the second auditor {count}\n{ours}\n{theirs}"
            );
        }
    }
    ensure!(ours["holds"] == theirs["holds"], "{ours}\n{theirs}");
    Ok(ours)
}
