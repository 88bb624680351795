//! `vintage mismatch`: recomputes archived log-probs.

use std::fmt::Write as _;

use anyhow::Result;
use vintage_control::Precision;
use vintage_flow::mismatch::{MeasuredEngine, MismatchReport, MismatchRequest, mismatch as run};
use vintage_human::grouped;

use super::Context;
use crate::{args::MismatchArgs, exit::CommandOutcome, output::table};

/// Number of versions shown of an engine: the oldest and the newest of more.
const VERSIONS: usize = 12;

/// Runs `vintage mismatch DIR`.
pub(crate) async fn mismatch(args: &MismatchArgs, context: &Context) -> Result<CommandOutcome> {
    let request = MismatchRequest {
        folder: args.folder.clone(),
        learner: args.name.clone(),
        rows: args.rows,
        by_producer: args.by_producer,
        tolerance: args.tolerance,
    };
    let report = run(&request).await?;
    context.output.print(&report, text)?;
    Ok(if report.holds() {
        CommandOutcome::Done
    } else {
        CommandOutcome::Negative
    })
}

fn text(report: &MismatchReport) -> String {
    let mut text = String::new();
    for engine in &report.engines {
        engine_text(&mut text, engine, report.tolerance);
    }
    for (reason, rows) in &report.left_out {
        let _infallible = writeln!(text, "left out: {} rollouts, {reason}", grouped(*rows));
    }
    text
}

fn engine_text(text: &mut String, measured: &MeasuredEngine, tolerance: f64) {
    let found = &measured.mismatch;
    let worst = &found.worst;
    let _infallible = writeln!(
        text,
        "{}, recomputed in {}: {} rollouts of {}, {} tokens\n  \
         difference {:.3e} nats a token on average ({tolerance} is accepted), 99 % within {:.3e}\n  \
         divergence {:.3e} nats a token (k3); ratio beyond 1.1 in {:.2} % of tokens, beyond 2 in \
         {:.2} %\n  \
         worst token: {} for {} reported, at token {} of rollout {} of group {}, version {}",
        found.engine,
        precision(found.precision),
        grouped(found.rows),
        grouped(measured.comparable),
        grouped(found.tokens),
        found.mean,
        found.p99,
        found.kl,
        100.0 * found.beyond_tenth,
        100.0 * found.beyond_double,
        worst.recomputed,
        worst.reported,
        worst.position,
        worst.sample_index,
        worst.group,
        worst.version,
    );
    let versions = &measured.versions;
    let left = versions.len().saturating_sub(VERSIONS);
    let shown = versions.iter().enumerate();
    let shown = shown.filter(|(at, _)| *at < VERSIONS / 2 || *at >= VERSIONS / 2 + left);
    let head = ["version", "rollouts", "tokens", "difference", "divergence"];
    let rows = shown.map(|(_, of)| {
        vec![
            of.version.to_string(),
            grouped(of.rows),
            grouped(of.tokens),
            format!("{:.3e}", of.mean),
            format!("{:.3e}", of.kl),
        ]
    });
    text.push_str(&table(&head, &rows.collect::<Vec<_>>()));
    if left > 0 {
        let _infallible = writeln!(
            text,
            "  ({left} versions between them are in --output json)"
        );
    }
    if let Some(cause) = &measured.cause {
        let _infallible = writeln!(text, "  NOT ACCEPTED: {cause}");
    }
}

fn precision(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}
