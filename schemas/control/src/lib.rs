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
//! * [`Topics`], [`Name`], [`PolicyVersion`], [`RecordId`]: the units in which the records are
//!   written.
//!
//! `schemas/README.md` shows an example of every record.

mod announcement;
mod archive;
mod checkpoint;
mod digest;
mod inputs;
mod metric;
mod name;
mod numbers;
mod plan;
mod result;
mod start;
mod topic;
mod training;
mod unit;

pub use announcement::{PolicyAnnouncement, WeightsManifest};
pub use archive::{ArchiveFooter, OffsetRange};
pub use checkpoint::{BlendedResume, CheckpointManifest, PartitionResume, ProducerWindow};
pub use digest::Sha256;
pub use inputs::RunInputs;
pub use metric::{Metric, MetricKind};
pub use name::{BadName, Name};
pub use numbers::NumberSet;
pub use plan::{
    Algorithm, AlgorithmName, Fingerprint, INCOMPLETE_AFTER_RECORDS, KnownVersion, MicroBatch,
    OptimizerSettings, Plan, PlannedGroup, RejectReason, Rejection,
};
pub use result::{Deviation, EvaluationResult, UpdateResult};
pub use start::{LearnerStart, PartitionStart};
pub use topic::{BadTopic, Topics};
pub use training::{LoraSettings, Precision, Training};
pub use unit::{Incarnation, Offset, Partition, PolicyVersion, RecordId, Staleness};

/// Timestamps accepted of a log record or a row, in milliseconds since the epoch: from 1970 to the
/// end of 2261, the last full year that 64 bits hold in nanoseconds. Python, pandas, DuckDB and
/// Polars can all represent them. Each refuses some timestamps outside the range, and with them the
/// whole file.
pub const TIMES_MS: std::ops::Range<i64> = 0..9_214_646_400_000;

/// Format tag of every control record; a reader refuses any other.
pub const CONTROL_FORMAT: &str = "vintage.control/1";
