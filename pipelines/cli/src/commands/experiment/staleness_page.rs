//! Page of `vintage experiment staleness`.

use vintage_control::AlgorithmName;
use vintage_experiment::{
    course::above_rounding,
    staleness::{Contrast, Means, Report, Staleness, Trial},
};
use vintage_losses::Drift;
use vintage_report::{Across, Drawing, Line, Part, Scale, Sheet, Table};

use super::page::{Frame, Points, evaluated, updated};
use crate::args::GridArgs;

/// Returns the page.
pub(super) fn sheet(report: &Report, args: &GridArgs) -> Sheet {
    let grid = &report.grid;
    let losses: Vec<_> = grid.losses.iter().map(|loss| loss.name).collect();
    let mut parts = vec![Part::Table(table(report))];
    if !report.contrasts.is_empty() {
        parts.push(Part::Table(contrasts(report)));
    }
    // A curve over staleness needs two points.
    let same_age = grid.staleness.iter().filter(|one| !one.is_mixed());
    let has_curves = same_age.count() > 1;
    for part in losses.chunks(Drawing::MOST) {
        let names = if losses.len() > Drawing::MOST {
            format!(": {}", names(part))
        } else {
            String::new()
        };
        if has_curves {
            parts.push(Part::Charts {
                heading: format!("By staleness, batches of one age{names}"),
                drawings: by_staleness(report, part),
            });
        }
        for staleness in &grid.staleness {
            parts.push(Part::Charts {
                heading: format!("Staleness {staleness}{names}"),
                drawings: at(report, part, *staleness),
            });
        }
    }
    Sheet {
        kind: "vintage experiment".to_owned(),
        title: "Which losses can use old data".to_owned(),
        facts: vec![
            format!("task {}", args.runs.task.as_str()),
            format!("{} of {} runs", report.counts.finished, report.trials.len()),
            format!("{} updates each", grid.updates),
            format!("{} held-out prompts", report.counts.prompts),
        ],
        parts,
    }
}

fn names(losses: &[AlgorithmName]) -> String {
    let names: Vec<_> = losses.iter().map(|loss| loss.as_str()).collect();
    names.join(", ")
}

fn table(report: &Report) -> Table {
    let mut text = vec![
        report.caption(),
        "Every batch of a run was sampled as many updates before as its staleness says; the first updates, as \
         many as the staleness, train on what version 0 sampled. Batches of uniform-K have ages up to K, all alike; of \
         tail-K, most groups young and a few old (the logarithm of age + 1 is uniform). All runs of a seed have the same prompts \
         and begin from the same version 0. At staleness 0 the ratio is 1, so losses that differ in what \
         they do to ratios are the same run. No version was chosen by held-out prompts."
            .to_owned(),
        format!(
            "From fresh: points of sampled accuracy beside staleness 0, same loss and seeds. Masked: share of \
         tokens without a gradient. M2: second moment of log(new / sampled probability) before masking, over \
         the tokens that M2PO bounds (those moving away) and over the others; mean over updates. \
         Effective: (Σ R)² / (B Σ R²) over the B rows of an update, with the weight R = new / sampled probability \
         of a whole row; chi-square is its inverse less 1. Entropy: last 25 updates, in nats. Far: runs whose \
         policy was more than {} nats a token away from what sampled its data, mean of {} updates, with the first \
         update. Collapsed: runs whose running mean of three evaluations fell under 0.7 of its best, with the first version. Cosine: of \
         an update's gradient with the mean of those before (Adam's first moment).",
            Drift::FAR,
            Drift::WINDOW,
        ),
    ];
    text.extend(report.missing());
    Table {
        heading: "Table".to_owned(),
        text,
        head: Report::HEAD.map(str::to_owned).to_vec(),
        rows: report.rows(),
    }
}

fn contrasts(report: &Report) -> Table {
    Table {
        heading: "Differences".to_owned(),
        text: vec![
            "Points of sampled accuracy, mean of the last four evaluations, on the same seeds."
                .to_owned(),
        ],
        head: Contrast::HEAD.map(str::to_owned).to_vec(),
        rows: report.contrasts.iter().map(Contrast::row).collect(),
    }
}

/// Draws numbers of the table over staleness, a line for each loss.
fn by_staleness(report: &Report, losses: &[AlgorithmName]) -> Vec<Drawing> {
    let drawing = |title: &str, note: &str, scale, number: fn(&Means) -> f64| {
        let line = |loss: &AlgorithmName| {
            let point = |staleness: &Staleness| {
                let means = report.cell(*loss, *staleness)?.means.as_ref()?;
                let here = (staleness.bound as f64, number(means));
                (!staleness.is_mixed()).then_some(here)
            };
            let mut points: Points = report.grid.staleness.iter().filter_map(point).collect();
            points.sort_by(|one, other| one.0.total_cmp(&other.0));
            Line {
                name: loss.as_str().to_owned(),
                points,
                behind: Vec::new(),
            }
        };
        Drawing {
            title: title.to_owned(),
            note: note.to_owned(),
            across: Across::Staleness,
            scale,
            lines: losses.iter().map(line).collect(),
        }
    };
    vec![
        drawing(
            "Sampled accuracy",
            "Mean of the last four evaluations, mean over seeds.",
            Scale::Whole,
            |means| means.sampled_last.mean,
        ),
        drawing(
            "Greedy accuracy",
            "Mean of the last four evaluations, mean over seeds.",
            Scale::Whole,
            |means| means.greedy_last.mean,
        ),
        drawing(
            "Area",
            "Sampled accuracy, mean of all evaluations: how fast a loss learns counts.",
            Scale::Whole,
            |means| means.sampled_area.mean,
        ),
        drawing(
            "Second moment",
            "Largest mean of 25 updates of M2 over all tokens, before masking.",
            Scale::Number,
            |means| above_rounding(means.m2_all_peak),
        ),
    ]
}

/// Draws the curves of the losses at a staleness: the mean over seeds, and the runs behind it.
fn at(report: &Report, losses: &[AlgorithmName], staleness: Staleness) -> Vec<Drawing> {
    let of = |loss: &AlgorithmName| (loss.as_str(), report.finished_runs(*loss, staleness));
    let runs: Vec<_> = losses.iter().map(of).collect();
    let drawing = |title, note, across, scale, points: &dyn Fn(&Trial) -> Points| {
        let frame = Frame {
            title,
            note,
            across,
            scale,
        };
        frame.draw(&runs, points)
    };
    let evaluated = |value| move |trial: &Trial| evaluated(trial, 1, value);
    let updated = |value| move |trial: &Trial| updated(trial, 1, value);
    let held_out = "Share of right answers on held-out prompts; mean over seeds, single runs pale.";
    let of_updates = "Mean of 25 updates and over seeds.";
    vec![
        drawing(
            "Sampled",
            held_out,
            Across::Versions,
            Scale::Whole,
            &evaluated(|one| one.sampled),
        ),
        drawing(
            "Greedy",
            held_out,
            Across::Versions,
            Scale::Whole,
            &evaluated(|one| one.greedy),
        ),
        drawing(
            "Masked or clipped",
            "Share of tokens that got no gradient, mean of 25 updates and over seeds.",
            Across::Updates,
            Scale::Share,
            &updated(|one| Some(one.masked_share)),
        ),
        drawing(
            "M2 over all tokens",
            "Second moment of the log-ratio before masking, mean of 25 updates and over seeds.",
            Across::Updates,
            Scale::Number,
            &updated(|one| Some(above_rounding(one.m2_all))),
        ),
        drawing(
            "Effective share of rows",
            of_updates,
            Across::Updates,
            Scale::Whole,
            &updated(|one| one.effective_rows),
        ),
        drawing(
            "Cosine of gradients",
            "Of an update's gradient with the mean of those before; mean of 25 updates and over seeds.",
            Across::Updates,
            Scale::Number,
            &updated(|one| one.gradient_cosine),
        ),
        drawing(
            "Entropy",
            of_updates,
            Across::Updates,
            Scale::Number,
            &updated(|one| Some(one.entropy)),
        ),
        drawing(
            "Gradient norm",
            of_updates,
            Across::Updates,
            Scale::Number,
            &updated(|one| Some(one.grad_norm)),
        ),
    ]
}
