//! `vintage experiment reuse`: starts the runs of the ways that are not finished, some at a time, reads all of
//! them, and writes the table.

use anyhow::Result;
use vintage_experiment::{
    course::Arm as _,
    reuse::{Arm, Comparison, Plan, Report},
};

use super::{
    super::Context,
    page,
    reuse_page::sheet,
    runs::{Planned, Runs, cores, counted},
};
use crate::{args::ReuseArgs, exit::CommandOutcome};

/// Runs the experiment.
pub(super) async fn reuse(args: &ReuseArgs, context: &Context) -> Result<CommandOutcome> {
    let plan = args.plan();
    plan.check()?;
    args.runs.check_taken(&args.taken())?;
    let arms = plan.arms();
    let planned = arms.iter().map(|arm| planned(args, arm, &plan, &arms));
    let place = (args.folder(), what(&plan));
    let jobs = (args.runs.jobs(cores()), args.runs.threads);
    let mut runs = Runs::new(context, place, planned.collect(), jobs);
    if let Some(outcome) = runs.complete(args.runs.dry_run, &arms).await? {
        return Ok(outcome);
    }
    let trials = runs.trials(arms.into_iter().map(|arm| (arm, arm.way.loss)));
    let report = Report::new(plan, args.accuracy(), trials.await?);
    let page = sheet(&report, args);
    let written = page::write("reuse", &report, &page, &args.folder())?;
    context.output.print(&report, |report| {
        format!("{}\n{}\n", report.text(), written.display())
    })?;
    Ok(runs.outcome(report.counts))
}

fn planned(args: &ReuseArgs, arm: &Arm, plan: &Plan, arms: &[Arm]) -> Planned {
    let first = arm.after();
    Planned {
        name: arm.name(),
        settings: args.settings(arm, plan),
        updates: arm.way.updates(plan),
        versions: 0,
        after: first.and_then(|first| arms.iter().position(|arm| arm.name() == first)),
    }
}

/// Says what the runs are.
fn what(plan: &Plan) -> String {
    let length = match plan.comparison {
        Comparison::Hybrid => format!("as many updates as {} new groups make", plan.groups),
        Comparison::Remix | Comparison::Samplers => format!("{} new groups each", plan.groups),
    };
    format!(
        "{}, {}, {length}",
        counted(plan.comparison.ways().len() as u64, "way"),
        counted(plan.seeds, "seed"),
    )
}
