//! Settings of a run: one struct per section, with type, default and range in one place.
//!
//! Begin with [`RunConfig`], which holds all sections. Each stage takes its own sections unchanged:
//! the learner [`LearnerConfig`], a producer
//! [`RolloutConfig`], [`RewardConfig`] and [`GateConfig`], the archive [`ArchiveConfig`].
//! [`RunConfig::violations`] checks ranges and contradictions between settings. `pipelines/config`
//! overrides the defaults by files, environment and flags.
//!
//! ```
//! use vintage_settings::RunConfig;
//!
//! let mut config = RunConfig::default();
//! assert!(config.violations().is_empty());
//! config.learner.steps = 0;
//! assert_eq!(config.violations()[0].key, "learner.steps");
//! ```

mod answer;
mod check;
mod device;
mod environment;
mod gate;
mod learner;
mod loss;
mod mismatch;
mod name;
mod problems;
mod prompts;
mod reuse;
mod reward;
mod rollout;
mod run;
mod sections;
mod server;
mod start;

pub use answer::AnswerKind;
pub use device::Device;
pub use environment::{Cut, EnvironmentConfig, History, Unfinished};
pub use gate::GateConfig;
pub use learner::{LearnerConfig, LoraConfig, PublishConfig, SourceKind};
pub use loss::LossConfig;
pub use mismatch::MismatchConfig;
pub use problems::{Problems, Violation};
pub use prompts::{BuiltInTask, ColumnsConfig, PromptFiles, PromptsConfig, TEXT_OR_LIST};
pub use reuse::{KlConfig, ReincarnationConfig, ReplayConfig};
pub use reward::RewardConfig;
pub use rollout::{RolloutConfig, TEMPERATURES};
pub use run::RunConfig;
pub use sections::{
    ArchiveConfig, EvaluationConfig, GrpoConfig, LocalConfig, M2poConfig, MetricsConfig,
    ModelConfig, TeacherKind, TopicsConfig, WarmStartConfig,
};
pub use server::{EngineKind, Partial, ServerConfig};
pub use start::Start;
