//! Configuration of a run: defaults < presets < files < environment < `--set` and flags, every
//! value with its origin.
//!
//! Where to begin reading:
//! - `run.rs`: `RunConfig`, the struct of all settings; its sections are in `learner.rs`,
//!   `rollout.rs` and `sections.rs`.
//! - `layers.rs`, then `resolve.rs`: how layers are stacked and resolved to a struct.
//! - `check.rs`: ranges, and conditions between settings.
//! - `resume.rs`: settings that may change when a run is resumed or joined.
//! - `show.rs`: output of `vintage config show`, and a run's `config.toml`.

mod check;
mod error;
mod key;
mod layers;
mod learner;
mod origin;
pub mod presets;
mod pretrained;
mod resolve;
mod resume;
mod rollout;
mod run;
mod schema;
pub mod secret;
mod sections;
mod show;
mod start;
mod suggest;
#[cfg(test)]
mod tests;
mod variable;

pub use error::{Change, ConfigError, Problem, SettingFault};
pub use key::Key;
pub use layers::{ENV_PREFIX, Layers};
pub use learner::{LearnerConfig, LoraConfig, SourceKind};
pub use origin::Origin;
pub use resolve::{Derived, Resolved, Settings, Violation};
pub use rollout::{GateConfig, PromptsConfig, RolloutConfig};
pub use run::RunConfig;
pub use sections::{
    ArchiveConfig, EvaluationConfig, GrpoConfig, LocalConfig, M2poConfig, MetricsConfig,
    ModelConfig, TeacherKind, TopicsConfig, WarmStartConfig,
};
pub use show::{Recorded, read_recorded};
pub use start::Start;
