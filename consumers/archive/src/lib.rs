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
//! * `topic_archive.rs` finds a topic's files and keeps what was read of them, `ahead.rs` those opened
//!   last; `file.rs` opens and checks one file, `footer.rs` reads its footer; `seal.rs` has the checksums, `columns.rs` the
//!   schema.
//! * `prune.rs` deletes the first files of a partition, for `vintage prune`.
//! * [`Error`] lists every failure, and [`Error::fault`] names who has to act.
//!
//! ```
//! use vintage_archive::{Filter, Reader};
//! use vintage_store::Store;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let store = Store::open(&folder.path().to_string_lossy())?;
//! let reader = Reader::new(store.clone(), "vintage.demo.rollouts.v1");
//! let mut messages = reader.merged(&Filter::default()).await?;
//! while let Some(message) = messages.next().await? {
//!     let (headers, rows) = message.into_read().expect("rollouts of this program");
//!     println!("{} of {} has {} rows", headers.group, headers.producer, rows.len());
//! }
//! assert!(Reader::topics(&store).await?.is_empty()); // nothing was archived here yet
//! # Ok(())
//! # }
//! ```

mod ahead;
mod bounds;
mod cache;
mod columns;
mod commit;
mod counts;
mod encode;
mod error;
mod file;
mod filter;
mod footer;
mod groups;
mod handle;
mod head;
mod heads;
mod message;
mod messages;
mod meta;
mod options;
mod partition_groups;
mod path;
mod prune;
mod reader;
mod recover;
mod retry;
mod roll;
mod rowgroup;
mod sampled;
mod seal;
mod select;
mod sink;
mod source;
mod summary;
mod thrift;
mod topic_archive;
mod window;

pub use ahead::AHEAD;
pub use columns::{Codec, file_schema};
pub use counts::SelectionCounts;
pub use error::{Error, Result};
pub use file::{ArchiveFile, column_bytes};
pub use filter::Filter;
pub use footer::read_footer;
pub use groups::Groups;
pub use handle::SinkHandle;
pub use head::MessageHead;
pub use heads::Heads;
pub use message::{ArchivedMessage, BAD_PAYLOAD_LIMIT, Quarantined};
pub use messages::{Merged, Messages};
pub use meta::ArchiveMeta;
pub use options::SinkOptions;
pub use partition_groups::ArchivedGroup;
pub use prune::Stored;
pub use reader::Reader;
pub use roll::SinkLimits;
pub use sampled::Sampled;
pub use select::{GroupSample, PromptPattern, RefusedBy, Selection};
pub use sink::{Sink, SinkTask};
pub use source::SinkSource;
pub use summary::{SinkSummary, Taken};

#[cfg(test)]
mod fixture;
