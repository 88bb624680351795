//! Events that a run reports to its observer.

use std::collections::BTreeMap;

use vintage_control::{EvaluationResult, PolicyVersion};
use vintage_grants::ProducerView;
use vintage_human::Measured;
use vintage_learner::LearnerEvent;
use vintage_rollout::ProducerEvent;

/// Event of a run.
#[derive(Debug, Clone)]
pub enum RunEvent {
    /// Begin of a phase, by name: `loading prompts`, `starting the broker`, `training`…
    Phase(String),
    /// Progress of the warm start, the supervised steps before version 0.
    WarmStart {
        /// Steps done.
        step: u64,
        /// Total number of steps.
        steps: u64,
        /// Loss of the last step, in nats per token.
        loss: f64,
    },
    /// Event of the learner.
    Learner(LearnerEvent),
    /// Event of a producer.
    Producer(ProducerEvent),
    /// Progress of an exact replay.
    Replayed {
        /// Updates replayed so far.
        done: u64,
        /// Number of recorded plans.
        updates: u64,
    },
    /// Progress of a replay into a topic.
    Republished {
        /// Archived records examined so far.
        records: u64,
        /// Number of records in the archive.
        of: u64,
    },
    /// Progress of the archive sink in this process.
    Archived {
        /// Records taken.
        records: u64,
        /// Records among them that were quarantined because they cannot be decoded, by reason.
        bad: BTreeMap<&'static str, u64>,
    },
    /// Announcement of the run's learner, as the archive reads it.
    Announced {
        /// True if the learner has done all its updates.
        finished: bool,
    },
    /// Producers that the lead learner of this process grants slots to, about once a second.
    Fleet(Vec<ProducerView>),
    /// Begin of a version's evaluation.
    Evaluating {
        /// Version under evaluation.
        version: PolicyVersion,
        /// Number of held-out prompts.
        prompts: u64,
    },
    /// Progress of an evaluation of its own, outside a run.
    Examined {
        /// Version under evaluation.
        version: PolicyVersion,
        /// Prompts answered so far.
        done: u64,
        /// Number of prompts.
        prompts: u64,
    },
    /// Progress of a measurement by staleness.
    Recomputed {
        /// Version under which groups are recomputed.
        version: PolicyVersion,
        /// Groups recomputed so far, under all versions.
        done: u64,
        /// Number of groups, each counted once for every version.
        of: u64,
    },
    /// Progress of the gradients that are compared.
    Differentiated {
        /// Version at whose weights they are.
        version: PolicyVersion,
        /// Backward passes done so far, under all versions.
        done: u64,
        /// Number of backward passes.
        of: u64,
    },
    /// Result of a version's evaluation.
    Evaluated {
        /// Values and number of prompts.
        result: EvaluationResult,
        /// Measure that the values are of.
        measured: Measured,
    },
    /// Standstill: the role makes no progress; the text says what it waits for.
    Standstill(String),
    /// Warning, as text.
    Warning(String),
}

/// Sender of events; cheap to clone, and sending never blocks.
pub type Events = tokio::sync::mpsc::UnboundedSender<RunEvent>;
