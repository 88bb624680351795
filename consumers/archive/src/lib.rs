//! The archive of a rollout topic: an exactly-once Parquet sink and its reader. No other crate of
//! the workspace names `parquet`.
//!
//! A data file is its own commit record. `v1/topic=<topic>/incarnation=<n>/p=<partition>/<base
//! offset>.parquet` is created if absent, whole and synced, and its footer holds the offset at
//! which the next file begins. There is no other bookkeeping that could disagree with the files. A
//! sink that starts reads the last footer and resumes from there. Of two sinks on one partition,
//! the slower finds the name taken, reads where the other's file ends and continues after it. Group
//! offsets, rebalances, clocks and crashes can cause work to be repeated; they cannot cause a
//! record to be lost or kept twice.
//!
//! Files are plain Parquet for DuckDB, pyarrow and Polars: the columns of trajectory v1, then
//! Kafka's metadata of each record. A record that could not be decoded is a row without a
//! trajectory.
//!
//! Where to begin reading:
//!
//! * [`Sink`] archives a topic; [`SinkOptions`] configures it and [`SinkHandle`] controls it.
//! * `sink.rs` is the sink's event loop, `roll.rs` decides when a file is closed, `encode.rs` makes
//!   its bytes and `commit.rs` creates it.
//! * `recover.rs` finds the offset at which a sink resumes.
//! * [`Reader`] reads an archive: files, [`Messages`], [`Heads`] (headers and counts only) and
//!   [`Groups`] (whole groups that a [`Selection`] takes).
//! * `file.rs` opens and checks one file; `seal.rs` has the checksums, `columns.rs` the schema.
//! * [`Error`] lists every failure, and [`Error::fault`] names who has to act.

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
mod sampled;
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
pub use sampled::Sampled;
pub use select::{Filtered, PromptPattern, Sample, Selection};
pub use sink::{Sink, SinkOptions, SinkSummary, SinkTask, Taken};
pub use source::Source;

#[cfg(test)]
mod fixture;
