//! `vintage bench curate`: curators of a replay set over a sliding window.

use std::fmt::Write as _;

use anyhow::Result;
use vintage_bench::curate::{Arm, Contender, Measured, Plan, Report, Workload, measure};
use vintage_human::grouped;

use crate::{
    args::{CurateBenchArgs, CurateBenchArm, CurateBenchWorkload},
    commands::Context,
    exit::{CommandOutcome, Signal, Usage},
    output::table,
};

/// Measures every window and size. A signal ends it.
pub(crate) async fn curate(args: &CurateBenchArgs, context: &Context) -> Result<CommandOutcome> {
    let plan = Plan {
        rows: args.rows.clone(),
        sizes: args.size.clone(),
        epsilon: args.epsilon,
        every: args.every.clone(),
        updates: args.updates.unwrap_or(usize::MAX),
        curators: args.curators().into_iter().map(Contender::from).collect(),
        workload: match args.workload {
            CurateBenchWorkload::Groups => Workload::Groups,
            CurateBenchWorkload::Coverage => Workload::Coverage,
        },
        seed: args.seed,
    };
    let counts = plan.rows.iter().chain(&plan.every).chain([&plan.updates]);
    if counts.into_iter().any(|count| *count == 0) {
        let what = "rows, updates and the updates between two questions must be at least 1";
        return Err(Usage::new(what).into());
    }
    let measured = tokio::task::spawn_blocking(move || {
        measure(&plan, |what| tracing::info!("measuring {what}"))
    });
    let report = tokio::select! {
        report = measured => report??,
        () = context.signals.stop.cancelled() => {
            let signal = context.signals.received().unwrap_or(Signal::Interrupt);
            return Ok(CommandOutcome::Interrupted(signal));
        }
    };
    context.output.print(&report, text)?;
    Ok(CommandOutcome::Done)
}

impl From<CurateBenchArm> for Contender {
    fn from(arm: CurateBenchArm) -> Self {
        match arm {
            CurateBenchArm::Sieve => Self::Sieve,
            CurateBenchArm::Levels => Self::Levels,
            CurateBenchArm::LevelsEager => Self::LevelsEager,
            CurateBenchArm::Uniform => Self::Uniform,
            CurateBenchArm::Newest => Self::Newest,
        }
    }
}

fn name(curator: Contender) -> &'static str {
    match curator {
        Contender::LazyGreedy => "lazy greedy",
        Contender::Sieve => "sieve",
        Contender::Levels => "levels",
        Contender::LevelsEager => "levels, eager",
        Contender::Uniform => "uniform",
        Contender::Newest => "newest",
    }
}

fn text(report: &Report) -> String {
    let every = &report.plan.every;
    let totals = every.iter().flat_map(|every| {
        let asked = match every {
            1 => "asked each time".to_owned(),
            every => format!("asked every {every}"),
        };
        [format!("calls, {asked}"), "µs".to_owned()]
    });
    let head: Vec<_> = ["rows", "k", "curator"]
        .map(str::to_owned)
        .into_iter()
        .chain(totals)
        .chain(["value", "least"].map(str::to_owned))
        .collect();
    let head: Vec<_> = head.iter().map(String::as_str).collect();
    let rows: Vec<_> = report
        .measured
        .iter()
        .flat_map(|measured| lines(measured, every))
        .collect();
    let mut out = format!(
        "oracle calls and time of an update (one comes, the oldest goes); value: share of lazy \
         greedy's\n{}",
        table(&head, &rows)
    );
    for wins in &report.wins {
        let from = |rows: Option<usize>| {
            rows.map_or_else(
                || "at no number of rows measured".to_owned(),
                |rows| format!("from {} rows on", grouped(rows as u64)),
            )
        };
        let _infallible = writeln!(
            out,
            "k {}, asked every {}: levels cost less than {} {} by calls, {} by time",
            wins.size,
            wins.every,
            name(wins.against),
            from(wins.by_calls),
            from(wins.by_time),
        );
    }
    out
}

fn lines(measured: &Measured, every: &[usize]) -> Vec<Vec<String>> {
    let line = |arm: &Arm| {
        let totals = every.iter().flat_map(|every| {
            let (calls, us) = arm.total(*every);
            [format!("{calls:.0}"), format!("{us:.1}")]
        });
        [
            measured.rows.to_string(),
            measured.size.to_string(),
            name(arm.curator).to_owned(),
        ]
        .into_iter()
        .chain(totals)
        .chain([
            format!("{:.3}", arm.value),
            format!("{:.3}", arm.least_value),
        ])
        .collect()
    };
    measured.arms.iter().map(line).collect()
}
