//! Errors of the archive, and whose fault each is.
use std::sync::Arc;

use vintage_control::Fault;
use vintage_control::{Incarnation, Offset, Partition, RecordId};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Error of writing or reading an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The object store failed; its message says what was attempted and what to do.
    #[error(transparent)]
    Store(#[from] vintage_store::Error),
    /// Kafka failed; the bus's message says what was attempted and what to do.
    #[error(transparent)]
    Bus(#[from] vintage_bus::Error),
    /// A file is damaged: its bytes differ from those written.
    #[error(
        "archive file {file} is damaged: {reason}; restore it from a copy, or, while the topic \
         still holds its records, move it away and let `vintage archive` write it again"
    )]
    Corrupt {
        /// Path of the file.
        file: String,
        /// Description of the damage.
        reason: String,
    },
    /// A file is intact, but this build cannot read its format.
    #[error(
        "archive file {file} is whole, and this build cannot read it: {reason}; it was written by \
         another version of vintage: use that one, or a newer"
    )]
    NotUnderstood {
        /// Path of the file.
        file: String,
        /// Description of the part that this build does not know.
        reason: String,
    },
    /// Two consecutive files of a partition leave a gap or overlap.
    #[error(
        "the archive of partition {partition} has a {kind} between {before} (ends before offset \
         {ends}) and {after} (starts at {starts}); a file was removed, added or replaced by hand: \
         restore it from a copy"
    )]
    BrokenChain {
        /// `gap` or `overlap`.
        kind: &'static str,
        /// Partition whose chain of files is broken.
        partition: Partition,
        /// Path of the earlier file.
        before: String,
        /// `next_offset` of the earlier file.
        ends: Offset,
        /// Path of the later file.
        after: String,
        /// `base_offset` of the later file.
        starts: Offset,
    },
    /// The folder holds the archive of another topic or incarnation.
    #[error(
        "{file} is the archive of {found}, not of {expected}; give every topic and every \
         re-creation of it its own incarnation"
    )]
    OtherTopic {
        /// Path of the metadata file, `_meta.json`.
        file: String,
        /// Topic, incarnation and format that the metadata file names.
        found: String,
        /// Topic and incarnation that were expected.
        expected: String,
    },
    /// The log no longer has the records that the archive needs next.
    #[error(
        "archiving {topic} partition {partition} cannot continue: the archive ends at offset \
         {next}, the log now starts at {low}; {lost} records were deleted by retention unarchived: \
         lengthen the topic's retention, and continue without them with `vintage archive \
         --accept-gap`, which notes the gap"
    )]
    Expired {
        /// Topic being archived.
        topic: String,
        /// Partition whose records expired.
        partition: Partition,
        /// First offset that is not archived.
        next: Offset,
        /// First offset that the log still has.
        low: Offset,
        /// Number of offsets between the archive's end and the log's start.
        lost: i64,
    },
    /// The log ends before the archive does, so it was recreated or truncated.
    #[error(
        "archiving {topic} partition {partition} cannot continue: the archive ends at offset \
         {next}, the log already at {high}; the topic was recreated or truncated: give the run \
         another name (run = …), so that what it holds now has an archive of its own"
    )]
    Rewound {
        /// Topic being archived.
        topic: String,
        /// Partition whose log is too short.
        partition: Partition,
        /// First offset that is not archived.
        next: Offset,
        /// First offset that the log has not written.
        high: Offset,
    },
    /// The log has a different record than the archive at the last archived offset, so it is
    /// another log.
    #[error(
        "archiving {topic} partition {partition} cannot continue: the last archived record is that \
         at offset {offset}, and the log holds {found} there; the topic was recreated and has \
         grown past the archive's end: give the run another name (run = …), so that what it holds \
         now has an archive of its own"
    )]
    OtherLog {
        /// Topic being archived.
        topic: String,
        /// Partition whose record differs.
        partition: Partition,
        /// Offset of the last archived record.
        offset: Offset,
        /// Finding at that offset: `none` (no record) or `another` (another CRC-32C).
        found: &'static str,
    },
    /// The consumer delivered a record below the offset that was due.
    #[error(
        "archiving {topic} partition {partition} failed: record {found} followed where {expected} \
         or a later one was due; nothing of it was written, start the archive again"
    )]
    OutOfOrder {
        /// Topic being archived.
        topic: String,
        /// Partition of the record.
        partition: Partition,
        /// Lowest offset that was due.
        expected: Offset,
        /// Offset of the record that was delivered.
        found: Offset,
    },
    /// Rows could not be encoded as Parquet, or metadata as JSON.
    #[error("encoding archive file {file} failed: {reason}; nothing of it was written")]
    Encode {
        /// Path of the file that was to be written.
        file: String,
        /// Message of the encoder.
        reason: String,
    },
    /// The sink ended before it had archived an offset that was waited for.
    #[error(
        "the archive sink stopped at offset {committed} of partition {partition}, before {asked} \
         was archived: {reason}"
    )]
    Stopped {
        /// Partition that was waited for.
        partition: Partition,
        /// First offset of the partition that is not archived.
        committed: Offset,
        /// Offset up to which the partition was to be archived.
        asked: Offset,
        /// Reason for which the sink stopped.
        reason: Arc<str>,
    },
    /// The sink does not archive the partition that was named.
    #[error(
        "the archive sink does not archive partition {partition} of {topic}; it archives {known}"
    )]
    UnknownPartition {
        /// Topic being archived.
        topic: String,
        /// Partition that was named.
        partition: Partition,
        /// Partitions that the sink archives, or a phrase in place of the list.
        known: String,
    },
    /// The archive does not hold a record that a plan or a caller names.
    #[error(
        "the archive of {topic} does not hold {record}: {reason}; give the folder of the run whose \
         archive holds it"
    )]
    NotArchived {
        /// Topic of the archive.
        topic: String,
        /// Record that was asked for.
        record: RecordId,
        /// Description of what the archive has instead.
        reason: String,
    },
    /// Records that `vintage prune` deleted.
    #[error(
        "the archive of {topic} incarnation {incarnation} partition {partition} begins at offset \
         {next}: `vintage prune` deleted the files before it, and what they held is gone; give a \
         copy of the run made before that"
    )]
    Pruned {
        /// Topic of the archive.
        topic: String,
        /// Incarnation of the topic.
        incarnation: Incarnation,
        /// Partition whose first files are gone.
        partition: Partition,
        /// First offset that the archive still holds.
        next: Offset,
    },
    /// No archive exists for a topic and incarnation.
    #[error(
        "there is no archive of {topic} incarnation {incarnation} at {location}; check the folder"
    )]
    NoArchive {
        /// Topic that was asked for.
        topic: String,
        /// Incarnation of the topic.
        incarnation: Incarnation,
        /// Root of the archive that was searched.
        location: String,
    },
    /// A task of this process panicked or was aborted.
    #[error("the archive's {part} ended abnormally: {reason}; this is a defect, please report it")]
    Died {
        /// Name of the task.
        part: &'static str,
        /// Description of how it ended.
        reason: String,
    },
}

impl Error {
    /// Returns whose fault the error is, which decides the exit code of the program.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoArchive { .. }
            | Self::OtherTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::Pruned { .. } => Fault::User,
            Self::Bus(error) => error.fault(),
            Self::Store(error) => error.fault(),
            Self::Encode { .. } | Self::Died { .. } => Fault::Internal,
            _ => Fault::External,
        }
    }
}
