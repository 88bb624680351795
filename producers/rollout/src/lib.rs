//! Rollout producers: sample groups of completions, score them, and publish them to the log.
//!
//! Begin reading at [`Worker`] (`worker.rs`), which is one producer process. A group
//! passes these files in order:
//!
//! * `follow.rs` keeps the newest announcement of the learner.
//! * `gate.rs`: [`Gate`] decides how many groups may start, so that none becomes too stale.
//! * `slots.rs`, `claims.rs`, `select.rs` choose each group's slot, prompt and seeds.
//! * `worker/sampler.rs` has an [`Engine`] sample the completions; `vintage-local` is one engine.
//! * `worker/judge.rs` has a [`Reward`] score them: `reward.rs` by verifier, `command.rs` by
//!   subprocess.
//! * `publish.rs` encodes, numbers without gaps and sends; `journal.rs` notes what was
//!   acknowledged.
//!
//! ```
//! use vintage_control::PolicyVersion;
//! use vintage_rollout::{Announced, Gate, GateBase, GateRule};
//!
//! // An update takes 16 groups; a rollout may be two updates old when it is trained on.
//! let rule = GateRule::Wait { max_staleness: 2 };
//! let mut gate = Gate::new(rule, 16, 1, None, GateBase::default())?;
//!
//! // Version 0 samples for three updates, and no more until the learner announces version 1.
//! let mut announced = Announced::default();
//! assert_eq!(gate.admit(&announced, 100).slots.len(), 48);
//! assert_eq!(gate.admit(&announced, 100).slots.len(), 0);
//! announced.version = PolicyVersion(1);
//! assert_eq!(gate.admit(&announced, 100).slots.len(), 16);
//! # Ok::<(), vintage_rollout::Error>(())
//! ```

mod claims;
mod command;
mod engine;
mod error;
mod event;
mod follow;
mod gate;
mod journal;
mod open;
mod prompts;
mod publish;
mod reward;
mod select;
mod slots;
mod worker;

pub use claims::Claims;
pub use command::{
    CommandReward,
    files::{NamedFile, file_sha256, files_by_base_name, named_files},
    script::MissingScript,
};
pub use engine::{Engine, EngineError, Sample, SampleRequest, Sampling};
pub use error::Error;
pub use event::{ProducerEvent, ProducerSummary};
pub use gate::{Admission, Announced, Filled, Gate, GateBase, GateRule, Slot};
pub use journal::{Journal, read_journals};
pub use open::open_reward;
pub use prompts::{
    PromptSet,
    prompt::{Form, Prompt},
};
pub use reward::{FailureReason, Reward, RewardFailure, RewardItem, RewardScore, VerifierReward};
pub use select::{Selector, group_seed, row_seed};
pub use worker::{Worker, WorkerSetup};
