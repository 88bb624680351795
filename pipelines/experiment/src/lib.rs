//! Experiments: what is compared, over how many seeds, and the intervals of what came out, as pure functions.
//! The command `vintage experiment` runs them.
//!
//! Each experiment is a module with a folder of its own, settings, and a report that can be serialized.
//! [`lock`] is finite and exact and computed here; the runs of [`staleness`] and [`reuse`] are processes that the
//! command starts, and their records are what the report is made of: [`course`] computes what a run came to, and
//! [`statistics`] has the intervals.
//!
//! | module | what is asked |
//! |---|---|
//! | [`lock`] | what an archive and clipped density ratios are worth beside live data |
//! | [`staleness`] | which losses can use old data |
//! | [`reuse`] | what training rollouts more than once, or another run's archive, is worth |
//!
//! ```
//! use vintage_experiment::lock::{Method, Settings, run};
//!
//! let quick = Settings { seeds: 2, qualities: vec![0.6], observed: None, ..Settings::quick() };
//! let report = run(&quick, &|_seed| {})?;
//! assert_eq!(report.archives[0].methods.len(), Method::table(quick.scales).len());
//! // An action that is right with a chance of 0.6, six times: 1 of 21 rows opens the lock.
//! assert!((report.archives[0].concentrability - 21.4).abs() < 0.1);
//! # Ok::<(), vintage_experiment::Error>(())
//! ```

pub mod course;
mod draw;
mod error;
pub mod lock;
pub mod reuse;
pub mod staleness;
pub mod statistics;
mod text;

pub use error::{Error, Result};
