use anyhow::Result;

use super::Context;
use crate::{args::ReportArgs, exit::Outcome, output::bytes};

/// `vintage report DIR`
pub(crate) async fn report(args: &ReportArgs, context: &Context) -> Result<Outcome> {
    let report = vintage_flow::report::write(&args.folder).await?;
    context.output.print(&report, |report| {
        format!(
            "{} ({} updates, {} evaluations, {})\n",
            report.path.display(),
            report.updates,
            report.evaluations,
            bytes(report.bytes)
        )
    })?;
    Ok(Outcome::Done)
}
