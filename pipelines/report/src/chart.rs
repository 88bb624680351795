//! Charts of three kinds (curves, stacked shares, bars), drawn by plotters as SVG.

use std::ops::Range;

use plotters::{
    coord::types::RangedCoordf64,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{
    hover::{self, Band},
    ink::{Ink, adopt},
};

/// Width of a drawing in SVG units; the page scales it.
const WIDTH: u32 = 480;
const HEIGHT: u32 = 250;
const FONT: u32 = 13;

/// Unit of an axis, which decides the format of its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Shares, written in percent.
    Share,
    /// Plain numbers.
    Number,
}

impl Unit {
    pub(crate) fn write(self, value: f64) -> String {
        match self {
            Self::Share if value.abs() < 0.0995 && value != 0.0 => {
                format!("{} %", trimmed(100.0 * value, 1))
            }
            Self::Share => format!("{:.0} %", 100.0 * value),
            Self::Number => number(value),
        }
    }
}

/// Formats a number with few digits, and with `k` or `M` if it is large.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        0.0 => "0".to_owned(),
        1e6.. => format!("{} M", trimmed(value / 1e6, 1)),
        1e4.. => format!("{} k", trimmed(value / 1e3, 1)),
        10.0.. => trimmed(value, 1),
        0.1.. => trimmed(value, 2),
        1e-4.. => trimmed(value, (1.0 - size.log10().floor()) as usize),
        _ => format!("{value:.0e}"),
    }
}

fn trimmed(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Curve of a chart.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    pub(crate) ink: Ink,
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) look: Look,
}

/// Style of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Line without dots.
    Line,
    /// Line with a dot at every point.
    Dotted,
    /// Pale line, drawn behind another.
    Pale,
}

/// Label of the horizontal axis: updates are numbered as in the names of their files.
pub(crate) const UPDATE: &str = "update, from 0";

/// Chart of curves, over updates for most.
#[derive(Debug, Clone)]
pub(crate) struct Curves {
    pub(crate) x_label: &'static str,
    pub(crate) unit: Unit,
    pub(crate) log: bool,
    /// Values that the vertical axis must include besides those of the curves.
    pub(crate) reach: Vec<f64>,
    /// Value at which a dashed horizontal line is drawn.
    pub(crate) rule: Option<f64>,
    pub(crate) lines: Vec<Curve>,
}

/// Chart of the parts of a whole over updates, stacked to 1.
#[derive(Debug, Clone)]
pub(crate) struct Shares {
    pub(crate) x: Vec<f64>,
    /// Layers from the bottom up: colour, and the share at every `x`.
    pub(crate) layers: Vec<(Ink, Vec<f64>)>,
}

/// Chart of bars over ranges of x.
#[derive(Debug, Clone)]
pub(crate) struct Bars {
    pub(crate) x_label: &'static str,
    pub(crate) unit: Unit,
    pub(crate) shown: Vec<Bar>,
}

/// Bar of a chart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bar {
    pub(crate) ink: Ink,
    pub(crate) start: f64,
    pub(crate) end: f64,
    pub(crate) height: f64,
}

type Failed = Box<dyn std::error::Error>;
type Drawn = Result<String, Failed>;

impl Curves {
    /// Draws the curves, with `bands` of values for the pointer.
    pub(crate) fn draw(&self, bands: &[Band]) -> Drawn {
        let values = || self.lines.iter().flat_map(|curve| curve.points.iter());
        let x = extent(values().map(|point| point.0)).unwrap_or(0.0..1.0);
        let heights = values()
            .map(|point| point.1)
            .chain(self.reach.iter().copied());
        if !self.log {
            let y = padded(
                extent(heights.chain(self.rule)).unwrap_or(0.0..1.0),
                self.unit,
            );
            // The tick at 0 is a sum of steps, with a rounding error.
            let rounding = 1e-9 * (y.end - y.start);
            let label = |y: f64| self.unit.write(if y.abs() < rounding { 0.0 } else { y });
            return frame(self.x_label, x, y, (5, &label), bands, |chart| {
                self.onto(chart, Some)
            });
        }
        let y = log_extent(heights.chain(self.rule)).unwrap_or(-1.0..0.0);
        let (floor, decades) = (y.start, y.end - y.start);
        let label = |y| self.unit.write(10f64.powf(y));
        // Whole decades if there are enough of them, else halves.
        let labels = if decades > 2.0 {
            decades.ceil() as usize
        } else {
            5
        };
        let place = |y: f64| (y > 0.0).then(|| y.log10().max(floor));
        frame(self.x_label, x, y, (labels, &label), bands, |chart| {
            self.onto(chart, place)
        })
    }

    /// Draws the dashed line and the curves. `place` maps a value to its height, or to `None` to
    /// leave it out.
    fn onto(
        &self,
        chart: &mut Chart<'_, '_>,
        place: impl Fn(f64) -> Option<f64>,
    ) -> Result<(), Failed> {
        if let Some(rule) = self.rule.and_then(&place) {
            let x = chart.x_range();
            let style = Ink::Rule.placeholder().stroke_width(1);
            let ends = [(x.start, rule), (x.end, rule)];
            chart.draw_series(DashedLineSeries::new(ends, 5, 4, style))?;
        }
        for curve in &self.lines {
            let ink = curve.ink.placeholder();
            let points = || {
                curve
                    .points
                    .iter()
                    .filter_map(|(x, y)| Some((*x, place(*y)?)))
            };
            let style = match curve.look {
                Look::Pale => ink.mix(0.3).stroke_width(1),
                Look::Line | Look::Dotted => ink.stroke_width(2),
            };
            chart.draw_series(LineSeries::new(points(), style))?;
            if curve.look == Look::Dotted || curve.points.len() == 1 {
                chart.draw_series(points().map(|at| Circle::new(at, 3, ink.filled())))?;
            }
        }
        Ok(())
    }
}

impl Shares {
    /// Draws the layers, with `bands` of values for the pointer.
    pub(crate) fn draw(&self, bands: &[Band]) -> Drawn {
        let x = extent(self.x.iter().copied()).unwrap_or(0.0..1.0);
        frame(
            UPDATE,
            x,
            0.0..1.0,
            (5, &|y| Unit::Share.write(y)),
            bands,
            |chart| {
                let mut base = vec![0.0; self.x.len()];
                for (ink, shares) in &self.layers {
                    let top: Vec<_> = base
                        .iter()
                        .zip(shares)
                        .map(|(base, share)| base + share)
                        .collect();
                    let up = self.x.iter().copied().zip(top.iter().copied());
                    let back = self.x.iter().copied().zip(base.iter().copied()).rev();
                    let outline: Vec<_> = up.chain(back).collect();
                    let fill = ink.placeholder().mix(0.85).filled();
                    chart.draw_series([Polygon::new(outline, fill)])?;
                    base = top;
                }
                Ok(())
            },
        )
    }
}

impl Bars {
    /// Draws the bars, with `bands` of values for the pointer.
    pub(crate) fn draw(&self, bands: &[Band]) -> Drawn {
        let ends = self.shown.iter().flat_map(|bar| [bar.start, bar.end]);
        let x = extent(ends).unwrap_or(0.0..1.0);
        let top = self.shown.iter().map(|bar| bar.height).fold(0.0, f64::max);
        let y = 0.0..if top > 0.0 { 1.06 * top } else { 1.0 };
        let gap = 0.08;
        let label = |y| self.unit.write(y);
        frame(self.x_label, x, y, (5, &label), bands, |chart| {
            chart.draw_series(self.shown.iter().map(|bar| {
                let inset = gap * (bar.end - bar.start);
                let corners = [(bar.start + inset, 0.0), (bar.end - inset, bar.height)];
                Rectangle::new(corners, bar.ink.placeholder().mix(0.9).filled())
            }))?;
            Ok(())
        })
    }
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws axes and grid, and `series` on top. The tuple gives the maximum number of labels on the
/// vertical axis and their format.
fn frame(
    x_label: &str,
    x: Range<f64>,
    y: Range<f64>,
    (y_labels, y_label): (usize, &dyn Fn(f64) -> String),
    bands: &[Band],
    series: impl FnOnce(&mut Chart<'_, '_>) -> Result<(), Failed>,
) -> Drawn {
    let mut svg = String::new();
    let over = {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin_top(10)
            .margin_right(14)
            .margin_bottom(2)
            .set_label_area_size(LabelAreaPosition::Left, 50)
            .set_label_area_size(LabelAreaPosition::Bottom, 38)
            .build_cartesian_2d(x, y)?;
        let label = ("sans-serif", FONT)
            .into_font()
            .color(&Ink::Label.placeholder());
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(6)
            .y_labels(y_labels)
            .light_line_style(TRANSPARENT)
            .bold_line_style(Ink::Grid.placeholder())
            .axis_style(Ink::Grid.placeholder())
            .label_style(label.clone())
            .x_label_formatter(&|value| number(*value))
            .y_label_formatter(&|value| y_label(*value))
            .draw()?;
        series(&mut chart)?;
        let below = label.pos(Pos::new(HPos::Right, VPos::Bottom));
        let corner = (WIDTH as i32 - 14, HEIGHT as i32 - 2);
        area.draw(&Text::new(x_label.to_owned(), corner, below))?;
        area.present()?;
        let (_, vertical) = chart.plotting_area().get_pixel_range();
        let floor = chart.y_range().start;
        let across = |x| chart.backend_coord(&(x, floor)).0;
        hover::draw(bands, across, (vertical.start, vertical.end))
    };
    Ok(adopt(&svg, &over, WIDTH, HEIGHT))
}

/// Returns the smallest and largest value, at least 1 apart if they are equal; `None` if there are
/// none.
fn extent(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    let range = values.fold(None, |range: Option<Range<f64>>, value| {
        Some(range.map_or(value..value, |range| {
            range.start.min(value)..range.end.max(value)
        }))
    })?;
    Some(if range.end > range.start {
        range
    } else {
        range.start..range.start + 1.0
    })
}

/// Adds a margin above and below the curves; shares stay within 0 and 1.02.
fn padded(range: Range<f64>, unit: Unit) -> Range<f64> {
    let room = 0.05 * (range.end - range.start);
    let low = if range.start >= 0.0 {
        (range.start - room).max(0.0)
    } else {
        range.start - room
    };
    let high = range.end + room;
    match unit {
        Unit::Share if range.end <= 1.0 => low..high.min(1.02),
        _ => low..high,
    }
}

/// Returns the range of the base-10 logarithms: at most about four decades, up to the largest
/// value.
fn log_extent(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    let range = extent(values.filter(|value| *value > 0.0).map(f64::log10))?;
    let high = range.end + 0.1;
    Some(range.start.max(high - 4.0).floor()..high)
}
