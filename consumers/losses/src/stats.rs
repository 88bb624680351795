use crate::exact::Sum;

/// Statistics of what a rule did to a batch. Means over no tokens are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stats {
    /// Number of valid tokens, the `sum |o_i|` of Eq. 5.
    pub n_valid: u64,
    /// Number of tokens in `T`, the valid tokens in the trust region.
    pub n_trust: u64,
    /// Number of valid tokens that the rule removed: masked or, under a clipping rule, clipped.
    pub n_masked: u64,
    /// Number of tokens that are in the mask but get no gradient (clip and rejection of
    /// `M2poAreal`).
    pub n_clipped: u64,
    /// Fraction of valid tokens removed, `n_masked / n_valid` (`M2poFork`:
    /// `n_masked / (n_valid + 1e-8)`).
    pub clip_frac: f64,
    /// Mean of `(log r)^2` over `T` before the rule acted (M2, Eq. 4).
    pub m2_trust_before: f64,
    /// Mean of `(log r)^2` over the kept tokens of `T`.
    pub m2_trust_after: f64,
    /// Mean of `(log r)^2` over all valid tokens.
    pub m2_all_before: f64,
    /// Mean of `(log r)^2` over the kept tokens.
    pub m2_all_after: f64,
    /// Second moment that the rule bounds, before it acted: of `log r` over `T`, or for `M2poAreal`
    /// of proximal against behaviour log-prob over all valid tokens.
    pub m2_rule_before: f64,
    /// Second moment that the rule bounds, after it acted: over the kept tokens, or for `M2poFork`
    /// over `T` with the capped values.
    pub m2_rule_after: f64,
    /// Mean of behaviour minus new log-prob over all valid tokens, in nats (the k1 estimate of KL).
    pub kl_k1: f64,
    /// Largest `|log r|` among the kept tokens, in nats, before the clamp.
    pub max_kept_log_ratio: f64,
    /// Number of valid tokens with `|log r|` above the clamp.
    pub n_clamped: u64,
    /// Lower and upper bound on `r` of a clipping rule; absent for the other rules.
    pub ratio_bounds: Option<(f64, f64)>,
    /// Factor, 0 to 1, by which the rule wants the optimizer's step to be shorter; absent for rules
    /// that leave the step alone.
    pub step_scale: Option<f64>,
}

/// Running sums from which [`Stats`] is computed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    valid: u64,
    kept: u64,
    trust: u64,
    trust_kept: u64,
    clipped: u64,
    clamped: u64,
    m2_all: Sum,
    m2_kept: Sum,
    m2_trust: Sum,
    m2_trust_kept: Sum,
    log_ratio: Sum,
    max_kept: f64,
}

/// Properties of one valid token that the tally counts.
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent facts, each counted"
)]
pub(crate) struct Seen {
    pub(crate) log_ratio: f64,
    pub(crate) trust: bool,
    pub(crate) kept: bool,
    pub(crate) clipped: bool,
    pub(crate) clamped: bool,
}

impl Tally {
    #[inline]
    pub(crate) fn add(&mut self, seen: &Seen) {
        let square = seen.log_ratio * seen.log_ratio;
        // Selections instead of branches, because the sign of an advantage cannot be predicted.
        let only = |chosen: bool| if chosen { square } else { 0.0 };
        let trust_kept = seen.trust & seen.kept;
        self.valid += 1;
        self.kept += u64::from(seen.kept);
        self.trust += u64::from(seen.trust);
        self.trust_kept += u64::from(trust_kept);
        self.clipped += u64::from(seen.clipped);
        self.clamped += u64::from(seen.clamped);
        self.log_ratio.add(seen.log_ratio);
        self.m2_all.add(square);
        self.m2_kept.add(only(seen.kept));
        self.m2_trust.add(only(seen.trust));
        self.m2_trust_kept.add(only(trust_kept));
        let kept_log_ratio = if seen.kept { seen.log_ratio.abs() } else { 0.0 };
        self.max_kept = self.max_kept.max(kept_log_ratio);
    }

    pub(crate) fn stats(&self) -> Stats {
        let mean = |sum: Sum, count: u64| {
            if count == 0 {
                0.0
            } else {
                sum.value() / count as f64
            }
        };
        let n_masked = self.valid - self.kept;
        let m2_trust_before = mean(self.m2_trust, self.trust);
        let m2_trust_after = mean(self.m2_trust_kept, self.trust_kept);
        Stats {
            n_valid: self.valid,
            n_trust: self.trust,
            n_masked,
            n_clipped: self.clipped,
            clip_frac: if self.valid == 0 {
                0.0
            } else {
                n_masked as f64 / self.valid as f64
            },
            m2_trust_before,
            m2_trust_after,
            m2_all_before: mean(self.m2_all, self.valid),
            m2_all_after: mean(self.m2_kept, self.kept),
            m2_rule_before: m2_trust_before,
            m2_rule_after: m2_trust_after,
            // 0 - x instead of -x, so that a batch without drift reports 0 rather than -0.
            kl_k1: 0.0 - mean(self.log_ratio, self.valid),
            max_kept_log_ratio: self.max_kept,
            n_clamped: self.clamped,
            ratio_bounds: None,
            step_scale: None,
        }
    }
}
