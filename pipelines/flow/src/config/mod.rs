//! Settings: defaults < presets < files < environment < `--set` and flags, every value with its
//! origin.

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
