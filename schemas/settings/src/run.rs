use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vintage_control::{Algorithm, AlgorithmName, Name, Topics};

use crate::{
    ArchiveConfig, EvaluationConfig, GateConfig, GrpoConfig, LearnerConfig, LocalConfig,
    M2poConfig, MetricsConfig, ModelConfig, PromptsConfig, RolloutConfig, TopicsConfig,
    WarmStartConfig,
};

/// Every setting of a run, with its default; `presets/default.toml` is the same in TOML.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Seeds warm start, prompt order, sampling and evaluation. Samples of a producer's further
    /// lives, and of every `vintage rollout`, are also the life's own, but for `gate.exact`.
    pub seed: u64,
    /// Name of the run: part of its topic names.
    pub run: Name,
    /// Namespace shared by the runs of one installation: the first part of topic names.
    pub namespace: Name,
    /// `embedded`, `local` or `host:port[,host:port…]`.
    pub broker: String,
    /// Which rule bounds an update.
    pub algorithm: AlgorithmName,
    /// Root of plans, results, checkpoints, evaluations, weights and archive: a folder or
    /// `s3://bucket/prefix`; unset = the run's folder.
    pub store: Option<String>,
    /// librdkafka options, passed through as they are. A value may be `env:NAME` or `file:/path`; a
    /// secret must be.
    pub broker_options: BTreeMap<String, String>,
    /// Options of an S3 store: endpoint, region, `allow_http` and so on. A value may be `env:NAME`
    /// or `file:/path`; a secret must be.
    pub store_options: BTreeMap<String, String>,
    /// The broker that is managed here, if it is.
    pub local: LocalConfig,
    /// M2PO's own settings.
    pub m2po: M2poConfig,
    /// GRPO's own settings.
    pub grpo: GrpoConfig,
    /// The policy.
    pub model: ModelConfig,
    /// Training and held-out prompts.
    pub prompts: PromptsConfig,
    /// Supervised steps before version 0.
    pub warm_start: WarmStartConfig,
    /// Sampling and rewards.
    pub rollout: RolloutConfig,
    /// How far producers run ahead of the learner.
    pub gate: GateConfig,
    /// Updates, optimizer, checkpoints, weights.
    pub learner: LearnerConfig,
    /// The Parquet archive.
    pub archive: ArchiveConfig,
    /// Accuracy on held-out prompts.
    pub evaluation: EvaluationConfig,
    /// Kafka topics.
    pub topics: TopicsConfig,
    /// What is counted, for whoever watches.
    pub metrics: MetricsConfig,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            run: name("run"),
            namespace: name("vintage"),
            broker: "embedded".to_owned(),
            algorithm: AlgorithmName::M2po,
            store: None,
            broker_options: BTreeMap::new(),
            store_options: BTreeMap::new(),
            local: LocalConfig::default(),
            m2po: M2poConfig::default(),
            grpo: GrpoConfig::default(),
            model: ModelConfig::default(),
            prompts: PromptsConfig::default(),
            warm_start: WarmStartConfig::default(),
            rollout: RolloutConfig::default(),
            gate: GateConfig::default(),
            learner: LearnerConfig::default(),
            archive: ArchiveConfig::default(),
            evaluation: EvaluationConfig::default(),
            topics: TopicsConfig::default(),
            metrics: MetricsConfig::default(),
        }
    }
}

/// A name known to be valid.
pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name of letters, digits and hyphens")
}

impl RunConfig {
    /// The loss with its settings, as plans record it.
    pub fn algorithm(&self) -> Algorithm {
        Algorithm {
            name: self.algorithm,
            m2_threshold: self.m2po.threshold,
            clip_eps: self.grpo.clip_eps,
            log_ratio_clamp: self.m2po.log_ratio_clamp,
        }
    }

    /// The run's topics.
    pub fn topic_names(&self) -> Topics {
        Topics {
            namespace: self.namespace.clone(),
            run: self.run.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RunConfig;

    #[test]
    fn unknown_settings_are_refused() {
        let refuse = |text: &str| {
            serde_json::from_str::<RunConfig>(text)
                .unwrap_err()
                .to_string()
        };
        assert!(refuse(r#"{"rollout": {"group_sizes": 8}}"#).contains("group_sizes"));
        assert!(refuse(r#"{"gate": {"max_stale": 8}}"#).contains("max_stale"));
        assert!(refuse(r#"{"rollout": {"reward": {"kind": "vibes"}}}"#).contains("vibes"));
        let config: RunConfig = serde_json::from_str(
            r#"{"gate": {"exact": 256}, "rollout": {"reward": {"command": ["python3", "judge.py"]}}}"#,
        )
        .unwrap();
        assert_eq!(config.gate.exact, Some(256));
        let written = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<RunConfig>(&written).unwrap(), config);
    }
}
