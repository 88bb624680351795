use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::problems::{Problems, positive, seconds};

/// Engine that samples completions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// Decoder in this process.
    #[default]
    Local,
    /// Inference servers of whatever kind they turn out to be.
    Auto,
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// llama-server of llama.cpp.
    Llama,
    /// Server with OpenAI's completions that takes and returns token ids.
    Openai,
}

impl EngineKind {
    /// Returns the name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Auto => "auto",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Llama => "llama",
            Self::Openai => "openai",
        }
    }
}

/// Treatment of a completion that a change of weights cuts off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Partial {
    /// Continues it with the new weights; its spans say which tokens are of which version.
    #[default]
    Continue,
    /// Samples it again from its beginning.
    Again,
}

/// Section `[rollout.server]`: inference servers, for every engine but `local`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Name of the model in requests; unset = the first one that the server lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Key that is sent to the servers as a bearer token, as `env:NAME` or `file:/path`; unset =
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Folder in which versions are written for the servers; unset = `served` in the run's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Path of that folder as the servers see it; unset = the same path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder_there: Option<String>,
    /// True if servers keep the weights of version 0 for the whole run.
    pub fixed: bool,
    /// True if versions that are stored as adapters are loaded as adapters, each under a name of its
    /// own, so that nothing is cut off; false loads whole weights.
    pub adapters: bool,
    /// Treatment of completions that a change of weights cuts off.
    pub partial: Partial,
    /// Maximum number of tokens in requests that run, prompts and longest completions together.
    pub tokens_in_flight: usize,
    /// True if a server's log-probs are compared with those of the run's model in this process when
    /// it comes into service.
    pub check_model: bool,
    /// Largest mean difference of these log-probs that is accepted, in nats a token.
    pub model_tolerance: f64,
    /// Longest wait for a connection and for an answer that needs no sampling, in seconds.
    pub connect_seconds: f64,
    /// Longest wait for a completion, in seconds. It includes the time for which a server is paused.
    pub reply_seconds: f64,
    /// Longest wait for each step of a change of weights, in seconds.
    pub swap_seconds: f64,
    /// Longest time without any server in service, in seconds.
    pub patience_seconds: f64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            model: None,
            key: None,
            folder: None,
            folder_there: None,
            fixed: false,
            adapters: false,
            partial: Partial::Continue,
            tokens_in_flight: 131_072,
            check_model: true,
            model_tolerance: 0.1,
            connect_seconds: 10.0,
            reply_seconds: 900.0,
            swap_seconds: 600.0,
            patience_seconds: 600.0,
        }
    }
}

impl ServerConfig {
    /// Longest wait for a connection and for an answer that needs no sampling.
    pub fn connect(&self) -> Duration {
        duration(self.connect_seconds)
    }

    /// Longest wait for a completion.
    pub fn reply(&self) -> Duration {
        duration(self.reply_seconds)
    }

    /// Longest wait for a step of a change of weights.
    pub fn swap(&self) -> Duration {
        duration(self.swap_seconds)
    }

    /// Longest time without any server in service.
    pub fn patience(&self) -> Duration {
        duration(self.patience_seconds)
    }

    pub(crate) fn check(&self, problems: &mut Problems) {
        problems.require(
            (1..=1 << 29).contains(&self.tokens_in_flight),
            "rollout.server.tokens_in_flight",
            "must be from 1 to 536870912",
        );
        problems.require(
            positive(self.model_tolerance),
            "rollout.server.model_tolerance",
            "must be above 0",
        );
        let is_reference = |key: &String| key.starts_with("env:") || key.starts_with("file:");
        problems.require(
            self.key.as_ref().is_none_or(is_reference),
            "rollout.server.key",
            "must be env:NAME or file:/path, because settings are written to the run's folder",
        );
        let times = [
            ("rollout.server.connect_seconds", self.connect_seconds),
            ("rollout.server.reply_seconds", self.reply_seconds),
            ("rollout.server.swap_seconds", self.swap_seconds),
            ("rollout.server.patience_seconds", self.patience_seconds),
        ];
        for (key, time) in times {
            problems.require(
                time > 0.0 && seconds(time),
                key,
                "must be above 0 seconds, and no longer than a clock can count",
            );
        }
    }
}

/// Seconds of a checked setting as a duration, at most a year, which every clock can add.
fn duration(seconds: f64) -> Duration {
    let year = Duration::from_secs(365 * 24 * 3600);
    Duration::try_from_secs_f64(seconds).map_or(year, |time| time.min(year))
}

#[cfg(test)]
mod tests {
    use super::EngineKind;
    use crate::run::RunConfig;

    /// Settings that are refused after a change.
    fn refused(change: impl FnOnce(&mut RunConfig)) -> Vec<&'static str> {
        let mut config = RunConfig::default();
        config.rollout.engine = EngineKind::Vllm;
        config.rollout.endpoints = vec!["http://gpu1:8000".to_owned()];
        assert!(config.violations().is_empty());
        change(&mut config);
        config.violations().iter().map(|found| found.key).collect()
    }

    #[test]
    fn servers_and_their_addresses_go_together() {
        let endpoints = ["rollout.endpoints"];
        assert_eq!(
            refused(|config| config.rollout.endpoints.clear()),
            endpoints
        );
        assert_eq!(
            refused(|config| config.rollout.engine = EngineKind::Local),
            endpoints
        );
        let bare = |config: &mut RunConfig| config.rollout.endpoints[0] = "gpu1:8000".to_owned();
        assert_eq!(refused(bare), endpoints);
    }

    #[test]
    fn a_key_is_named_and_never_written() {
        let key = |key: &'static str| {
            move |config: &mut RunConfig| config.rollout.server.key = Some(key.to_owned())
        };
        assert_eq!(refused(key("s3cret")), ["rollout.server.key"]);
        assert!(refused(key("env:VLLM_KEY")).is_empty());
    }

    #[test]
    fn times_are_those_that_a_clock_can_count() {
        let never = refused(|config| config.rollout.server.reply_seconds = f64::INFINITY);
        assert_eq!(never, ["rollout.server.reply_seconds"]);
    }
}
