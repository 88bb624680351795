//! `vintage bench`: one file a measurement; each calls the library and prints.

mod archive;
mod codec;
mod curate;
mod fleet;
mod generate;
mod publish;
mod transport;
mod update;
mod weigh;

use anyhow::Result;
use vintage_bench::transport::Load;

use super::Context;
use crate::{args::BenchCommand, exit::CommandOutcome, output::writer};

/// Measures what was asked for.
pub(crate) async fn bench(command: &BenchCommand, context: &Context) -> Result<CommandOutcome> {
    let json = context.output.is_json();
    match command {
        BenchCommand::Weigh { tokens } => {
            weigh::run(*tokens, json, &mut writer())?;
        }
        BenchCommand::Transport {
            broker,
            megabytes,
            passes,
            rows,
            tokens,
        } => {
            let load = Load {
                bytes: megabytes.saturating_mul(1_000_000),
                passes: *passes,
                rows: *rows,
                tokens: *tokens,
            };
            transport::transport(broker.as_deref(), load, context).await?;
        }
        BenchCommand::Codec {
            rows,
            tokens,
            seconds,
        } => {
            codec::codec(*rows, *tokens, *seconds, context)?;
        }
        BenchCommand::Fleet(args) => return fleet::fleet(args, context).await,
        BenchCommand::Curate(args) => return curate::curate(args, context).await,
        BenchCommand::Publish(args) => return publish::publish(args, context).await,
        BenchCommand::Generate(args) => generate::generate(args, context).await?,
        BenchCommand::Update(args) => update::update(args, context).await?,
        BenchCommand::Archive(args) => archive::archive(args, context).await?,
        BenchCommand::ArchiveArm(args) => archive::arm(args).await?,
    }
    Ok(CommandOutcome::Done)
}
