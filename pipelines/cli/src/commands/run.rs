//! `vintage run`: trains with all roles in one process.
use std::path::{Path, PathBuf};
use vintage_human::{Measured, grouped};

use anyhow::{Context as _, Result};
use vintage_flow::{Summary, config_file, write_report};

use super::Context;
use crate::{
    allocator,
    args::RunArgs,
    exit::CommandOutcome,
    output::{columns, reasons},
};

/// Runs `vintage run`.
pub(crate) async fn run(args: &RunArgs, context: &Context) -> Result<CommandOutcome> {
    let out = args.out.clone().unwrap_or_else(new_folder);
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let flags = [
        (
            "--steps",
            "learner.steps",
            args.steps.map(|steps| steps.to_string()),
        ),
        ("--prompts", "prompts.train", path(&args.prompts)),
        ("--heldout", "prompts.heldout", path(&args.heldout)),
    ];
    let resolved = args.config.resolve(Some(&config_file(&out)), &flags)?;
    if resolved.config.model.path.is_some() {
        allocator::give_back_soon();
    }
    let (events, shown) = context.progress(resolved.config.learner.steps);
    let stop = &context.signals.stop;
    let summary = vintage_flow::run(&resolved, &out, &args.accept, stop, &events).await;
    drop(events);
    shown.await?;
    let summary = summary?;
    if !(summary.finished && is_reported(&out)) {
        write_report(&out)
            .await
            .context("the run is done, but its report could not be written")?;
    }
    context
        .output
        .print(&summary, |summary| text(summary, &out))?;
    Ok(match context.signals.received() {
        Some(signal) if !summary.finished => CommandOutcome::Interrupted(signal),
        _ => CommandOutcome::Done,
    })
}

/// Returns true if the report was written after the summary: a finished run that is started again
/// changes neither, and its report would take as long as it has rollouts.
fn is_reported(out: &Path) -> bool {
    let written = |name: &str| out.join(name).metadata().and_then(|file| file.modified());
    let (report, summary) = (written("report.html"), written("summary.json"));
    matches!((report, summary), (Ok(report), Ok(summary)) if report >= summary)
}

/// Returns the default folder, `runs/<time>`.
fn new_folder() -> PathBuf {
    let now = jiff::Zoned::now().strftime("%Y-%m-%d-%H%M%S").to_string();
    Path::new("runs").join(now)
}

fn text(summary: &Summary, out: &Path) -> String {
    let state = if summary.finished {
        String::new()
    } else {
        format!(
            ", not finished: `vintage run --out {}` goes on",
            out.display()
        )
    };
    let mut lines = vec![("updates", format!("{}{state}", grouped(summary.updates)))];
    lines.extend(held_out(summary));
    lines.extend([
        (
            "staleness",
            format!(
                "{:.1} updates on average, {} at most",
                summary.mean_staleness, summary.max_staleness
            ),
        ),
        (
            "masked",
            format!("{:.2} % of tokens", 100.0 * summary.masked_share),
        ),
        ("groups", groups(summary)),
        (
            "archive",
            format!("{} rows", grouped(summary.archived_rows)),
        ),
        ("weights", summary.weights_sha256.to_string()),
        (
            "time",
            format!(
                "{:.1} s, {:.1} ms an update",
                summary.seconds,
                1000.0 * summary.update_seconds
            ),
        ),
        ("report", out.join("report.html").display().to_string()),
    ]);
    let waited = summary.standstill.iter().map(|why| ("stood still", why));
    let warned = summary.warnings.iter().map(|why| ("warning", why));
    lines.extend(waited.chain(warned).map(|(name, why)| (name, why.clone())));
    columns(lines)
}

/// Formats what sampling and what the likeliest completions reach on held-out prompts.
fn held_out(summary: &Summary) -> Vec<(&'static str, String)> {
    let measured = Measured::of(summary.judged_by_program);
    let both = |first, last| {
        format!(
            "{} → {} ({}",
            measured.value(first),
            measured.value(last),
            measured.change(last - first)
        )
    };
    let mut lines = Vec::new();
    if let (Some(first), Some(last)) = (summary.initial_accuracy, summary.final_accuracy) {
        let prompts = summary.eval_samples;
        let value = format!(
            "{}, {prompts} held-out prompts, sampled)",
            both(first, last)
        );
        lines.push((measured.name(), value));
    }
    let greedy = (
        summary.initial_greedy_accuracy,
        summary.final_greedy_accuracy,
    );
    if let (Some(first), Some(last)) = greedy {
        lines.push(("greedy", both(first, last) + ")"));
    }
    lines
}

fn groups(summary: &Summary) -> String {
    let rejected: u64 = summary.rejected.values().sum();
    let reasons = reasons(
        summary
            .rejected
            .iter()
            .map(|(why, count)| (why.as_str(), *count)),
    );
    format!(
        "{} produced {} {} trained + {} rejected{reasons} + {} in flight + {} lost",
        grouped(summary.produced),
        if summary.balanced { "=" } else { "≠" },
        grouped(summary.trained),
        grouped(rejected),
        grouped(summary.in_flight),
        grouped(summary.lost),
    )
}
