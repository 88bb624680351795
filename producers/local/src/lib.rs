//! Local inference engine: samples in this process, with the learner's own decoder.
//!
//! Begin reading at [`LocalEngine`] (`engine.rs`), which implements the `Engine` trait of
//! `vintage-rollout`. It reads a policy's weights from the run's store, so a producer needs only
//! the store and the log. Its log-probs come from the same arithmetic as the learner's. It knows
//! nothing of the learner itself. [`Error`] lists the failures and maps each to an `EngineError`.

mod engine;
mod error;

pub use engine::{Generated, LocalEngine, NO_CHAT_TEMPLATE};
pub use error::Error;
