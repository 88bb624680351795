//! KL penalty to a reference and to the previous policy (ReMix's KL-Convex, arXiv 2507.06892).

use crate::{accumulate::Weighed, error::Error, exact::Sum, real::Real, tokens::Tokens};

/// Penalty `beta (lambda KL(pi_theta || pi_ref) + (1 - lambda) KL(pi_theta || pi_prev))`, which adds
/// to the loss and to the weight of every valid token.
///
/// Each KL is the mean over the valid tokens of the estimate `k3 = exp(q) - q - 1`, with
/// `q = log pi_ref - log pi_theta`, whose derivative by `log pi_theta` is `1 - exp(q)`. The estimate
/// is never negative. `|q|` is clamped as log-ratios are, and the derivative is that of the clamped
/// value as if it were not constant.
#[derive(Debug, Clone, Copy)]
pub struct KlPenalty<'a, F = f32> {
    /// `log pi_ref(a_i|s_i)` under the reference policy, in nats.
    pub reference: &'a [F],
    /// `log pi_prev(a_i|s_i)` under the policy one update before, in nats; needed unless `lambda`
    /// is 1.
    pub previous: Option<&'a [F]>,
    /// Coefficient of the penalty; 0.001 in verl.
    pub beta: f64,
    /// Share of the penalty that is to the reference, from 0 to 1.
    pub lambda: f64,
    /// True if the estimate of every token is multiplied by `sg(pi_theta / pi_behav)`, which makes
    /// it unbiased on tokens that another policy sampled (DeepSeek-V3.2).
    pub importance: bool,
}

/// Means over the valid tokens that a [`KlPenalty`] found, in nats.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct KlStats {
    /// Estimate of `KL(pi_theta || pi_ref)`.
    pub reference: f64,
    /// Estimate of `KL(pi_theta || pi_prev)`; absent without the previous policy.
    pub previous: Option<f64>,
    /// Penalty that was added to the loss.
    pub penalty: f64,
}

impl<F: Real> KlPenalty<'_, F> {
    /// Adds the penalty to a weighed batch: to its loss and, times `1 / n_valid`, to its weights.
    /// Tokens that the rule masked are pulled back as well.
    ///
    /// # Errors
    /// Returns an error for slices of different lengths, `beta` or `lambda` out of range, a missing
    /// previous policy, and NaN or infinity on a valid token. The batch is then unchanged.
    pub fn add(&self, tokens: &Tokens<'_, F>, weighed: &mut Weighed<F>) -> Result<KlStats, Error> {
        self.check(tokens, weighed)?;
        let valid = || (0..tokens.valid.len()).filter(|&index| tokens.valid[index]);
        let n_valid = valid().count() as f64;
        if n_valid == 0.0 {
            return Ok(KlStats::default());
        }
        let mut sums = [Sum::default(); 2];
        let shares = [self.lambda, 1.0 - self.lambda];
        for index in valid() {
            let factor = if self.importance {
                tokens.clamped_exp(tokens.log_ratio(index))
            } else {
                1.0
            };
            let mut slope = 0.0;
            let to = [Some(self.reference), self.previous];
            for ((policy, share), sum) in to.into_iter().zip(shares).zip(&mut sums) {
                let Some(policy) = policy else { continue };
                let gap = policy[index].into() - tokens.new[index].into();
                let gap = gap.clamp(-tokens.clamp, tokens.clamp);
                // exp(q) - 1 loses its digits for the small q of two near policies.
                let minus_one = gap.exp_m1();
                sum.add(factor * (minus_one - gap));
                slope += share * factor * -minus_one;
            }
            let before: f64 = weighed.weight[index].into();
            weighed.weight[index] = F::narrow(before + self.beta * slope / n_valid);
        }
        let [reference, previous] = sums.map(|sum| sum.value() / n_valid);
        let convex = shares[0] * reference + shares[1] * previous;
        let penalty = self.beta * convex;
        weighed.loss += penalty;
        Ok(KlStats {
            reference,
            previous: self.previous.map(|_| previous),
            penalty,
        })
    }

    fn check(&self, tokens: &Tokens<'_, F>, weighed: &Weighed<F>) -> Result<(), Error> {
        let setting = |ok, name, value, range| {
            if ok {
                Ok(())
            } else {
                Err(Error::Setting { name, value, range })
            }
        };
        let ok = self.beta.is_finite() && self.beta >= 0.0;
        setting(ok, "beta", self.beta, "finite and at least 0")?;
        let ok = (0.0..=1.0).contains(&self.lambda);
        setting(ok, "lambda", self.lambda, "from 0 to 1")?;
        if self.previous.is_none() && self.lambda < 1.0 {
            let lambda = self.lambda;
            return Err(Error::NoPrevious { lambda });
        }
        tokens.check_lengths()?;
        tokens.check_clamp()?;
        tokens.check_finite(0..tokens.valid.len())?;
        let expected = tokens.valid.len();
        let lengths = [
            ("weight", weighed.weight.len()),
            ("reference", self.reference.len()),
            ("previous", self.previous.map_or(expected, <[F]>::len)),
        ];
        for (field, got) in lengths {
            if got != expected {
                return Err(Error::Length {
                    field,
                    got,
                    expected,
                });
            }
        }
        let slices = [
            ("reference", Some(self.reference)),
            ("previous", self.previous),
        ];
        for (field, slice) in slices {
            let values = slice.unwrap_or(&[]).iter().enumerate();
            for (index, value) in values.filter(|(index, _)| tokens.valid[*index]) {
                if !value.finite() {
                    return Err(Error::NonFinite {
                        field,
                        index,
                        value: (*value).into(),
                    });
                }
            }
        }
        Ok(())
    }
}
