//! Charts whose horizontal axis is staleness.

use std::fmt::Write as _;

use crate::{
    chart::{Axis, Curve, Curves, Look, Unit, number, staleness_at},
    error::Result,
    figures::{Figure, drawn},
    hover::Band,
    ink::Ink,
    series::finite,
};

/// Curve of a chart by age, with a value at every age where there is one.
pub(super) struct Line<'a> {
    pub(super) ink: Ink,
    pub(super) name: &'a str,
    pub(super) look: Look,
    pub(super) values: Vec<Option<f64>>,
}

/// Draws lines over values of staleness. With a rule the vertical axis is logarithmic.
pub(super) fn figure(
    title: &str,
    note: &str,
    (unit, rule): (Unit, Option<f64>),
    staleness: &[f64],
    lines: &[Line<'_>],
) -> Result<Figure> {
    let places: Vec<_> = staleness.iter().map(|of| staleness_at(*of)).collect();
    let points = |values: &[Option<f64>]| {
        let at = places.iter().zip(values);
        finite(at.filter_map(|(place, value)| Some((*place, (*value)?))))
    };
    let curves = Curves {
        axis: Axis::Staleness,
        unit,
        log: rule.is_some(),
        reach: if rule.is_some() { vec![] } else { vec![0.0] },
        rule,
        lines: lines
            .iter()
            .map(|line| Curve {
                ink: line.ink,
                points: points(&line.values),
                look: line.look,
            })
            .collect(),
    };
    let svg = drawn(title, curves.draw(&bands(unit, staleness, &places, lines)))?;
    let mut legend: Vec<_> = lines
        .iter()
        .map(|line| (line.ink, line.name.to_owned()))
        .collect();
    legend.extend(rule.map(|_| (Ink::Rule, "τ".to_owned())));
    Ok(Figure {
        title: title.to_owned(),
        note: note.to_owned(),
        legend,
        svg: Some(svg),
    })
}

/// Returns one band for each age, which reaches half-way to its neighbours.
fn bands(unit: Unit, staleness: &[f64], places: &[f64], lines: &[Line<'_>]) -> Vec<Band> {
    let between = |a: usize, b: usize| Some(f64::midpoint(*places.get(a)?, *places.get(b)?));
    let band = |(at, of): (usize, &f64)| {
        let mut text = format!("staleness {}", number(*of));
        for line in lines {
            if let Some(value) = line.values.get(at).copied().flatten() {
                let _infallible = write!(text, "\n{} {}", line.name, unit.write(value));
            }
        }
        let before = at.checked_sub(1).and_then(|before| between(before, at));
        Band {
            start: before.unwrap_or(places[at]),
            end: between(at, at + 1).unwrap_or(places[at]),
            text,
        }
    };
    staleness.iter().enumerate().map(band).collect()
}

/// Writes the share of tokens that a loss masks and, after +, of those whose weight it caps.
pub(super) fn discarded(masked: f64, truncated: Option<f64>) -> String {
    let capped = truncated.map(|share| format!(" + {}", Unit::Share.write(share)));
    format!(
        "{}{}",
        Unit::Share.write(masked),
        capped.unwrap_or_default()
    )
}
