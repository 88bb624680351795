//! A real Apache Kafka on loopback, for a run, a test or a look: [`LocalKafka`] fetches its jars,
//! gives it ports, starts its nodes, watches them and ends them. How to talk to it is
//! `vintage-bus`, which this crate uses only to see that a broker it started works.
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

pub use error::{Error, Result};
pub use local::{LocalKafka, LocalOptions};
