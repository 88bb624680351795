//! The settings of a run as layers resolve to them.

use std::path::Path;

use vintage_settings::{RunConfig, Violation};

use crate::{
    error::ConfigError,
    layers::Layers,
    pretrained,
    resolve::{Derived, Settings},
    secret::is_reference,
};

impl Settings for RunConfig {
    const PATHS: &'static [&'static str] = &[
        "model.path",
        "prompts.train",
        "prompts.heldout",
        "learner.archive",
        "rollout.reward.directory",
        "rollout.environment.directory",
        "rollout.server.folder",
        "store",
    ];
    const COMMANDS: &'static [(&'static str, &'static str)] = &[
        ("rollout.reward.command", "rollout.reward.directory"),
        (
            "rollout.environment.command",
            "rollout.environment.directory",
        ),
    ];
    // Certificates, key stores and tickets of librdkafka, and tokens of a store.
    const PATH_OPTIONS: &'static [(&'static str, &'static [&'static str])] = &[
        ("broker_options", &[".location", ".keytab", ".file"]),
        ("store_options", &["_file"]),
    ];

    fn derived(&self) -> Vec<Derived> {
        pretrained::derived(self)
    }

    fn violations(&self) -> Vec<Violation> {
        let mut found = RunConfig::violations(self);
        if let Some(listen) = &self.metrics.listen
            && let Err(why) = vintage_telemetry::parse_address(listen)
        {
            let key = "metrics.listen";
            found.push(Violation { key, why });
        }
        store_violations(self, &mut found);
        broker_violations(self, &mut found);
        found
    }
}

/// Reads the recorded settings of a run or learner over the defaults.
///
/// # Errors
/// As [`Layers::resolve`], and a file that cannot be read.
pub fn read(path: &Path) -> Result<RunConfig, ConfigError> {
    Ok(Layers::new()
        .over_recorded(path)?
        .resolve::<RunConfig>()?
        .config)
}

/// Refuses a store that cannot exist, and a secret that would be written to the run's folder.
fn store_violations(config: &RunConfig, found: &mut Vec<Violation>) {
    let mut refuse = |key, why| found.push(Violation { key, why });
    let location = config.store.as_deref().unwrap_or(".");
    let is_s3 = location.starts_with("s3://");
    if location.is_empty()
        || (location.contains("://") && !is_s3 && !location.starts_with("file://"))
    {
        let why = "give a folder, a file:// URL or s3://bucket/prefix";
        refuse("store", why.to_owned());
    }
    for (name, value) in &config.store_options {
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

/// Refuses a secret that would be written to the run's folder.
fn broker_violations(config: &RunConfig, found: &mut Vec<Violation>) {
    for (name, value) in &config.broker_options {
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
