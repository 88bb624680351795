//! Check for values that Arrow allows in a message but that readers of the archive refuse.
//!
//! These are maps in which a key repeats (DuckDB reads no row of the file, Polars drops an entry),
//! and times that Python, pandas or DuckDB cannot represent. One such value would make a whole file
//! unreadable, so the message is refused instead.

use std::{collections::HashSet, ops::Range};

use arrow::array::StringArray;
use vintage_control::TIMES_MS;

use crate::{columns::Columns, error::Error};

/// Timestamps that a row may have, in microseconds since the epoch: those of [`TIMES_MS`].
pub const TIMES_US: Range<i64> = TIMES_MS.start * 1000..TIMES_MS.end * 1000;

/// Refuses the first value that would make an archive file unreadable for other programs.
pub(crate) fn check(columns: &Columns, rows: usize) -> Result<(), Error> {
    let refuse = |row, column, reason| {
        Err(Error::Value {
            row,
            column,
            reason,
        })
    };
    for row in 0..rows {
        let time = columns.created_at[row];
        if !TIMES_US.contains(&time) {
            let reason = format!(
                "{time} microseconds since the epoch are not from the years 1970 to 2261, which all \
                 readers of the archive can tell"
            );
            return refuse(row, "created_at", reason);
        }
        let maps = [
            ("reward_parts", columns.reward_parts.keys(row)),
            ("metadata", columns.metadata.keys(row)),
        ];
        for (column, (names, span)) in maps {
            if let Some(key) = repeated(names, span) {
                let key: String = key.chars().take(80).collect();
                let reason = format!(
                    "the map has key {key:?} twice, and DuckDB reads no file that holds such a map"
                );
                return refuse(row, column, reason);
            }
        }
    }
    Ok(())
}

fn repeated(names: &StringArray, mut span: Range<usize>) -> Option<&str> {
    let mut seen = HashSet::new();
    span.find(|&at| !seen.insert(names.value(at)))
        .map(|at| names.value(at))
}
