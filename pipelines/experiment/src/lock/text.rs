//! Report as text.

use std::fmt::Write as _;

use super::{Contrast, OfArchive, OfLearner, Report};
use crate::statistics::Estimate;

impl Report {
    /// Formats the report as tables for people.
    pub fn text(&self) -> String {
        let settings = &self.settings;
        let mut out = format!(
            "Combination lock: {} layers, {} actions, {} codes; {} live episodes, seeds {} to {}\n\
             solved: every policy of the last {:.0} % of the episodes is optimal; J: value of the \
             mixture of all policies ({:.2} opened, {:.2} not); 95 % intervals\n",
            settings.horizon,
            settings.actions,
            settings.actions.pow(settings.horizon as u32),
            settings.episodes,
            settings.first_seed,
            settings.first_seed.saturating_add(settings.seeds - 1),
            100.0 * settings.last,
            settings.success,
            settings.lure,
        );
        self.archives
            .iter()
            .for_each(|archive| out += &of_archive(archive));
        if let Some(observed) = &settings.observed {
            let _infallible = writeln!(
                out,
                "\nnoisy observations, {} decoders, archive q = {:.3}: solved, J",
                observed.decoders, observed.quality
            );
            self.observed
                .iter()
                .for_each(|learner| out += &of_learner(learner));
        }
        out
    }
}

fn of_archive(archive: &OfArchive) -> String {
    let mut out = format!(
        "\narchive q = {:.3}, C* = {:.0}\n  {:<32}{:<24}{:<22}{}\n",
        archive.quality, archive.concentrability, "method", "solved", "J", "noise"
    );
    for outcome in &archive.methods {
        let noise = outcome
            .noise
            .map_or_else(String::new, |noise| format!("{:.3}", noise.mean));
        let line = format!(
            "  {:<32}{:<24}{:<22}{noise}",
            outcome.method,
            percent(outcome.solved_share),
            value(outcome.value),
        );
        out += line.trim_end();
        out.push('\n');
    }
    archive
        .contrasts
        .iter()
        .for_each(|contrast| out += &of_contrast(contrast));
    out
}

fn of_contrast(contrast: &Contrast) -> String {
    let Contrast {
        of,
        over,
        solved_share,
        value,
    } = contrast;
    let [mean, low, high] = points(*solved_share);
    format!(
        "  {of}, over {over}: {mean:+.0} points ({low:+.0} to {high:+.0}), J {:+.2} ({:+.2} to {:+.2})\n",
        value.mean, value.low, value.high,
    )
}

fn of_learner(learner: &OfLearner) -> String {
    let mut out = format!("  {}\n", learner.method);
    for of in &learner.by_observations {
        let (solved, value) = (percent(of.solved_share), value(of.value));
        let _infallible = writeln!(out, "    m = {:<6}{solved:<24}{value}", of.observations);
    }
    let change = learner.change;
    let _infallible = writeln!(
        out,
        "    change of J from the fewest to the most: {:+.2} ({:+.2} to {:+.2})",
        change.mean, change.low, change.high
    );
    out
}

fn points(estimate: Estimate) -> [f64; 3] {
    [estimate.mean, estimate.low, estimate.high].map(|share| 100.0 * share)
}

fn percent(estimate: Estimate) -> String {
    let [mean, low, high] = points(estimate);
    format!("{mean:.0} % ({low:.0} to {high:.0})")
}

fn value(estimate: Estimate) -> String {
    let Estimate { mean, low, high } = estimate;
    format!("{mean:.2} ({low:.2} to {high:.2})")
}
