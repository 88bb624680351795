/// Rule that decides which tokens of a batch may move the policy, and the surrogate loss they get.
///
/// Symbols: `r = pi_theta / pi_behav` of a token; `u = pi_theta / pi_prox` and
/// `w = pi_prox / pi_behav`, the latter a constant; `R` and `W` are the products of `r` and `w` over
/// the valid tokens of a row; `mu` and `pi` are the probabilities that behaviour and new policy give
/// the token; `sg` holds its argument constant for the gradient. Sums are divided by the number of
/// valid tokens, masked ones included, where nothing else is said. `clip(x, a, b)` is
/// `min(max(x, a), b)`.
///
/// At `r = u = 1` every rule gives the gradient of REINFORCE, `-A` per token over the number of
/// tokens; [`Rule::Gspo`] gives it per row and [`Rule::Oapl`] per row and times `2 beta`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Algorithm 1 of the paper: of the trust-region tokens `T`, those with the largest `(log r)^2`
    /// are masked until the mean of the rest is at most `tau`. The loss is
    /// `-(1/N_valid) sum M r A`. With [`crate::Tokens::scope`] every scope has the budget for
    /// itself.
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
    /// M2PO whose restoring tokens have a bounded weight: ours. Tokens outside `T` pull the policy back to what
    /// sampled them, and M2PO weighs them by `r`, which is near 0 where a good token was lost (`A > 0`, `r << 1`)
    /// and has no end where a bad one was gained (`A < 0`, `r >> 1`). Here their weight is
    /// `sg(clip(r, low, high))`; tokens in `T` are those of [`Rule::M2poPaper`].
    M2poRestoring {
        /// Threshold `tau_M2` as in [`Rule::M2poPaper`].
        tau: f64,
        /// Lower limit of the weight, at most 1.
        low: f64,
        /// Upper limit of the weight, at least 1.
        high: f64,
        /// Effective share of rows below which the step is shorter, as in [`Rule::Vcpo`]; `None` leaves it alone.
        base: Option<f64>,
    },
    /// Control arm: PPO's clip as in GRPO, `-min(r A, clip(r, 1 - eps, 1 + eps) A)`, mean over all
    /// valid tokens.
    GrpoClip {
        /// Half-width of the clip on both sides of 1; 0.2 in the paper.
        eps: f64,
    },
    /// PPO's clip with two widths: DAPO's clip-higher, and GRPO with a dual clip:
    /// `-min(r A, clip(r, 1 - low, 1 + high) A)`.
    Clip {
        /// Width of the clip below 1; 0.2 in DAPO.
        low: f64,
        /// Width of the clip above 1; 0.28 in DAPO.
        high: f64,
        /// Bound `-dual_clip A` on the loss of a token with `A < 0`; 3 in verl. `None` disables it.
        dual_clip: Option<f64>,
    },
    /// ReMix's Mix-PPG (arXiv 2507.06892): `-min(r A, clip(r, max(0, w - eps), w + eps) A)`. The
    /// clip is around the policy of the batch's beginning and stays additive in `r`, so it is
    /// tighter than PPO's on tokens with `w > 1` and looser on tokens with `w < 1`.
    MixPpg {
        /// Half-width of the clip on both sides of `w`; 0.2 in verl.
        eps: f64,
        /// Bound `-dual_clip A` on the loss of a token with `A < 0`; 3 in verl. `None` disables it.
        dual_clip: Option<f64>,
    },
    /// Decoupled PPO (AReaL): `-w min(u A, clip(u, 1 - eps, 1 + eps) A)`. Where `w = 1` it is
    /// Mix-PPG.
    DecoupledPpo {
        /// Half-width of the clip around the proximal policy; 0.2 in verl.
        eps: f64,
        /// Bound `-dual_clip w A` on the loss of a token with `A < 0`. `None` disables it.
        dual_clip: Option<f64>,
        /// Upper limit of `w`, above which a token is masked; 5 in AReaL. `None` disables it.
        cap: Option<f64>,
    },
    /// Truncated importance sampling: decoupled PPO with `min(w, cap)`, or with `min(W, cap)` for
    /// all tokens of a row.
    Tis {
        /// Product that is truncated: the token's or its row's.
        level: Level,
        /// Upper limit of the weight; 2 in verl.
        cap: f64,
        /// Half-width of the clip around the proximal policy. `None` disables it.
        eps: Option<f64>,
    },
    /// Masked importance sampling (IcePop at the token's level): decoupled PPO in which tokens with
    /// `w`, or rows with `W`, outside the bounds are masked.
    Mis {
        /// Product that is bounded: the token's or its row's.
        level: Level,
        /// Lower bound of the weight; 0.5 in IcePop.
        low: f64,
        /// Upper bound of the weight; 2 in IcePop, 3 for rows in TRL.
        high: f64,
        /// Half-width of the clip around the proximal policy. `None` disables it.
        eps: Option<f64>,
    },
    /// Rejection of rows by the geometric mean of `w`: rows outside the bounds are masked, the
    /// others get PPO's clip `-min(u A, clip(u, 1 - eps, 1 + eps) A)` without a weight.
    GeometricRejection {
        /// Lower bound of the geometric mean; 0.999 in verl.
        low: f64,
        /// Upper bound of the geometric mean; 1.001 in verl.
        high: f64,
        /// Half-width of the clip around the proximal policy. `None` disables it.
        eps: Option<f64>,
    },
    /// Rejection of rows by the mean of `w - 1 - log w`, an estimate of KL: rows above the bound are
    /// masked, the others get PPO's clip without a weight.
    K3Rejection {
        /// Upper bound of the mean, in nats; 0.001 to 0.01 in verl.
        bound: f64,
        /// Half-width of the clip around the proximal policy. `None` disables it.
        eps: Option<f64>,
    },
    /// Off-policy sequence mask of DeepSeek-V3.2: GRPO's clip, in which tokens with `A < 0` are
    /// masked if the mean of `-log r` over their row is above `delta`.
    SequenceMask {
        /// Half-width of the clip on both sides of 1.
        eps: f64,
        /// Upper bound of the row's mean of `-log r`, in nats; 0.5 to begin with.
        delta: f64,
    },
    /// GSPO (arXiv 2507.18071): with `s` the geometric mean of `r` over a row,
    /// `-min(s A, clip(s, 1 - low, 1 + high) A)`, mean over rows. `log s` is at most 10, as in verl.
    Gspo {
        /// Width of the clip below 1; 3e-4 in GSPO.
        low: f64,
        /// Width of the clip above 1; 4e-4 in GSPO.
        high: f64,
    },
    /// CISPO (arXiv 2506.13585): `-sg(clip(r, low, high)) A log pi`. No token loses its gradient.
    Cispo {
        /// Lower bound of the weight; 0 disables it.
        low: f64,
        /// Upper bound of the weight; 5 in ScaleRL.
        high: f64,
    },
    /// DPPO with total variation (arXiv 2602.04879): a token is masked if `A > 0` and
    /// `pi - mu > high`, or `A < 0` and `mu - pi > low`; else `-sg(min(r, cap)) A log pi`.
    DppoTv {
        /// Bound on the loss of probability; 0.2 in prime-rl.
        low: f64,
        /// Bound on the gain of probability; 0.2 in prime-rl.
        high: f64,
        /// Upper limit of the weight; 20 in prime-rl.
        cap: f64,
    },
    /// IPO (prime-rl): `-M r A + square (log r)^2`, where `M` masks tokens with
    /// `abs(pi - mu) > distance` on either side; the second term is of all tokens.
    Ipo {
        /// Bound on the change of probability; 0.1 in prime-rl.
        distance: f64,
        /// Coefficient of the squared log-ratio; 0.001 in prime-rl.
        square: f64,
    },
    /// DRPO (arXiv 2606.09821): `-A r + abs(A) mu (r - 1)^2 / (2 delta)`, whose gradient weight is
    /// `-A r (1 - sign(A (r - 1)) abs(pi - mu) / delta)`. Its advantages are not divided by their
    /// standard deviation ([`crate::Baseline::Mean`]).
    Drpo {
        /// Change of probability at which a token's gradient is 0; 12.5 in UniRL, at which the
        /// weight stays within 8 % of plain importance sampling.
        delta: f64,
    },
    /// TOPR (arXiv 2503.14286): `-sg(a) A log pi` with `a = 1` if `A >= 0` and `a = min(R, 1)` else.
    Topr,
    /// REINFORCE without a ratio, `-A log pi`: AsymRE (arXiv 2506.20520) with
    /// [`crate::Baseline::Shifted`], OPO (arXiv 2505.23585) with [`crate::Baseline::LengthWeighted`].
    Reinforce,
    /// BAPO (arXiv 2510.18927): PPO's clip between two bounds that are found for each batch. Both
    /// begin at the first of their two values; the lower, then the upper one is raised by `step`,
    /// up to the second, until `sum min(r, c_high) A` over `A >= 0` is at least `balance` times
    /// `sum max(r, c_low) abs(A)` over `A < 0`. The order, the lower bound first up to its end, is
    /// this program's reading.
    Bapo {
        /// First and last value of the lower bound; 0.6 and 0.9 in the paper.
        low: (f64, f64),
        /// First and last value of the upper bound; 1.2 and 3 in the paper.
        high: (f64, f64),
        /// Height of a step; 0.05 in the authors' code.
        step: f64,
        /// Quotient of the two sums that is aimed at; 1 in the authors' code.
        balance: f64,
    },
    /// SAPO: `-(4 / t) sigmoid(t (r - 1)) A`, a soft clip whose weight falls on both sides of 1.
    Sapo {
        /// Temperature `t` of tokens with `A > 0`; 1 in verl.
        positive: f64,
        /// Temperature `t` of the other tokens; 1.05 in verl.
        negative: f64,
    },
    /// VESPO (arXiv 2602.10693): `-sg(R^k exp(lambda (1 - R))) A log pi`.
    Vespo {
        /// Exponents `(k, lambda)` of tokens with `A >= 0`; (2, 3) in verl.
        positive: (f64, f64),
        /// Exponents `(k, lambda)` of tokens with `A < 0`; (3, 2) in verl.
        negative: (f64, f64),
    },
    /// VCPO (arXiv 2602.17616): truncated importance sampling of rows, `-min(W, cap) u A`, and a
    /// step that is shorter the fewer rows count: [`crate::Stats::step_scale`] is
    /// `sqrt(min(1, ESS / (B base)))`, with the effective sample size `ESS = (sum W)^2 / sum W^2` of
    /// the `B` rows and weights that are not truncated. The paper's baseline needs a gradient per
    /// row and is left out.
    Vcpo {
        /// Upper limit of the weight; 8 in the authors' code.
        cap: f64,
        /// Share of effective rows from which on the step has its full length; 1 in the paper.
        base: f64,
    },
    /// OAPL (arXiv 2602.19362): `(beta log R - A)^2`, mean over rows, where `A` is the mean advantage
    /// of the row, from [`crate::Baseline::SoftMax`]. There is no clip and no bound on `log R`.
    Oapl {
        /// Coefficient of the sequence log-ratio; 0.001 in the paper.
        beta: f64,
    },
    /// DRO (tinker): `-(A log pi - beta (log r)^2 / 2)`.
    Dro {
        /// Coefficient of the squared log-ratio.
        beta: f64,
    },
    /// Clipped prefix weight of HyGLOW (ICLR 2024) for tokens:
    /// `-sg(min(r_1 ... r_t, cap)) A log pi`, with the product over the row up to the token.
    PrefixTis {
        /// Upper limit of the weight; [`crate::prefix_cap`] grows it with the updates.
        cap: f64,
    },
    /// Control arm without a trust region: `-r A`, mean over all valid tokens.
    None,
}

/// Ratio that a weight is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The token's own.
    Token,
    /// The product over the token's row, the same for all of its tokens.
    Sequence,
}

impl Rule {
    /// Rule of the paper with its threshold `tau_M2 = 0.04`.
    pub const PAPER: Self = Self::M2poPaper { tau: 0.04 };
}
