//! `vintage report`: writes a run's report.html.
use anyhow::Result;

use super::Context;
use crate::{args::ReportArgs, exit::CommandOutcome, output::bytes};

/// Runs `vintage report DIR`.
pub(crate) async fn report(args: &ReportArgs, context: &Context) -> Result<CommandOutcome> {
    let report = vintage_flow::write_report(&args.folder).await?;
    context.output.print(&report, |report| {
        let missing = match &report.missing[..] {
            [] => String::new(),
            [first, ..] => format!(
                "note: no result of {} updates before the last, the first of them {first}: the \
                 curves pass over them\n",
                report.missing.len()
            ),
        };
        format!(
            "{} ({} updates, {} evaluations, {})\n{missing}",
            report.path.display(),
            report.updates,
            report.evaluations,
            bytes(report.bytes)
        )
    })?;
    Ok(CommandOutcome::Done)
}
