//! Section `Producers` of the page: tables by producer, and the lengths of all completions.

use std::{collections::BTreeMap, fmt::Write as _};

use vintage_human::grouped;

use crate::{
    chart::{Bar, Bars, Unit, number},
    error::Result,
    fairness::{
        Amount, Distribution, Pair, ProducerFigures, Producers,
        bias::{Bias, EFFECT, GROUPS, RATIO, Z},
        histogram::Histogram,
    },
    figures::{Age, Figure, drawn},
    hover,
    html::Escaped,
    ink::Ink,
};

/// Number of producers in the tables, those that produced most.
const SHOWN: usize = 24;
/// Number of ranges of lengths in the chart.
const RANGES: u64 = 24;

/// Adds the tables to the page.
pub(crate) fn section(page: &mut String, producers: &Producers, age: Age) {
    notes(page, producers);
    let mut shown: Vec<_> = producers.by_producer.iter().collect();
    shown.sort_by_key(|(name, figures)| (std::cmp::Reverse(figures.produced.groups), *name));
    let left_out = shown.len().saturating_sub(SHOWN);
    shown.truncate(SHOWN);
    let all = match producers.by_producer.len() {
        1 => None,
        count => Some((format!("all {}", grouped(count as u64)), &producers.total)),
    };
    let rows: Vec<_> = shown
        .into_iter()
        .map(|(name, figures)| (format!("<code>{}</code>", Escaped(name)), figures))
        .chain(all)
        .collect();
    amounts(page, &rows);
    if left_out > 0 {
        let _ = writeln!(
            page,
            "<p>{} more producers are in <code>vintage report --output json</code>.</p>",
            grouped(left_out as u64)
        );
    }
    comparison(page, &rows, age);
}

/// Writes what a reader must know before the tables: the verdict, and what is missing in them.
fn notes(page: &mut String, producers: &Producers) {
    let everybody = std::iter::once(("all producers", &producers.total));
    let named = producers
        .by_producer
        .iter()
        .map(|(name, figures)| (name.as_str(), figures));
    let mut biased = Vec::new();
    for (name, figures) in everybody.chain(named) {
        for (what, bias) in [
            ("length", figures.length.bias),
            ("reward", figures.reward.bias),
        ] {
            if bias.biased {
                biased.push(format!("{what} of {}", Escaped(name)));
            }
        }
    }
    let verdict = if biased.is_empty() {
        "No difference is reported, which with few groups says little: ".to_owned()
    } else {
        let more = biased.len().saturating_sub(8);
        biased.truncate(8);
        let more = match more {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "<b class=\"biased\">What trained is not like what was produced: {}{more}.</b> ",
            biased.join(", ")
        )
    };
    let (low, high) = (RATIO.start(), RATIO.end());
    let _ = writeln!(
        page,
        "<p>{verdict}a difference is reported if the mean of the rollouts trained is less than {low} \
         or more than {high} times that of all produced (where rewards are negative: more than \
         {EFFECT} standard deviations away), and if groups that trained and groups that did not \
         differ by at least {Z} standard errors, with {GROUPS} groups on either side.</p>"
    );
    let total = &producers.total;
    let counted = [
        (
            total.unarchived,
            "groups are in plans and not in the archive: they have no lengths or rewards here",
        ),
        (
            producers.unreadable_files,
            "archive files could not be read; <code>vintage audit</code> names them",
        ),
        (
            producers.blended,
            "groups were trained from another run's archive and are not counted here",
        ),
    ];
    for (count, what) in counted.into_iter().filter(|(count, _)| *count > 0) {
        let _ = writeln!(page, "<p>{} {what}.</p>", grouped(count));
    }
}

/// Rows of a table: the producer's name as HTML, and its figures.
type Rows<'a> = [(String, &'a ProducerFigures)];

/// Writes a table that scrolls sideways where the page is narrow.
pub(crate) fn table(page: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    page.push_str("<div class=\"wide\"><table class=\"figures\"><thead><tr>");
    for head in heads {
        let _ = write!(page, "<th>{head}</th>");
    }
    page.push_str("</tr></thead><tbody>\n");
    for cells in rows {
        let _ = writeln!(page, "<tr><td>{}</td></tr>", cells.join("</td><td>"));
    }
    page.push_str("</tbody></table></div>\n");
}

fn amounts(page: &mut String, rows: &Rows<'_>) {
    let before = rows.iter().any(|(_, of)| of.before_start.groups > 0);
    let mut heads = vec![
        "producer",
        "groups",
        "trained",
        "share",
        "rejected",
        "in flight",
    ];
    if before {
        heads.push("before start");
    }
    heads.extend(["rollouts", "trained", "tokens", "trained"]);
    let cells = rows.iter().map(|(name, of)| {
        let mut cells = vec![
            name.clone(),
            grouped(of.produced.groups),
            grouped(of.trained.groups),
            of.trained_share
                .map_or_else(none, |share| Unit::Share.write(share)),
            rejected(&of.rejected),
            grouped(of.in_flight.groups),
        ];
        if before {
            cells.push(grouped(of.before_start.groups));
        }
        cells.extend([
            grouped(of.produced.rollouts),
            grouped(of.trained.rollouts),
            grouped(of.produced.tokens),
            grouped(of.trained.tokens),
        ]);
        cells
    });
    table(page, &heads, cells);
}

fn rejected(rejected: &BTreeMap<&'static str, Amount>) -> String {
    let count: u64 = rejected.values().map(|amount| amount.groups).sum();
    let mut cell = grouped(count);
    for (reason, amount) in rejected {
        let _ = write!(
            cell,
            "<small>{} {}</small>",
            reason.replace('_', " "),
            grouped(amount.groups)
        );
    }
    cell
}

fn none() -> String {
    "–".to_owned()
}

fn comparison(page: &mut String, rows: &Rows<'_>, age: Age) {
    let _ = writeln!(
        page,
        "<p>Lengths are completion tokens. {} is of the oldest token of each rollout trained.</p>",
        match age {
            Age::Staleness => "Staleness",
            Age::Lag => "Lag",
        }
    );
    let heads = [
        "producer",
        "length, produced<small>p10 · p50 · p90 · max</small>",
        "length, trained<small>p10 · p50 · p90 · max</small>",
        "mean length<small>produced → trained</small>",
        "ratio",
        "mean reward<small>produced → trained</small>",
        "ratio",
        match age {
            Age::Staleness => "staleness<small>mean · p90 · max</small>",
            Age::Lag => "lag<small>mean · p90 · max</small>",
        },
    ];
    let cells = rows.iter().map(|(name, of)| {
        let length = &of.length;
        let mean = |side: Option<Distribution>| side.map(|side| side.mean);
        vec![
            name.clone(),
            length.produced.as_ref().map_or_else(none, percentiles),
            length.trained.as_ref().map_or_else(none, percentiles),
            means(mean(length.produced), mean(length.trained), number),
            verdict(&length.bias),
            means(of.reward.produced, of.reward.trained, |mean| {
                format!("{mean:.3}")
            }),
            verdict(&of.reward.bias),
            of.staleness.as_ref().map_or_else(none, |age| {
                format!(
                    "{} · {} · {}",
                    number(age.mean),
                    grouped(age.p90),
                    grouped(age.max)
                )
            }),
        ]
    });
    table(page, &heads, cells);
}

fn percentiles(of: &Distribution) -> String {
    [of.p10, of.p50, of.p90, of.max].map(grouped).join(" · ")
}

fn means(produced: Option<f64>, trained: Option<f64>, write: fn(f64) -> String) -> String {
    let side = |mean: Option<f64>| mean.map_or_else(none, write);
    format!("{} → {}", side(produced), side(trained))
}

fn verdict(bias: &Bias) -> String {
    let figure = match (bias.ratio, bias.effect) {
        (Some(ratio), _) => format!("{ratio:.3}"),
        (None, Some(effect)) => format!("{effect:+.2} SD"),
        (None, None) => return none(),
    };
    if bias.biased {
        format!("<b class=\"biased\">{figure}</b>")
    } else {
        figure
    }
}

/// Draws the lengths of what was produced and of what trained.
pub(crate) fn figure(lengths: &Pair<Histogram>) -> Result<Figure> {
    let title = "Completion lengths";
    let (produced, trained) = (&lengths.produced, &lengths.trained);
    let most = produced.max();
    // A few very long completions would leave no room for all others.
    let common = produced.percentile(0.99);
    let end = if most > 2 * common {
        common.max(1)
    } else {
        most
    };
    let width = (end + 1).div_ceil(RANGES).max(1);
    let last = end / width;
    let sides = [(Ink::Second, produced), (Ink::First, trained)];
    let mut bars = Vec::new();
    let mut heights = Vec::new();
    for (side, (ink, histogram)) in (0..).zip(sides) {
        let mut counts: BTreeMap<u64, u64> = (0..=last).map(|range| (range, 0)).collect();
        for (length, count) in histogram.middles() {
            *counts.entry((length / width).min(last)).or_default() += count;
        }
        let all = histogram.count().max(1) as f64;
        heights.push(
            counts
                .values()
                .map(|count| *count as f64 / all)
                .collect::<Vec<_>>(),
        );
        bars.extend(counts.into_iter().map(|(range, count)| {
            let start = (range * width) as f64 - 0.5;
            let half = width as f64 / 2.0;
            let start = start + half * f64::from(side);
            Bar {
                ink,
                start,
                end: start + half,
                height: count as f64 / all,
            }
        }));
    }
    let longer = if most > end {
        format!(
            " The last bars have everything longer, up to {}.",
            grouped(most)
        )
    } else {
        String::new()
    };
    let chart = Bars {
        x_label: "tokens",
        unit: Unit::Share,
        shown: bars,
    };
    let both = heights[0].iter().zip(&heights[1]);
    let bands: Vec<_> = (0..)
        .zip(both)
        .map(|(range, (produced, trained))| {
            let shares = [("produced", *produced), ("trained", *trained)];
            hover::range("tokens", range * width, width, &shares)
        })
        .collect();
    Ok(Figure {
        title: title.to_owned(),
        note: format!(
            "Share of the rollouts produced, and of those trained, by their length.{longer}"
        ),
        legend: vec![
            (Ink::Second, "produced".to_owned()),
            (Ink::First, "trained".to_owned()),
        ],
        svg: if produced.count() == 0 {
            None
        } else {
            Some(drawn(title, chart.draw(&bands))?)
        },
    })
}
