//! M2PO (Second-Moment Trust Policy Optimization, arXiv 2510.01161) and the control arms it is
//! compared with, as pure functions on slices.
//!
//! One optimizer batch goes in as [`Tokens`], a [`Rule`] says which tokens may move the policy,
//! and [`weigh`] returns the mask `M`, the loss, the weight `dloss/dnew_i` of every token and
//! [`Stats`]. No IO, no clock, no threads, no randomness: the same slices give the same bits.
//!
//! Symbols of the paper beside the names here:
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

mod advantage;
mod areal;
mod error;
mod exact;
mod fork;
mod mask;
mod real;
mod rule;
mod scan;
mod select;
mod staleness;
mod stats;
mod tokens;
mod weigh;

pub use advantage::group_advantages;
pub use error::Error;
pub use mask::{SecondMomentMask, mask_m2};
pub use real::Real;
pub use rule::Rule;
pub use staleness::stratify;
pub use stats::Stats;
pub use tokens::{DEFAULT_CLAMP, Tokens};
pub use weigh::{Weighed, weigh, weigh_rows};

#[cfg(test)]
mod tests;
