//! `vintage bench generate`: sampling beside transformers' `generate`.

use anyhow::{Context as _, Result};
use tokio::task::spawn_blocking;
use vintage_bench::generate::{GeneratePlan, GenerateReport, Timed, compare};
use vintage_human::grouped;

use crate::{
    args::GenerateBenchArgs,
    commands::Context,
    output::{bytes, table},
};

/// Measures every batch.
pub(crate) async fn generate(args: &GenerateBenchArgs, context: &Context) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let plan = GeneratePlan {
        model: args.model.clone(),
        batches: args.batch.clone(),
        group: args.group,
        prompt: args.prompt,
        completion: args.completion,
        ragged: args.ragged,
        threads: args.threads.unwrap_or(cores),
        rounds: args.rounds,
        python: args.python.clone(),
    };
    let screen = context.screen.clone();
    let report = spawn_blocking(move || compare(&plan, &|line| screen.line(line)));
    let report = report.await.context("measuring panicked")??;
    context.output.print(&report, text)
}

fn text(report: &GenerateReport) -> String {
    let shown = |timed: &Timed| {
        let rounds = &timed.rounds;
        let (least, most) = rounds.seconds_range;
        [
            format!("{:.3} ({least:.3} to {most:.3})", rounds.seconds),
            format!("{:.2}", rounds.cpu_seconds),
            grouped(timed.tokens_per_second as u64),
        ]
    };
    let rows = report.batches.iter().map(|batch| {
        let none = || ["-"; 3].map(str::to_owned);
        let ratio = batch.ratio.as_ref().map(|ratio| {
            let (least, most) = ratio.ratio_range;
            format!("{:.2} ({least:.2} to {most:.2})", ratio.ratio)
        });
        let mut row = vec![batch.batch.to_string(), batch.prompts.to_string()];
        row.extend(shown(&batch.vintage));
        row.extend(batch.transformers.as_ref().map_or_else(none, shown));
        row.push(ratio.unwrap_or_else(|| "-".to_owned()));
        let cpu = batch.ratio.as_ref().and_then(|ratio| ratio.cpu_ratio);
        let cpu = cpu.map(|ratio| format!("{ratio:.2}"));
        row.push(cpu.unwrap_or_else(|| "-".to_owned()));
        row
    });
    let rows: Vec<_> = rows.collect();
    let rival = report.rival.as_ref().map_or_else(
        || "transformers not measured; give --python".to_owned(),
        |rival| {
            format!(
                "transformers {} on torch {}, attention {}",
                rival.transformers, rival.torch, rival.attention
            )
        },
    );
    let head = [
        "batch",
        "prompts",
        "vintage, s",
        "CPU s",
        "tokens/s",
        "transformers, s",
        "CPU s",
        "tokens/s",
        "ratio",
        "of CPU",
    ];
    format!(
        "{} parameters, {} of weights a step; prompts of {} tokens, completions of {}{}, {} of each \
         prompt\n{}, {} threads, load {:.1} to {:.1}; vintage {}, {rival}; medians of {} rounds \
         (range)\n{}",
        grouped(report.parameters as u64),
        bytes(report.step_bytes as u64),
        report.prompt,
        if report.ragged.is_some() { "1 to " } else { "" },
        report.completion,
        report.group,
        report.processor,
        report.threads,
        report.load.0,
        report.load.1,
        report.version,
        report.rounds,
        table(&head, &rows),
    )
}
