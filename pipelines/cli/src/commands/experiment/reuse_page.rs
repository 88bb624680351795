//! Page of `vintage experiment reuse`.

use vintage_experiment::reuse::{Comparison, Contrast, Plan, Report, Trial, Way};
use vintage_report::{Across, Drawing, Part, Scale, Sheet, Table};

use super::page::{Frame, evaluated, updated};
use crate::args::ReuseArgs;

/// Returns the page.
pub(super) fn sheet(report: &Report, args: &ReuseArgs) -> Sheet {
    let plan = &report.plan;
    let mut parts = vec![Part::Table(table(report))];
    if !report.contrasts.is_empty() {
        parts.push(Part::Table(contrasts(report)));
    }
    parts.push(Part::Table(ways(report)));
    // The baseline is in every chart, so that the others can be compared with it.
    let baseline = plan.comparison.baseline();
    let (first, others): (Vec<&Way>, Vec<&Way>) = {
        let ways = plan.comparison.ways().iter();
        ways.partition(|way| way.name == baseline)
    };
    for some in others.chunks(Drawing::MOST - 1) {
        let shown: Vec<_> = first.iter().chain(some).copied().collect();
        let names: Vec<_> = some.iter().map(|way| way.name).collect();
        parts.push(Part::Charts {
            heading: names.join(", "),
            drawings: drawings(report, &shown),
        });
    }
    Sheet {
        kind: "vintage experiment".to_owned(),
        title: match plan.comparison {
            Comparison::Remix => "What ReMix and its parts bring",
            Comparison::Samplers => "Which groups to train again",
            Comparison::Hybrid => "What another run's archive brings",
        }
        .to_owned(),
        facts: vec![
            format!("task {}", args.runs.task.as_str()),
            format!("{} of {} runs", report.counts.finished, report.trials.len()),
            match plan.comparison {
                Comparison::Hybrid => format!("{} updates each", updates(plan)),
                Comparison::Remix | Comparison::Samplers => format!("{} new groups", plan.groups),
            },
            format!("{} held-out prompts", report.counts.prompts),
        ],
        parts,
    }
}

/// Returns the number of updates of a hybrid, which all of its comparison have.
fn updates(plan: &Plan) -> u64 {
    let ways = plan.comparison.ways().iter();
    ways.map(|way| way.updates(plan)).max().unwrap_or(0)
}

fn table(report: &Report) -> Table {
    let mut text = vec![
        report.caption(),
        "All runs of a seed have the same prompts and begin from the same version 0. New groups are sampled by \
         the newest version. Steps: of the optimizer. Effective: (Σ R)² / (B Σ R²) over the B rows of an update, \
         with the weight R = new / sampled probability of a whole row. Collapsed: runs whose running mean of \
         three evaluations fell under 0.7 of its best. No version was chosen by held-out prompts."
            .to_owned(),
    ];
    text.extend(report.missing());
    Table {
        heading: "Table".to_owned(),
        text,
        head: Report::HEAD.map(str::to_owned).to_vec(),
        rows: report.cells(),
    }
}

fn contrasts(report: &Report) -> Table {
    Table {
        heading: "Pairs".to_owned(),
        text: vec![
            "Differences in points on the same seeds; steps of the optimizer of both.".to_owned(),
        ],
        head: Contrast::HEAD.map(str::to_owned).to_vec(),
        rows: report.contrasts.iter().map(Contrast::cells).collect(),
    }
}

fn ways(report: &Report) -> Table {
    let ways = report.plan.comparison.ways().iter();
    Table {
        heading: "Ways".to_owned(),
        text: Vec::new(),
        head: vec!["way".to_owned(), "what it does".to_owned()],
        rows: ways
            .map(|way| vec![way.name.to_owned(), way.meaning.to_owned()])
            .collect(),
    }
}

fn drawings(report: &Report, ways: &[&Way]) -> Vec<Drawing> {
    let of = |way: &&Way| (way.name, report.finished_runs(way.name));
    let runs: Vec<_> = ways.iter().map(of).collect();
    let evaluated = |value| move |trial: &Trial| evaluated(trial, trial.arm.way.new, value);
    let updated = |value| move |trial: &Trial| updated(trial, trial.arm.way.new, value);
    let frame = |title, note, scale| Frame {
        title,
        note,
        across: Across::Groups,
        scale,
    };
    let held_out = "Share of right answers on held-out prompts; mean over seeds, single runs pale.";
    let of_updates = "Mean of 25 updates and over seeds.";
    vec![
        frame("Sampled", held_out, Scale::Whole).draw(&runs, evaluated(|one| one.sampled)),
        frame("Greedy", held_out, Scale::Whole).draw(&runs, evaluated(|one| one.greedy)),
        frame("Effective share of rows", of_updates, Scale::Whole)
            .draw(&runs, updated(|one| one.effective_rows)),
        frame("Entropy", of_updates, Scale::Number).draw(&runs, updated(|one| Some(one.entropy))),
    ]
}
