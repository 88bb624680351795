//! `vintage export`: writes a version of a policy as a Hugging Face folder.
use anyhow::Result;
use vintage_control::PolicyVersion;

use super::Context;
use crate::{args::ExportArgs, exit::CommandOutcome};

/// Runs `vintage export DIR --to FOLDER`.
pub(crate) async fn export(args: &ExportArgs, context: &Context) -> Result<CommandOutcome> {
    let version = args.policy_version.map(PolicyVersion);
    let exported =
        vintage_flow::export(&args.folder, args.name.as_ref(), version, &args.to).await?;
    context.output.print(&exported, |exported| {
        format!(
            "version {} of {} in {}\n",
            exported.version,
            exported.policy,
            exported.path.display()
        )
    })?;
    Ok(CommandOutcome::Done)
}
