//! Parts that the pages of experiments share.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;
use vintage_experiment::course::{Evaluated, Stretch, Trial};
use vintage_report::{Across, Drawing, Line, Scale, Sheet};

/// Points of a curve, as x and y.
pub(super) type Points = Vec<(f64, f64)>;

/// Writes `NAME.html` and, with the numbers, `NAME.json` into the folder; returns the path of the page.
pub(super) fn write(
    name: &str,
    report: &impl Serialize,
    sheet: &Sheet,
    folder: &Path,
) -> Result<PathBuf> {
    let numbers = folder.join(format!("{name}.json"));
    let json = serde_json::to_vec_pretty(report).context("cannot print the report")?;
    std::fs::write(&numbers, json)
        .with_context(|| format!("cannot write {}", numbers.display()))?;
    let to = folder.join(format!("{name}.html"));
    sheet.write(&to)?;
    Ok(to)
}

/// Returns the curve of an evaluated number over versions, `scale` to a version.
pub(super) fn evaluated<A>(trial: &Trial<A>, scale: u64, value: fn(&Evaluated) -> f64) -> Points {
    let all = trial.evaluations.iter();
    all.map(|one| ((one.version * scale) as f64, value(one)))
        .collect()
}

/// Returns the curve of a number of updates, as far as it is known, `scale` to an update.
pub(super) fn updated<A>(
    trial: &Trial<A>,
    scale: u64,
    value: fn(&Stretch) -> Option<f64>,
) -> Points {
    let all = trial.stretches.iter();
    all.filter_map(|one| Some(((one.update * scale) as f64, value(one)?)))
        .collect()
}

/// Title, note and axes of a chart.
pub(super) struct Frame<'a> {
    pub(super) title: &'a str,
    pub(super) note: &'a str,
    pub(super) across: Across,
    pub(super) scale: Scale,
}

impl Frame<'_> {
    /// Draws a line for each named set of runs: their mean, and the runs behind it.
    pub(super) fn draw<A>(
        &self,
        runs: &[(&str, Vec<&Trial<A>>)],
        points: impl Fn(&Trial<A>) -> Points,
    ) -> Drawing {
        let line = |(name, runs): &(&str, Vec<&Trial<A>>)| {
            let behind: Vec<_> = runs.iter().map(|trial| points(trial)).collect();
            Line {
                name: (*name).to_owned(),
                points: mean(&behind),
                behind: if behind.len() > 1 { behind } else { Vec::new() },
            }
        };
        Drawing {
            title: self.title.to_owned(),
            note: self.note.to_owned(),
            across: self.across,
            scale: self.scale,
            lines: runs.iter().map(line).collect(),
        }
    }
}

/// Returns the mean of curves at the positions that all of them have.
fn mean(curves: &[Points]) -> Points {
    let Some((first, others)) = curves.split_first() else {
        return Points::new();
    };
    let of = |(x, y): &(f64, f64)| {
        let mut sum = *y;
        for other in others {
            sum += other.iter().find(|point| point.0.total_cmp(x).is_eq())?.1;
        }
        Some((*x, sum / curves.len() as f64))
    };
    first.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::mean;

    #[test]
    fn a_mean_curve_has_the_positions_of_all() {
        let curves = [
            vec![(0.0, 0.0), (25.0, 0.5), (50.0, 1.0)],
            vec![(0.0, 1.0), (25.0, 1.0)],
        ];
        assert_eq!(mean(&curves), [(0.0, 0.5), (25.0, 0.75)]);
        assert!(mean(&[]).is_empty());
    }
}
