//! Numbers with their intervals, tables and states of runs as text.

use crate::{
    course::{State, above_rounding},
    statistics::Spread,
};

/// Formats a share in percent, to one digit.
pub(crate) fn share(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Says what keeps a run from being finished; `None` for one that is.
pub(crate) fn state_of(state: &State, updates: u64, all: u64) -> Option<String> {
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
