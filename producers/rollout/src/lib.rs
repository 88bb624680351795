//! Rollout producers: sample groups of completions, score them, and publish them to the log.
//!
//! Begin reading at [`Worker`] (`worker.rs`), which is one producer process. A group
//! passes these files in order:
//!
//! * `follow.rs` keeps the newest announcement of the learner.
//! * `lease_book.rs`, `leasing.rs` hold the leases that the lead learner grants: one lease is one
//!   slot, which the producer may sample.
//! * `select.rs` gives the prompt and the seeds of a slot.
//! * `worker/sampler.rs` has an [`Engine`] sample the completions; `vintage-local` is one
//!   engine, `vintage-remote` another. `worker/flight.rs` holds the groups that are being sampled.
//! * `conversation.rs` makes an engine one whose completions are conversations with an
//!   `environment.rs`, where the settings name one.
//! * `worker/judge.rs` has a [`Reward`] score them: `reward.rs` by verifier, `command.rs` by
//!   subprocess.
//! * `publish.rs` encodes, numbers without gaps and sends; `journal.rs` notes what was
//!   acknowledged.
//!
//! ```
//! use vintage_rollout::{Selector, group_seed};
//!
//! // A slot fixes prompt and seeds, whichever producer samples it: 30 prompts, then again 30.
//! let mut selector = Selector::new(7, 30);
//! let mut epoch: Vec<_> = (30..60).map(|slot| selector.prompt_of(slot)).collect();
//! assert_eq!(selector.prompt_of(30), epoch[0]);
//! epoch.sort_unstable();
//! assert_eq!(epoch, (0..30).collect::<Vec<_>>());
//! assert_ne!(group_seed(7, 30), group_seed(7, 31));
//! ```

mod command;
mod conversation;
mod engine;
mod environment;
mod error;
mod event;
mod follow;
mod journal;
mod lease_book;
mod leasing;
mod open;
mod prompts;
mod publish;
mod reward;
mod select;
mod worker;

pub use command::{
    CommandReward,
    files::{NamedFile, file_sha256, files_by_base_name, named_files},
    script::MissingScript,
    settings::{CommandRole, CommandSettings},
};
pub use conversation::ConversingEngine;
pub use engine::{
    Engine, EngineError, Episode, Following, Groups, Overlap, Sample, SampleRequest, Sampling,
    Turn, TurnSampler, all_groups,
};
pub use environment::{Closing, Environment};
pub use error::Error;
pub use event::{ProducerEvent, ProducerSummary};
pub use journal::{Journal, read_journals};
pub use lease_book::{Admission, LeaseBook};
pub use leasing::{REPORT_AFTER, REPORT_EVERY};
pub use open::{open_environment, open_reward};
pub use prompts::{
    PromptFile, PromptSet,
    prompt::{Form, Prompt},
};
pub use reward::{
    EpisodeReward, FailureReason, Reward, RewardFailure, RewardItem, RewardScore, VerifierReward,
};
pub use select::{Selector, group_seed, row_seed, turn_seed};
pub use worker::{CALLS_HELD, Worker, WorkerSetup};
