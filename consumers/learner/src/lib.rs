//! Learner: intake, plans, updates, results, checkpoints.
//!
//! Records flow one way: [`source`] → [`intake`] → a plan (`vintage_store::Records`) →
//! [`update`](mod@update) → weights → result → announcement → checkpoint. The plan is durable
//! before the update runs. One piece of code ([`trainer`]) runs a plan live, after a crash and in a
//! replay.
//!
//! Where to begin reading:
//!
//! * `learner.rs` is the main loop ([`Learner::run`]): `learner/gather.rs` collects the groups of
//!   the next update, `learner/execute.rs` runs a plan and publishes, `learner/recover.rs` resumes
//!   after a crash.
//! * [`intake`] decides which groups are fit for training; [`source`] and [`order`] say where
//!   records come from and in which order.
//! * [`trainer`] runs one plan; [`update`](mod@update) lays out its batches.
//! * [`engine`] is what computes an update: `host.rs` on the CPU, `consumers/learner-gpu` on a GPU.
//!   `devices.rs` says which of them a program has.
//! * `replay.rs` compares a replay with the records.
//!
//! ```
//! use vintage_learner::{Demonstration, DecoderConfig, WarmStart, warm_start};
//! use vintage_model::{Decoder, ParamSet};
//!
//! let config = DecoderConfig::tiny(16);
//! let params = ParamSet::init(&config, 0)?;
//! let mut decoder = Decoder::new(config, params)?;
//!
//! // Supervised steps before the first rollout, with the passes and the optimizer of every update.
//! let settings = WarmStart { steps: 20, warmup: 1, lr: 0.01, weight_decay: 0.0 };
//! let lesson = |_step| vec![Demonstration { prompt: vec![1, 2], completion: vec![3] }];
//! let mut losses = Vec::new();
//! warm_start(&mut decoder, &settings, lesson, |_, loss| losses.push(loss))?;
//! assert!(losses[19] < losses[0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// Fixtures name this crate as the tests of other crates do, which include them.
#[cfg(test)]
extern crate self as vintage_learner;

mod adamw;
mod anchors;
mod catch_up;
mod devices;
mod draw;
pub mod engine;
mod error;
mod extent;
pub mod fingerprint;
mod host;
pub mod intake;
mod learner;
mod memory;
pub mod order;
mod origins;
mod outlet;
mod pack;
mod replay;
mod result;
mod reuse;
mod rule;
mod settings;
pub mod source;
pub mod trainer;
pub mod update;
mod warm_start;
mod weigh;

pub use adamw::{AdamW, Moments, Rate};
pub use catch_up::{CatchUp, Stretch};
pub use devices::{CpuOnly, Devices, NotWeighed, Weigher};
pub use error::{Error, Result};
pub use extent::{Extent, Trace};
pub use host::HostEngine;
pub use learner::{Learner, LearnerSummary};
pub use memory::{Memory, MemoryUse};
pub use outlet::{LearnerEvent, LearnerProgress, Outlet, Waiting};
pub use pack::{Joined, PackedBatch, PackedRow, PackedSpan, micro_batches};
pub use replay::{Mismatch, Recording, Replayed, replay};
pub use rule::{baseline, rule};
pub use settings::LearnerSettings;
pub use source::{
    Durability, DurableLog, Incoming, Inputs, Leader, LogSource, NoOtherPolicies, OtherPolicies,
    RolloutSource,
};
pub use vintage_model::DecoderConfig;
pub use warm_start::{Demonstration, WarmStart, warm_start};
