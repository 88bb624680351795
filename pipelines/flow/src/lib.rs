//! Configuration layers, topologies, supervision, reports.

pub mod audit;
mod base;
pub mod broker;
pub mod config;
pub mod doctor;
mod error;
mod evaluate;
mod event;
mod export;
mod folder;
mod handoff;
mod hub;
mod inputs;
pub mod memory;
mod others;
pub mod progress;
mod recorded;
mod replay;
pub mod report;
pub mod republish;
pub mod roles;
mod run;
mod settings;
mod start;
mod summary;
pub mod synthetic;
mod tasks;
pub mod teacher;
pub mod transport;

pub use error::{Error, Result};
pub use event::{Events, RunEvent};
pub use export::{Exported, export};
pub use folder::{RunFolder, followers, open_store};
pub use replay::{FirstDeviation, ReplaySummary, replay_exact};
pub use run::run;
pub use summary::Summary;
