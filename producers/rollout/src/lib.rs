//! Rollout producers: prompts, groups of samples, rewards, the gate, publishing.
//!
//! [`Worker`] is one life of a producer. It follows the learner's announcements, asks the
//! [`Gate`] how many groups may start, lets an [`Engine`] sample them, a [`Reward`] judge them,
//! and publishes them under numbers without gaps. It knows no engine: `vintage-local` is one.

mod claims;
mod command;
mod engine;
mod error;
mod event;
mod follow;
mod gate;
mod journal;
mod prompts;
mod publish;
mod reward;
mod select;
mod slots;
mod worker;

pub use claims::Claims;
pub use command::{CommandReward, MissingScript, file_sha256, named_files};
pub use engine::{Engine, EngineError, Sample, SampleRequest, Sampling};
pub use error::Error;
pub use event::{ProducerEvent, ProducerSummary};
pub use gate::{Admission, Announced, Filled, Gate, GateBase, GateRule, Slot};
pub use journal::{Journal, read_journals};
pub use prompts::{Form, Prompt, PromptSet};
pub use reward::{
    FailureReason, Reward, RewardFailure, RewardItem, RewardScore, VerifierReward, open_reward,
};
pub use select::{Selector, group_seed, row_seed};
pub use worker::{Worker, WorkerSetup};
