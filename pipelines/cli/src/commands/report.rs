//! `vintage report`: writes a run's report.html, or one page of several runs.
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Result;
use vintage_report::{ComparedRun, WrittenComparison, held_out_texts};

use super::Context;
use crate::{
    args::ReportArgs,
    exit::{CommandOutcome, Usage},
    output::{bytes, table},
};

/// Runs `vintage report DIR [DIR ...]`.
pub(crate) async fn report(args: &ReportArgs, context: &Context) -> Result<CommandOutcome> {
    match (&args.folders[..], &args.to) {
        ([folder], None) => one(folder, context).await,
        ([_], Some(_)) => Err(
            Usage::new("--to names the page of several runs; one was given")
                .hint("the page of one run is report.html in its folder")
                .into(),
        ),
        (folders, to) => {
            let to = to.as_deref().unwrap_or(Path::new("comparison.html"));
            several(folders, to, context).await
        }
    }
}

async fn one(folder: &Path, context: &Context) -> Result<CommandOutcome> {
    let report = vintage_flow::write_report(folder).await?;
    context.output.print(&report, |report| {
        let missing = match &report.missing[..] {
            [] => String::new(),
            [first, ..] => format!(
                "note: no result of {} updates before the last, the first of them {first}: the \
                 curves pass over them\n",
                report.missing.len()
            ),
        };
        format!(
            "{} ({} updates, {} evaluations, {})\n{missing}",
            report.path.display(),
            report.updates,
            report.evaluations,
            bytes(report.bytes)
        )
    })?;
    Ok(CommandOutcome::Done)
}

async fn several(folders: &[PathBuf], to: &Path, context: &Context) -> Result<CommandOutcome> {
    let distinct: BTreeSet<_> = folders
        .iter()
        .map(|folder| folder.canonicalize().unwrap_or_else(|_| folder.clone()))
        .collect();
    if distinct.len() < folders.len() {
        return Err(Usage::new("one run is named twice").into());
    }
    let page = vintage_flow::compare_runs(folders, to).await?;
    context.output.print(&page, as_text)?;
    Ok(CommandOutcome::Done)
}

fn as_text(page: &WrittenComparison) -> String {
    let head = [
        "run",
        "algorithm",
        "updates",
        "held out, sampled",
        "greedy",
        "reward",
        "staleness",
        "masked",
    ];
    let row = |run: &ComparedRun| {
        let lag = if run.lags { " (lag)" } else { "" };
        let [sampled, greedy] = held_out_texts(run.held_out);
        vec![
            run.name.clone(),
            run.algorithm.clone(),
            run.updates.to_string(),
            sampled,
            greedy,
            format!("{:.3}", run.reward),
            format!("{:.1}{lag}", run.staleness),
            format!("{:.2} %", 100.0 * run.masked_share),
        ]
    };
    let rows: Vec<_> = page.runs.iter().map(row).collect();
    let mut text = table(&head, &rows);
    text.push_str(&differences(page));
    text + &format!("\n{} ({})\n", page.path.display(), bytes(page.bytes))
}

fn differences(page: &WrittenComparison) -> String {
    if page.settings.is_empty() {
        return "\nno setting differs\n".to_owned();
    }
    let row = |(key, values): (&String, &Vec<Option<String>>)| {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        let mut row = vec![key.clone()];
        row.extend(values.iter().map(value));
        row
    };
    let rows: Vec<_> = page.settings.iter().map(row).collect();
    let mut head = vec!["setting that differs"];
    head.extend(page.runs.iter().map(|run| run.name.as_str()));
    format!("\n{}", table(&head, &rows))
}
