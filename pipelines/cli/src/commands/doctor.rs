//! `vintage doctor`: checks that a run can be carried here.
use std::{fmt::Write as _, path::PathBuf};
use vintage_human::size;

use anyhow::Result;
use vintage_flow::{
    config_file,
    doctor::{Check, Verdict, examine},
};

use super::Context;
use crate::{args::DoctorArgs, exit::CommandOutcome};

/// Runs `vintage doctor`.
pub(crate) async fn doctor(args: &DoctorArgs, context: &Context) -> Result<CommandOutcome> {
    let of_run = config_file(&args.out);
    let recorded = of_run.is_file().then_some(of_run.as_path());
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let flags = [
        ("--model", "model.path", path(&args.model)),
        ("--prompts", "prompts.train", path(&args.prompts)),
        ("--heldout", "prompts.heldout", path(&args.heldout)),
    ];
    let resolved = args.config.resolve(recorded, &flags)?;
    let checks = examine(&resolved.config, &args.out).await;
    context
        .output
        .print(&checks, |checks| text(checks, args.model.is_some()))?;
    let failed = checks.iter().any(|check| check.verdict == Verdict::Bad);
    Ok(if failed {
        CommandOutcome::Negative
    } else {
        CommandOutcome::Done
    })
}

/// Formats one line per check; with `itemise`, the parts of the memory below theirs.
fn text(checks: &[Check], itemise: bool) -> String {
    let width = checks
        .iter()
        .map(|check| check.name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for Check {
        name,
        verdict,
        found,
        advice,
        memory,
        disk: _,
    } in checks
    {
        let verdict = match verdict {
            Verdict::Good => "ok  ",
            Verdict::Note => "note",
            Verdict::Bad => "bad ",
        };
        let _ = writeln!(text, "{verdict}  {name:width$}  {found}");
        if let Some(advice) = advice {
            let _ = writeln!(text, "      {:width$}  {advice}", "");
        }
        let Some(memory) = memory.as_ref().filter(|_| itemise) else {
            continue;
        };
        let parts = [
            ("parts", &memory.learner.items),
            ("at once", &memory.learner.phases),
            ("run", &memory.generation),
        ];
        for (what, amounts) in parts {
            for amount in amounts.iter().filter(|amount| amount.bytes > 0) {
                let (name, size) = (amount.name, size(amount.bytes));
                let _ = writeln!(text, "      {:width$}  {what:8} {name:15} {size:>12}", "");
            }
        }
    }
    text
}
