//! Experiments in which everything is finite and exact: small worlds whose optimum is known, algorithms as they
//! are written, many seeds, intervals. The command `vintage experiment` runs them.
//!
//! Each experiment is a module with a folder of its own and the same three things: settings, `run`, and a
//! report that can be serialized. [`statistics`] has the intervals.
//!
//! | module | what is asked |
//! |---|---|
//! | [`lock`] | what an archive and clipped density ratios are worth beside live data |
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

mod draw;
mod error;
pub mod lock;
pub mod statistics;

pub use error::{Error, Result};
