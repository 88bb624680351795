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
//! * [`trainer`] runs one plan; [`update`](mod@update) computes its optimizer update by the CPU
//!   kernels, or by means of `device` on a GPU.
//! * `records.rs` has the paths of plans, results and checkpoints in the store ([`Records`]).
//! * `replay.rs` compares a replay with the records, and [`parity`] compares a model with
//!   transformers.

mod adamw;
pub mod device;
mod engine;
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
mod settings;
pub mod source;
pub mod trainer;
pub mod update;
mod warm_start;

pub use adamw::AdamW;
pub use error::{Error, Result};
pub use extent::{Extent, Trace};
pub use learner::{Learner, LearnerSummary};
pub use memory::{Amount, Memory};
pub use outlet::{LearnerEvent, Outlet, Waiting};
pub use pack::Batch;
pub use replay::{Deviation, Recording, Replayed, replay};
pub use settings::Settings;
pub use source::{
    CatchUp, Durability, DurableLog, Incoming, Inputs, Leader, Lineages, LogSource, NoOthers,
    Source, Stretch,
};
pub use vintage_model::{ModelConfig, gpu};
pub use warm_start::{Demonstration, WarmStart, warm_start};
