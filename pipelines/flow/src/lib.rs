//! Topologies of a run: the roles (learner, producer, archive, evaluator) wired together, in one
//! process or in several, with supervision and drain. Producers and consumers meet only here.
//!
//! Where to begin reading:
//! - `run.rs`, then `run/roles.rs`: `vintage run`, all roles in one process.
//! - `roles.rs` and `roles/learn.rs`: one role per process, on a broker and a folder they share.
//! - `folder.rs`: layout and locks of the run's folder; `broker.rs`: the run's Kafka log.
//! - `start.rs` and `handoff.rs`: offsets at which a learner begins, and its move from the archive
//!   to the log.
//! - `standstill.rs`: detection of a role that makes no progress, and the line that says why.
//! - `board.rs`: what the endpoints of a process show: `vitals.rs` for its health, `live.rs` for the
//!   live page.
//! - `replay.rs`: exact replay of recorded updates; `republish.rs`: archived records sent to a
//!   topic.
//! - `serve.rs`: a model, or a version of a run, behind vLLM's HTTP.
//! - `prune.rs`: what of a run `vintage prune` deletes.
//! - `devices.rs`: the devices that this build trains on: where GPUs come in.
//! - `doctor.rs`: checks of a machine, broker and store before a run; `health.rs`: warnings about
//!   updates during a run.
//! - `error.rs`: the error type, with the party at fault for each error.
//!
//! ```
//! use vintage_config::Layers;
//! use vintage_flow::{RunFolder, open_store};
//!
//! let parent = tempfile::tempdir()?;
//! let out = parent.path().join("run");
//! let settings = Layers::new().set("learner.steps=100")?.resolve()?;
//!
//! // The folder of a run is its store, and in use by one process at a time.
//! let folder = RunFolder::take(&out, &settings)?;
//! assert!(out.join("config.toml").is_file());
//! assert_eq!(folder.store().location(), open_store(&out)?.location());
//! assert!(RunFolder::take(&out, &settings).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod announcements;
mod archive_source;
pub mod audit;
mod board;
pub mod broker;
mod decoders;
mod devices;
mod disk;
pub mod doctor;
mod error;
pub mod eval;
mod evaluate;
mod event;
mod exam;
mod export;
#[cfg(test)]
mod fixture;
mod folder;
mod handoff;
mod health;
mod host;
mod hub;
mod input_digests;
mod learner_of;
mod live;
pub mod memory;
pub mod mismatch;
mod opened;
mod preflight;
mod prepared;
mod presence;
mod prompts;
pub mod prune;
mod published;
mod replay;
mod report;
pub mod republish;
pub mod roles;
mod run;
pub mod samples;
pub mod serve;
pub mod staleness;
mod standstill;
mod start;
mod summary;
mod task;
pub mod teacher;
pub mod trial;
pub mod uses;
mod version_zero;
mod vitals;
mod wire;

pub use devices::devices;
pub use error::{Error, Result};
pub use event::{Events, RunEvent};
pub use export::{Exported, export};
pub use folder::{RunFolder, archive_in, config_file, followers, open_store};
pub use replay::{FirstDeviation, ReplaySummary, replay_exact};
pub use report::{compare_runs, read_course, write_report};
pub use run::{run, run_on};
pub use standstill::EndNotice;
pub use summary::Summary;
