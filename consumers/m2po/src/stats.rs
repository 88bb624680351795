use crate::exact::Sum;

/// What a rule did to a batch. Means over no token are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stats {
    /// Valid tokens, the `sum |o_i|` of Eq. 5.
    pub n_valid: u64,
    /// Tokens of `T`.
    pub n_trust: u64,
    /// Valid tokens the rule took out: masked, or for the clipping rules clipped.
    pub n_masked: u64,
    /// Tokens that stay in the mask but get no gradient (`M2poAreal`'s clip and rejection).
    pub n_clipped: u64,
    /// `n_masked / n_valid` (`fork`: its own `/ (n_valid + 1e-8)`).
    pub clip_frac: f64,
    /// Mean of `(log r)^2` over `T` (M2, Eq. 4).
    pub m2_trust_before: f64,
    /// The same over the part of `T` that was kept.
    pub m2_trust_after: f64,
    /// Mean of `(log r)^2` over all valid tokens.
    pub m2_all_before: f64,
    /// The same over those kept.
    pub m2_all_after: f64,
    /// The second moment the rule itself bounds: over `T`; for `M2poAreal` of prox against
    /// behaviour over all valid tokens.
    pub m2_rule_before: f64,
    /// The same after the rule acted; for `M2poFork` over `T` with the capped values.
    pub m2_rule_after: f64,
    /// Mean of behaviour minus new over all valid tokens, nats (the k1 estimate of KL).
    pub kl_k1: f64,
    /// Largest `|log r|` among the tokens kept, not clamped, nats.
    pub max_kept_log_ratio: f64,
    /// Valid tokens with `|log r|` above the clamp.
    pub n_clamped: u64,
    /// Bounds on `r` of a clipping rule.
    pub ratio_bounds: Option<(f64, f64)>,
}

/// Running sums behind [`Stats`].
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

/// One valid token as the tally sees it.
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
        // Selections, not branches: the sign of an advantage cannot be predicted.
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
            // 0 - x, not -x: a batch with no drift reports 0 rather than -0.
            kl_k1: 0.0 - mean(self.log_ratio, self.valid),
            max_kept_log_ratio: self.max_kept,
            n_clamped: self.clamped,
            ratio_bounds: None,
        }
    }
}
