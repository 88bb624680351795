//! Control records of a run: every format except the rollouts themselves.
//!
//! Plain serde types with no IO, no async and no clock. Every record is one JSON object with
//! snake_case keys. Unknown keys are refused, so a reader never half-understands a record.
//!
//! Places to begin reading:
//! * [`Plan`] and [`UpdateResult`]: the batch of one update, and its outcome.
//! * [`PolicyAnnouncement`] and [`WeightsManifest`]: a new version, as producers learn of it.
//! * [`CheckpointManifest`] and [`LearnerStart`]: the offsets at which a learner resumes or begins.
//! * [`ArchiveFooter`]: the offsets and rows of one archive file.
//! * [`PruneRecord`] and [`PruneMark`]: what `vintage prune` deleted.
//! * [`Topics`], [`Name`], [`PolicyVersion`], [`UpdateNumber`], [`RecordId`]: the units in which the
//!   records are written.
//!
//! `schemas/README.md` shows an example of every record.
//!
//! ```
//! use vintage_control::{PolicyAnnouncement, PolicyVersion};
//!
//! let announced = PolicyAnnouncement::read(
//!     br#"{"format": "vintage.control/1", "policy": "lead", "version": 17,
//!          "weights_sha256": "809d2d4c5ac65a13d1d0e88be09ee263405186fdcc7e0aa2358d7486ec22e5f0",
//!          "retained": [0, 16, 17], "groups_trained": 272, "groups_rejected": 3,
//!          "refused_batches": {}, "groups_per_update": 16, "finished": false}"#,
//! )?;
//! assert_eq!(announced.version, PolicyVersion(17));
//! assert_eq!(announced.version.staleness_of(PolicyVersion(14)).0, 3);
//!
//! let refused = PolicyAnnouncement::read(br#"{"version": 17, "colour": "red"}"#).unwrap_err();
//! assert!(refused.contains("unknown field `colour`"));
//! # Ok::<(), String>(())
//! ```

mod ages;
mod algorithm;
mod announcement;
mod archive;
mod checkpoint;
mod digest;
mod fault;
mod fleet;
mod inputs;
mod metric;
mod mismatch;
mod name;
mod numbers;
mod plan;
mod prune;
mod result;
mod reuse;
mod start;
mod topic;
mod training;
mod unit;

pub use ages::Ages;
pub use algorithm::{Algorithm, AlgorithmName, LossSetting, M2Scope};
pub use announcement::{PolicyAnnouncement, WeightsAdapter, WeightsDelta, WeightsManifest};
pub use archive::{ArchiveFooter, OffsetRange};
pub use checkpoint::{BlendedResume, CheckpointManifest, PartitionResume, ProducerWindow};
pub use digest::Sha256;
pub use fault::Fault;
pub use fleet::{GrantNumber, Grants, Heartbeat, Lease, SlotMeaning};
pub use inputs::RunInputs;
pub use metric::{Metric, MetricKind};
pub use mismatch::{EngineMismatch, MismatchedToken};
pub use name::{BadName, Name};
pub use numbers::NumberSet;
pub use plan::{
    Fingerprint, INCOMPLETE_AFTER_RECORDS, KnownVersion, MicroBatch, OptimizerSettings, Plan,
    PlannedGroup, RejectReason, Rejection,
};
pub use prune::{PruneMark, PrunePolicy, PruneRecord, PrunedFiles, PrunedNumbers};
pub use result::{Deviation, EvaluationExample, EvaluationResult, UpdateResult};
pub use reuse::{KlPenalty, ReplayRule, Reuse, ReusedGroup, Sampler};
pub use start::{LearnerStart, PartitionStart};
pub use topic::{BadTopic, Topics};
pub use training::{LoraSettings, Precision, Training};
pub use unit::{
    Incarnation, Offset, Partition, PolicyVersion, RecordId, SlotNumber, Staleness, UpdateNumber,
};

/// Timestamps accepted of a log record or a row, in milliseconds since the epoch: from 1970 to the
/// end of 2261, the last full year that 64 bits hold in nanoseconds. Python, pandas, DuckDB and
/// Polars can all represent them. Each refuses some timestamps outside the range, and with them the
/// whole file.
pub const TIMES_MS: std::ops::Range<i64> = 0..9_214_646_400_000;

/// Format tag of every control record; a reader refuses any other.
pub const CONTROL_FORMAT: &str = "vintage.control/1";
