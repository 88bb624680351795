//! M2PO (Second-Moment Trust Policy Optimization, arXiv 2510.01161) and the losses it is compared
//! with, as pure functions on slices.
//!
//! A batch of one optimizer update is a [`Tokens`]. A [`Rule`] decides which tokens may move the
//! policy. [`weigh`] returns the mask `M`, the loss, the weight `dloss/dnew_i` of every token and
//! [`Stats`]. The crate does no IO, reads no clock, starts no threads and draws no random numbers:
//! equal slices give equal bits.
//!
//! Where to begin reading:
//!
//! * `weigh.rs` is the entry point: [`weigh`] applies a rule to a batch. `accumulate.rs` sums the
//!   tokens' terms, which every rule does alike.
//! * `mask.rs` is Algorithm 1 of the paper ([`mask_m2`]) and AReaL's variant of it. The files
//!   `scan.rs`, `select.rs` and `exact.rs` are its parts: one pass over the batch, the search for
//!   the cut, and the exact sums.
//! * `rule.rs` lists the rules with their formulas, `ranges.rs` their settings' ranges. `areal.rs`
//!   and `fork` hold AReaL's M2PO and that of the authors' released code, `proximal.rs` the losses
//!   around a proximal policy, `token.rs` and `sequence.rs` the others per token and per row.
//! * `kl.rs` adds a penalty to any of them.
//! * `advantage.rs` and `baseline.rs` make advantages of rewards.
//! * `weights.rs` has statistics of the weights; `staleness.rs` splits [`Stats`] into strata; `drift.rs`
//!   warns before a collapse.
//!
//! Symbols of the paper and their names in this crate:
//!
//! | paper | here |
//! |---|---|
//! | `log pi_theta(a_i, s_i)` | [`Tokens::new`] |
//! | `log pi_behav(a_i, s_i)` | [`Tokens::behavior`] |
//! | `A_i` (Eq. 2) | [`Tokens::advantage`], [`group_advantages`] |
//! | `log r_i` | log-ratio `l_i = new_i - behavior_i` |
//! | `M2 = mean (log r_i)^2` (Eq. 4) | [`Stats::m2_trust_before`] |
//! | `tau_M2` | `tau` of the rules |
//! | `M_i` (Algorithm 1) | [`Weighed::mask`] |
//! | `sum |o_i|` (Eq. 5) | [`Stats::n_valid`] |
//!
//! ```
//! use vintage_losses::{Rule, Tokens, weigh};
//!
//! // The policy moved each token's log-prob by 0.1, 0.8, -0.1 and 0.
//! let behavior = [-1.0_f32; 4];
//! let new = [-0.9, -0.2, -1.1, -1.0];
//! let advantage = [1.0, 1.0, 1.0, -1.0];
//! let weighed = weigh(&Rule::PAPER, &Tokens::new(&new, &behavior, &advantage, &[true; 4]))?;
//!
//! // The second token alone takes the mean square of the log-ratios over 0.04.
//! assert_eq!(weighed.mask, [true, false, true, true]);
//! assert_eq!(weighed.weight[1], 0.0);
//! assert!(weighed.stats.m2_trust_before > 0.04 && weighed.stats.m2_trust_after < 0.04);
//! # Ok::<(), vintage_losses::Error>(())
//! ```

mod accumulate;
mod advantage;
mod areal;
mod baseline;
mod drift;
mod error;
mod exact;
mod fork;
mod kl;
mod mask;
mod proximal;
mod ranges;
mod real;
mod rows;
mod rule;
mod scan;
mod select;
mod sequence;
mod staleness;
mod stats;
mod token;
mod tokens;
mod weigh;
mod weights;

pub use accumulate::Weighed;
pub use advantage::group_advantages;
pub use baseline::Baseline;
pub use drift::Drift;
pub use error::Error;
pub use kl::{KlPenalty, KlStats};
pub use mask::{SecondMomentMask, mask_m2};
pub use proximal::interpolate_prox;
pub use real::Real;
pub use rule::{Level, Rule};
pub use staleness::stratify;
pub use stats::Stats;
pub use tokens::{DEFAULT_CLAMP, Tokens};
pub use weigh::{weigh, weigh_rows};
pub use weights::{CAP, WeightStats, prefix_cap, prefix_weights, weight_stats};

#[cfg(test)]
mod tests;
