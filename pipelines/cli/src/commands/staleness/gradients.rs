//! Tables of `vintage staleness --gradients`: a row for each loss, a column for each staleness.

use std::fmt::Write as _;

use vintage_flow::staleness::{AgeDirections, Estimate, GradientsReport, LossDirection};
use vintage_human::grouped;

use super::staleness_of;
use crate::output::table;

/// Adds the sentence and the tables to `text`.
pub(super) fn add(text: &mut String, found: &GradientsReport) {
    if let Some(sentence) = &found.sentence {
        let _infallible = writeln!(text, "\n{sentence}");
    }
    let _infallible = writeln!(
        text,
        "\nCosine with the on-policy gradient, ± the half-width of its 95 % interval over versions:\n"
    );
    let first = found.losses.first().map_or("", |loss| loss.as_str());
    let fresh = cells(&found.ages, first, |of| interval(of.fresh));
    let fresh = std::iter::once("fresh rollouts".to_owned())
        .chain(fresh)
        .collect();
    add_table(text, found, Some(fresh), |of| interval(of.cosine));
    let _infallible = writeln!(
        text,
        "\nNorm of the gradient over that of fresh rollouts:\n"
    );
    add_table(text, found, None, |of| norm(of.norm.mean));
    let _infallible = writeln!(
        text,
        "\nTokens without gradient / effective share of tokens by their weights, in %:\n"
    );
    add_table(text, found, None, |of| {
        format!("{:.1} / {:.0}", 100.0 * of.masked, 100.0 * of.effective)
    });
    let references = &found.references;
    let halves: Vec<_> = references.iter().filter_map(|of| of.halves).collect();
    let mean = halves.iter().sum::<f64>() / halves.len().max(1) as f64;
    let _infallible = writeln!(
        text,
        "The on-policy gradient is that of {} groups that each version sampled now; two halves of them have a \
         cosine of {mean:.2}. Fresh rollouts: a batch of an update's size against the others, with the baseline of \
         {first}. {} backward passes.",
        grouped(references.first().map_or(0, |of| of.groups)),
        grouped(found.passes),
    );
}

fn add_table(
    text: &mut String,
    found: &GradientsReport,
    first: Option<Vec<String>>,
    cell: impl Fn(&LossDirection) -> String + Copy,
) {
    let staleness = found.ages.iter().map(|of| staleness_of(of.staleness));
    let heads: Vec<_> = std::iter::once("loss".to_owned())
        .chain(staleness)
        .collect();
    let heads: Vec<_> = heads.iter().map(String::as_str).collect();
    let losses = found.losses.iter().map(|loss| {
        let cells = cells(&found.ages, loss.as_str(), cell);
        std::iter::once(loss.as_str().to_owned())
            .chain(cells)
            .collect()
    });
    let rows: Vec<_> = first.into_iter().chain(losses).collect();
    text.push_str(&table(&heads, &rows));
}

fn cells(
    ages: &[AgeDirections],
    loss: &str,
    cell: impl Fn(&LossDirection) -> String,
) -> Vec<String> {
    let found = ages.iter().map(|of| of.losses.get(loss));
    found
        .map(|of| of.map_or_else(|| "-".to_owned(), &cell))
        .collect()
}

fn interval(of: Estimate) -> String {
    let half = of.half.map(|half| format!(" ±{half:.2}"));
    format!("{:.2}{}", of.mean, half.unwrap_or_default())
}

/// Formats a ratio of norms, which spans many orders of magnitude.
fn norm(value: f64) -> String {
    if value == 0.0 || (0.01..100.0).contains(&value) {
        format!("{value:.2}")
    } else {
        format!("{value:.0e}")
    }
}
