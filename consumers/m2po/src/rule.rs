use crate::Error;

/// Which tokens of a batch may move the policy, and by what surrogate.
///
/// `r = exp(new - behavior)` throughout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Algorithm 1 of the paper: the largest `(log r)^2` of the trust-region tokens `T` are
    /// masked until the mean of the rest is at most `tau`; loss `-(1/N_valid) sum M r A`.
    M2poPaper {
        /// `tau_M2`; 0.04 in every run of the paper.
        tau: f64,
    },
    /// AReaL's reading: every valid token counts, the measured gap is prox against behaviour, the
    /// mean kept stays strictly below `tau`, one token is always kept, the loss is PPO's around
    /// prox divided by the number of kept tokens.
    M2poAreal {
        /// `m2_threshold`.
        tau: f64,
        /// `eps_clip`: PPO's clip around the proximal policy; AReaL's M2PO example sets 0.
        eps: f64,
        /// `Some(cap)` multiplies by `pi_prox / pi_behav` and rejects tokens where that is over
        /// `cap` (AReaL's example: 5); `None` leaves the weight out.
        behavior_cap: Option<f64>,
    },
    /// The authors' released code: one cap is found so that the mean over `T` of the capped
    /// `(log r)^2` is at most `tau`, and the ratio is clipped PPO-style there. Nothing is masked.
    M2poFork {
        /// `KL2_budget`.
        tau: f64,
    },
    /// Control arm: PPO's clip as in GRPO, `-min(r A, clip(r, 1 - eps, 1 + eps) A)`, mean over
    /// all valid tokens.
    GrpoClip {
        /// The clip on both sides; 0.2 in the paper.
        eps: f64,
    },
    /// Control arm: no trust region, `-r A`.
    None,
}

const TAU_RANGE: &str = "0, or between 1e-200 and 1e200";

impl Rule {
    /// The paper's rule with its `tau_M2 = 0.04`.
    pub const PAPER: Self = Self::M2poPaper { tau: 0.04 };

    pub(crate) fn check(&self) -> Result<(), Error> {
        match *self {
            Self::M2poPaper { tau } | Self::M2poFork { tau } => check_tau(tau),
            Self::M2poAreal {
                tau,
                eps,
                behavior_cap,
            } => {
                check_tau(tau)?;
                check_eps(eps)?;
                match behavior_cap {
                    // `!(cap > 0)` would let NaN through as the other branch does not.
                    Some(cap) if cap.is_nan() || cap <= 0.0 => Err(Error::Setting {
                        name: "behavior_cap",
                        value: cap,
                        range: "above 0",
                    }),
                    _ => Ok(()),
                }
            }
            Self::GrpoClip { eps } => check_eps(eps),
            Self::None => Ok(()),
        }
    }
}

pub(crate) fn check_tau(tau: f64) -> Result<(), Error> {
    if tau == 0.0 || (1e-200..=1e200).contains(&tau) {
        Ok(())
    } else {
        Err(Error::Setting {
            name: "tau",
            value: tau,
            range: TAU_RANGE,
        })
    }
}

fn check_eps(eps: f64) -> Result<(), Error> {
    if eps.is_finite() && eps >= 0.0 {
        Ok(())
    } else {
        Err(Error::Setting {
            name: "eps",
            value: eps,
            range: "finite and at least 0",
        })
    }
}
