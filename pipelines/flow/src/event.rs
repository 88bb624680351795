//! What a run tells whoever watches it.

use std::collections::BTreeMap;

use vintage_control::{EvaluationResult, PolicyVersion};
use vintage_learner::LearnerEvent;
use vintage_rollout::ProducerEvent;

/// Something happened in a run.
#[derive(Debug, Clone)]
pub enum RunEvent {
    /// A phase began: `preparing the model`, `starting the broker`, `training`…
    Phase(String),
    /// Supervised steps before version 0.
    WarmStart {
        /// Steps done.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// Loss of the last, nats per token.
        loss: f64,
    },
    /// The learner did something.
    Learner(LearnerEvent),
    /// A producer did something.
    Producer(ProducerEvent),
    /// A replay has come this far.
    Replayed {
        /// Updates run again.
        done: u64,
        /// Plans there are.
        updates: u64,
    },
    /// A replay to a topic has come this far.
    Republished {
        /// Archived records looked at.
        records: u64,
        /// Records the archive has.
        of: u64,
    },
    /// The archive's sink has taken this much in this life.
    Archived {
        /// Records.
        records: u64,
        /// Of these, those that are kept as they are because they cannot be decoded, by reason.
        bad: BTreeMap<&'static str, u64>,
    },
    /// The evaluation of a version began.
    Evaluating {
        /// The version.
        version: PolicyVersion,
        /// Held-out prompts.
        prompts: u64,
    },
    /// A version was evaluated.
    Evaluated(EvaluationResult),
    /// Nothing goes on: what is waited for, in words.
    Standstill(String),
    /// Something to be known, in words.
    Warning(String),
}

/// Where events go; cheap to clone, never waits.
pub type Events = tokio::sync::mpsc::UnboundedSender<RunEvent>;
