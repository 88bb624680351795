use vintage_control::{EngineMismatch, MismatchedToken, PolicyVersion, Precision};

use crate::row::Row;

/// Log-ratio beyond which its exponential is not taken, as in the learner's losses.
const CLAMP: f64 = 20.0;

/// Sum over recomputed tokens of one engine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    kl: f64,
    /// Magnitude of every log-ratio.
    magnitudes: Vec<f64>,
    worst: Option<MismatchedToken>,
}

impl Tally {
    /// Adds the tokens of a row that `version` sampled.
    pub(crate) fn add(&mut self, row: &Row, version: PolicyVersion, recomputed: &[f32]) {
        for position in row.positions(version) {
            let (reported, recomputed) = (row.reported[position], recomputed[position]);
            let ratio = f64::from(recomputed) - f64::from(reported);
            let bounded = ratio.min(CLAMP);
            self.kl += bounded.exp() - 1.0 - bounded;
            let magnitude = ratio.abs();
            if self
                .worst
                .as_ref()
                .is_none_or(|worst| magnitude > size(worst))
            {
                self.worst = Some(MismatchedToken {
                    group: row.group.clone(),
                    sample_index: row.sample_index,
                    position: position as u64,
                    token: row.completion[position],
                    version,
                    reported,
                    recomputed,
                });
            }
            self.magnitudes.push(magnitude);
        }
    }

    /// Adds the tokens of another tally, but not its rows, which may be in both.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.kl += other.kl;
        self.magnitudes.extend(&other.magnitudes);
        let worse = |worst: &MismatchedToken| {
            self.worst
                .as_ref()
                .is_none_or(|known| size(worst) > size(known))
        };
        if let Some(worst) = other.worst.as_ref().filter(|worst| worse(worst)) {
            self.worst = Some(worst.clone());
        }
    }

    /// Returns the result; `None` if no token was recomputed.
    pub(crate) fn mismatch(
        &self,
        engine: &str,
        rows: u64,
        precision: Precision,
    ) -> Option<EngineMismatch> {
        let worst = self.worst.clone()?;
        let tokens = self.magnitudes.len();
        let beyond = |factor: f64| {
            let beyond = self.magnitudes.iter().filter(|size| **size > factor.ln());
            beyond.count() as f64 / tokens as f64
        };
        let mut sorted = self.magnitudes.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        Some(EngineMismatch {
            engine: engine.to_owned(),
            producer: None,
            precision,
            rows,
            tokens: tokens as u64,
            kl: self.kl / tokens as f64,
            mean: self.magnitudes.iter().sum::<f64>() / tokens as f64,
            p99: sorted[(tokens * 99).div_ceil(100) - 1],
            beyond_tenth: beyond(1.1),
            beyond_double: beyond(2.0),
            worst,
        })
    }
}

fn size(token: &MismatchedToken) -> f64 {
    (f64::from(token.recomputed) - f64::from(token.reported)).abs()
}
