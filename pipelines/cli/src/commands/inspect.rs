//! `vintage inspect`: what a topic, an archive, a run or a message holds.

mod archive;
mod folder;
mod message;
mod topic;

use std::path::Path;

use anyhow::Result;
use vintage_control::{Offset, Partition};

use super::Context;
use crate::{
    args::InspectArgs,
    exit::{Outcome, Usage},
};

/// Finds out what the target is.
pub(crate) async fn inspect(args: &InspectArgs, context: &Context) -> Result<Outcome> {
    if args.target == "-" {
        message::stdin(context)?;
        return Ok(Outcome::Done);
    }
    let path = Path::new(&args.target);
    if path.join("config.toml").is_file() {
        folder::run(path, context).await?;
        return Ok(Outcome::Done);
    }
    if path.exists() {
        return archive::archive(path, args, context).await;
    }
    if args.target.contains('/') {
        let what = format!("there is nothing at {}", args.target);
        return Err(Usage::new(what)
            .hint("name a run's folder, an archive, a topic or -")
            .into());
    }
    topic::topic(args, context).await?;
    Ok(Outcome::Done)
}

/// Whether `--partition` and `--from` leave out a record.
fn wanted(args: &InspectArgs, partition: Partition, offset: Offset) -> bool {
    args.partition.is_none_or(|only| only == partition.0)
        && args.from.is_none_or(|from| offset.0 >= from)
}
