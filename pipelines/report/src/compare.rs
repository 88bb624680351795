//! Comparison of several learners of one run: a table and curves.

use std::fmt::Write as _;

use vintage_control::UpdateResult;
use vintage_human::grouped;

use crate::{
    chart::{Unit, number},
    contender::{Contender, RECENT},
    error::Result,
    figures::{Age, Figure, curves},
    html::Escaped,
    ink::Ink,
    series::finite,
};

/// Colours of learners in the charts; further learners are in the table only.
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
         <th>age</th><th>weights</th></tr></thead><tbody>"
    );
    for one in learners {
        let batches = one
            .follows
            .as_ref()
            .map_or_else(|| "its own".to_owned(), |leader| format!("of {leader}"));
        let digest = one.weights_sha256.map(|digest| digest.to_string());
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{batches}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{:.3}</td><td>{:.2} %</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
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

/// Draws the charts that compare the first four learners, one colour each.
pub(crate) fn figures(learners: &[Contender]) -> Result<Vec<Figure>> {
    if learners.is_empty() {
        return Ok(Vec::new());
    }
    let chart = |title, what: &str, unit, of: fn(&UpdateResult) -> f64| {
        let points = |one: &Contender| {
            let results = one.results.iter();
            finite(results.map(|result| (result.version.0 as f64, of(result))))
        };
        let lines: Vec<_> = INKS
            .into_iter()
            .zip(learners)
            .map(|(ink, one)| (ink, one.learner.as_str(), points(one)))
            .collect();
        let left_out = learners.len().saturating_sub(INKS.len());
        let more = if left_out > 0 {
            format!(" The table above has {left_out} more.")
        } else {
            String::new()
        };
        curves(title, format!("{what}{more}"), unit, &lines)
    };
    Ok(vec![
        chart(
            "Reward by learner",
            "Mean reward of the rollouts each update trained on.",
            Unit::Number,
            |result| result.reward,
        )?,
        chart(
            "Clip fraction by learner",
            "Share of tokens that got no gradient.",
            Unit::Share,
            |result| result.clip_fraction,
        )?,
        chart(
            "Divergence by learner",
            "Mean of log behaviour minus log new probability, in nats.",
            Unit::Number,
            |result| result.kl,
        )?,
        chart(
            "Entropy by learner",
            "Mean entropy on the tokens trained on, in nats.",
            Unit::Number,
            |result| result.entropy,
        )?,
    ])
}
