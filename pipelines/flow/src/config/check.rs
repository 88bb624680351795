//! Checks of settings: ranges, and conditions between settings.

use vintage_control::AlgorithmName;
use vintage_model::Place;

use super::{
    LoraConfig, RunConfig, Settings, SourceKind, Start, Violation, pretrained, resolve::Derived,
    secret::is_reference,
};

impl Settings for RunConfig {
    const PATHS: &'static [&'static str] = &[
        "model.path",
        "prompts.train",
        "prompts.heldout",
        "learner.archive",
        "rollout.reward.directory",
        "store",
    ];
    const COMMANDS: &'static [(&'static str, &'static str)] =
        &[("rollout.reward.command", "rollout.reward.directory")];
    // Certificates, key stores and tickets of librdkafka, and tokens of a store.
    const PATH_OPTIONS: &'static [(&'static str, &'static [&'static str])] = &[
        ("broker_options", &[".location", ".keytab", ".file"]),
        ("store_options", &["_file"]),
    ];

    fn derived(&self) -> Vec<Derived> {
        pretrained::derived(self)
    }

    fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut require = |ok: bool, key: &'static str, why: &str| {
            if !ok {
                found.push(Violation {
                    key,
                    why: why.to_owned(),
                });
            }
        };
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let share = |value: f64| (0.0..=1.0).contains(&value);

        require(
            !self.broker.trim().is_empty(),
            "broker",
            "give embedded, local or host:port",
        );
        require(
            positive(self.m2po.threshold),
            "m2po.threshold",
            "must be above 0",
        );
        require(
            positive(self.m2po.log_ratio_clamp),
            "m2po.log_ratio_clamp",
            "must be above 0",
        );
        require(
            self.grpo.clip_eps > 0.0 && self.grpo.clip_eps < 1.0,
            "grpo.clip_eps",
            "must lie between 0 and 1",
        );

        let warm = &self.warm_start;
        require(
            warm.steps == 0 || warm.batch > 0,
            "warm_start.batch",
            "must be at least 1",
        );
        require(positive(warm.lr), "warm_start.lr", "must be above 0");
        require(
            warm.weight_decay >= 0.0,
            "warm_start.weight_decay",
            "must not be negative",
        );
        require(
            share(warm.slip),
            "warm_start.slip",
            "is a probability, from 0 to 1",
        );

        let rollout = &self.rollout;
        require(
            rollout.group_size > 1,
            "rollout.group_size",
            "must be at least 2: an answer's advantage is over the others of its group",
        );
        require(
            rollout.max_tokens > 0,
            "rollout.max_tokens",
            "must be at least 1",
        );
        require(
            vintage_learner::TEMPERATURES.contains(&(rollout.temperature as f32)),
            "rollout.temperature",
            "must be from 0.001 to 1000: greedy samples have no distribution to learn from",
        );
        require(
            rollout.top_p > 0.0 && rollout.top_p <= 1.0,
            "rollout.top_p",
            "must be above 0 and at most 1 (off)",
        );
        require(
            rollout.top_k >= 0,
            "rollout.top_k",
            "must be 0 (off) or more",
        );
        require(
            rollout.concurrent_groups > 0,
            "rollout.concurrent_groups",
            "must be at least 1",
        );
        let reward = &rollout.reward;
        require(
            positive(reward.timeout_seconds),
            "rollout.reward.timeout_seconds",
            "must be above 0 seconds",
        );
        require(
            share(reward.max_failed_share),
            "rollout.reward.max_failed_share",
            "is a share, from 0 to 1",
        );
        require(
            reward
                .command
                .first()
                .is_none_or(|program| !program.is_empty()),
            "rollout.reward.command",
            "must begin with a program",
        );

        let learner = &self.learner;
        require(learner.steps > 0, "learner.steps", "must be at least 1");
        require(
            learner.prompts_per_update > 0,
            "learner.prompts_per_update",
            "must be at least 1",
        );
        require(
            learner.micro_batch_tokens > 0,
            "learner.micro_batch_tokens",
            "must be at least 1",
        );
        require(
            learner.checkpoint_every > 0,
            "learner.checkpoint_every",
            "must be at least 1",
        );
        require(
            learner.publish_every > 0,
            "learner.publish_every",
            "must be at least 1",
        );
        require(
            learner.keep_versions > 0,
            "learner.keep_versions",
            "must be at least 1",
        );
        require(
            learner.keep_checkpoints > 0,
            "learner.keep_checkpoints",
            "must be at least 1",
        );
        require(
            learner.archive.is_none() || learner.source != SourceKind::Log,
            "learner.archive",
            "is read with learner.source = \"archive\" or \"blend\" only",
        );
        require(
            learner.archive.is_some() || learner.source != SourceKind::Blend,
            "learner.archive",
            "must name another run with learner.source = \"blend\": the own archive holds what the \
             log holds",
        );
        require(
            learner.source != SourceKind::Blend
                || (share(learner.blend_share)
                    && (1..learner.prompts_per_update).contains(&learner.blended_groups())),
            "learner.blend_share",
            "must come to at least one group of learner.prompts_per_update, and leave one to the log",
        );
        require(
            learner.follow_plans.as_ref() != Some(&learner.name),
            "learner.follow_plans",
            "must name another learner",
        );
        require(
            learner.device == Place::Cpu || self.algorithm != AlgorithmName::M2poFork,
            "learner.device",
            "must be \"cpu\" with algorithm = \"m2po_fork\", which is not there on a card",
        );
        if let Err(why) = learner.start.parse::<Start>() {
            require(false, "learner.start", &why);
        }
        if let Some(lora) = &learner.lora.settings()
            && let Some((field, problem)) = vintage_learner::lora_config(lora).problem()
        {
            let key = match field {
                "rank" => "learner.lora.rank",
                "alpha" => "learner.lora.alpha",
                _ => "learner.lora.target_modules",
            };
            require(false, key, &problem);
        }
        require(
            learner.lora.rank.is_some() || learner.lora == LoraConfig::default(),
            "learner.lora.rank",
            "is unset, and without it the other settings of learner.lora do nothing: set it, or \
             leave them out",
        );
        let optimizer = &learner.optimizer;
        require(
            positive(optimizer.lr),
            "learner.optimizer.lr",
            "must be above 0",
        );
        for (key, beta) in [
            ("learner.optimizer.beta1", optimizer.beta1),
            ("learner.optimizer.beta2", optimizer.beta2),
        ] {
            require(
                (0.0..1.0).contains(&beta),
                key,
                "must be at least 0 and below 1",
            );
        }
        require(
            positive(optimizer.eps),
            "learner.optimizer.eps",
            "must be above 0",
        );
        require(
            optimizer.weight_decay >= 0.0 && optimizer.weight_decay.is_finite(),
            "learner.optimizer.weight_decay",
            "must not be negative",
        );
        require(
            positive(optimizer.grad_clip),
            "learner.optimizer.grad_clip",
            "must be above 0 and finite; 1e30 clips nothing",
        );

        require(
            self.archive.roll_bytes > 0,
            "archive.roll_bytes",
            "must be at least 1",
        );
        require(
            self.archive.patience_seconds >= 0.0 && self.archive.patience_seconds.is_finite(),
            "archive.patience_seconds",
            "must be 0 or more",
        );
        require(
            positive(self.archive.roll_seconds),
            "archive.roll_seconds",
            "must be above 0",
        );
        require(
            self.evaluation.prompts > 0,
            "evaluation.prompts",
            "must be at least 1",
        );
        require(
            self.topics.partitions > 0,
            "topics.partitions",
            "must be at least 1",
        );
        require(
            self.topics.replication.is_none_or(|copies| copies > 0),
            "topics.replication",
            "must be at least 1",
        );
        require(
            self.local
                .nodes
                .is_none_or(|nodes| nodes == 1 || nodes == 3),
            "local.nodes",
            "must be 1 or 3: other numbers make no quorum worth having",
        );

        if let Some(listen) = &self.metrics.listen
            && let Err(why) = vintage_telemetry::parse_address(listen)
        {
            let key = "metrics.listen";
            found.push(Violation { key, why });
        }
        self.gate_violations(&mut found);
        self.store_violations(&mut found);
        self.broker_violations(&mut found);
        found
    }
}

impl RunConfig {
    /// Finds a store location that cannot be opened, unknown store options, and secrets in plain
    /// text.
    fn store_violations(&self, found: &mut Vec<Violation>) {
        let mut refuse = |key, why| found.push(Violation { key, why });
        let location = self.store.as_deref().unwrap_or(".");
        let is_s3 = location.starts_with("s3://");
        if location.is_empty()
            || (location.contains("://") && !is_s3 && !location.starts_with("file://"))
        {
            let why = "give a folder, a file:// URL or s3://bucket/prefix";
            refuse("store", why.to_owned());
        }
        for (name, value) in &self.store_options {
            if !is_s3 {
                let why = format!("{name}: only a store on S3 has options");
                refuse("store_options", why);
            } else if let Err(why) = vintage_store::check_option(name) {
                refuse("store_options", why);
            } else if vintage_store::is_secret_option(name) && !is_reference(value) {
                refuse(
                    "store_options",
                    format!(
                        "{name} is a secret, and settings are written to the run's folder: give \
                         env:NAME or file:/path, or leave it to AWS_SECRET_ACCESS_KEY"
                    ),
                );
            }
        }
    }

    /// Finds broker options that hold a secret in plain text.
    fn broker_violations(&self, found: &mut Vec<Violation>) {
        for (name, value) in &self.broker_options {
            if vintage_bus::is_secret_option(name) && !is_reference(value) {
                let why = format!(
                    "{name} is a secret, and settings are written to the run's folder: give \
                     env:NAME or file:/path"
                );
                found.push(Violation {
                    key: "broker_options",
                    why,
                });
            }
        }
    }

    /// Finds gate settings under which the learner would starve, or which need versions that are no
    /// longer kept.
    fn gate_violations(&self, found: &mut Vec<Violation>) {
        let learner = &self.learner;
        let Some(exact) = self.gate.exact else {
            if self.gate.max_staleness + 1 < learner.publish_every {
                found.push(Violation {
                    key: "gate.max_staleness",
                    why: format!(
                        "must be at least learner.publish_every - 1 = {}, or the learner waits \
                         for groups that may not be sampled yet",
                        learner.publish_every - 1
                    ),
                });
            }
            return;
        };
        if learner.publish_every != 1 {
            found.push(Violation {
                key: "learner.publish_every",
                why: "must be 1 with gate.exact: every version samples a batch".to_owned(),
            });
        }
        if learner.max_age.is_some_and(|age| age < exact) {
            found.push(Violation {
                key: "learner.max_age",
                why: format!(
                    "must be at least {exact} with gate.exact = {exact}: every batch is that old"
                ),
            });
        }
        if learner.keep_versions <= exact {
            found.push(Violation {
                key: "learner.keep_versions",
                why: format!(
                    "must be at least {} with gate.exact = {exact}: the batch of update b is \
                     sampled by version b - {exact}",
                    exact + 1
                ),
            });
        }
    }
}
