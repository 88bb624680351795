//! Forward decay: newer candidates weigh more, so that no older one has to be changed.

use serde::{Deserialize, Serialize};
use vintage_control::PolicyVersion;

use crate::{
    error::{Error, Result},
    ladder,
};

/// Factor beyond which weights are reckoned from a later version: f64 has room for four times as
/// many powers of two.
const LARGEST: f64 = (1_u128 << 127) as f64 * (1_u128 << 127) as f64;

/// Growth of weights with the version.
///
/// With a decay d for each version of age, a candidate of version v weighs w·d^(V − v) for a learner at
/// version V. The factor d^V is common to all, and objectives are homogeneous, so w·d^−v ranks sets in the
/// same way at any time. It is reckoned from a version that is a multiple of a span, the same for
/// any history with the same newest candidate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Decay {
    growth: f64,
    /// Number of versions between two origins, a power of two.
    span: u64,
    origin: u64,
}

impl Decay {
    /// Creates the decay by this factor for each version of age.
    pub(crate) fn new(decay: f64) -> Result<Self> {
        if !(0.5..=1.0).contains(&decay) {
            return Err(Error::Setting {
                name: "decay",
                value: decay,
                range: "from 0.5 to 1",
            });
        }
        let growth = 1.0 / decay;
        let mut span = 1_u64;
        while span < 1 << 40 && ladder::power(growth, 2 * span.cast_signed()) <= LARGEST {
            span *= 2;
        }
        Ok(Self {
            growth,
            span,
            origin: 0,
        })
    }

    /// Moves the origin for a candidate of this version; returns true if it moved.
    pub(crate) fn advance(&mut self, version: PolicyVersion) -> bool {
        let origin = version.0 - version.0 % self.span;
        let moved = origin > self.origin && self.growth > 1.0;
        if moved {
            self.origin = origin;
        }
        moved
    }

    /// Returns a weight with the growth of its version.
    pub(crate) fn weight(&self, version: PolicyVersion, raw: f64) -> f64 {
        let age = i128::from(version.0) - i128::from(self.origin);
        let age = age.clamp(-(1 << 40), 1 << 40) as i64;
        raw * ladder::power(self.growth, age)
    }
}
