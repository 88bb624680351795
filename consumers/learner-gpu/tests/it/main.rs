//! Tests of training with the engine of GPUs, on candle's CPU device: the fixtures are the learner's.

mod learner;
mod update;

#[path = "../../../learner/src/intake/fixture.rs"]
mod records;

/// Fixtures at the path that the learner's own tests have for them.
mod intake {
    pub(crate) use crate::records as fixture;
}
