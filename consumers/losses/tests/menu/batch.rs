//! Batches of several rows, with a proximal policy.

use proptest::prelude::*;
use vintage_losses::Tokens;

/// Batch of rows, one after the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    pub(crate) behavior: Vec<f64>,
    pub(crate) prox: Vec<f64>,
    pub(crate) new: Vec<f64>,
    pub(crate) advantage: Vec<f64>,
    pub(crate) valid: Vec<bool>,
    pub(crate) ends: Vec<usize>,
}

impl Batch {
    pub(crate) fn tokens(&self) -> Tokens<'_, f64> {
        let tokens = Tokens::new(&self.new, &self.behavior, &self.advantage, &self.valid);
        Tokens {
            prox: Some(&self.prox),
            ..tokens.with_rows(&self.ends)
        }
    }

    /// Returns the valid tokens of every row.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Vec<usize>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(from, &end)| (from..end).filter(|&at| self.valid[at]).collect())
    }

    /// Adds a row of tokens, each `(behaviour, log w, log u, A, valid)`.
    pub(crate) fn push(&mut self, row: &[(f64, f64, f64, f64, bool)]) {
        for &(behavior, severity, step, advantage, valid) in row {
            self.behavior.push(behavior);
            self.prox.push(behavior + severity);
            self.new.push(behavior + severity + step);
            self.advantage.push(advantage);
            self.valid.push(valid);
        }
        self.ends.push(self.new.len());
    }

    /// Returns the batch with its rows in this order, and for every token where it was.
    pub(crate) fn reordered(&self, order: &[usize]) -> (Self, Vec<usize>) {
        let (mut other, mut places) = (Self::default(), Vec::new());
        for &row in order {
            let from = row.checked_sub(1).map_or(0, |before| self.ends[before]);
            for at in from..self.ends[row] {
                other.behavior.push(self.behavior[at]);
                other.prox.push(self.prox[at]);
                other.new.push(self.new[at]);
                other.advantage.push(self.advantage[at]);
                other.valid.push(self.valid[at]);
                places.push(at);
            }
            other.ends.push(other.new.len());
        }
        (other, places)
    }
}

/// Generates batches of up to 6 rows of up to 6 tokens; some rows are empty.
pub(crate) fn batch() -> impl Strategy<Value = Batch> {
    let token = (
        // Log-probs stay below 0 after the largest steps.
        -5.0..-1.55_f64,
        prop_oneof![3 => -0.2..0.2_f64, 1 => -1.0..1.0_f64],
        prop_oneof![3 => -0.1..0.1_f64, 1 => -0.5..0.5_f64],
        prop_oneof![8 => -2.0..2.0_f64, 1 => Just(0.0)],
        prop::bool::weighted(0.85),
    );
    let row = prop::collection::vec(token, 0..6);
    prop::collection::vec(row, 1..6).prop_map(|rows| {
        let mut batch = Batch::default();
        for row in rows {
            batch.push(&row);
        }
        batch
    })
}
