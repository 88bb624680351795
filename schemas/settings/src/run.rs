use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vintage_control::{Algorithm, AlgorithmName, Name, Topics};

use crate::{
    gate::GateConfig,
    learner::LearnerConfig,
    loss::LossConfig,
    name::name,
    prompts::PromptsConfig,
    rollout::RolloutConfig,
    sections::{
        ArchiveConfig, EvaluationConfig, GrpoConfig, LocalConfig, M2poConfig, MetricsConfig,
        ModelConfig, TopicsConfig, WarmStartConfig,
    },
};

/// All settings of a run, with their defaults; `presets/default.toml` holds the same in TOML.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Seed of warm start, prompt order, sampling and evaluation. Unless `gate.exact` is set, later
    /// producer processes of a run, and every `vintage rollout`, sample with a value of their own
    /// as well.
    pub seed: u64,
    /// Name of the run, part of its topic names.
    pub run: Name,
    /// Namespace shared by the runs of one installation, the first part of topic names.
    pub namespace: Name,
    /// Broker of the run: `embedded`, `local` or `host:port[,host:port…]`.
    pub broker: String,
    /// Algorithm that bounds an update.
    pub algorithm: AlgorithmName,
    /// Root of plans, results, checkpoints, evaluations, weights and archive: a folder or
    /// `s3://bucket/prefix`; unset = the run's folder.
    pub store: Option<String>,
    /// Options of librdkafka, passed through unchanged. A value may be `env:NAME` or `file:/path`;
    /// a secret must be.
    pub broker_options: BTreeMap<String, String>,
    /// Options of an S3 store: endpoint, region, `allow_http` and so on. A value may be `env:NAME`
    /// or `file:/path`; a secret must be.
    pub store_options: BTreeMap<String, String>,
    /// Section `[local]`: the broker managed by this program with `broker = "local"`.
    pub local: LocalConfig,
    /// Section `[m2po]`: settings of the M2PO algorithm.
    pub m2po: M2poConfig,
    /// Section `[grpo]`: settings of the GRPO algorithm.
    pub grpo: GrpoConfig,
    /// Section `[loss]`: settings of the other algorithms.
    pub loss: LossConfig,
    /// Section `[model]`: model that a run starts from.
    pub model: ModelConfig,
    /// Section `[prompts]`: training and held-out prompts.
    pub prompts: PromptsConfig,
    /// Section `[warm_start]`: supervised steps before version 0.
    pub warm_start: WarmStartConfig,
    /// Section `[rollout]`: sampling and rewards.
    pub rollout: RolloutConfig,
    /// Section `[gate]`: limits on how far producers run ahead of the learner.
    pub gate: GateConfig,
    /// Section `[learner]`: updates, optimizer, checkpoints, weights.
    pub learner: LearnerConfig,
    /// Section `[archive]`: the Parquet archive.
    pub archive: ArchiveConfig,
    /// Section `[evaluation]`: accuracy on held-out prompts.
    pub evaluation: EvaluationConfig,
    /// Section `[topics]`: partitions and replication of the Kafka topics.
    pub topics: TopicsConfig,
    /// Section `[metrics]`: the endpoints of every role.
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
            loss: LossConfig::default(),
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

impl RunConfig {
    /// Returns the loss with its settings, as plans record it.
    pub fn algorithm(&self) -> Algorithm {
        Algorithm {
            name: self.algorithm,
            m2_threshold: self.m2po.threshold,
            clip_eps: self.grpo.clip_eps,
            log_ratio_clamp: self.m2po.log_ratio_clamp,
            m2_scope: self.m2po.scope,
            loss: self.loss.used_by(self.algorithm),
        }
    }

    /// Returns the names of the run's topics.
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
    fn a_duration_that_no_clock_can_count_is_refused() {
        for seconds in [1e20, f64::INFINITY, f64::NAN, -1.0] {
            let mut config = RunConfig::default();
            config.archive.roll_seconds = seconds;
            config.archive.patience_seconds = seconds;
            config.learner.patience_seconds = seconds;
            config.rollout.reward.timeout_seconds = seconds;
            config.rollout.environment.timeout_seconds = seconds;
            let keys: Vec<_> = config.violations().iter().map(|found| found.key).collect();
            for key in [
                "archive.roll_seconds",
                "archive.patience_seconds",
                "learner.patience_seconds",
                "rollout.reward.timeout_seconds",
                "rollout.environment.timeout_seconds",
            ] {
                assert!(keys.contains(&key), "{seconds}: {keys:?}");
            }
        }
    }

    #[test]
    fn an_environment_and_a_reward_command_exclude_each_other() {
        let mut config = RunConfig::default();
        config.rollout.environment.command = vec!["world".to_owned()];
        assert!(config.violations().is_empty());
        config.rollout.reward.command = vec!["judge".to_owned()];
        let found = config.violations();
        assert_eq!(found[0].key, "rollout.environment.command");
        assert!(found[0].why.contains("rollout.reward.command"));
    }

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
