//! Configuration layers, topologies, supervision, reports.

pub mod audit;
mod base;
pub mod broker;
pub mod doctor;
mod error;
mod evaluate;
mod event;
mod export;
#[cfg(test)]
mod fixture;
mod folder;
mod gate_base;
mod given;
mod handoff;
mod health;
mod hub;
mod inputs;
pub mod memory;
mod others;
mod recorded;
mod replay;
mod report;
pub mod republish;
pub mod roles;
mod run;
mod standstill;
mod start;
mod summary;
mod tasks;
pub mod teacher;
mod wire;

pub use error::{Error, Result};
pub use event::{Events, RunEvent};
pub use export::{Exported, export};
pub use folder::{RunFolder, followers, open_store};
pub use replay::{FirstDeviation, ReplaySummary, replay_exact};
pub use report::write_report;
pub use run::run;
pub use standstill::Account;
pub use summary::Summary;
