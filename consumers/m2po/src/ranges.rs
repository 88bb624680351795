//! Ranges of the rules' settings.

use crate::{error::Error, rule::Rule};

const TAU_RANGE: &str = "0, or between 1e-200 and 1e200";
const AT_LEAST_0: &str = "finite and at least 0";

impl Rule {
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
                check_cap("behavior_cap", behavior_cap)
            }
            Self::GrpoClip { eps } => check_eps(eps),
            Self::MixPpg { eps, dual_clip } => {
                check_eps(eps)?;
                check_dual(dual_clip)
            }
            Self::DecoupledPpo {
                eps,
                dual_clip,
                cap,
            } => {
                check_eps(eps)?;
                check_dual(dual_clip)?;
                check_cap("cap", cap)
            }
            Self::None => Ok(()),
        }
    }
}

pub(crate) fn check_tau(tau: f64) -> Result<(), Error> {
    let ok = tau == 0.0 || (1e-200..=1e200).contains(&tau);
    require(ok, "tau", tau, TAU_RANGE)
}

fn check_eps(eps: f64) -> Result<(), Error> {
    require(eps.is_finite() && eps >= 0.0, "eps", eps, AT_LEAST_0)
}

fn check_dual(dual_clip: Option<f64>) -> Result<(), Error> {
    // Below 1 the bound would stop tokens whose ratio is 1.
    dual_clip.map_or(Ok(()), |dual| {
        let ok = dual > 1.0 && dual.is_finite();
        require(ok, "dual_clip", dual, "finite and above 1")
    })
}

fn check_cap(name: &'static str, cap: Option<f64>) -> Result<(), Error> {
    cap.map_or(Ok(()), |cap| require(cap > 0.0, name, cap, "above 0"))
}

fn require(ok: bool, name: &'static str, value: f64, range: &'static str) -> Result<(), Error> {
    if ok {
        Ok(())
    } else {
        Err(Error::Setting { name, value, range })
    }
}
