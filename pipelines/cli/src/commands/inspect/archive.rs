//! Shows the files of an archive, or the rollouts in them.

use std::{
    io::Write as _,
    path::{Component, Path, PathBuf},
};
use vintage_human::grouped;

use anyhow::{Context as _, Result};
use serde::Serialize;
use vintage_archive::{ArchiveFile, Filter, Reader};
use vintage_control::{ArchiveFooter, Offset, Partition, PolicyVersion};
use vintage_flow::{archive_in, config_file, open_store};
use vintage_store::Store;

use super::{Context, LIMIT, check_place, message::ShownMessage, wanted};
use crate::{
    args::InspectArgs,
    exit::{CommandOutcome, Usage},
    output::{bytes, is_closed, print_text, table, writer},
};

/// Archive to show, or a part of it.
struct Target {
    root: Store,
    /// Topic to show; `None` for all.
    topic: Option<String>,
    /// Path under the root of the file to show; `None` for all.
    file: Option<String>,
}

/// Prints files or rollouts; with `--verify`, also reports whether every byte is as it was written.
pub(super) async fn archive(
    path: &Path,
    args: &InspectArgs,
    context: &Context,
) -> Result<CommandOutcome> {
    let target = find(path)?;
    let store = target.root.clone();
    let topics = match &target.topic {
        Some(topic) => vec![topic.clone()],
        None => Reader::topics(&store).await?,
    };
    if topics.is_empty() {
        return Err(Usage::new(format!("{} holds no archived topic", path.display())).into());
    }
    let mut outcome = CommandOutcome::Done;
    let mut found = Vec::new();
    let mut ends = Vec::new();
    for topic in topics {
        let reader = Reader::new(store.clone(), &topic);
        let files = files(&reader, &target, &mut ends).await?;
        found.push((topic, reader, files));
    }
    if let (Some(file), true) = (
        &target.file,
        found.iter().all(|(_, _, files)| files.is_empty()),
    ) {
        return Err(Usage::new(format!("{file} is no file of the archive")).into());
    }
    check_place(args, &ends)?;
    for (topic, reader, mut files) in found {
        files.retain(|file| {
            let last = Offset(file.footer.next_offset.0 - 1);
            wanted(args, file.footer.partition, last)
        });
        if args.rows {
            rows(&reader, &files, args, context).await?;
            continue;
        }
        let mut listed = Vec::new();
        for file in files {
            let checked = if args.verify {
                reader.verify(&file).await
            } else {
                Ok(())
            };
            let damage = checked.err().map(|error| error.to_string());
            if damage.is_some() {
                outcome = CommandOutcome::Negative;
            }
            listed.push(Listed::of(file, args.verify, damage));
        }
        print(&topic, &listed, context)?;
    }
    Ok(outcome)
}

/// Finds the archive that a path names. Its root is the folder that holds `v1/`; a path below it
/// names a part.
fn find(path: &Path) -> Result<Target> {
    let whole = |root| Target {
        root,
        topic: None,
        file: None,
    };
    if config_file(path).is_file() {
        return Ok(whole(archive_in(&open_store(path)?)));
    }
    if path.join("v1").is_dir() {
        return Ok(whole(Store::open(&path.to_string_lossy())?));
    }
    let full = path
        .canonicalize()
        .map_err(|error| Usage::new(format!("cannot read {}: {error}", path.display())))?;
    let parts: Vec<_> = full.components().collect();
    let is_v1 = |part: &Component<'_>| part.as_os_str() == "v1";
    let Some(at) = parts.iter().rposition(is_v1) else {
        let what = format!(
            "{} is no run, no archive and no part of one",
            path.display()
        );
        return Err(Usage::new(what)
            .hint("an archive's folder holds v1/")
            .into());
    };
    let text = |part: &Component<'_>| part.as_os_str().to_string_lossy().into_owned();
    let below: Vec<_> = parts[at..].iter().map(text).collect();
    Ok(Target {
        root: Store::open(&parts[..at].iter().collect::<PathBuf>().to_string_lossy())?,
        topic: below.get(1).map(|level| {
            let topic = level.strip_prefix("topic=");
            topic.unwrap_or(level).to_owned()
        }),
        file: full.is_file().then(|| below.join("/")),
    })
}

/// Returns the files of a target, and adds the end of each partition to `ends`.
async fn files(
    reader: &Reader,
    target: &Target,
    ends: &mut Vec<(Partition, Offset)>,
) -> Result<Vec<ArchiveFile>> {
    let mut files = Vec::new();
    for incarnation in reader.incarnations().await? {
        for partition in reader.partitions(incarnation).await? {
            let chain = reader.chain(incarnation, partition).await?;
            let end = chain.last().map(|file| file.footer.next_offset);
            ends.push((partition, end.unwrap_or_default()));
            files.extend(chain);
        }
    }
    ends.sort_unstable();
    // Of several incarnations, keep the furthest end.
    ends.reverse();
    ends.dedup_by_key(|(partition, _)| *partition);
    ends.reverse();
    files.retain(|file| target.file.as_ref().is_none_or(|only| *only == file.path));
    Ok(files)
}

/// File of an archive as it is printed.
#[derive(Serialize)]
struct Listed {
    path: String,
    bytes: u64,
    #[serde(flatten)]
    footer: ArchiveFooter,
    /// Result of `--verify`: true if every byte is as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    intact: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

impl Listed {
    fn of(file: ArchiveFile, verified: bool, damage: Option<String>) -> Self {
        let ArchiveFile {
            path,
            bytes,
            footer,
        } = file;
        Self {
            path,
            bytes,
            footer,
            intact: verified.then_some(damage.is_none()),
            damage,
        }
    }
}

fn print(topic: &str, files: &[Listed], context: &Context) -> Result<()> {
    if context.output.is_json() {
        let mut out = writer();
        for file in files {
            serde_json::to_writer(&mut out, file).context("cannot print the files")?;
            out.write_all(b"\n").context("cannot print the files")?;
        }
        return out.flush().context("cannot print the files");
    }
    let sum = |count: fn(&ArchiveFooter) -> u64| files.iter().map(|file| count(&file.footer)).sum();
    let size: u64 = files.iter().map(|file| file.bytes).sum();
    let mut text = format!(
        "{topic}: {} files, {} messages, {} rows, {} quarantined, {}\n",
        grouped(files.len() as u64),
        grouped(sum(|footer| footer.messages)),
        grouped(sum(|footer| footer.rows)),
        grouped(sum(|footer| footer.quarantined)),
        bytes(size),
    );
    let rows: Vec<_> = files.iter().map(row).collect();
    let head = [
        "file",
        "offsets",
        "messages",
        "rows",
        "versions",
        "size",
        "closed by",
        "",
    ];
    text.push_str(&table(&head, &rows));
    print_text(&text)
}

fn row(file: &Listed) -> Vec<String> {
    let footer = &file.footer;
    let version =
        |version: Option<PolicyVersion>| version.map_or("-".to_owned(), |v| v.to_string());
    vec![
        file.path.clone(),
        format!("{}..{}", footer.base_offset, footer.next_offset),
        grouped(footer.messages),
        grouped(footer.rows),
        format!(
            "{}..{}",
            version(footer.min_policy_version),
            version(footer.max_policy_version)
        ),
        bytes(file.bytes),
        footer.roll_reason.clone(),
        match (&file.damage, file.intact) {
            (Some(damage), _) => damage.clone(),
            (None, Some(_)) => "intact".to_owned(),
            (None, None) => String::new(),
        },
    ]
}

async fn rows(
    reader: &Reader,
    files: &[ArchiveFile],
    args: &InspectArgs,
    context: &Context,
) -> Result<()> {
    let mut out = writer();
    let mut left = args.limit.unwrap_or(LIMIT);
    for file in files {
        let footer = &file.footer;
        let partition: Partition = footer.partition;
        let filter = Filter {
            from: [(partition, footer.base_offset)].into(),
            ..Filter::default()
        };
        let mut messages = reader
            .messages(footer.incarnation, partition, &filter)
            .await?;
        while left > 0
            && !is_closed()
            && let Some(message) = messages.next().await?
            && message.record.offset < footer.next_offset
        {
            if !wanted(args, partition, message.record.offset) {
                continue;
            }
            left -= 1;
            let shown = ShownMessage {
                place: Some((partition.0, message.record.offset.0)),
                timestamp_ms: message.timestamp_ms,
                headers: &message.raw_headers,
                rows: message.rows.as_ref().map_err(|bad| bad.reason.clone()),
            };
            shown.write(context.output.is_json(), &mut out)?;
        }
    }
    out.flush().context("cannot print the rows")
}
