//! Formulas of the rules as their sources print them, token by token, without a thought for speed.
//!
//! What a formula holds constant is taken from the batch; only `new` moves.

use vintage_losses::{Level, Rule};

use super::batch::Batch;

/// Values of one token and of its row, at the moving log-probs and at the fixed ones.
struct At {
    /// Log-prob and ratios at the moving log-probs.
    log_prob: f64,
    r: f64,
    u: f64,
    /// Ratios at the fixed log-probs.
    fixed_r: f64,
    w: f64,
    mu: f64,
    a: f64,
}

struct Row {
    len: f64,
    /// Sum of log r at the moving log-probs.
    log: f64,
    fixed_log: f64,
    log_w: f64,
    mean_k3: f64,
    mean_a: f64,
}

fn clip(x: f64, low: f64, high: f64) -> f64 {
    x.max(low).min(high)
}

fn ppo(x: f64, a: f64, low: f64, high: f64, dual: Option<f64>) -> f64 {
    let loss = -(x * a).min(clip(x, low, high) * a);
    match dual {
        Some(dual) if a < 0.0 => loss.min(-dual * a),
        _ => loss,
    }
}

/// PPO's clip around the proximal policy; without a width there is none.
fn around_prox(at: &At, eps: Option<f64>, dual: Option<f64>) -> f64 {
    match eps {
        Some(eps) => ppo(at.u, at.a, 1.0 - eps, 1.0 + eps, dual),
        None => -at.u * at.a,
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Returns the loss of a batch at the log-probs `new`.
pub(crate) fn loss(rule: &Rule, batch: &Batch, prox: Option<&[f64]>, new: &[f64]) -> f64 {
    let fixed = &batch.new;
    let prox = prox.unwrap_or(fixed);
    let n_valid = batch.valid.iter().filter(|&&valid| valid).count() as f64;
    let rows: Vec<_> = batch.rows().filter(|row| !row.is_empty()).collect();
    if rows.is_empty() {
        return 0.0;
    }
    let bounds = bapo_bounds(rule, batch);
    let mut total = 0.0;
    for tokens in &rows {
        let sum = |of: &dyn Fn(usize) -> f64| tokens.iter().map(|&i| of(i)).sum::<f64>();
        let len = tokens.len() as f64;
        let row = Row {
            len,
            log: sum(&|i| new[i] - batch.behavior[i]),
            fixed_log: sum(&|i| fixed[i] - batch.behavior[i]),
            log_w: sum(&|i| prox[i] - batch.behavior[i]),
            mean_k3: sum(&|i| {
                let log = prox[i] - batch.behavior[i];
                log.exp() - 1.0 - log
            }) / len,
            mean_a: sum(&|i| batch.advantage[i]) / len,
        };
        let mut prefix = 0.0;
        for &i in tokens {
            prefix += fixed[i] - batch.behavior[i];
            let at = At {
                log_prob: new[i],
                r: (new[i] - batch.behavior[i]).exp(),
                u: (new[i] - prox[i]).exp(),
                fixed_r: (fixed[i] - batch.behavior[i]).exp(),
                w: (prox[i] - batch.behavior[i]).exp(),
                mu: batch.behavior[i].exp(),
                a: batch.advantage[i],
            };
            let term = term(rule, &at, &row, prefix.exp(), bounds);
            total += match rule {
                Rule::Gspo { .. } | Rule::Oapl { .. } => term / len / rows.len() as f64,
                _ => term / n_valid,
            };
        }
    }
    total
}

fn term(rule: &Rule, at: &At, row: &Row, prefix: f64, bapo: (f64, f64)) -> f64 {
    let At { r, a, w, .. } = *at;
    let reinforce = -a * at.log_prob;
    let only = |kept: bool, term: f64| if kept { term } else { 0.0 };
    let weight = |level| match level {
        Level::Token => w,
        Level::Sequence => row.log_w.exp(),
    };
    match *rule {
        Rule::GrpoClip { eps } => ppo(r, a, 1.0 - eps, 1.0 + eps, None),
        Rule::Clip {
            low,
            high,
            dual_clip,
        } => ppo(r, a, 1.0 - low, 1.0 + high, dual_clip),
        Rule::MixPpg { eps, dual_clip } => ppo(r, a, (w - eps).max(0.0), w + eps, dual_clip),
        Rule::DecoupledPpo {
            eps,
            dual_clip,
            cap,
        } => only(
            cap.is_none_or(|cap| w <= cap),
            w * around_prox(at, Some(eps), dual_clip),
        ),
        Rule::Tis { level, cap, eps } => weight(level).min(cap) * around_prox(at, eps, None),
        Rule::Mis {
            level,
            low,
            high,
            eps,
        } => {
            let weight = weight(level);
            only(
                weight >= low && weight <= high,
                weight * around_prox(at, eps, None),
            )
        }
        Rule::GeometricRejection { low, high, eps } => {
            let mean = (row.log_w / row.len).exp();
            only(mean >= low && mean <= high, around_prox(at, eps, None))
        }
        Rule::K3Rejection { bound, eps } => only(row.mean_k3 <= bound, around_prox(at, eps, None)),
        Rule::SequenceMask { eps, delta } => only(
            !(a < 0.0 && -row.fixed_log / row.len > delta),
            ppo(r, a, 1.0 - eps, 1.0 + eps, None),
        ),
        // The token's form, s_t = sg(s) pi / sg(pi): the gradient through s would share the
        // advantages of a row among its tokens.
        Rule::Gspo { low, high } => {
            let fixed = (row.fixed_log / row.len).exp();
            ppo(fixed * r / at.fixed_r, a, 1.0 - low, 1.0 + high, None)
        }
        // The menu's has a budget that masks nothing.
        Rule::M2poRestoring { low, high, .. } => {
            let moves_away = a * (at.fixed_r - 1.0) > 0.0;
            if moves_away {
                -r * a
            } else {
                clip(at.fixed_r, low, high) * -at.r / at.fixed_r * a
            }
        }
        Rule::Cispo { low, high } => clip(at.fixed_r, low, high) * reinforce,
        Rule::DppoTv { low, high, cap } => {
            let gained = at.mu * at.fixed_r - at.mu;
            let is_far = (a > 0.0 && gained > high) || (a < 0.0 && gained < -low);
            only(!is_far, at.fixed_r.min(cap) * reinforce)
        }
        Rule::Ipo { distance, square } => {
            let moved = (at.mu * at.fixed_r - at.mu).abs();
            only(moved <= distance, -r * a) + square * r.ln().powi(2)
        }
        Rule::Drpo { delta } => -a * r + a.abs() * at.mu * (r - 1.0).powi(2) / (2.0 * delta),
        Rule::Topr if a >= 0.0 => reinforce,
        Rule::Topr => row.fixed_log.exp().min(1.0) * reinforce,
        Rule::Reinforce => reinforce,
        Rule::Bapo { .. } => ppo(r, a, bapo.0, bapo.1, None),
        Rule::Sapo { positive, negative } => {
            let t = if a > 0.0 { positive } else { negative };
            -4.0 / t * sigmoid(t * (r - 1.0)) * a
        }
        Rule::Vespo { positive, negative } => {
            let (k, lambda) = if a < 0.0 { negative } else { positive };
            let product = row.fixed_log.exp();
            product.powf(k) * (lambda * (1.0 - product)).exp() * reinforce
        }
        Rule::Vcpo { cap, .. } => row.log_w.exp().min(cap) * -at.u * a,
        Rule::Oapl { beta } => (beta * row.log - row.mean_a).powi(2),
        Rule::Dro { beta } => reinforce + 0.5 * beta * r.ln().powi(2),
        Rule::PrefixTis { cap } => prefix.min(cap) * reinforce,
        Rule::None => -r * a,
        Rule::M2poPaper { .. } | Rule::M2poAreal { .. } | Rule::M2poFork { .. } => {
            unreachable!("M2PO has tests of its own")
        }
    }
}

/// Returns the bounds that BAPO takes for a batch, by walking up from the first ones.
fn bapo_bounds(rule: &Rule, batch: &Batch) -> (f64, f64) {
    let Rule::Bapo {
        low,
        high,
        step,
        balance,
    } = *rule
    else {
        return (0.0, 0.0);
    };
    let valid = || (0..batch.new.len()).filter(|&i| batch.valid[i]);
    let r = |i: usize| (batch.new[i] - batch.behavior[i]).exp();
    let quotient_is_reached = |low: f64, high: f64| {
        let good = valid().filter(|&i| batch.advantage[i] >= 0.0);
        let bad = valid().filter(|&i| batch.advantage[i] < 0.0);
        let good: f64 = good.map(|i| r(i).min(high) * batch.advantage[i]).sum();
        let bad: f64 = bad.map(|i| r(i).max(low) * -batch.advantage[i]).sum();
        good >= balance * bad
    };
    let mut at = (low.0, high.0);
    while !quotient_is_reached(at.0, at.1) && at != (low.1, high.1) {
        if at.0 < low.1 {
            at.0 = (at.0 + step).min(low.1);
        } else {
            at.1 = (at.1 + step).min(high.1);
        }
    }
    at
}
