//! `vintage prune`: deletes what a policy allows and nobody needs.

use std::fmt::Write as _;

use anyhow::Result;
use vintage_control::{PolicyVersion, PrunePolicy, PrunedNumbers};
use vintage_flow::prune::{PruneRequest, Pruned, prune as run};
use vintage_human::grouped;

use super::{Context, topics::resolve};
use crate::{
    args::PruneArgs,
    exit::CommandOutcome,
    output::{bytes, columns},
};

/// Runs `vintage prune [DIR]`.
pub(crate) async fn prune(args: &PruneArgs, context: &Context) -> Result<CommandOutcome> {
    let scope = PruneRequest {
        config: resolve(&args.config, args.folder.as_deref())?,
        folder: args.folder.clone(),
        asked: PrunePolicy {
            keep_versions: args.keep_versions,
            keep_every: args.keep_every,
            keep_checkpoints: args.keep_checkpoints,
            archive_before: args.archive_before.map(PolicyVersion),
            journals: args.journals,
            older_than_seconds: args.older_than,
        },
        apply: args.apply,
    };
    let pruned = run(&scope).await?;
    context.output.print(&pruned, text)?;
    Ok(CommandOutcome::Done)
}

fn text(pruned: &Pruned) -> String {
    let pruning = &pruned.pruning;
    let amount = |objects: u64, size: u64| format!("{} objects, {}", grouped(objects), bytes(size));
    let numbers = |of: &PrunedNumbers| {
        let count = grouped(of.versions.len() as u64);
        format!(
            "{count} ({}): {}",
            range(&of.versions),
            amount(of.objects, of.bytes)
        )
    };
    let mut lines = Vec::new();
    for (policy, of) in &pruning.versions {
        lines.push(("versions", format!("{policy}, {}", numbers(of))));
    }
    for (learner, of) in &pruning.checkpoints {
        lines.push(("checkpoints", format!("{learner}, {}", numbers(of))));
    }
    for of in &pruning.archive {
        let place = format!("incarnation {} partition {}", of.incarnation, of.partition);
        let size = amount(of.objects, of.bytes);
        lines.push((
            "archive",
            format!("{place}, up to offset {}: {size}", of.next),
        ));
    }
    if !pruning.journals.is_empty() {
        let count = pruning.journals.len() as u64;
        let size = pruning.journals.values().sum();
        lines.push(("journals", amount(count, size)));
    }
    lines.push(("in all", amount(pruning.objects, pruning.bytes)));
    let mut text = columns(lines);
    for note in &pruning.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for impossible in lost(pruned) {
        let _ = writeln!(text, "afterwards impossible: {impossible}");
    }
    let end = match (&pruned.record, pruned.applied) {
        (Some(record), _) => &format!("Deleted; {record} says what."),
        (None, true) if pruning.is_empty() => "There was nothing to delete.",
        (None, true) => "Deleted what an earlier prune had recorded.",
        (None, false) if pruning.is_empty() => "Nothing would be deleted.",
        (None, false) => "Nothing is deleted yet: --apply does it.",
    };
    let _ = writeln!(text, "{end}");
    text
}

/// Returns what cannot be done any more without the objects that go.
fn lost(pruned: &Pruned) -> Vec<&'static str> {
    let pruning = &pruned.pruning;
    let classes = [
        (
            !pruning.versions.is_empty(),
            "to export, load or evaluate these versions",
        ),
        (
            !pruning.checkpoints.is_empty(),
            "to put the run back to one of these checkpoints",
        ),
        (
            !pruning.archive.is_empty(),
            "`replay --exact` and `replay --to`; a learner that begins at the earliest group; to \
             read the rollouts in these files",
        ),
    ];
    let gone = classes.into_iter().filter(|(goes, _)| *goes);
    gone.map(|(_, what)| what).collect()
}

fn range(versions: &[PolicyVersion]) -> String {
    match versions {
        [] => "none".to_owned(),
        [only] => only.to_string(),
        [first, .., last] => format!("{first} to {last}"),
    }
}
