//! `vintage staleness`: recomputes archived groups under later versions.

mod gradients;

use std::fmt::Write as _;

use anyhow::Result;
use vintage_flow::staleness::{
    GradientsRequest, StalenessReport, StalenessRequest, staleness as run,
};
use vintage_human::grouped;

use super::Context;
use crate::{args::StalenessArgs, exit::CommandOutcome, output::table};

/// Losses in the table; the run's own comes first, and all others are in JSON and on the page.
const SHOWN: [&str; 6] = ["m2po", "grpo", "dapo", "gspo", "icepop", "seq_mis"];

/// Runs `vintage staleness DIR`.
pub(crate) async fn staleness(args: &StalenessArgs, context: &Context) -> Result<CommandOutcome> {
    let request = StalenessRequest {
        folder: args.folder.clone(),
        learner: args.name.clone(),
        groups: args.groups(),
        versions: args.versions(),
        gradients: args.gradients.then(|| GradientsRequest {
            losses: args.losses.clone(),
            fresh: args.fresh,
            passes: args.passes,
            seed: args.seed,
        }),
        page: args.html.clone(),
    };
    let (events, shown) = context.progress(0);
    let report = run(&request, &context.signals.stop, &events).await;
    drop(events);
    shown.await?;
    context.output.print(&report?, text)?;
    Ok(CommandOutcome::Done)
}

fn text(report: &StalenessReport) -> String {
    let mut text = format!("{}\n\n", report.answer.sentence);
    let own = report.algorithm.as_str();
    let own = Some(own).filter(|own| !SHOWN.contains(own));
    let is_measured = |loss: &&str| report.ages.iter().any(|of| of.losses.contains_key(loss));
    let losses: Vec<_> = own.into_iter().chain(SHOWN).filter(is_measured).collect();
    let mut head = vec![
        "staleness",
        "groups",
        "tokens",
        "M2",
        "M2 all",
        "ESS tokens",
        "ESS rollouts",
        "r > 1.1",
        "r > 2",
    ];
    head.extend(&losses);
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let rows = report.ages.iter().map(|of| {
        let mut row = vec![
            staleness_of(of.staleness),
            grouped(of.groups),
            grouped(of.tokens),
            moment(of.m2),
            moment(of.m2_all),
            percent(of.effective_tokens),
            percent(of.effective_rollouts),
            percent(of.beyond_tenth),
            percent(of.beyond_double),
        ];
        let masked = |loss: &&str| {
            let of = of.losses.get(loss);
            of.map_or_else(|| "-".to_owned(), |of| percent(of.masked))
        };
        row.extend(losses.iter().map(masked));
        row
    });
    text.push_str(&table(&head, &rows.collect::<Vec<_>>()));
    let _infallible = writeln!(
        text,
        "Of {} archived groups, under {} versions from {} to {}; in batches of {} groups at most. \
         Columns with a loss's name: share of tokens without gradient. r > 2: ratio above 2 or below 1/2.",
        grouped(report.archived_groups),
        report.versions.len(),
        report.versions.first().map_or(0, |version| version.0),
        report.versions.last().map_or(0, |version| version.0),
        grouped(report.groups_per_batch),
    );
    for (reason, groups) in &report.left_out {
        let _infallible = writeln!(text, "left out: {} groups, {reason}", grouped(*groups));
    }
    if let Some(found) = &report.gradients {
        gradients::add(&mut text, found);
    }
    if let Some(page) = &report.page {
        let _infallible = writeln!(text, "{}", page.display());
    }
    text
}

/// Formats a mean staleness, whole where it is.
fn staleness_of(staleness: f64) -> String {
    if staleness.fract() == 0.0 {
        format!("{staleness:.0}")
    } else {
        format!("{staleness:.1}")
    }
}

fn moment(value: f64) -> String {
    if value == 0.0 || value >= 1e-4 {
        format!("{value:.4}")
    } else {
        format!("{value:.0e}")
    }
}
