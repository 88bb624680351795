//! `vintage uses`: writes which update trained which rollout.

use std::{
    fs::File,
    io::{BufWriter, IntoInnerError},
    path::Path,
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tempfile::NamedTempFile;
use vintage_flow::uses::{UsesRead, schema, uses as read};
use vintage_human::grouped;
use vintage_table::ParquetFile;

use super::Context;
use crate::{
    args::UsesArgs,
    exit::{CommandOutcome, Usage},
    output::bytes,
};

#[derive(Serialize)]
struct Written<'a> {
    path: &'a Path,
    #[serde(flatten)]
    read: UsesRead,
    bytes: u64,
}

/// Runs `vintage uses DIR --to FILE`. The file appears when it is whole.
pub(crate) async fn uses(args: &UsesArgs, context: &Context) -> Result<CommandOutcome> {
    let to = args.to.as_path();
    if to.exists() {
        let text = format!("--to {}: it exists", to.display());
        let hint = "name a file that does not, or delete this one";
        return Err(Usage::new(text).hint(hint).into());
    }
    let folder = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let writing = || format!("cannot write {}", to.display());
    let partial = NamedTempFile::new_in(folder).with_context(writing)?;
    let whole = write(args, partial.as_file()).await?;
    partial
        .persist_noclobber(to)
        .map_err(|kept| kept.error)
        .with_context(writing)?;
    let written = Written {
        path: to,
        read: whole,
        bytes: to.metadata().with_context(writing)?.len(),
    };
    context.output.print(&written, |written| {
        format!(
            "{} ({} rows of {} updates, {})\n",
            written.path.display(),
            grouped(written.read.rows),
            grouped(written.read.updates),
            bytes(written.bytes)
        )
    })?;
    Ok(CommandOutcome::Done)
}

async fn write(args: &UsesArgs, to: &File) -> Result<UsesRead> {
    let writing = || format!("cannot write {}", args.to.display());
    let mut file = ParquetFile::new(BufWriter::new(to), schema()).with_context(writing)?;
    let read = read(&args.folder, args.name.as_ref(), |rows| {
        file.write(rows).with_context(writing)
    })
    .await?;
    let buffered = file.finish().with_context(writing)?;
    let to = buffered.into_inner().map_err(IntoInnerError::into_error);
    to.and_then(File::sync_all).with_context(writing)?;
    Ok(read)
}
