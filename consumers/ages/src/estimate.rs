//! Means over versions, with intervals.

use serde::Serialize;

/// Quantile 0.975 of Student's t with 1, 2, 3, … degrees of freedom; further on it is taken as that of
/// the last.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// Mean with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Mean.
    pub mean: f64,
    /// Half of the width of the 95 % interval, by Student's t; absent for a single value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half: Option<f64>,
}

impl Estimate {
    /// Returns the mean of independent values; 0 of none.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count.max(1.0);
        let freedom = values.len().saturating_sub(1);
        let half = (freedom > 0).then(|| {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let t = T[freedom.min(T.len()) - 1];
            t * (squares / freedom as f64 / count).sqrt()
        });
        Self { mean, half }
    }
}
