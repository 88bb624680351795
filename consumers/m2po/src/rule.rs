/// Rule that decides which tokens of a batch may move the policy, and the surrogate loss they get.
///
/// `r = exp(new - behavior)` throughout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Algorithm 1 of the paper: of the trust-region tokens `T`, those with the largest `(log r)^2`
    /// are masked until the mean of the rest is at most `tau`. The loss is
    /// `-(1/N_valid) sum M r A`.
    M2poPaper {
        /// Threshold `tau_M2` on the mean of `(log r)^2` over `T` (setting `m2po.threshold`); 0.04 in
        /// every run of the paper.
        tau: f64,
    },
    /// AReaL's variant of M2PO. The budget applies to every valid token and to the difference
    /// between proximal and behaviour log-prob. The mean of the kept tokens is strictly below
    /// `tau`, except that one token is always kept. The loss is PPO's, clipped around the proximal
    /// policy and divided by the number of kept tokens.
    M2poAreal {
        /// Threshold on the second moment (setting `m2po.threshold`), `m2_threshold` in AReaL.
        tau: f64,
        /// Half-width of PPO's clip around the proximal policy, `eps_clip` in AReaL, whose M2PO
        /// example sets it to 0.
        eps: f64,
        /// Upper limit of the weight `pi_prox / pi_behav`. `Some(cap)` multiplies each loss term by
        /// the weight and rejects tokens with a weight above `cap` (5 in AReaL's example). `None`
        /// disables the weight.
        behavior_cap: Option<f64>,
    },
    /// Rule of the authors' released code: it finds one cap for which the mean of the capped
    /// `(log r)^2` over `T` is at most `tau`, and clips the ratio there as PPO does. The clipped
    /// tokens are the masked ones.
    M2poFork {
        /// Threshold on the capped second moment (setting `m2po.threshold`), `KL2_budget` in the
        /// released code.
        tau: f64,
    },
    /// Control arm: PPO's clip as in GRPO, `-min(r A, clip(r, 1 - eps, 1 + eps) A)`, mean over all
    /// valid tokens.
    GrpoClip {
        /// Half-width of the clip on both sides of 1; 0.2 in the paper.
        eps: f64,
    },
    /// ReMix's Mix-PPG (arXiv 2507.06892): `-min(r A, clip(r, max(0, c - eps), c + eps) A)` with
    /// `c = pi_prox / pi_behav`, mean over all valid tokens. The clip is around the policy of the
    /// batch's beginning and stays additive in `r`, so it is tighter than PPO's on tokens with
    /// `c > 1` and looser on tokens with `c < 1`.
    MixPpg {
        /// Half-width of the clip on both sides of `c`; 0.2 in verl.
        eps: f64,
        /// Bound `-dual_clip A` on the loss of a token with `A < 0`; 3 in verl. `None` disables it.
        dual_clip: Option<f64>,
    },
    /// Decoupled PPO (arXiv 2110.00641, AReaL): `-w min(u A, clip(u, 1 - eps, 1 + eps) A)` with
    /// `u = pi_theta / pi_prox` and the constant `w = pi_prox / pi_behav`, mean over all valid
    /// tokens. Where `w = 1` it is Mix-PPG.
    DecoupledPpo {
        /// Half-width of the clip around the proximal policy; 0.2 in verl.
        eps: f64,
        /// Bound `-dual_clip w A` on the loss of a token with `A < 0`. `None` disables it.
        dual_clip: Option<f64>,
        /// Upper limit of `w`, above which a token is masked; 5 in AReaL. `None` disables it.
        cap: Option<f64>,
    },
    /// Control arm without a trust region: `-r A`, mean over all valid tokens.
    None,
}

impl Rule {
    /// Rule of the paper with its threshold `tau_M2 = 0.04`.
    pub const PAPER: Self = Self::M2poPaper { tau: 0.04 };
}
