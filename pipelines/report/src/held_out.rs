//! Evaluations of policies on held-out prompts: the first against the last, and charts of all.

use serde::Serialize;
use vintage_control::EvaluationResult;
use vintage_human::Measured;

use crate::{
    chart::{Curve, Curves, Look, UPDATE, Unit},
    error::Result,
    figures::{Figure, figure},
    ink::Ink,
    record::RunRecord,
    series::{Points, finite},
};

/// Evaluations of a policy's first and last evaluated version. Values are shares of right answers, or
/// mean rewards if a program gives them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HeldOut {
    /// True if the values are mean rewards.
    pub is_reward: bool,
    /// Sampled, first evaluated version.
    pub first_sampled: f64,
    /// Sampled, last evaluated version.
    pub last_sampled: f64,
    /// Greedy, first evaluated version.
    pub first_greedy: f64,
    /// Greedy, last evaluated version.
    pub last_greedy: f64,
}

impl HeldOut {
    pub(crate) fn of(evaluations: &[EvaluationResult], measured: Measured) -> Option<Self> {
        let (first, last) = (evaluations.first()?, evaluations.last()?);
        Some(Self {
            is_reward: measured == Measured::MeanReward,
            first_sampled: first.sampled_accuracy,
            last_sampled: last.sampled_accuracy,
            first_greedy: first.greedy_accuracy,
            last_greedy: last.greedy_accuracy,
        })
    }

    /// Formats the sampled values, first → last.
    fn sampled(self) -> String {
        self.both(self.first_sampled, self.last_sampled)
    }

    /// Formats the greedy values, first → last.
    fn greedy(self) -> String {
        self.both(self.first_greedy, self.last_greedy)
    }

    fn both(self, first: f64, last: f64) -> String {
        let measured = Measured::of(self.is_reward);
        format!("{} → {}", measured.value(first), measured.value(last))
    }
}

/// Formats what a policy reached, sampled and greedily; says so if it was not evaluated.
pub fn held_out_texts(of: Option<HeldOut>) -> [String; 2] {
    of.map_or(["not evaluated".to_owned(), String::new()], |of| {
        [of.sampled(), of.greedy()]
    })
}

/// Draws what the run's own policy reached, greedily and sampled.
pub(crate) fn accuracy(record: &RunRecord) -> Result<Figure> {
    let of = |value: fn(&EvaluationResult) -> f64| evaluated(&record.evaluations, value);
    let lines = [
        (Ink::Second, "greedy", of(|one| one.greedy_accuracy)),
        (
            Ink::First,
            "sampled at temperature 1",
            of(|one| one.sampled_accuracy),
        ),
    ];
    let samples = record.evaluations.last().map_or(0, |last| last.samples);
    let (title, what) = match record.measured() {
        Measured::Accuracy => ("Accuracy", "Share of right answers"),
        Measured::MeanReward => ("Held-out reward", "Mean reward"),
    };
    let note =
        format!("{what} on {samples} held-out prompts. Version N is what updates 0 to N − 1 made.");
    evaluations(title, note, record.measured(), &lines)
}

/// Returns one number of each evaluation, by version.
pub(crate) fn evaluated(
    evaluations: &[EvaluationResult],
    value: fn(&EvaluationResult) -> f64,
) -> Points {
    finite(
        evaluations
            .iter()
            .map(|at| (at.version.0 as f64, value(at))),
    )
}

/// Draws curves over evaluated versions, with a dot for each evaluation.
pub(crate) fn evaluations(
    title: impl Into<String>,
    note: String,
    measured: Measured,
    lines: &[(Ink, &str, Points)],
) -> Result<Figure> {
    let (unit, reach) = match measured {
        Measured::Accuracy => (Unit::Share, vec![0.0, 1.0]),
        Measured::MeanReward => (Unit::Number, vec![0.0]),
    };
    let curves = Curves {
        x_label: UPDATE,
        unit,
        log: false,
        reach,
        rule: None,
        lines: lines
            .iter()
            .map(|(ink, _, points)| Curve {
                ink: *ink,
                points: points.clone(),
                look: Look::Dotted,
            })
            .collect(),
    };
    figure(title, note, lines, "version", &curves)
}
