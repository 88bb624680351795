//! Age of rollouts against how far the policy has moved from them: second moment, effective shares,
//! tails of the ratio, and the tokens that each loss would discard; and the direction of each loss's
//! gradient against that of fresh rollouts.
//!
//! The input are groups of an archive, with the log-probs that they were sampled with and those under
//! a later version. Nothing is trained. The crate does no IO: the caller reads groups, opens versions
//! and computes log-probs and gradients.
//!
//! Where to begin reading: `choose.rs` says which groups to recompute under which versions,
//! `measure.rs` weighs batches of them, `figures.rs` is what comes out, `answer.rs` puts it into one
//! sentence, `loss.rs` lists the losses that discard tokens. Of the gradients, `weights.rs` has what a
//! model is to differentiate, `reference.rs` compares the results, `directions.rs` sums them up.
//!
//! ```
//! use vintage_ages::{Ages, Group, Loss, Rollout};
//! use vintage_control::{AlgorithmName, PolicyVersion};
//! use vintage_losses::{Baseline, Rule};
//!
//! let m2po = Loss {
//!     name: AlgorithmName::M2po,
//!     rule: Rule::PAPER,
//!     baseline: Baseline::Group,
//!     clamp: 20.0,
//! };
//! // The policy of version 8 gives the good answer of version 0 more than its sampler did.
//! let rollout = |reward, new| Rollout {
//!     reward,
//!     behavior: vec![-1.0],
//!     new: vec![new],
//!     trained: vec![true],
//! };
//! let group = Group {
//!     id: "a".to_owned(),
//!     oldest: PolicyVersion(0),
//!     rollouts: vec![rollout(1.0, -0.9), rollout(0.0, -1.0)],
//! };
//! let mut ages = Ages::new(vec![m2po], 16);
//! ages.add(8, PolicyVersion(8), vec![group])?;
//! let found = ages.figures();
//! assert!((found[0].m2 - 0.01).abs() < 1e-6); // the square of 0.1, within the budget of 0.04
//! assert_eq!(found[0].losses["m2po"].masked, 0.0);
//! # Ok::<(), vintage_ages::Error>(())
//! ```

mod answer;
mod choose;
mod cost;
mod directions;
mod estimate;
mod figures;
mod laid;
mod loss;
mod measure;
mod reference;
mod verdict;
mod weights;

pub use answer::{Answer, answer};
pub use choose::{Bounds, Chosen, Sampled, choose, tolerance};
pub use cost::Gradients;
pub use directions::{AgeDirections, BatchDirection, Directions, LossDirection};
pub use estimate::Estimate;
pub use figures::{AgeFigures, BatchFigures, Counts, Discarded};
pub use loss::{DISCARDING, Loss};
pub use measure::{Ages, Error, Group, Rollout};
pub use reference::{Agreement, Reference, cosine};
pub use verdict::verdict;
pub use weights::Weights;

#[cfg(test)]
mod tests;
