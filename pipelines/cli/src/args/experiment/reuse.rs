//! Arguments of `vintage experiment reuse`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use vintage_experiment::reuse::{self, Arm, Plan};

use super::runs::{RunsArgs, Taken};

const REUSE: &str = "\
Examples:
  vintage experiment reuse remix --quick                 at most five minutes on two idle cores
  vintage experiment reuse samplers --dry-run            which runs, and what they will take
  vintage experiment reuse samplers --task evens_first --groups 6400 --seeds 5
  vintage experiment reuse hybrid --output json

Each run is `vintage run --out DIR/WAY-SEED` on the embedded broker, in a process of its own: it can be audited,
replayed and resumed by itself, and DIR/logs has what it said. Runs are on policy but for what they use
again (gate.exact = 0), so their numbers are functions of settings and seed. The same command goes on with what is
unfinished; a folder whose runs have other settings is refused. DIR/reuse.html is the page, DIR/reuse.json has
its numbers. docs/reuse.md says what was found.

Exit code 3 if a run failed; the others are done nevertheless.";

/// Arguments of `vintage experiment reuse`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = REUSE)]
pub(crate) struct ReuseArgs {
    /// Ways that are compared.
    #[arg(value_enum)]
    comparison: Comparison,
    /// Folder of the runs and of the page. [default: runs/reuse-COMPARISON-TASK, -quick with --quick]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Number of new groups of a run; of `hybrid`, those of a run on live groups alone. [default: 3200, or 640
    /// with --quick]
    #[arg(long, value_name = "N")]
    groups: Option<u64>,
    /// Learning rate of all ways but those that change it.
    #[arg(long, value_name = "X", default_value_t = 1e-4)]
    lr: f64,
    /// Sampled accuracy of the column that counts the new groups which it takes, from 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = share)]
    accuracy: f64,
    /// Takes at most five minutes on two idle cores: one seed, 640 new groups.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    pub(crate) runs: RunsArgs,
}

/// Ways that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Comparison {
    /// ReMix and its parts against on-policy GRPO.
    Remix,
    /// Choices of the groups that are trained again: uniform, newest, by priority, by spread, curated.
    Samplers,
    /// Another run's archive beside live rollouts.
    Hybrid,
}

/// Parses a share above 0, at most 1.
fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text} is no number"))?;
    if share > 0.0 && share <= 1.0 {
        Ok(share)
    } else {
        Err("must be above 0, at most 1".to_owned())
    }
}

impl ReuseArgs {
    /// Returns the settings that the experiment gives its runs itself, and how or why.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        let plan = self.plan();
        let mut taken = vec![
            ("gate.exact", "so that runs are functions of their settings"),
            ("learner.steps", "by --groups"),
            ("learner.optimizer.lr", "by --lr"),
            ("learner.archive", "by the way"),
            ("evaluation.every", "20 times a run"),
        ];
        for way in plan.comparison.ways() {
            let own = way.settings(&plan).into_iter();
            let others = own.filter(|(key, _)| taken.iter().all(|(other, _)| other != key));
            taken.extend(
                others
                    .map(|(key, _)| (key, "by the way"))
                    .collect::<Vec<_>>(),
            );
        }
        taken
    }

    /// Returns the folder of the runs.
    pub(crate) fn folder(&self) -> PathBuf {
        let quick = if self.quick { "-quick" } else { "" };
        let (comparison, task) = (self.plan().comparison.as_str(), self.runs.task.as_str());
        let usual = || format!("runs/reuse-{comparison}-{task}{quick}").into();
        self.out.clone().unwrap_or_else(usual)
    }

    /// Returns what is compared.
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            comparison: match self.comparison {
                Comparison::Remix => reuse::Comparison::Remix,
                Comparison::Samplers => reuse::Comparison::Samplers,
                Comparison::Hybrid => reuse::Comparison::Hybrid,
            },
            groups: self.groups.unwrap_or(if self.quick { 640 } else { 3200 }),
            first_seed: self.runs.first_seed,
            seeds: self.runs.seeds(self.quick),
            lr: self.lr,
        }
    }

    /// Returns the sampled accuracy that is to be reached.
    pub(crate) fn accuracy(&self) -> f64 {
        self.accuracy
    }

    /// Returns the values of --set for the run of an arm: those of the experiment, then the user's.
    pub(crate) fn settings(&self, arm: &Arm, plan: &Plan) -> Vec<String> {
        let mut settings = vec![
            format!("seed={}", arm.seed),
            format!("prompts.task={}", self.runs.task.as_str()),
        ];
        let of_way = arm.way.settings(plan).into_iter();
        settings.extend(of_way.map(|(key, value)| format!("{key}={value}")));
        if let Some(source) = arm.after() {
            let source = self.folder().join(source);
            settings.push(format!("learner.archive={}", source.display()));
        }
        settings.extend(self.runs.set.iter().cloned());
        settings
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser as _;
    use vintage_experiment::course::Arm as _;
    use vintage_settings::RunConfig;

    use super::ReuseArgs;
    use crate::args::{Cli, ConfigArgs, ExperimentCommand, Verb};

    fn parse(words: &str) -> ReuseArgs {
        let words = ["vintage", "experiment", "reuse"]
            .into_iter()
            .chain(words.split_whitespace());
        match Cli::try_parse_from(words).expect("arguments").verb {
            Verb::Experiment(args) => match args.command {
                ExperimentCommand::Reuse(args) => args,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    /// Returns the settings of every run, checked, with its name.
    fn resolved(args: &ReuseArgs) -> Vec<(String, RunConfig)> {
        let plan = args.plan();
        let of = |arm: vintage_experiment::reuse::Arm| {
            let settings = ConfigArgs {
                set: args.settings(&arm, &plan),
                ..ConfigArgs::default()
            };
            let config = settings.resolve(None, &[]).expect("settings").config;
            (arm.name(), config)
        };
        plan.arms().into_iter().map(of).collect()
    }

    #[test]
    fn every_way_has_settings_that_a_run_accepts_and_the_groups_that_it_says() {
        for comparison in ["remix", "samplers", "hybrid"] {
            let args = parse(&format!("{comparison} --quick"));
            let arms = args.plan().arms();
            for ((name, config), arm) in resolved(&args).into_iter().zip(arms) {
                let live = config.learner.live_groups() as u64;
                assert_eq!(live, arm.way.new, "{name}");
                assert_eq!(config.gate.exact, Some(0), "{name}");
            }
        }
    }

    #[test]
    fn what_makes_a_way_is_not_the_users() {
        for (comparison, setting) in [
            ("samplers", "learner.replay.sampler=uniform"),
            ("remix", "learner.kl.beta=0"),
            ("remix", "learner.reincarnation.at=9"),
            ("hybrid", "learner.blend_share=0.25"),
        ] {
            let args = parse(&format!("{comparison} --set {setting}"));
            let refused = args.runs.check_taken(&args.taken());
            let refused = refused.expect_err("refused").to_string();
            assert!(refused.contains("by the way"), "{refused}");
        }
        let args = parse("samplers --set rollout.group_size=4");
        assert!(args.runs.check_taken(&args.taken()).is_ok());
    }

    #[test]
    fn hybrids_take_the_archive_of_their_seeds_source() {
        let configs = resolved(&parse("hybrid --seeds 2 --out runs/x"));
        let of = |name: &str| {
            let found = configs.iter().find(|(found, _)| found == name);
            found.expect("a run").1.learner.archive.clone()
        };
        // Settings resolve it, so that it is found from any folder.
        let archive = of("hybrid_m2po-1").expect("an archive");
        let here = std::env::current_dir().expect("a folder");
        assert_eq!(Path::new(&archive), here.join("runs/x/source-1"));
        assert_eq!(of("live-1"), None);
    }
}
