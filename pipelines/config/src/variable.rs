//! Environment variables that are meant as settings but not spelt as such.

use crate::{
    error::{Problem, SettingFault},
    key::Key,
    origin::Origin,
    schema::{Kind, Schema},
    suggest,
};

/// The problem of a variable that says the words of a setting, or of one's section, and is not
/// spelt as a setting is; `None` if it is somebody else's.
pub(crate) fn misspelt(name: &str, schema: &Schema) -> Option<Problem> {
    let words: Vec<_> = name
        .split('_')
        .skip(1)
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let said = words.join("_");
    let spelt = |key: &Key| key.parts().join("_").replace('-', "_");
    let meant = schema.settings().iter().find(|key| spelt(key) == said);
    let section = words.first().map(|first| Key::new([first.clone()]))?;
    let is_section = schema
        .field(&section)
        .is_some_and(|field| matches!(field.kind, Kind::Section(_)));
    let key = match meant {
        Some(meant) => meant.clone(),
        None if is_section && words.len() > 1 => section.child(&words[1..].join("_")),
        None => return None,
    };
    let near = match meant {
        Some(meant) => vec![meant.clone()],
        None => suggest::nearest_keys(&key, schema.settings()),
    };
    Some(Problem {
        key,
        origin: Origin::Env(name.to_owned()),
        fault: SettingFault::Variable { near },
    })
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
        ] {
            let error = resolve(&[name]).expect_err("refused");
            assert!(error.to_string().contains(name), "{error}");
            let told = error.hint().expect("a hint");
            assert!(told.contains(hint), "{name}: {told}");
        }
        assert!(resolve(&["VINTAGE_BIN", "VINTAGES_SEED", "MY_VINTAGE_SEED"]).is_ok());
    }
}
