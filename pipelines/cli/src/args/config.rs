//! Arguments of all verbs that take settings, and their resolution into a configuration.
use std::path::{Path, PathBuf};
use vintage_config::{ConfigError, Key, Layers, Resolved};
use vintage_settings::RunConfig;

use super::candidates;

/// Settings in layers, of which later ones win: defaults, --preset, -c, VINTAGE__SECTION__KEY,
/// --set and the flags of the verb.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct ConfigArgs {
    /// Preset that ships with the program, as the base of the settings.
    #[arg(long, value_name = "NAME", add = candidates::of_presets())]
    pub(crate) preset: Option<String>,
    /// TOML file of settings; may be repeated, later files win.
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(crate) config: Vec<PathBuf>,
    /// One setting, for example --set learner.optimizer.lr=3e-5; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", add = candidates::of_assignments())]
    pub(crate) set: Vec<String>,
    /// Seed of everything that is drawn (setting `seed`).
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Broker: `embedded`, `local`, or HOST:PORT[,HOST:PORT…] (setting `broker`).
    #[arg(long, value_name = "BROKER")]
    pub(crate) broker: Option<String>,
    /// Address to serve the live page, health and metrics at: IP:PORT, or a port of 127.0.0.1
    /// (setting `metrics.listen`).
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<String>,
}

impl ConfigArgs {
    /// Resolves all layers. If `recorded` is the `config.toml` of a run, its settings are the base,
    /// so that a run can be resumed without repeating them. `flags` are the verb's own.
    pub(crate) fn resolve(
        &self,
        recorded: Option<&Path>,
        flags: &[(&'static str, &str, Option<String>)],
    ) -> Result<Resolved<RunConfig>, ConfigError> {
        let mut base = Layers::new();
        if let Some(recorded) = recorded.filter(|path| path.is_file()) {
            base = base.recorded(recorded)?;
        }
        self.resolve_over(base, flags)
    }

    /// Resolves all layers over those of `base`. `flags` are the verb's own.
    pub(crate) fn resolve_over(
        &self,
        base: Layers,
        flags: &[(&'static str, &str, Option<String>)],
    ) -> Result<Resolved<RunConfig>, ConfigError> {
        let mut layers = base;
        if let Some(preset) = &self.preset {
            layers = layers.preset(preset)?;
        }
        for file in &self.config {
            layers = layers.file(file)?;
        }
        layers = layers.env(variables());
        for text in &self.set {
            layers = layers.set(text)?;
        }
        let own = [
            ("--seed", "seed", self.seed.map(|seed| seed.to_string())),
            ("--broker", "broker", self.broker.clone()),
            ("--metrics", "metrics.listen", self.metrics.clone()),
        ];
        for (flag, key, value) in own.iter().chain(flags) {
            if let Some(value) = value {
                layers = layers.flag(flag, &Key::new(key.split('.')), value);
            }
        }
        layers.resolve()
    }
}

/// Returns the environment variables that are valid UTF-8; all settings are.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

#[cfg(test)]
mod tests {
    use vintage_config::Origin;

    use super::*;

    fn origin(resolved: &Resolved<RunConfig>, key: &str) -> Origin {
        let key = Key::parse(key).expect("a key");
        resolved.origin(&key).expect("a setting").clone()
    }

    #[test]
    fn a_flag_of_its_own_wins_over_set() {
        let args = ConfigArgs {
            set: vec!["seed=1".to_owned(), "learner.steps=2".to_owned()],
            seed: Some(3),
            ..ConfigArgs::default()
        };
        let flags = [("--steps", "learner.steps", None)];
        let resolved = args.resolve(None, &flags).expect("valid");
        assert_eq!(
            (resolved.config.seed, resolved.config.learner.steps),
            (3, 2)
        );
        assert_eq!(origin(&resolved, "seed"), Origin::Flag("--seed"));
        assert_eq!(origin(&resolved, "learner.steps"), Origin::Set);
    }

    #[test]
    fn a_run_goes_on_with_its_own_settings() {
        let folder = tempfile::tempdir().expect("a folder");
        let recorded = folder.path().join("config.toml");
        let first = ConfigArgs {
            seed: Some(3),
            ..ConfigArgs::default()
        };
        let first = first.resolve(Some(&recorded), &[]).expect("no run yet");
        std::fs::write(&recorded, first.to_toml()).expect("written");
        let again = ConfigArgs::default()
            .resolve(Some(&recorded), &[])
            .expect("valid");
        assert_eq!(again.config, first.config);
        assert_eq!(origin(&again, "seed").to_string(), "--seed");
        let other = ConfigArgs {
            seed: Some(4),
            ..ConfigArgs::default()
        };
        let other = other.resolve(Some(&recorded), &[]).expect("valid");
        assert!(
            vintage_config::check_resumable(&other.config, &again.config, folder.path()).is_err()
        );
    }
}
