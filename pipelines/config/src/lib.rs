//! Layers of settings: defaults < presets < files < environment < `--set` and flags, every value
//! with its origin.
//!
//! [`Layers`] collects assignments and [`Layers::resolve`] puts them over the defaults of a
//! struct, here [`RunConfig`]; names, types and ranges are checked for all of them at once, and
//! errors say where a value was written. What settings there are is read from the struct's
//! `Deserialize` (`schema.rs`), so there is no second list.
//!
//! ```
//! use vintage_config::{Key, Layers, Resolved, RunConfig};
//!
//! let layers = Layers::new().preset("default")?.set("learner.steps=100")?;
//! let resolved: Resolved<RunConfig> = layers.resolve()?;
//! assert_eq!(resolved.config.learner.steps, 100);
//! let steps = Key::parse("learner.steps").expect("a key");
//! assert_eq!(resolved.origin(&steps).expect("a setting").to_string(), "--set");
//! # Ok::<(), vintage_config::ConfigError>(())
//! ```

mod error;
mod explain;
mod key;
mod layers;
mod origin;
pub mod presets;
mod pretrained;
mod recorded;
mod resolve;
mod resume;
mod run;
mod schema;
pub mod secret;
mod show;
mod suggest;
#[cfg(test)]
mod tests;
mod variable;

pub use error::{Change, ConfigError, Problem, SettingFault};
pub use explain::{Explained, explained, template};
pub use key::{ENV_PREFIX, Key};
pub use layers::Layers;
pub use origin::Origin;
pub use recorded::{Recorded, read_recorded};
pub use resolve::{Derived, Resolved, Settings};
pub use resume::{check_joins, check_resumable, sampling};
pub use run::read;
pub use vintage_settings::RunConfig;
