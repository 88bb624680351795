//! Defaults for a pretrained model. The defaults in code fit the tiny decoder, which learns from
//! nothing, at a rate that would ruin a pretrained model in a few updates, and answers in a few
//! characters.

use std::path::Path;

use crate::resolve::Derived;
use vintage_settings::RunConfig;

/// Learning rate of the paper's runs, for all weights of models of one to thirty billion
/// parameters.
const LR: f64 = 1e-6;
/// Learning rate for adapters, ten times the whole model's: they begin at zero and have few
/// parameters.
const LR_OF_ADAPTERS: f64 = 1e-5;
/// Maximum completion length in tokens, enough for a short chain of thought.
const MAX_TOKENS: usize = 512;
/// Number of evaluated prompts that a model of half a billion parameters answers in minutes.
const EVALUATED: i64 = 64;

const OF_MODEL: &str = "default for a pretrained model";
const OF_ADAPTERS: &str = "default for adapters of a pretrained model";
const OF_CONTEXT: &str = "default for a pretrained model, half its context";

/// Returns the number of positions of a model; `None` if its files cannot be read (yet). Faults of
/// the files are reported where they are opened for use.
fn context(path: &Path) -> Option<usize> {
    #[derive(serde::Deserialize)]
    struct Config {
        max_position_embeddings: usize,
    }
    let read = || -> Result<usize, String> {
        let folder = vintage_hub::locate(path).map_err(|error| error.to_string())?;
        let text = std::fs::read(folder.join("config.json")).map_err(|error| error.to_string())?;
        let config: Config = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        Ok(config.max_position_embeddings)
    };
    read()
        .inspect_err(|error| tracing::debug!("{}: {error}", path.display()))
        .ok()
}

/// The defaults that differ for this run's model; none for the tiny decoder.
pub(crate) fn derived(config: &RunConfig) -> Vec<Derived> {
    let Some(path) = &config.model.path else {
        return Vec::new();
    };
    of_model(context(path), config.learner.lora.rank.is_some())
}

fn of_model(context: Option<usize>, adapters: bool) -> Vec<Derived> {
    let derived = |key, value: toml::Value, why| Derived { key, value, why };
    let rate = if adapters {
        derived("learner.optimizer.lr", LR_OF_ADAPTERS.into(), OF_ADAPTERS)
    } else {
        derived("learner.optimizer.lr", LR.into(), OF_MODEL)
    };
    let (room, why) = match context {
        Some(context) if context / 2 < MAX_TOKENS => ((context / 2).max(1), OF_CONTEXT),
        _ => (MAX_TOKENS, OF_MODEL),
    };
    vec![
        rate,
        derived("learner.optimizer.decay_vectors", false.into(), OF_MODEL),
        derived("rollout.max_tokens", (room as i64).into(), why),
        derived("evaluation.prompts", EVALUATED.into(), OF_MODEL),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{key::Key, layers::Layers, origin::Origin, resolve::Resolved};

    fn resolve(layers: Layers) -> Resolved<RunConfig> {
        layers.resolve().expect("valid")
    }

    fn with_model() -> Layers {
        Layers::new()
            .set("model.path=/no/such/model")
            .expect("a setting")
    }

    fn origin(resolved: &Resolved<RunConfig>, key: &str) -> String {
        let key = Key::parse(key).expect("a key");
        resolved.origin(&key).expect("a setting").to_string()
    }

    #[test]
    fn a_pretrained_model_has_defaults_of_its_own_and_they_say_so() {
        let tiny = resolve(Layers::new());
        let pretrained = resolve(with_model());
        let lr = |resolved: &Resolved<RunConfig>| resolved.config.learner.optimizer.lr;
        assert_eq!((lr(&tiny), lr(&pretrained)), (1e-4, 1e-6));
        assert_eq!(pretrained.config.rollout.max_tokens, 512);
        assert!(!pretrained.config.learner.optimizer.decay_vectors);
        assert_eq!(origin(&tiny, "learner.optimizer.lr"), "default");
        assert_eq!(origin(&pretrained, "learner.optimizer.lr"), OF_MODEL);
        assert_eq!(origin(&pretrained, "learner.optimizer.beta1"), "default");
        let adapters = resolve(with_model().set("learner.lora.rank=16").expect("a setting"));
        assert_eq!(lr(&adapters), 1e-5);
        assert_eq!(origin(&adapters, "learner.optimizer.lr"), OF_ADAPTERS);
    }

    #[test]
    fn what_was_set_stays_as_it_was_set() {
        for layers in [
            with_model()
                .set("learner.optimizer.lr=0.0001")
                .expect("set"),
            with_model()
                .toml("[learner.optimizer]\nlr = 0.0001\n", "a file")
                .expect("set"),
            with_model().preset("stale-256").expect("a preset"),
        ] {
            assert!((resolve(layers).config.learner.optimizer.lr - 1e-4).abs() < 1e-12);
        }
    }

    /// Runs begun with an older build have every value in their config.toml.
    #[test]
    fn a_recorded_run_keeps_the_values_it_was_started_with() {
        let folder = tempfile::tempdir().expect("a folder");
        let recorded = folder.path().join("config.toml");
        let old = resolve(Layers::new()).to_toml();
        let old = old.replace("# path = none", "path = \"/no/such/model\"");
        std::fs::write(&recorded, old).expect("written");
        let again = resolve(Layers::new().recorded(&recorded).expect("readable"));
        assert!(again.config.model.path.is_some());
        assert_eq!(again.config.rollout.max_tokens, 8);
        let key = Key::parse("learner.optimizer.lr").expect("a key");
        assert_eq!(
            again.origin(&key),
            Some(&Origin::Recorded("default".to_owned()))
        );
        let new = resolve(with_model());
        std::fs::write(&recorded, new.to_toml()).expect("written");
        let again = resolve(Layers::new().recorded(&recorded).expect("readable"));
        assert_eq!(again.config, new.config);
        assert_eq!(origin(&again, "learner.optimizer.lr"), OF_MODEL);
    }

    #[test]
    fn a_model_of_short_context_is_asked_for_what_fits() {
        let room = |context| {
            let all = of_model(context, false).into_iter();
            all.filter(|derived| derived.key == "rollout.max_tokens")
                .map(|derived| derived.value.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(room(Some(64)), ["32"]);
        assert_eq!(room(Some(8192)), ["512"]);
        assert_eq!(room(None), ["512"]);
    }
}
