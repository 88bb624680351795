//! `vintage experiment staleness`: starts the runs of the arms that are not finished, some at a time, reads all
//! of them, and writes the table.

use anyhow::Result;
use vintage_experiment::{
    course::Arm as _,
    staleness::{Arm, Grid, Report},
};

use super::{
    super::Context,
    page,
    runs::{Planned, Runs, cores, counted},
    staleness_page::sheet,
};
use crate::{
    args::GridArgs,
    exit::{CommandOutcome, Usage},
};

/// Runs the experiment.
pub(super) async fn staleness(args: &GridArgs, context: &Context) -> Result<CommandOutcome> {
    let grid = args.grid();
    grid.check()?;
    args.runs.check_taken(&GridArgs::TAKEN)?;
    if let [name, ..] = args.idle_rates()[..] {
        return Err(Usage::new(format!("--lr names {name}, which --losses does not")).into());
    }
    let arms = grid.arms();
    let planned = arms.iter().map(|arm| planned(args, arm, grid.updates));
    let place = (args.folder(), what(&grid));
    let jobs = (args.runs.jobs(cores()), args.runs.threads);
    let mut runs = Runs::new(context, place, planned.collect(), jobs);
    if let Some(outcome) = runs.complete(args.runs.dry_run, &arms).await? {
        return Ok(outcome);
    }
    let trials = runs.trials(arms.into_iter().map(|arm| (arm, arm.loss)));
    let report = Report::new(grid, trials.await?);
    let page = sheet(&report, args);
    let written = page::write("staleness", &report, &page, &args.folder())?;
    context.output.print(&report, |report| {
        format!("{}\n{}\n", report.text(), written.display())
    })?;
    Ok(runs.outcome(report.counts))
}

fn planned(args: &GridArgs, arm: &Arm, updates: u64) -> Planned {
    Planned {
        name: arm.name(),
        settings: args.settings(arm, updates),
        updates,
        versions: arm.staleness.bound,
        after: None,
    }
}

/// Says what the runs are.
fn what(grid: &Grid) -> String {
    format!(
        "{}, {} of staleness, {}, {} updates each",
        counted(grid.losses.len() as u64, "loss"),
        counted(grid.staleness.len() as u64, "value"),
        counted(grid.seeds, "seed"),
        grid.updates,
    )
}
