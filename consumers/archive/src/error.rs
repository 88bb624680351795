use std::sync::Arc;

use vintage_bus::Fault;
use vintage_control::{Incarnation, Offset, Partition, RecordId};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the archive could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed: its message says what was attempted and what to do.
    #[error(transparent)]
    Store(#[from] vintage_store::Error),
    /// The log failed: likewise.
    #[error(transparent)]
    Bus(#[from] vintage_bus::Error),
    /// A file is not what was written.
    #[error(
        "archive file {file} is damaged: {why}; restore it from a copy, or, while the topic still \
         holds its records, move it away and let `vintage archive` write it again"
    )]
    Corrupt {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file is what was written, by a program that writes otherwise.
    #[error(
        "archive file {file} is whole, and this build cannot read it: {why}; it was written by \
         another version of vintage: use that one, or a newer"
    )]
    NotUnderstood {
        /// The file.
        file: String,
        /// What this build does not know.
        why: String,
    },
    /// Two neighbouring files do not meet.
    #[error(
        "the archive of partition {partition} has a {kind} between {before} (ends before offset \
         {ends}) and {after} (starts at {starts}); a file was removed, added or replaced by hand: \
         restore it from a copy"
    )]
    BrokenChain {
        /// `gap` or `overlap`.
        kind: &'static str,
        /// The partition.
        partition: Partition,
        /// The earlier file.
        before: String,
        /// Its `next_offset`.
        ends: Offset,
        /// The later file.
        after: String,
        /// Its `base_offset`.
        starts: Offset,
    },
    /// The folder is the archive of something else.
    #[error(
        "{file} is the archive of {found}, not of {expected}; give every topic and every life of \
         it its own incarnation"
    )]
    OtherTopic {
        /// The metadata file.
        file: String,
        /// What it says.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// The log no longer has what the archive needs next.
    #[error(
        "archiving {topic} partition {partition} cannot go on: the archive ends at offset {next}, \
         the log now starts at {low}; {lost} records were deleted by retention unarchived: \
         lengthen the topic's retention, and go on without them with `vintage archive --accept-gap`, \
         which notes the gap"
    )]
    Expired {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// Where the archive ends.
        next: Offset,
        /// Where the log starts.
        low: Offset,
        /// Offsets in between.
        lost: i64,
    },
    /// The log ends before the archive does: it is another log.
    #[error(
        "archiving {topic} partition {partition} cannot go on: the archive ends at offset {next}, \
         the log already at {high}; the topic was recreated or truncated: give the run another name \
         (run = …), so that what it holds now has an archive of its own"
    )]
    Rewound {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// Where the archive ends.
        next: Offset,
        /// Where the log ends.
        high: Offset,
    },
    /// The log holds another record than the archive: it is another log.
    #[error(
        "archiving {topic} partition {partition} cannot go on: the last archived record is that at \
         offset {offset}, and the log holds {found} there; the topic was recreated and has grown \
         past the archive's end: give the run another name (run = …), so that what it holds now \
         has an archive of its own"
    )]
    OtherLog {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// Of the last archived record.
        offset: Offset,
        /// What is there instead.
        found: &'static str,
    },
    /// The consumer skipped or repeated records.
    #[error(
        "archiving {topic} partition {partition} failed: record {found} followed where {expected} \
         or a later one was due; nothing of it was written, start the archive again"
    )]
    OutOfOrder {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// The least offset due.
        expected: Offset,
        /// The offset delivered.
        found: Offset,
    },
    /// Rows could not be written as Parquet.
    #[error("encoding archive file {file} failed: {why}; nothing of it was written")]
    Encode {
        /// The file.
        file: String,
        /// As the encoder said it.
        why: String,
    },
    /// The sink ended before it had archived what was asked for.
    #[error(
        "the archive sink stopped at offset {committed} of partition {partition}, before {asked} \
         was archived: {why}"
    )]
    Stopped {
        /// The partition.
        partition: Partition,
        /// What is archived of it.
        committed: Offset,
        /// What was asked for.
        asked: Offset,
        /// Why it stopped.
        why: Arc<str>,
    },
    /// A partition was named that the sink does not archive.
    #[error(
        "the archive sink does not archive partition {partition} of {topic}; it archives {known}"
    )]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// Those it does.
        known: String,
    },
    /// The archive does not hold a record that a plan or a caller names.
    #[error(
        "the archive of {topic} does not hold {record}: {why}; give the folder of the run whose \
         archive holds it"
    )]
    NotArchived {
        /// The topic.
        topic: String,
        /// The record.
        record: RecordId,
        /// What is there instead.
        why: String,
    },
    /// Nothing at all is archived under that name.
    #[error(
        "there is no archive of {topic} incarnation {incarnation} at {location}; check the folder"
    )]
    NoArchive {
        /// The topic.
        topic: String,
        /// Its life.
        incarnation: Incarnation,
        /// Root of the archive.
        location: String,
    },
    /// A part of this process died.
    #[error("the archive's {part} ended abnormally: {why}; this is a defect, please report it")]
    Died {
        /// Which part.
        part: &'static str,
        /// How.
        why: String,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoArchive { .. } | Self::OtherTopic { .. } | Self::UnknownPartition { .. } => {
                Fault::User
            }
            Self::Bus(error) => error.fault(),
            Self::Store(error) => match error.fault() {
                vintage_store::Fault::User => Fault::User,
                vintage_store::Fault::External => Fault::External,
            },
            Self::Encode { .. } | Self::Died { .. } => Fault::Internal,
            _ => Fault::External,
        }
    }
}
