//! The in-process engine: samples with the learner's own decoder.
//!
//! [`LocalEngine`] takes a policy's weights from the run's store, so a producer needs nothing but
//! the store and the log. Its log-probs come from the same arithmetic as the learner's.

mod engine;
mod error;

pub use engine::{Generated, LocalEngine, NO_CHAT_TEMPLATE};
pub use error::Error;
