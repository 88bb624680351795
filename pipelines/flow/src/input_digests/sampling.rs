//! Settings that decide what is sampled and how it is rewarded: those of a producer against those of
//! its run.

use std::collections::BTreeMap;

use vintage_settings::RunConfig;

use crate::error::{Error, Result};

const MAX_TOKENS: &str = "rollout.max_tokens";
const TEMPERATURE: &str = "rollout.temperature";

/// Settings in which a producer may differ if its user accepts it by name. Every rollout carries its
/// temperature, at which the learner computes its log-probs; a shorter completion is a completion. With
/// any other setting the rollouts of one run would be of two tasks, or could not train.
const ACCEPTABLE: [&str; 2] = [MAX_TOKENS, TEMPERATURE];

/// Settings with their values in TOML.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sampling(BTreeMap<String, String>);

/// Refuses names of settings in which no producer may differ from its run.
pub(super) fn check_accepted(accepted: &[String]) -> Result<()> {
    let unknown = accepted
        .iter()
        .find(|name| !ACCEPTABLE.contains(&name.as_str()));
    unknown.map_or(Ok(()), |unknown| {
        Err(Error::Setting {
            setting: format!("--accept {unknown}"),
            reason: format!(
                "a producer may differ from its run only in {}",
                ACCEPTABLE.join(" and ")
            ),
        })
    })
}

impl Sampling {
    pub(super) fn of(config: &RunConfig) -> Self {
        Self(vintage_config::sampling(config))
    }

    pub(super) fn recorded(&self) -> BTreeMap<String, String> {
        self.0.clone()
    }

    pub(super) fn is(&self, recorded: &BTreeMap<String, String>) -> bool {
        self.0 == *recorded
    }

    /// Compares these settings with those of the run. A setting that one of the two builds did not
    /// know is not compared, and none is if the run was begun by a build that recorded none.
    ///
    /// # Errors
    /// [`Error::OtherSampling`] with both values of every setting that differs and is not `accepted`.
    pub(super) fn hold(
        &self,
        recorded: &BTreeMap<String, String>,
        accepted: &[String],
    ) -> Result<()> {
        let both = self
            .0
            .iter()
            .filter_map(|(key, own)| Some((key, own, recorded.get(key)?)));
        let others: Vec<_> = both
            .filter(|(key, own, run)| own != run && !is_accepted(key, own, run, accepted))
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        let differences = others
            .iter()
            .map(|(key, own, run)| format!("{key} is {own} here and {run} in the run"));
        let flags = others
            .iter()
            .map(|(key, _, run)| format!("--set '{key}={run}'"));
        let mut remedy = flags.collect::<Vec<_>>().join(" ");
        for (key, own, run) in &others {
            if may_differ(key, own, run) {
                remedy = format!("{remedy}, or sample with {key} = {own} by --accept {key}");
            }
        }
        Err(Error::OtherSampling {
            differences: differences.collect::<Vec<_>>().join("; "),
            remedy,
        })
    }
}

fn is_accepted(key: &str, own: &str, run: &str, accepted: &[String]) -> bool {
    accepted.iter().any(|name| name == key) && may_differ(key, own, run)
}

/// Returns true if a producer may have this value where the run has another. A longer completion than
/// the run's may fit no micro-batch of the learner.
fn may_differ(key: &str, own: &str, run: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    match key {
        MAX_TOKENS => number(own)
            .zip(number(run))
            .is_some_and(|(own, run)| own < run),
        key => key == TEMPERATURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vintage_config::Layers;

    fn sampling(set: &[&str]) -> Sampling {
        let layers = set.iter().fold(Layers::new(), |layers, set| {
            layers.set(set).expect("a setting")
        });
        Sampling::of(&layers.resolve::<RunConfig>().expect("valid").config)
    }

    #[test]
    fn every_setting_that_differs_is_named_with_both_values() {
        let run = sampling(&["rollout.max_tokens=16"]).recorded();
        assert!(
            sampling(&["rollout.max_tokens=16", "rollout.concurrent_groups=2"])
                .hold(&run, &[])
                .is_ok()
        );
        let judged = "rollout.reward.command=[\"python3\", \"/opt/judge.py\"]";
        for (set, says) in [
            ("seed=3", "seed is 3 here and 0 in the run"),
            (
                "rollout.max_tokens=4",
                "rollout.max_tokens is 4 here and 16 in the run",
            ),
            (
                "rollout.temperature=0.5",
                "rollout.temperature is 0.5 here and 1.0",
            ),
            ("rollout.top_k=5", "rollout.top_k is 5 here and 0 in"),
            ("prompts.chat=true", "prompts.chat is true here and false"),
            (
                "prompts.columns.answer=a",
                "prompts.columns.answer is \"a\" here and none",
            ),
            (
                "rollout.reward.kind=number",
                "rollout.reward.kind is \"number\" here and \"exact\"",
            ),
            (
                judged,
                "rollout.reward.command is [\"python3\", \"judge.py\"] here and [] in",
            ),
            (
                "rollout.environment.command=[\"world\"]",
                "rollout.environment.command is [\"world\"]",
            ),
        ] {
            let mut own = vec!["rollout.max_tokens=16"];
            own.push(set);
            let refused = sampling(&own).hold(&run, &[]);
            let refused = refused.expect_err(set).to_string();
            assert!(refused.contains(says), "{refused}");
        }
    }

    #[test]
    fn a_command_may_be_elsewhere_on_another_machine() {
        let command = |path: &str| format!("rollout.reward.command=[\"python3\", \"{path}\"]");
        let run = sampling(&[&command("judges/judge.py")]).recorded();
        assert!(
            sampling(&[&command("/opt/judge.py")])
                .hold(&run, &[])
                .is_ok()
        );
        assert!(
            sampling(&[&command("/opt/other.py")])
                .hold(&run, &[])
                .is_err()
        );
    }

    #[test]
    fn what_every_rollout_carries_may_differ_if_it_is_accepted() {
        let run = sampling(&["rollout.max_tokens=16"]).recorded();
        let accepted = ["rollout.max_tokens", "rollout.temperature"].map(str::to_owned);
        check_accepted(&accepted).expect("both may differ");
        assert!(check_accepted(&["seed".to_owned()]).is_err());
        let other = sampling(&["rollout.max_tokens=8", "rollout.temperature=0.7"]);
        assert!(other.hold(&run, &accepted).is_ok());
        let refused = other
            .hold(&run, &accepted[..1])
            .expect_err("a temperature")
            .to_string();
        assert!(
            refused.contains("by --accept rollout.temperature"),
            "{refused}"
        );
        let longer = sampling(&["rollout.max_tokens=32"]).hold(&run, &accepted);
        let refused = longer.expect_err("longer").to_string();
        assert!(!refused.contains("--accept"), "{refused}");
        // A run of an older build.
        assert!(other.hold(&BTreeMap::new(), &[]).is_ok());
    }
}
