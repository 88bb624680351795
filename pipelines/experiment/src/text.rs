//! Numbers with their intervals, tables and states of runs as text.

use serde::Serializer;
use vintage_control::AlgorithmName;

use crate::{
    course::{Arm, State, Trial, above_rounding},
    statistics::Spread,
};

/// Serializes a loss as its name.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
pub(crate) fn as_name<S: Serializer>(
    loss: &AlgorithmName,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(loss.as_str())
}

/// Names the seeds, and says what their number is enough for.
pub(crate) fn seeds(first: u64, count: u64) -> String {
    match count {
        1 => format!("seed {first}, so without intervals: a difference may be chance"),
        count => format!(
            "seeds {first} to {}, 95 % bootstrap intervals over seeds",
            first.saturating_add(count - 1)
        ),
    }
}

/// Formats how many runs of a row finished, `missing` besides them.
pub(crate) fn of_all(finished: usize, missing: u64) -> String {
    match missing {
        0 => finished.to_string(),
        missing => format!("{finished} of {}", finished as u64 + missing),
    }
}

/// Returns a line for each run that did not finish; `updates` are those of a whole run.
pub(crate) fn missing<A: Arm>(trials: &[Trial<A>], updates: impl Fn(&A) -> u64) -> Vec<String> {
    let line = |trial: &Trial<A>| {
        let left = state_of(&trial.state, trial.updates, updates(&trial.arm))?;
        Some(format!("{}: {left}", trial.arm.name()))
    };
    trials.iter().filter_map(line).collect()
}

/// Formats a share in percent, to one digit.
pub(crate) fn share(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Says what keeps a run from being finished; `None` for one that is.
fn state_of(state: &State, updates: u64, all: u64) -> Option<String> {
    match state {
        State::Finished => None,
        State::NotBegun => Some("not begun".to_owned()),
        State::Unfinished => Some(format!("not finished, {updates} of {all} updates")),
        State::Failed { reason } => Some(format!("FAILED: {reason}")),
    }
}

/// Formats a share in percent with its interval.
pub(crate) fn percent(share: Spread) -> String {
    let number = |share: f64| format!("{:.1}", 100.0 * share);
    with_interval(share, number)
}

/// Formats a difference of shares in points, with its sign.
pub(crate) fn points(difference: Spread) -> String {
    let number = |share: f64| format!("{:+.1}", 100.0 * share);
    with_interval(difference, number)
}

fn with_interval(spread: Spread, number: impl Fn(f64) -> String) -> String {
    let mean = number(spread.mean);
    match spread.interval {
        None => mean,
        Some((low, high)) => format!("{mean} [{}, {}]", number(low), number(high)),
    }
}

/// Formats a second moment with two digits that count.
pub(crate) fn small(moment: f64) -> String {
    match above_rounding(moment) {
        0.0 => "0".to_owned(),
        0.1.. => format!("{moment:.2}"),
        0.001.. => format!("{moment:.4}"),
        _ => format!("{moment:.0e}"),
    }
}

/// Formats rows under their heads, each column as wide as its widest cell.
pub(crate) fn aligned(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let cells = cells.map(|cell| cell.chars().count());
        cells.fold(head[column].chars().count(), usize::max)
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths);
        let padded = cells.map(|(cell, width)| format!("{cell:<width$}"));
        let line = padded.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    let rows = rows
        .iter()
        .map(|row| line(row.iter().map(String::as_str).collect()));
    line(head.to_vec()) + &rows.collect::<String>()
}
