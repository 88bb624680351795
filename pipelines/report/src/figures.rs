//! Charts of a report, with their titles and explanations.

use std::collections::BTreeMap;

use vintage_control::UpdateResult;

use crate::error::{Error, Result};
use crate::{
    chart::{Bar, Bars, Curve, Curves, Look, Shares, UPDATE, Unit},
    held_out::accuracy,
    hover,
    ink::Ink,
    record::RunRecord,
    series::{Points, finite, rate, thin, thin_largest, trend, window},
};

/// Maximum number of points of a curve.
const POINTS: usize = 480;
/// Maximum number of bars of a histogram.
const BARS: u64 = 40;

/// Chart with its title, caption and legend.
pub(crate) struct Figure {
    pub(crate) title: String,
    /// Caption below the title.
    pub(crate) note: String,
    /// Colours and names of the curves or layers.
    pub(crate) legend: Vec<(Ink, String)>,
    /// SVG of the chart; `None` if there is nothing to draw yet.
    pub(crate) svg: Option<String>,
}

/// Draws all charts of the run's own learner, in the order of the page.
pub(crate) fn figures(record: &RunRecord) -> Result<Vec<Figure>> {
    let results = &record.results;
    let of = |value: fn(&UpdateResult) -> f64| -> Points {
        finite(
            results
                .iter()
                .map(|result| (result.version.0 as f64, value(result))),
        )
    };
    let tau = record.setting("m2po.threshold");
    let tau = tau.and_then(|tau| tau.parse::<f64>().ok());
    let algorithm = record.setting("algorithm");
    let m2po = algorithm.is_none_or(|rule| rule.contains("m2po"));
    // A run without evaluations has no chart of accuracy.
    let has_evaluations = !record.evaluations.is_empty();
    let accuracy = has_evaluations.then(|| accuracy(record)).transpose()?;
    let always = [
        curves(
            "Reward",
            "Mean reward of the rollouts each update trained on; the line is the trend.".to_owned(),
            Unit::Number,
            &[(Ink::First, "reward", of(|result| result.reward))],
        )?,
        second_moment(
            &of(|result| result.m2_before),
            &of(|result| result.m2_after),
            tau,
            m2po,
        )?,
        curves(
            "Clip fraction",
            "Share of tokens that got no gradient, masked or clipped by the rule.".to_owned(),
            Unit::Share,
            &[(
                Ink::First,
                "clipped or masked",
                of(|result| result.clip_fraction),
            )],
        )?,
        staleness_over_updates(
            &of(|r| r.mean_staleness),
            &of(|r| r.max_staleness as f64),
            Age::of(results),
        )?,
        staleness_histogram(results)?,
        curves(
            "Entropy",
            "Mean entropy of the policy on the tokens trained on, in nats.".to_owned(),
            Unit::Number,
            &[(Ink::First, "entropy", of(|result| result.entropy))],
        )?,
        curves(
            "Divergence",
            "How far the policy has moved from the one that sampled: mean of log behaviour minus \
             log new probability, in nats."
                .to_owned(),
            Unit::Number,
            &[(Ink::First, "k1 estimate of KL", of(|result| result.kl))],
        )?,
        curves(
            "Gradient norm",
            "Global norm before it is clipped.".to_owned(),
            Unit::Number,
            &[(Ink::First, "gradient norm", of(|result| result.grad_norm))],
        )?,
        throughput(
            "Updates a second",
            "Updates the learner did a second.",
            results,
            |_| 1.0,
        )?,
        throughput(
            "Tokens a second",
            "Prompt and completion tokens trained on a second.",
            results,
            |result| result.all_tokens as f64,
        )?,
        idle(results)?,
    ];
    Ok(accuracy.into_iter().chain(always).collect())
}

/// Gives the error of a drawing the chart's title.
pub(crate) fn drawn(
    title: &str,
    chart: Result<String, Box<dyn std::error::Error>>,
) -> Result<String> {
    chart.map_err(|error| Error::Chart {
        title: title.to_owned(),
        reason: error.to_string(),
    })
}

/// Draws curves over updates: the raw values in a pale line, and their trend on top.
pub(crate) fn curves(
    title: impl Into<String>,
    note: String,
    unit: Unit,
    lines: &[(Ink, &str, Points)],
) -> Result<Figure> {
    let mut drawn_curves = Vec::new();
    for (ink, _, points) in lines {
        drawn_curves.extend(with_trend(*ink, points));
    }
    figure(
        title,
        note,
        lines,
        "update",
        &Curves {
            x_label: UPDATE,
            unit,
            log: false,
            reach: vec![0.0],
            rule: None,
            lines: drawn_curves,
        },
    )
}

fn with_trend(ink: Ink, points: &[(f64, f64)]) -> Vec<Curve> {
    if window(points.len()) == 1 {
        return vec![Curve {
            ink,
            points: points.to_vec(),
            look: Look::Line,
        }];
    }
    vec![
        Curve {
            ink,
            points: thin(points, POINTS),
            look: Look::Pale,
        },
        Curve {
            ink,
            points: thin(&trend(points), POINTS),
            look: Look::Line,
        },
    ]
}

/// Puts curves together with their legend and the values for the pointer. `counted` is what the
/// horizontal axis counts, in the singular.
pub(crate) fn figure(
    title: impl Into<String>,
    note: String,
    lines: &[(Ink, &str, Points)],
    counted: &str,
    curves: &Curves,
) -> Result<Figure> {
    let title = title.into();
    let empty = lines.iter().all(|(_, _, points)| points.is_empty());
    let named: Vec<_> = lines
        .iter()
        .map(|(_, name, points)| (*name, points))
        .collect();
    let bands = hover::bands(counted, curves.unit, &named);
    let svg = if empty {
        None
    } else {
        Some(drawn(&title, curves.draw(&bands))?)
    };
    Ok(Figure {
        title,
        note,
        legend: lines
            .iter()
            .map(|(ink, name, _)| (*ink, (*name).to_owned()))
            .collect(),
        svg,
    })
}

fn second_moment(before: &Points, after: &Points, tau: Option<f64>, m2po: bool) -> Result<Figure> {
    let lines = [
        (Ink::Second, "before the mask", before.clone()),
        (Ink::First, "after", after.clone()),
    ];
    let positive = || {
        before
            .iter()
            .chain(after)
            .map(|point| point.1)
            .filter(|y| *y > 0.0)
    };
    let (low, high) = positive().fold((f64::MAX, 0.0_f64), |(low, high), y| {
        (low.min(y), high.max(y))
    });
    let rule = tau.filter(|_| m2po);
    let curves = Curves {
        x_label: UPDATE,
        unit: Unit::Number,
        log: high > 30.0 * low,
        reach: Vec::new(),
        rule,
        lines: lines
            .iter()
            .map(|(ink, _, points)| Curve {
                ink: *ink,
                points: thin(points, POINTS),
                look: Look::Line,
            })
            .collect(),
    };
    let budget = rule.map_or_else(String::new, |tau| {
        format!("; the dashed line is its budget τ = {tau}")
    });
    let note = format!("Second moment of the log-ratio over the trust-region tokens{budget}.");
    let mut figure = figure("M2", note, &lines, "update", &curves)?;
    if rule.is_some() {
        figure.legend.push((Ink::Rule, "τ".to_owned()));
    }
    Ok(figure)
}

/// Measure of the age of tokens; see [`vintage_control::UpdateResult::lag_tokens`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// Number of updates between the version that sampled a token and the version trained.
    Staleness,
    /// Number of versions between the one that sampled and the newest one seen of its policy.
    Lag,
}

impl Age {
    /// Returns the measure that applies to most tokens of these updates.
    pub(crate) fn of(results: &[UpdateResult]) -> Self {
        let lagging: u64 = results.iter().map(|result| result.lag_tokens).sum();
        let all: u64 = results.iter().map(|result| result.tokens).sum();
        if lagging > all / 2 {
            Self::Lag
        } else {
            Self::Staleness
        }
    }

    /// Returns the name of the measure.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Staleness => "staleness",
            Self::Lag => "lag",
        }
    }

    fn note(self) -> &'static str {
        match self {
            Self::Staleness => {
                "How many updates are between the version that sampled a token and the one trained."
            }
            Self::Lag => {
                "How many versions of the policy that sampled are between a token's and the newest read \
                 so far. Staleness in updates of this learner is not defined for such tokens."
            }
        }
    }
}

fn staleness_over_updates(mean: &Points, max: &Points, age: Age) -> Result<Figure> {
    let line = |ink, points| Curve {
        ink,
        points,
        look: Look::Line,
    };
    let curves = Curves {
        x_label: UPDATE,
        unit: Unit::Number,
        log: false,
        reach: vec![0.0],
        rule: None,
        lines: vec![
            line(Ink::Second, thin_largest(max, POINTS)),
            line(Ink::First, thin(mean, POINTS)),
        ],
    };
    let lines = [
        (Ink::Second, "largest", max.clone()),
        (Ink::First, "mean", mean.clone()),
    ];
    let title = match age {
        Age::Staleness => "Staleness over the run",
        Age::Lag => "Lag over the run",
    };
    figure(title, age.note().to_owned(), &lines, "update", &curves)
}

fn staleness_histogram(results: &[UpdateResult]) -> Result<Figure> {
    let mut tokens: BTreeMap<u64, u64> = BTreeMap::new();
    for (staleness, count) in results.iter().flat_map(|result| &result.staleness) {
        *tokens.entry(*staleness).or_default() += count;
    }
    let all: u64 = tokens.values().sum();
    let last = tokens.keys().next_back().copied().unwrap_or(0);
    let width = (last + 1).div_ceil(BARS);
    let mut bars: BTreeMap<u64, u64> = (0..=last / width).map(|bar| (bar, 0)).collect();
    for (staleness, count) in tokens {
        *bars.entry(staleness / width).or_default() += count;
    }
    let of_all = |count: u64| count as f64 / all.max(1) as f64;
    let age = Age::of(results).name();
    let bands: Vec<_> = bars
        .iter()
        .map(|(bar, count)| hover::range(age, bar * width, width, &[("of tokens", of_all(*count))]))
        .collect();
    let bars = bars.into_iter().map(|(bar, count)| {
        let start = (bar * width) as f64 - 0.5;
        Bar {
            ink: Ink::First,
            start,
            end: start + width as f64,
            height: of_all(count),
        }
    });
    let (title, x_label) = match Age::of(results) {
        Age::Staleness => ("Staleness of tokens", "staleness, updates"),
        Age::Lag => ("Lag of tokens", "lag, versions"),
    };
    let chart = Bars {
        x_label,
        unit: Unit::Share,
        shown: bars.collect(),
    };
    Ok(Figure {
        title: title.to_owned(),
        note: format!("Share of all tokens trained on, by their {age} when they were."),
        legend: Vec::new(),
        svg: if all == 0 {
            None
        } else {
            Some(drawn(title, chart.draw(&bands))?)
        },
    })
}

fn seconds(result: &UpdateResult) -> f64 {
    result.wait_seconds + result.update_seconds + result.record_seconds
}

fn throughput(
    title: &'static str,
    note: &str,
    results: &[UpdateResult],
    count: fn(&UpdateResult) -> f64,
) -> Result<Figure> {
    let parts: Vec<_> = results
        .iter()
        .map(|result| (result.version.0 as f64, count(result), seconds(result)))
        .collect();
    let points = rate(&parts);
    let curve = Curve {
        ink: Ink::Third,
        points: points.clone(),
        look: Look::Line,
    };
    let curves = Curves {
        x_label: UPDATE,
        unit: Unit::Number,
        log: false,
        reach: vec![0.0],
        rule: None,
        lines: vec![curve],
    };
    let lines = [(Ink::Third, "a second:", points)];
    let mut figure = figure(title, note.to_owned(), &lines, "update", &curves)?;
    figure.legend.clear();
    Ok(figure)
}

fn idle(results: &[UpdateResult]) -> Result<Figure> {
    let size = window(results.len());
    let stretch = |part: &[UpdateResult]| {
        let sum = |value: fn(&UpdateResult) -> f64| part.iter().map(value).sum::<f64>();
        let all = sum(seconds);
        let x = sum(|result| result.version.0 as f64) / part.len() as f64;
        let shares = [
            sum(|r| r.update_seconds),
            sum(|r| r.record_seconds),
            sum(|r| r.wait_seconds),
        ];
        (all > 0.0).then(|| (x, shares.map(|seconds| seconds / all)))
    };
    let stretches: Vec<_> = results.chunks(size).filter_map(stretch).collect();
    let layers = [Ink::First, Ink::Third, Ink::Second];
    let names = ["computing", "making it durable", "waiting for rollouts"];
    let shares = Shares {
        x: stretches.iter().map(|stretch| stretch.0).collect(),
        layers: (0..3)
            .map(|i| {
                (
                    layers[i],
                    stretches.iter().map(|stretch| stretch.1[i]).collect(),
                )
            })
            .collect(),
    };
    let along = |i: usize| {
        stretches
            .iter()
            .map(|stretch| (stretch.0, stretch.1[i]))
            .collect()
    };
    let parts: [Points; 3] = [along(0), along(1), along(2)];
    let named: Vec<_> = names.into_iter().zip(&parts).collect();
    let bands = hover::bands("update", Unit::Share, &named);
    let title = "Where the learner's time went";
    let waited: f64 = results.iter().map(|result| result.wait_seconds).sum();
    let all: f64 = results.iter().map(seconds).sum();
    let idle = if all > 0.0 { 100.0 * waited / all } else { 0.0 };
    Ok(Figure {
        title: title.to_owned(),
        note: format!("Idle for {idle:.0} % of the time."),
        legend: layers.into_iter().zip(names.map(str::to_owned)).collect(),
        svg: if stretches.is_empty() {
            None
        } else {
            Some(drawn(title, shares.draw(&bands))?)
        },
    })
}
