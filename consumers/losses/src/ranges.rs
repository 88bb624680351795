//! Ranges of the rules' settings.

use crate::{error::Error, rule::Rule};

type Checked = Result<(), Error>;

impl Rule {
    pub(crate) fn check(&self) -> Checked {
        match *self {
            Self::M2poPaper { tau } | Self::M2poFork { tau } => check_tau(tau),
            Self::M2poAreal {
                tau,
                eps,
                behavior_cap,
            } => {
                check_tau(tau)?;
                not_negative("eps", eps)?;
                cap("behavior_cap", behavior_cap)
            }
            Self::GrpoClip { eps } => not_negative("eps", eps),
            Self::Clip {
                low,
                high,
                dual_clip,
            } => {
                not_negative("low", low)?;
                not_negative("high", high)?;
                dual(dual_clip)
            }
            Self::MixPpg { eps, dual_clip } => {
                not_negative("eps", eps)?;
                dual(dual_clip)
            }
            Self::DecoupledPpo {
                eps,
                dual_clip,
                cap: limit,
            } => {
                not_negative("eps", eps)?;
                dual(dual_clip)?;
                cap("cap", limit)
            }
            Self::Tis {
                cap: limit, eps, ..
            } => {
                positive("cap", limit)?;
                not_negative("eps", eps.unwrap_or(0.0))
            }
            Self::Mis { low, high, eps, .. } | Self::GeometricRejection { low, high, eps } => {
                around_1(low, high)?;
                not_negative("eps", eps.unwrap_or(0.0))
            }
            Self::K3Rejection { bound, eps } => {
                not_negative("bound", bound)?;
                not_negative("eps", eps.unwrap_or(0.0))
            }
            Self::SequenceMask { eps, delta } => {
                not_negative("eps", eps)?;
                not_negative("delta", delta)
            }
            Self::Gspo { low, high } => {
                not_negative("low", low)?;
                not_negative("high", high)
            }
            Self::Cispo { low, high } => around_1(low, high),
            Self::DppoTv {
                low,
                high,
                cap: limit,
            } => {
                not_negative("low", low)?;
                not_negative("high", high)?;
                at_least_1("cap", limit)
            }
            Self::Ipo { distance, square } => {
                not_negative("distance", distance)?;
                not_negative("square", square)
            }
            Self::Drpo { delta } => positive("delta", delta),
            Self::Bapo {
                low,
                high,
                step,
                balance,
            } => {
                around_1(low.0, high.0)?;
                around_1(low.1, high.1)?;
                require(low.0 <= low.1, "low", low.1, "at least the first value")?;
                require(high.0 <= high.1, "high", high.1, "at least the first value")?;
                // A smaller step would take more than a thousand rounds from 0 to 1.
                require(step >= 1e-3, "step", step, "at least 0.001")?;
                positive("balance", balance)
            }
            Self::Sapo {
                positive: of_good,
                negative: of_bad,
            } => {
                positive("positive", of_good)?;
                positive("negative", of_bad)
            }
            Self::Vespo {
                positive: of_good,
                negative: of_bad,
            } => {
                for (power, decay) in [of_good, of_bad] {
                    not_negative("power", power)?;
                    not_negative("decay", decay)?;
                }
                Ok(())
            }
            Self::Vcpo { cap: limit, base } => {
                positive("cap", limit)?;
                share_above_0("base", base)
            }
            Self::M2poRestoring {
                tau,
                low,
                high,
                base,
            } => {
                check_tau(tau)?;
                around_1(low, high)?;
                base.map_or(Ok(()), |base| share_above_0("base", base))
            }
            Self::Oapl { beta } => positive("beta", beta),
            Self::Dro { beta } => not_negative("beta", beta),
            Self::PrefixTis { cap: limit } => positive("cap", limit),
            Self::Topr | Self::Reinforce | Self::None => Ok(()),
        }
    }
}

pub(crate) fn check_tau(tau: f64) -> Checked {
    let ok = tau == 0.0 || (1e-200..=1e200).contains(&tau);
    require(ok, "tau", tau, "0, or between 1e-200 and 1e200")
}

pub(crate) fn not_negative(name: &'static str, value: f64) -> Checked {
    let ok = value.is_finite() && value >= 0.0;
    require(ok, name, value, "finite and at least 0")
}

pub(crate) fn positive(name: &'static str, value: f64) -> Checked {
    let ok = value.is_finite() && value > 0.0;
    require(ok, name, value, "finite and above 0")
}

fn at_least_1(name: &'static str, value: f64) -> Checked {
    let ok = value.is_finite() && value >= 1.0;
    require(ok, name, value, "finite and at least 1")
}

fn share_above_0(name: &'static str, value: f64) -> Checked {
    let ok = value > 0.0 && value <= 1.0;
    require(ok, name, value, "above 0, at most 1")
}

/// Checks bounds on a ratio: a fresh token, whose ratio is 1, must be within.
fn around_1(low: f64, high: f64) -> Checked {
    require((0.0..=1.0).contains(&low), "low", low, "from 0 to 1")?;
    at_least_1("high", high)
}

fn dual(dual_clip: Option<f64>) -> Checked {
    // At 1 and below, the bound would stop fresh tokens.
    dual_clip.map_or(Ok(()), |dual| {
        let ok = dual > 1.0 && dual.is_finite();
        require(ok, "dual_clip", dual, "finite and above 1")
    })
}

fn cap(name: &'static str, cap: Option<f64>) -> Checked {
    cap.map_or(Ok(()), |cap| require(cap > 0.0, name, cap, "above 0"))
}

pub(crate) fn require(ok: bool, name: &'static str, value: f64, range: &'static str) -> Checked {
    if ok {
        Ok(())
    } else {
        Err(Error::Setting { name, value, range })
    }
}
