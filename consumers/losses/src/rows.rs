//! Rows of a batch: the sums over a completion's tokens that rules per sequence need.

use crate::{error::Error, real::Real, tokens::Tokens};

/// Sums over the valid tokens of one row.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Row {
    /// Number of valid tokens.
    pub(crate) count: f64,
    /// Sum of `log (pi_theta / pi_behav)`, without the clamp.
    pub(crate) log_ratio: f64,
    /// Sum of `log (pi_prox / pi_behav)`, without the clamp.
    pub(crate) log_severity: f64,
    /// Sum of the advantages.
    pub(crate) advantage: f64,
}

/// Rows of a batch, and the row of every token.
#[derive(Debug)]
pub(crate) struct Rows {
    row_of: Vec<u32>,
    rows: Vec<Row>,
}

impl Rows {
    /// Sums the rows of a batch whose lengths were checked, for `what`.
    pub(crate) fn of<F: Real>(tokens: &Tokens<'_, F>, what: &'static str) -> Result<Self, Error> {
        let ends = tokens.row_ends.ok_or(Error::NoRows { what })?;
        let mut row_of = Vec::with_capacity(tokens.valid.len());
        let mut rows = Vec::with_capacity(ends.len());
        for (number, &end) in ends.iter().enumerate() {
            let mut row = Row::default();
            for index in row_of.len()..end {
                row_of.push(number as u32);
                if tokens.valid[index] {
                    row.count += 1.0;
                    row.log_ratio += tokens.log_ratio(index);
                    row.log_severity += tokens.log_severity(index);
                    row.advantage += tokens.advantage[index].into();
                }
            }
            rows.push(row);
        }
        Ok(Self { row_of, rows })
    }

    /// Returns the sums of the row that holds token `index`.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> &Row {
        &self.rows[self.number(index)]
    }

    /// Returns the number of the row that holds token `index`.
    #[inline]
    pub(crate) fn number(&self, index: usize) -> usize {
        self.row_of[index] as usize
    }

    /// Returns the rows that have a valid token.
    pub(crate) fn filled(&self) -> impl Iterator<Item = &Row> + Clone {
        self.rows.iter().filter(|row| row.count > 0.0)
    }

    /// Returns the number of rows, empty ones included.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}
