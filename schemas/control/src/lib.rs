//! Control records of a run: everything that is not a rollout.
//!
//! Plain serde types with no IO, no async and no clock. Every record is one JSON object with
//! snake_case keys; unknown keys are refused, so that a reader never half-understands a record.

mod announcement;
mod archive;
mod checkpoint;
mod digest;
mod inputs;
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

/// Times that the log and a row may tell, milliseconds since the epoch: from 1970 to the end of 2261,
/// which 64 bits reach in nanoseconds too. Python, pandas, DuckDB and Polars have dates for these; of
/// others each refuses some, and with them the file.
pub const TIMES_MS: std::ops::Range<i64> = 0..9_214_646_400_000;

/// Format tag of every control record; a reader refuses any other.
pub const CONTROL_FORMAT: &str = "vintage.control/1";
