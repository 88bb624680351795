//! Environment variables that are meant as settings but not spelt as such.

use crate::{
    error::{Problem, SettingFault},
    key::Key,
    origin::Origin,
    schema::{Kind, Schema},
    suggest,
};

/// Settings named as an example where a variable says a section.
const EXAMPLES: usize = 3;

/// The problem of a variable that says the words of a setting, of the end of one's name, or of a
/// section, and is not spelt as a setting is; `None` if it is somebody else's.
pub(crate) fn misspelt(name: &str, schema: &Schema) -> Option<Problem> {
    let words: Vec<_> = name
        .split('_')
        .skip(1)
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let first = words.first()?;
    let meant = meant(&words.join("_"), schema.settings());
    let section = Key::new([first.clone()]);
    let is_section = schema
        .field(&section)
        .is_some_and(|field| matches!(field.kind, Kind::Section(_)));
    let (key, near) = match meant.first() {
        Some(key) => (key.clone(), meant),
        None if is_section && words.len() > 1 => {
            let key = section.child(&words[1..].join("_"));
            let near = suggest::nearest_keys(&key, schema.settings());
            (key, near)
        }
        None => return None,
    };
    Some(Problem {
        key,
        origin: Origin::Env(name.to_owned()),
        fault: SettingFault::Variable { near },
    })
}

/// Returns the settings that are called `said`, as a whole or by the last parts of their names, and
/// the first ones of a section that is called so.
fn meant(said: &str, settings: &[Key]) -> Vec<Key> {
    let spelt = |parts: &[String]| parts.join("_").replace('-', "_");
    let ends = |parts: &[String]| (0..parts.len()).any(|from| spelt(&parts[from..]) == said);
    let whole = settings.iter().find(|key| spelt(key.parts()) == said);
    if let Some(whole) = whole {
        return vec![whole.clone()];
    }
    let is_in = |key: &Key| (1..key.parts().len()).any(|to| ends(&key.parts()[..to]));
    let of_section = settings.iter().filter(|key| is_in(key)).take(EXAMPLES);
    let by_end = settings.iter().filter(|key| ends(key.parts()));
    of_section.chain(by_end).cloned().collect()
}

#[cfg(test)]
mod tests {
    use crate::{error::ConfigError, layers::Layers, resolve::Resolved};

    fn resolve(names: &[&str]) -> Result<Resolved, ConfigError> {
        let variables = names
            .iter()
            .map(|name| ((*name).to_owned(), "1".to_owned()));
        Layers::new().env(variables).resolve()
    }

    #[test]
    fn a_variable_that_is_nearly_a_setting_is_refused_and_others_are_left_alone() {
        for (name, hint) in [
            (
                "VINTAGE_LEARNER_STEPS",
                "did you mean VINTAGE__LEARNER__STEPS?",
            ),
            (
                "VINTAGE_LEARNER_OPTIMIZER_LR",
                "VINTAGE__LEARNER__OPTIMIZER__LR",
            ),
            (
                "VINTAGE_LEARNER__STEPS",
                "did you mean VINTAGE__LEARNER__STEPS?",
            ),
            (
                "VINTAGE_LEARNER_STPES",
                "did you mean VINTAGE__LEARNER__STEPS?",
            ),
            ("VINTAGE_SEED", "did you mean VINTAGE__SEED?"),
            (
                "vintage__learner__steps",
                "did you mean VINTAGE__LEARNER__STEPS?",
            ),
            // The end of a setting's name, or a section's name.
            (
                "VINTAGE_OPTIMIZER_LR",
                "did you mean VINTAGE__LEARNER__OPTIMIZER__LR?",
            ),
            ("VINTAGE_LR", "VINTAGE__WARM_START__LR"),
            ("VINTAGE_LR", "VINTAGE__LEARNER__OPTIMIZER__LR"),
            ("VINTAGE_STEPS", "VINTAGE__LEARNER__STEPS"),
            ("VINTAGE_MAX_TOKENS", "VINTAGE__ROLLOUT__MAX_TOKENS?"),
            ("VINTAGE_PROMPTS", "VINTAGE__PROMPTS__TRAIN"),
            ("VINTAGE_PROMPTS", "VINTAGE__EVALUATION__PROMPTS"),
            ("VINTAGE_MODEL", "VINTAGE__MODEL__PATH"),
            ("VINTAGE_MODEL", "VINTAGE__ROLLOUT__SERVER__MODEL"),
            ("VINTAGE_REWARD", "VINTAGE__ROLLOUT__REWARD__KIND"),
        ] {
            let error = resolve(&[name]).expect_err("refused");
            assert!(error.to_string().contains(name), "{error}");
            let message = error.hint().expect("a hint");
            assert!(message.contains(hint), "{name}: {message}");
        }
        for foreign in [
            "VINTAGE_BIN",
            "VINTAGE_FAULTS",
            "VINTAGE_FAULTS_LOG",
            "VINTAGE_MODELS",
            "VINTAGE_PORT",
            "VINTAGE_TEST_FULL_DISK",
            "VINTAGES_SEED",
            "MY_VINTAGE_SEED",
        ] {
            assert!(resolve(&[foreign]).is_ok(), "{foreign}");
        }
    }
}
