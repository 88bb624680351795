//! `vintage broker`: starts and stops a local Kafka.
use std::path::Path;

use anyhow::Result;
use serde_json::json;
use vintage_broker::{LocalKafka, LocalOptions};

use super::Context;
use crate::{args::BrokerCommand, exit::CommandOutcome};

/// Runs `vintage broker up` or `vintage broker down`.
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
