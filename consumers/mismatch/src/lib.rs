//! Difference between the log-probs that engines report and those that the learner's model gives
//! to the same tokens, each under the very version that sampled it.
//!
//! An off-policy correction divides by the reported log-probs, so an engine that reports others
//! than it sampled by biases every update, and no loss can tell. The weights of a version are in
//! the store, and therefore the log-probs can be computed again. The crate does no IO: the caller
//! opens versions.
//!
//! Where to begin reading: [`Measurement`] takes rollouts and decoders, `tally.rs` sums up one
//! engine, `cause.rs` finds what a difference is likely to come from, `row.rs` says which rollouts
//! can be compared.
//!
//! ```
//! use vintage_control::{PolicyVersion, Precision};
//! use vintage_mismatch::{Measurement, Row};
//! use vintage_model::{Decoder, DecoderConfig, ParamSet};
//! use vintage_trajectory::PolicySpan;
//!
//! let config = DecoderConfig::tiny(8);
//! let decoder = Decoder::new(config.clone(), ParamSet::zeros(&config)?)?;
//! let row = Row {
//!     engine: "engine/1".to_owned(),
//!     group: "0".repeat(32),
//!     sample_index: 0,
//!     prompt: vec![1],
//!     completion: vec![2, 3],
//!     // A model of zeros draws each of its 8 tokens with equal probability.
//!     reported: vec![-(8_f32.ln()); 2],
//!     sampled: vec![true; 2],
//!     temperature: 1.0,
//!     raw: false,
//!     spans: vec![PolicySpan { start: 0, version: PolicyVersion(3) }],
//! };
//! let mut measurement = Measurement::new(vec![row]);
//! assert_eq!(measurement.versions(), [PolicyVersion(3)]);
//! measurement.score(PolicyVersion(3), &decoder)?;
//! let found = measurement.mismatches(Precision::F32);
//! assert!(found[0].tokens == 2 && found[0].mean < 1e-6);
//! # Ok::<(), vintage_model::Error>(())
//! ```

mod cause;
mod measurement;
mod row;
mod score;
mod tally;

pub use cause::Cause;
pub use measurement::Measurement;
pub use row::{Incomparable, Limits, Row};
pub use score::{lay_out, parts, recompute};

#[cfg(test)]
mod tests;
