use std::fmt::Write as _;

use anyhow::Result;
use vintage_flow::doctor::{Check, Verdict, examine};

use super::Context;
use crate::{args::DoctorArgs, exit::Outcome};

/// `vintage doctor`
pub(crate) async fn doctor(args: &DoctorArgs, context: &Context) -> Result<Outcome> {
    let of_run = args.out.join("config.toml");
    let recorded = of_run.is_file().then_some(of_run.as_path());
    let resolved = args.config.resolve(recorded, &[])?;
    let checks = examine(&resolved.config, &args.out).await;
    context.output.print(&checks, |checks| text(checks))?;
    let failed = checks.iter().any(|check| check.verdict == Verdict::Bad);
    Ok(if failed {
        Outcome::Negative
    } else {
        Outcome::Done
    })
}

fn text(checks: &[Check]) -> String {
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
    }
    text
}
