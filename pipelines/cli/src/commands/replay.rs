//! `vintage replay`: runs a recorded training again, or publishes its rollouts again.
use anyhow::Result;
use vintage_flow::{
    ReplaySummary, replay_exact,
    republish::{CopiedAmount, Republication, Republished, republish},
};
use vintage_human::grouped;

use super::{Context, topics::resolve};
use crate::{
    args::ReplayArgs,
    exit::CommandOutcome,
    output::{bytes, columns},
};

/// Runs `vintage replay` with `--exact` or `--to`.
pub(crate) async fn replay(args: &ReplayArgs, context: &Context) -> Result<CommandOutcome> {
    match &args.to {
        Some(to) => publish(args, to, context).await,
        None => exact(args, context).await,
    }
}

async fn publish(args: &ReplayArgs, to: &str, context: &Context) -> Result<CommandOutcome> {
    let config = resolve(&args.config, Some(&args.folder))?;
    let wanted = Republication {
        to: to.to_owned(),
        selection: args.selection.read(config.seed)?,
        groups_per_second: args.selection.rate,
    };
    let (events, shown) = context.progress(0);
    let stop = &context.signals.stop;
    let done = republish(&config, &args.folder, &wanted, stop, &events).await;
    drop(events);
    shown.await?;
    let done = done?;
    context.output.print(&done, published)?;
    Ok(match context.signals.received() {
        Some(signal) if !done.finished => CommandOutcome::Interrupted(signal),
        _ => CommandOutcome::Done,
    })
}

fn published(done: &Republished) -> String {
    let amount = |amount: &CopiedAmount| {
        format!(
            "{} groups, {} records, {} rows",
            grouped(amount.groups),
            grouped(amount.records),
            grouped(amount.rows)
        )
    };
    let state = if done.finished {
        ""
    } else {
        ", not to its end: the same command goes on"
    };
    let mut lines = vec![
        ("topic", format!("{} → {}", done.topic, done.to)),
        (
            "archive",
            format!("{} records{state}", grouped(done.records)),
        ),
        ("taken", amount(&done.taken)),
    ];
    if done.already_there.records > 0 {
        lines.push(("there already", amount(&done.already_there)));
    }
    lines.push((
        "published",
        format!("{}, {}", amount(&done.published), bytes(done.bytes)),
    ));
    if done.reencoded > 0 {
        lines.push((
            "encoded anew",
            format!("{} records", grouped(done.reencoded)),
        ));
    }
    let passed: Vec<_> = done
        .passed_over
        .iter()
        .map(|(reason, records)| format!("{reason} {}", grouped(*records)))
        .collect();
    if !passed.is_empty() {
        lines.push(("passed over", format!("{} records", passed.join(", "))));
    }
    lines.push(("time", format!("{:.1} s", done.seconds)));
    columns(lines)
}

async fn exact(args: &ReplayArgs, context: &Context) -> Result<CommandOutcome> {
    let (events, shown) = context.progress(0);
    let replayed = replay_exact(&args.folder, args.name.as_ref(), &events).await;
    drop(events);
    shown.await?;
    let replayed = replayed?;
    context.output.print(&replayed, text)?;
    Ok(if replayed.identical {
        CommandOutcome::Done
    } else {
        CommandOutcome::Negative
    })
}

fn text(replayed: &ReplaySummary) -> String {
    let updates = if replayed.updates == replayed.recorded {
        grouped(replayed.updates)
    } else {
        let (done, of) = (grouped(replayed.updates), grouped(replayed.recorded));
        format!("{done} of {of} that are recorded")
    };
    let mut lines = vec![
        ("updates", updates),
        (
            "identical",
            if replayed.identical { "yes" } else { "no" }.to_owned(),
        ),
        ("weights", replayed.weights_sha256.to_string()),
    ];
    if let Some(deviation) = &replayed.first_deviation {
        lines.push((
            "first difference",
            format!("update {}: {}", deviation.update, deviation.detail),
        ));
        if deviation.other_machine {
            let note = "the plans were made on another machine or build, which need not agree in \
                        bits";
            lines.push(("note", note.to_owned()));
        } else if deviation.on_gpu {
            let note = "updates were computed on a GPU, which need not repeat its bits";
            lines.push(("note", note.to_owned()));
        }
    }
    columns(lines)
}
