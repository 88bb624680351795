//! A real Apache Kafka on loopback, for a run, a test or experiments.
//!
//! Begin with [`LocalKafka::up`] in `local`, which starts a broker or joins one that runs. The
//! parts below it:
//!
//! * `jars` finds Java and Kafka's jars, and downloads the jars if needed.
//! * `cluster` keeps identity, ports and settings in the broker's folder.
//! * `node` starts, watches, freezes and ends the process of one node.
//! * `claim` records by file locks which processes use the broker.
//!
//! Clients are in `vintage-bus`. This crate uses them only to check that a broker it started works.
//!
//! ```
//! use std::path::Path;
//! use vintage_broker::{LocalKafka, LocalOptions, Result};
//!
//! async fn use_kafka(folder: &Path) -> Result<()> {
//!     let kafka = LocalKafka::up(folder, LocalOptions::default()).await?;
//!     let bus = kafka.bus()?; // makes the producers and consumers
//!     assert_eq!(bus.bootstrap(), kafka.bootstrap());
//!     kafka.down().await
//! }
//!
//! // The broker's ports stay in its folder. None was started in this one.
//! let folder = tempfile::tempdir()?;
//! assert_eq!(LocalKafka::bootstrap_of(folder.path())?, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod claim;
mod cluster;
mod error;
mod jars;
mod local;
mod node;
mod options;
mod status;

pub use error::{Error, Result};
pub use local::LocalKafka;
pub use options::LocalOptions;
pub use status::LocalStatus;
