//! Comparison of several learners of one run: a table and curves.

use std::fmt::Write as _;

use vintage_control::{EvaluationResult, UpdateResult};
use vintage_human::{Measured, grouped};

use crate::{
    chart::{Unit, number},
    contender::{Contender, RECENT},
    error::Result,
    figures::{Age, Figure, curves},
    held_out::{evaluated, evaluations, held_out_texts},
    html::Escaped,
    ink::Ink,
    series::finite,
};

/// Colours of series in the charts; further ones are in the table only.
const INKS: [Ink; 4] = [Ink::First, Ink::Second, Ink::Third, Ink::Fourth];

/// Adds the table of learners to the page.
pub(crate) fn section(page: &mut String, learners: &[Contender]) {
    if learners.is_empty() {
        return;
    }
    let _ = writeln!(
        page,
        "<section class=\"account\">\n<h2>Learners side by side</h2>\n\
         <p>Reward, clip fraction, divergence and age are means of the last {RECENT} updates. Age is \
         the tokens' staleness: updates between the version that sampled them and the one trained. \
         For tokens that another policy sampled, staleness in updates of this learner is not defined, \
         and age is their lag: versions behind the newest of that policy read so far. Staleness and \
         lag cannot be compared with each other. Equal weights have equal digests.</p>\n\
         <table><thead><tr><th>learner</th><th>algorithm</th><th>batches</th><th>from</th>\
         <th>updates</th><th>groups</th><th>reward</th><th>clipped</th><th>KL</th>\
         <th>age</th><th>held out, sampled</th><th>greedy</th><th>weights</th></tr></thead><tbody>"
    );
    for one in learners {
        let batches = one
            .follows
            .as_ref()
            .map_or_else(|| "its own".to_owned(), |leader| format!("of {leader}"));
        let [sampled, greedy] = held_out_texts(one.held_out);
        let digest = one.weights_sha256.map(|digest| digest.to_string());
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{batches}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{:.3}</td><td>{:.2} %</td><td>{}</td><td>{}</td><td>{sampled}</td><td>{greedy}</td>\
             <td><code>{}</code></td></tr>",
            one.learner,
            Escaped(&one.algorithm),
            Escaped(one.start.as_deref().unwrap_or("the beginning")),
            grouped(one.updates),
            grouped(one.groups),
            one.reward,
            100.0 * one.clip_fraction,
            number(one.kl),
            format_args!("{} {}", Age::of(&one.results).name(), number(one.staleness)),
            digest.as_deref().map_or("none", |digest| &digest[..12]),
        );
    }
    page.push_str("</tbody></table>\n</section>\n");
}

/// Results and evaluations under a name, to be drawn beside others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side<'a> {
    pub(crate) name: &'a str,
    pub(crate) results: &'a [UpdateResult],
    pub(crate) evaluations: &'a [EvaluationResult],
    pub(crate) measured: Measured,
}

/// Draws the charts that compare the first four learners, one colour each; `measured` is what their
/// evaluations measure.
pub(crate) fn figures(learners: &[Contender], measured: Measured) -> Result<Vec<Figure>> {
    let sides: Vec<_> = learners
        .iter()
        .map(|one| Side {
            name: one.learner.as_str(),
            results: &one.results,
            evaluations: &one.evaluations,
            measured,
        })
        .collect();
    if sides.is_empty() {
        return Ok(Vec::new());
    }
    side_by_side(&sides, "learner")
}

/// Draws what several policies reached on held-out prompts; nothing if none was evaluated.
fn held_out(sides: &[Side<'_>], kind: &str) -> Result<Vec<Figure>> {
    let mut evaluated_ones = sides
        .iter()
        .filter(|side| !side.evaluations.is_empty())
        .peekable();
    if evaluated_ones.peek().is_none() {
        return Ok(Vec::new());
    }
    // Shares and rewards have an axis of plain numbers in common.
    let is_reward = |side: &Side<'_>| side.measured == Measured::MeanReward;
    let measured = Measured::of(evaluated_ones.any(is_reward));
    let chart = |way: &str, how: &str, value: fn(&EvaluationResult) -> f64| {
        let lines: Vec<_> = INKS
            .into_iter()
            .zip(sides)
            .map(|(ink, side)| (ink, side.name, evaluated(side.evaluations, value)))
            .collect();
        let more = more(sides.len());
        let note = format!(
            "{how}, on each one's held-out prompts, by version.{more} `vintage eval --follow` \
             evaluates learners that are processes of their own."
        );
        evaluations(format!("Held out, {way} by {kind}"), note, measured, &lines)
    };
    Ok(vec![
        chart("sampled", "Completions at temperature 1", |one| {
            one.sampled_accuracy
        })?,
        chart("greedy", "The likeliest completions", |one| {
            one.greedy_accuracy
        })?,
    ])
}

/// Draws the charts that compare the first four of several series of updates, one colour each;
/// `kind` names what they are of.
pub(crate) fn side_by_side(sides: &[Side<'_>], kind: &str) -> Result<Vec<Figure>> {
    let chart = |title, what: &str, unit, of: fn(&UpdateResult) -> f64| {
        let points = |side: &Side<'_>| {
            let results = side.results.iter();
            finite(results.map(|result| (result.version.0 as f64, of(result))))
        };
        let lines: Vec<_> = INKS
            .into_iter()
            .zip(sides)
            .map(|(ink, side)| (ink, side.name, points(side)))
            .collect();
        let more = more(sides.len());
        curves(
            format!("{title} by {kind}"),
            format!("{what}{more}"),
            unit,
            &lines,
        )
    };
    let mut figures = held_out(sides, kind)?;
    figures.extend([
        chart(
            "Reward",
            "Mean reward of the rollouts each update trained on.",
            Unit::Number,
            |result| result.reward,
        )?,
        chart(
            "Clip fraction",
            "Share of tokens that got no gradient.",
            Unit::Share,
            |result| result.clip_fraction,
        )?,
        chart(
            "Divergence",
            "Mean of log behaviour minus log new probability, in nats.",
            Unit::Number,
            |result| result.kl,
        )?,
        chart(
            "Entropy",
            "Mean entropy on the tokens trained on, in nats.",
            Unit::Number,
            |result| result.entropy,
        )?,
    ]);
    Ok(figures)
}

/// Tells how many of `all` series are in the table only; empty if all are drawn.
fn more(all: usize) -> String {
    match all.saturating_sub(INKS.len()) {
        0 => String::new(),
        left_out => format!(" The table above has {left_out} more."),
    }
}
