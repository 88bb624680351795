//! The archive: an exactly-once Parquet sink and its reader. The only crate that names parquet.
//!
//! A data file is its own commit record: `v1/topic=<topic>/incarnation=<n>/p=<partition>/<base
//! offset>.parquet` is created if absent, whole and synced, and its footer holds the offset that
//! the next file begins at. There is no other bookkeeping to fall out of step with it: a sink
//! that starts reads the last footer and goes on from there, and of two sinks on one partition
//! the slower finds the name taken, reads where the other's file ends and goes on after it.
//! Group offsets, rebalances, clocks and crashes can cost work done twice, never a record lost or
//! kept twice.
//!
//! Files are plain Parquet for DuckDB, pyarrow and Polars: trajectory v1's columns, then what
//! Kafka knew of each record. A record that could not be decoded is a row without a trajectory.

mod cache;
mod columns;
mod commit;
mod encode;
mod error;
mod file;
mod filter;
mod groups;
mod handle;
mod head;
mod insist;
mod lane;
mod message;
mod messages;
mod meta;
mod path;
mod reader;
mod recover;
mod roll;
mod rowgroup;
mod seal;
mod select;
mod sink;
mod source;
mod thrift;
mod window;

pub use columns::{Codec, file_schema};
pub use error::{Error, Result};
pub use file::{ArchiveFile, column_bytes, read_footer};
pub use filter::Filter;
pub use groups::{Groups, SelectionCounts};
pub use handle::SinkHandle;
pub use head::{Head, Heads};
pub use lane::ArchivedGroup;
pub use message::{ArchivedMessage, BAD_PAYLOAD_LIMIT, Quarantined};
pub use messages::{Merged, Messages};
pub use meta::ArchiveMeta;
pub use reader::Reader;
pub use roll::SinkLimits;
pub use select::{Filtered, PromptPattern, Sample, Selection};
pub use sink::{Sink, SinkOptions, SinkSummary, SinkTask, Taken};
pub use source::Source;

#[cfg(test)]
mod fixture;
