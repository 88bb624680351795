//! Rules of `vintage_losses` on a device. Per-token values leave it only to explain a refusal, and for
//! rules without tensor operations here: those are weighed on the host.

use candle_core::{DType, Device, Result as Candle, Tensor};
use vintage_losses::{Rule, Stats, Tokens, Weighed};

use crate::mask::{Budget, MOST_TOKENS, keep};
use crate::tokens::{DeviceTokens, Known, ones};

/// A weighed batch.
#[derive(Debug)]
pub struct DeviceWeighed {
    /// dloss/dnew, f32 `[n]`, 0 where the token gets no gradient.
    pub weight: Tensor,
    /// 1 where the token is valid and the rule left it in, f64 `[n]`.
    pub mask: Tensor,
    /// The loss to minimise.
    pub loss: f64,
    /// Statistics of what the rule did to the batch.
    pub stats: Stats,
}

/// Reason for which a batch cannot be weighed.
#[derive(Debug)]
pub enum Problem {
    /// The rule refused the batch or its settings; the error names the token or the setting.
    Refused(vintage_losses::Error),
    /// The device failed, or it does not take so many tokens.
    Device(candle_core::Error),
}

impl From<candle_core::Error> for Problem {
    fn from(error: candle_core::Error) -> Self {
        Self::Device(error)
    }
}

/// Per-token results of a rule; every tensor is f64 `[n]`.
struct Terms {
    /// 1 at every token that the rule kept, else 0.
    mask: Tensor,
    /// Contribution of each token to the loss, before division by the denominator.
    loss: Tensor,
    /// Derivative of each contribution by the token's new log-prob.
    slope: Tensor,
    /// 1 at every token that is kept but gets no gradient, else 0.
    clipped: Tensor,
    denominator: f64,
}

/// Weighs one optimizer batch as `vintage_losses::weigh` does, from new log-probs f32 `[n]`.
/// A proximal policy is the new one.
///
/// M2PO as in the paper and in AReaL, GRPO's clip and the control arm are computed on the device.
/// For every other rule, and for M2PO with several scopes, the log-probs are copied to the host and the weights back, 4 bytes a token
/// each way.
///
/// # Errors
/// What the rule refuses, more tokens than the device's sums are exact for, and a device that
/// fails.
pub fn weigh(
    rule: &Rule,
    clamp: f64,
    new: &Tensor,
    known: &Known<'_>,
) -> Result<DeviceWeighed, Problem> {
    let is_here = matches!(
        rule,
        Rule::M2poPaper { .. } | Rule::M2poAreal { .. } | Rule::GrpoClip { .. } | Rule::None
    );
    if is_here && known.scope.is_none() {
        by_device(rule, clamp, new, known)
    } else {
        by_host(rule, clamp, new, known)
    }
}

fn by_device(
    rule: &Rule,
    clamp: f64,
    new: &Tensor,
    known: &Known<'_>,
) -> Result<DeviceWeighed, Problem> {
    // This call on an empty batch refuses settings that are out of range.
    let nothing: Tokens<'_, f32> = Tokens {
        clamp,
        ..Tokens::new(&[], &[], &[], &[])
    };
    vintage_losses::weigh(rule, &nothing).map_err(Problem::Refused)?;
    let n = known.valid.len();
    if n > MOST_TOKENS {
        return Err(Problem::Device(candle_core::Error::Msg(format!(
            "weighing {n} tokens by {rule:?}: a device takes up to {MOST_TOKENS} tokens; train on \
             the CPU with learner.device = \"cpu\""
        ))));
    }
    if !known.is_finite() {
        return Err(refusal(rule, clamp, new, known));
    }
    if !known.valid.contains(&true) {
        return Ok(DeviceWeighed {
            weight: new.zeros_like()?,
            mask: new.to_dtype(DType::F64)?.zeros_like()?,
            loss: 0.0,
            stats: Stats {
                ratio_bounds: bounds(rule),
                ..Stats::default()
            },
        });
    }
    let tokens = DeviceTokens::new(new, known)?;
    if tokens.not_finite.to_scalar::<f64>()? > 0.0 {
        return Err(refusal(rule, clamp, new, known));
    }
    let terms = Terms::new(rule, clamp, &tokens)?;
    let weight = (&terms.slope / terms.denominator)?.to_dtype(DType::F32)?;
    let (loss, mut stats) = terms.tally(&tokens, clamp)?;
    if let Rule::M2poAreal { .. } = rule {
        // AReaL's rule bounds prox against behaviour over all valid tokens, and prox is new here.
        stats.m2_rule_before = stats.m2_all_before;
        stats.m2_rule_after = stats.m2_all_after;
    }
    stats.ratio_bounds = bounds(rule);
    Ok(DeviceWeighed {
        weight,
        mask: terms.mask,
        loss,
        stats,
    })
}

/// Returns the bounds on r of a clipping rule.
fn bounds(rule: &Rule) -> Option<(f64, f64)> {
    match *rule {
        Rule::M2poAreal { eps, .. } | Rule::GrpoClip { eps } => Some((1.0 - eps, 1.0 + eps)),
        _ => None,
    }
}

/// Weighs a batch by the host's implementation: log-probs down, weights up.
fn by_host(
    rule: &Rule,
    clamp: f64,
    new: &Tensor,
    known: &Known<'_>,
) -> Result<DeviceWeighed, Problem> {
    let log_probs = new.to_vec1::<f32>()?;
    let tokens = Tokens {
        row_ends: known.row_ends,
        scope: known.scope,
        clamp,
        ..Tokens::new(&log_probs, known.behavior, known.advantage, known.valid)
    };
    let weighed = vintage_losses::weigh(rule, &tokens).map_err(Problem::Refused)?;
    Ok(on_device(weighed, new.device())?)
}

/// Copies the weights of a batch that the host weighed to `device`.
pub(crate) fn on_device(weighed: Weighed, device: &Device) -> Candle<DeviceWeighed> {
    let n = weighed.weight.len();
    let mask: Vec<f64> = weighed.mask.iter().map(|&kept| f64::from(kept)).collect();
    Ok(DeviceWeighed {
        weight: Tensor::from_vec(weighed.weight, n, device)?,
        mask: Tensor::from_vec(mask, n, device)?,
        loss: weighed.loss,
        stats: weighed.stats,
    })
}

/// Returns the error of the host's implementation for a batch with values that are not finite. Only
/// for that purpose are tokens read back.
fn refusal(rule: &Rule, clamp: f64, new: &Tensor, known: &Known<'_>) -> Problem {
    match by_host(rule, clamp, new, known) {
        Err(problem) => problem,
        Ok(_) => Problem::Device(candle_core::Error::Msg(
            "weighing a batch: the device found a log-prob that is not finite, and the host did \
             not: the GPU's memory may be failing"
                .to_owned(),
        )),
    }
}

impl Terms {
    fn new(rule: &Rule, clamp: f64, tokens: &DeviceTokens) -> Candle<Self> {
        let DeviceTokens {
            log_ratio,
            advantage,
            valid,
            trust,
            ..
        } = tokens;
        let ratio = log_ratio.clamp(-clamp, clamp)?.exp()?;
        // −r·A, which is 0 at invalid tokens, because their advantage is 0.
        let open = (&ratio * advantage)?.neg()?;
        let all = tokens.n_valid as f64;
        let none = valid.zeros_like()?;
        let squares = log_ratio.sqr()?;
        Ok(match *rule {
            Rule::M2poPaper { tau } => {
                let kept = keep(&squares, trust, tau, Budget::AtMost)?.mask;
                let mask = ((valid - trust)? + kept)?;
                let loss = (open * &mask)?;
                Self {
                    mask,
                    slope: loss.clone(),
                    loss,
                    clipped: none,
                    denominator: all,
                }
            }
            Rule::M2poAreal {
                tau, behavior_cap, ..
            } => {
                let mask = keep(&squares, valid, tau, Budget::Below)?.mask;
                // The ratio to the proximal policy is 1, within any bounds; `ratio` is prox to
                // behaviour.
                let rejected = match behavior_cap {
                    Some(cap) => (&mask * ones(&ratio.gt(cap)?)?)?,
                    None => none.clone(),
                };
                let taken = (&mask - &rejected)?;
                let weighed = match behavior_cap {
                    Some(_) => open,
                    None => advantage.neg()?,
                };
                let loss = (weighed * taken)?;
                let kept = mask.sum_all()?.to_scalar::<f64>()?;
                Self {
                    mask,
                    slope: loss.clone(),
                    loss,
                    clipped: rejected,
                    denominator: kept.max(1.0),
                }
            }
            Rule::GrpoClip { eps } => {
                let bounded = (ratio.clamp(1.0 - eps, 1.0 + eps)? * advantage)?.neg()?;
                let is_clipped = bounded.gt(&open)?;
                let mask = (valid - ones(&is_clipped)?)?;
                Self {
                    loss: is_clipped.where_cond(&bounded, &open)?,
                    slope: (open * &mask)?,
                    mask,
                    clipped: none,
                    denominator: all,
                }
            }
            // Other rules are weighed on the host.
            _ => Self {
                mask: valid.clone(),
                loss: open.clone(),
                slope: open,
                clipped: none,
                denominator: all,
            },
        })
    }

    /// Computes loss and statistics; one vector of twelve numbers leaves the device.
    fn tally(&self, tokens: &DeviceTokens, clamp: f64) -> Candle<(f64, Stats)> {
        let l = &tokens.log_ratio;
        let squares = l.sqr()?;
        let trust_kept = (&tokens.trust * &self.mask)?;
        let sum = |x: &Tensor| x.sum_all();
        let over = |x: &Tensor| sum(&(&squares * x)?);
        let numbers = [
            sum(&self.loss)?,
            sum(&self.mask)?,
            sum(&tokens.trust)?,
            sum(&trust_kept)?,
            sum(&self.clipped)?,
            sum(&ones(&l.abs()?.gt(clamp)?)?)?,
            over(&tokens.valid)?,
            over(&self.mask)?,
            over(&tokens.trust)?,
            over(&trust_kept)?,
            sum(l)?,
            (l.abs()? * &self.mask)?.max_all()?,
        ];
        let numbers = Tensor::stack(&numbers, 0)?.to_vec1::<f64>()?;
        let [
            loss,
            kept,
            trust,
            trust_kept,
            clipped,
            clamped,
            m2_all,
            m2_kept,
            m2_trust,
            m2_trust_kept,
            drift,
            largest,
        ] = numbers[..]
        else {
            return Err(candle_core::Error::Msg("twelve numbers".to_owned()));
        };
        let valid = tokens.n_valid as f64;
        let mean = |sum: f64, count: f64| if count == 0.0 { 0.0 } else { sum / count };
        let (before, after) = (mean(m2_trust, trust), mean(m2_trust_kept, trust_kept));
        let stats = Stats {
            n_valid: tokens.n_valid as u64,
            n_trust: trust as u64,
            n_masked: (valid - kept) as u64,
            n_clipped: clipped as u64,
            clip_frac: mean(valid - kept, valid),
            m2_trust_before: before,
            m2_trust_after: after,
            m2_all_before: mean(m2_all, valid),
            m2_all_after: mean(m2_kept, kept),
            m2_rule_before: before,
            m2_rule_after: after,
            // 0 − x, so that a batch without drift reports 0 rather than −0.
            kl_k1: 0.0 - mean(drift, valid),
            max_kept_log_ratio: largest,
            n_clamped: clamped as u64,
            ratio_bounds: None,
            step_scale: None,
        };
        Ok((mean(loss, self.denominator), stats))
    }
}
