//! Methods: what chooses the next policy, from which data.

use serde::{Deserialize, Serialize};

use crate::error::{Result, require};

/// Data that a method learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// One row of the archive for each live episode.
    Hybrid,
    /// Live episodes alone.
    Live,
    /// Rows of the archive alone: as many as there will be episodes, all of them from the start.
    Archive,
}

/// Choice of the next policy. Equals are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Algorithm {
    /// MABO.CR with every weight function of the cells (closed form). Neither gamma nor a scale of alpha
    /// matters, so it has none.
    EveryWeight,
    /// MABO.CR with the density ratios of every code's policy to the mixture that sampled the data.
    TrueRatios {
        /// Ratios are clipped at `gamma` times the number of the episode; unclipped if absent.
        gamma: Option<f64>,
        /// Factor of the penalty's `alpha = 8 / (gamma t)`; 0 = no penalty. Without `gamma` it must be 0.
        alpha_scale: f64,
    },
    /// GLOW with every weight function: of the functions whose violation is within a threshold, one of the
    /// greatest value at the start. If none is, one of the least violation.
    Optimistic {
        /// Factor of the paper's threshold `1152 log(6 |F| |W| T H / delta)`, with alpha's scale in it.
        beta_scale: f64,
        /// Chance of failure in the threshold.
        delta: f64,
    },
    /// Fitted Q-iteration with one parameter a cell, 0 where there is no data.
    FittedQ,
    /// Draws a policy.
    Random,
}

/// Method with its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// Name in tables.
    pub name: String,
    /// Data that the method learns from.
    pub source: Source,
    /// Choice of the next policy.
    pub algorithm: Algorithm,
}

/// Names of the methods of [`Method::table`] that are compared with each other.
pub(crate) const HYBRID: &str = "HyGLOW, every weight";
pub(crate) const LIVE: &str = "the same objective, live only";
pub(crate) const CLIPPED: &str = "true ratios, clipped";
pub(crate) const UNCLIPPED: &str = "true ratios, unclipped";
pub(crate) const H2O: &str = "H2O with fitted Q";
pub(crate) const OFFLINE: &str = "fitted Q, archive only";

/// Settings of the methods that [`Method::table`] lists.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scales {
    /// Slope of the clip of the true ratios: `gamma t`.
    pub gamma: f64,
    /// Factor of the penalty of the true ratios, clipped: 0 = no penalty.
    pub alpha_scale: f64,
    /// Factor of GLOW's threshold.
    pub beta_scale: f64,
    /// Chance of failure in GLOW's threshold.
    pub delta: f64,
}

impl Default for Scales {
    /// Values of the table: gamma 0.1, no penalty, and a threshold of 0.05 log instead of 1152 log.
    fn default() -> Self {
        Self {
            gamma: 0.1,
            alpha_scale: 0.0,
            beta_scale: 0.05 / THEORY,
            delta: 0.05,
        }
    }
}

/// Factor of the logarithm in GLOW's condition, `4 · 8 · 36`: alpha is 8 / gamma and beta 36 gamma / n.
pub(crate) const THEORY: f64 = 1152.0;

impl Method {
    /// Lists the methods of the table.
    pub fn table(scales: Scales) -> Vec<Self> {
        use Algorithm::{EveryWeight, FittedQ, Optimistic, Random, TrueRatios};
        use Source::{Archive, Hybrid, Live};
        let ratios = |gamma, alpha_scale| TrueRatios { gamma, alpha_scale };
        let clipped = ratios(Some(scales.gamma), scales.alpha_scale);
        let optimistic = Optimistic {
            beta_scale: scales.beta_scale,
            delta: scales.delta,
        };
        let methods = [
            (HYBRID, Hybrid, EveryWeight),
            (LIVE, Live, EveryWeight),
            (CLIPPED, Hybrid, clipped),
            (UNCLIPPED, Hybrid, ratios(None, 0.0)),
            ("GLOW, live only", Live, optimistic),
            (H2O, Hybrid, FittedQ),
            (OFFLINE, Archive, FittedQ),
            ("fitted Q, live only", Live, FittedQ),
            ("random policy", Live, Random),
            ("HyGLOW as written, gamma 2", Hybrid, ratios(Some(2.0), 1.0)),
            ("HyGLOW as written, gamma 8", Hybrid, ratios(Some(8.0), 1.0)),
        ];
        let method = |(name, source, algorithm): (&str, Source, Algorithm)| Self {
            name: name.to_owned(),
            source,
            algorithm,
        };
        methods.into_iter().map(method).collect()
    }

    /// Refuses settings out of range.
    pub(crate) fn check(&self) -> Result<()> {
        let above = |value: f64| value > 0.0 && value.is_finite();
        match self.algorithm {
            Algorithm::TrueRatios { gamma, alpha_scale } => {
                if let Some(gamma) = gamma {
                    require(above(gamma), "gamma", gamma, "above 0")?;
                }
                let holds = alpha_scale == 0.0 || gamma.is_some() && above(alpha_scale);
                let range = "0, or above 0 with a gamma";
                require(holds, "alpha_scale", alpha_scale, range)
            }
            Algorithm::Optimistic { beta_scale, delta } => {
                require(above(beta_scale), "beta_scale", beta_scale, "above 0")?;
                let holds = delta > 0.0 && delta < 1.0;
                require(holds, "delta", delta, "above 0 and below 1")
            }
            Algorithm::EveryWeight | Algorithm::FittedQ | Algorithm::Random => Ok(()),
        }
    }
}
