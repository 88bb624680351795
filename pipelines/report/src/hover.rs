//! Values that a chart shows while the pointer is over it: bands that are invisible until then, each
//! with an SVG title, so that the page needs no script.

use std::fmt::Write as _;

use crate::{chart::Unit, html::Escaped, series::Points};

/// Maximum number of bands of a chart.
const BANDS: usize = 48;

/// Stretch of the horizontal axis with the values in it, as text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Band {
    pub(crate) start: f64,
    pub(crate) end: f64,
    pub(crate) text: String,
}

/// Returns the bands of curves: the mean of each curve over some adjacent points. `counted` is what
/// the horizontal axis counts, in the singular.
pub(crate) fn bands(counted: &str, unit: Unit, lines: &[(&str, &Points)]) -> Vec<Band> {
    let mut at: Vec<_> = lines
        .iter()
        .flat_map(|(_, points)| points.iter().map(|point| point.0))
        .collect();
    at.sort_by(f64::total_cmp);
    at.dedup();
    let size = at.len().div_ceil(BANDS).max(1);
    let stretches: Vec<_> = at
        .chunks(size)
        .map(|part| (part[0], part[part.len() - 1]))
        .collect();
    let band = |(i, (first, last)): (usize, &(f64, f64))| {
        let mut text = if first < last {
            format!("{counted}s {} to {}", first.round(), last.round())
        } else {
            format!("{counted} {}", first.round())
        };
        for (name, points) in lines {
            if let Some(mean) = mean_between(points, *first, *last) {
                let _ = write!(text, "\n{name} {}", unit.write(mean));
            }
        }
        // A band reaches half-way to its neighbours.
        let before = i.checked_sub(1).map_or(*first, |i| stretches[i].1);
        let after = stretches.get(i + 1).map_or(*last, |next| next.0);
        Band {
            start: f64::midpoint(before, *first),
            end: f64::midpoint(*last, after),
            text,
        }
    };
    stretches.iter().enumerate().map(band).collect()
}

/// Returns the band over the bars of one range of whole numbers, with a share by name for each bar.
pub(crate) fn range(what: &str, first: u64, width: u64, shares: &[(&str, f64)]) -> Band {
    let last = first + width.saturating_sub(1);
    let mut text = if first < last {
        format!("{what} {first} to {last}")
    } else {
        format!("{what} {first}")
    };
    for (name, share) in shares {
        let _ = write!(text, "\n{name} {}", Unit::Share.write(*share));
    }
    Band {
        start: first as f64 - 0.5,
        end: last as f64 + 0.5,
        text,
    }
}

/// Returns the mean of the points between two positions, both included; `None` if there is none.
/// Points must be in the order of their positions.
fn mean_between(points: &Points, first: f64, last: f64) -> Option<f64> {
    let start = points.partition_point(|point| point.0 < first);
    let end = points.partition_point(|point| point.0 <= last);
    let within = &points[start..end.max(start)];
    let sum = within.iter().map(|point| point.1).sum::<f64>();
    (!within.is_empty()).then(|| sum / within.len() as f64)
}

/// Draws bands over a chart. `across` maps a position to pixels; `top` and `bottom` are the drawing's
/// edges in pixels.
pub(crate) fn draw(
    bands: &[Band],
    across: impl Fn(f64) -> i32,
    (top, bottom): (i32, i32),
) -> String {
    let mut svg = String::new();
    for band in bands {
        let (left, right) = (across(band.start), across(band.end));
        let _ = write!(
            svg,
            "<rect class=\"band\" x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\"><title>{}</title></rect>",
            (right - left).max(2),
            bottom - top,
            Escaped(&band.text),
        );
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_cover_the_axis_without_gaps_and_give_means() {
        let first: Points = (0..400).map(|i| (f64::from(i), 0.5)).collect();
        let second: Points = (0..400).step_by(100).map(|i| (f64::from(i), 2.0)).collect();
        let bands = bands("update", Unit::Number, &[("a", &first), ("b", &second)]);
        assert!(bands.len() <= BANDS, "{}", bands.len());
        assert_eq!((bands[0].start, bands[bands.len() - 1].end), (0.0, 399.0));
        assert!(bands.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(bands[0].text, "updates 0 to 8\na 0.5\nb 2");
        assert_eq!(bands[1].text, "updates 9 to 17\na 0.5");
    }

    #[test]
    fn a_single_point_has_a_band_of_its_own() {
        let points = vec![(25.0, 0.25)];
        let bands = bands("version", Unit::Share, &[("sampled", &points)]);
        assert_eq!(bands[0].text, "version 25\nsampled 25 %");
        assert!(super::bands("version", Unit::Share, &[]).is_empty());
        let drawn = draw(&bands, |x| x as i32, (0, 10));
        assert!(
            drawn.contains("width=\"2\"") && drawn.contains("<title>version 25\n"),
            "{drawn}"
        );
    }

    #[test]
    fn a_range_covers_its_whole_numbers() {
        let band = range("tokens", 10, 5, &[("produced", 0.25), ("trained", 0.5)]);
        assert_eq!((band.start, band.end), (9.5, 14.5));
        assert_eq!(band.text, "tokens 10 to 14\nproduced 25 %\ntrained 50 %");
        assert_eq!(range("staleness", 3, 1, &[]).text, "staleness 3");
    }

    #[test]
    fn names_cannot_break_the_page() {
        let points = vec![(0.0, 1.0)];
        let bands = bands("update", Unit::Number, &[("<b>\"", &points)]);
        assert!(draw(&bands, |x| x as i32, (0, 1)).contains("&lt;b&gt;&quot; 1"));
    }
}
