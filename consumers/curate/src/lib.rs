//! Curated replay set: of the groups that were trained and may be trained again, the k that are worth
//! most together, while groups come from the stream and expire with age.
//!
//! A replay buffer that takes groups at random, or the newest, takes the same prompt many times and
//! groups that teach nothing. Here a set is valued by a monotone submodular function: a group adds less,
//! the more the set has of its kind. The crate does no IO and reads no clock; its draws come from a seed.
//!
//! | to choose | there is |
//! |---|---|
//! | what a set is worth | an [`Objective`]: [`ConcaveOverGroups`] (the default), [`WeightedCoverage`], [`FacilityLocation`] |
//! | how the best set is kept | a [`Kind`]: lazy greedy (the default), a sieve, dynamic levels; uniform and newest for comparison |
//! | what a group counts as | [`Features::of`] |
//!
//! ```
//! use vintage_control::PolicyVersion;
//! use vintage_curate::{Candidate, CandidateId, Curator, Kind};
//!
//! let mut curator = Curator::new(Kind::default(), 2, 0)?;
//! let group = |number: u8, prompt: &str, correct: f64, spread: f64| Candidate {
//!     id: CandidateId([number; 16]),
//!     prompt: prompt.to_owned(),
//!     version: PolicyVersion(number.into()),
//!     mean_reward: correct,
//!     correct,
//!     mean_length: 100.0,
//!     spread,
//!     sketch: Vec::new(),
//! };
//! curator.insert(&group(1, "a", 0.5, 1.0))?;
//! curator.insert(&group(2, "a", 0.5, 0.9))?;
//! curator.insert(&group(3, "b", 0.25, 0.8))?;
//! // All rewards are equal: nothing to learn.
//! curator.insert(&group(4, "c", 1.0, 0.0))?;
//!
//! // Another prompt and another outcome are worth more than a little more spread.
//! assert_eq!(curator.chosen(), [CandidateId([1; 16]), CandidateId([3; 16])]);
//!
//! // At version 4 nothing older than 2 versions may be trained again.
//! assert_eq!(curator.expire(PolicyVersion(4), 2)?, [CandidateId([1; 16])]);
//! assert_eq!(curator.chosen(), [CandidateId([2; 16]), CandidateId([3; 16])]);
//! # Ok::<(), vintage_curate::Error>(())
//! ```

mod candidate;
mod curator;
mod decay;
mod draw;
mod error;
mod ladder;
mod live;
mod objective;
mod oracle;
mod structure;

pub use candidate::{Candidate, CandidateId, Features};
pub use curator::{Curator, Settings};
pub use error::{Error, Result};
pub use objective::{Bins, ConcaveOverGroups, FacilityLocation, Objective, WeightedCoverage};
pub use structure::Kind;

#[cfg(test)]
mod tests;
