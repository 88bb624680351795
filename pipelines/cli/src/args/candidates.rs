//! Candidates that a shell completes names of presets and settings with.

use clap_complete::{ArgValueCandidates, CompletionCandidate};
use vintage_config::{explained, presets};

/// Completes the name of a preset.
pub(crate) fn of_presets() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let candidate = |name| {
            let summary = presets::summary(name).map(Into::into);
            CompletionCandidate::new(name).help(summary)
        };
        presets::names().map(candidate).collect()
    })
}

/// Completes the name of a setting or a section.
pub(crate) fn of_keys() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let all = explained().into_iter();
        all.map(|found| named(found.key.to_string(), found.text))
            .collect()
    })
}

/// Completes the name of a setting in an assignment.
pub(crate) fn of_assignments() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let settings = explained()
            .into_iter()
            .filter(|found| found.value.is_some());
        settings
            .map(|found| named(format!("{}=", found.key), found.text))
            .collect()
    })
}

fn named(value: String, text: String) -> CompletionCandidate {
    CompletionCandidate::new(value).help((!text.is_empty()).then(|| text.into()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::CommandFactory as _;

    use crate::args::Cli;

    fn completed(words: &[&str]) -> Vec<String> {
        let words: Vec<_> = words.iter().map(OsString::from).collect();
        let last = words.len() - 1;
        let found = clap_complete::engine::complete(&mut Cli::command(), words, last, None);
        let found = found.unwrap().into_iter();
        found
            .map(|candidate| candidate.get_value().to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn presets_and_settings_are_completed_in_every_verb_that_takes_them() {
        for verb in ["run", "learn", "rollout", "doctor"] {
            let presets = completed(&["vintage", verb, "--preset", "lo"]);
            assert_eq!(presets, ["lora"], "{verb}");
            let settings = completed(&["vintage", verb, "--set", "gate.max_st"]);
            assert_eq!(settings, ["gate.max_staleness="], "{verb}");
        }
        let sections = completed(&["vintage", "config", "explain", "learner.op"]);
        assert_eq!(sections[0], "learner.optimizer");
        assert!(sections.contains(&"learner.optimizer.lr".to_owned()));
        assert!(completed(&["vintage", "config", "show", "gat"]).contains(&"gate".to_owned()));
    }
}
