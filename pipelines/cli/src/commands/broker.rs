//! `vintage broker`: starts, shows and stops a local Kafka.
use std::path::Path;

use anyhow::Result;
use serde_json::json;
use vintage_broker::{LocalKafka, LocalOptions, LocalStatus};

use super::Context;
use crate::{args::BrokerCommand, exit::CommandOutcome};

/// Runs `vintage broker`.
pub(crate) async fn broker(command: &BrokerCommand, context: &Context) -> Result<CommandOutcome> {
    match command {
        BrokerCommand::Up { dir, nodes, listen } => {
            let options = LocalOptions {
                nodes: *nodes,
                listen: *listen,
                keep: true,
                ..LocalOptions::default()
            };
            up(dir, options, context).await?;
        }
        BrokerCommand::Status { dir } => return status(dir, context).await,
        BrokerCommand::Down { dir } => down(dir, context).await?,
    }
    Ok(CommandOutcome::Done)
}

async fn up(dir: &Path, options: LocalOptions, context: &Context) -> Result<()> {
    let local = LocalKafka::up(dir, options).await?;
    let found = json!({ "bootstrap": local.bootstrap(), "dir": dir, "nodes": local.size() });
    context
        .output
        .print(&found, |_| format!("{}\n", local.bootstrap()))
}

async fn status(dir: &Path, context: &Context) -> Result<CommandOutcome> {
    let found = LocalKafka::status_of(dir).await?;
    let is_up = found.as_ref().is_some_and(LocalStatus::is_up);
    context.output.print(&found, |found| {
        let Some(found) = found else {
            return format!("no broker was started in {}\n", dir.display());
        };
        let use_of_it = match (found.in_use, found.kept) {
            (true, _) => "in use",
            (false, true) => "not in use; it stays until `vintage broker down`",
            (false, false) => "not in use",
        };
        format!(
            "{} of {} nodes run at {}; {use_of_it}\n",
            found.running, found.nodes, found.bootstrap
        )
    })?;
    Ok(if is_up {
        CommandOutcome::Done
    } else {
        CommandOutcome::Negative
    })
}

async fn down(dir: &Path, context: &Context) -> Result<()> {
    let stopped = LocalKafka::down_dir(dir).await?;
    let found = json!({ "stopped": stopped, "dir": dir });
    context.output.print(&found, |_| match stopped {
        0 => format!("no broker was running in {}\n", dir.display()),
        n => format!(
            "stopped {n} broker{} in {}\n",
            if n == 1 { "" } else { "s" },
            dir.display()
        ),
    })
}
