//! Arguments of `vintage experiment`.

mod reuse;
mod runs;
mod staleness;

pub(crate) use self::{reuse::ReuseArgs, staleness::GridArgs};
use clap::{Args, Subcommand, ValueEnum};
use vintage_experiment::lock::{self, ObservedSettings, Scales, Settings};

/// Runs experiments: losses on data of every age, and small problems with exact answers.
#[derive(Debug, Args)]
pub(crate) struct ExperimentArgs {
    #[command(subcommand)]
    pub(crate) command: ExperimentCommand,
}

/// Experiment to run.
#[derive(Debug, Subcommand)]
pub(crate) enum ExperimentCommand {
    /// Compares ways to learn from an archive and live data on a combination lock: HyGLOW, GLOW, H2O and
    /// fitted Q-iteration, with clipped and unclipped density ratios.
    Lock(LockArgs),
    /// Compares losses at fixed values of staleness: full runs of the built-in task, several seeds, one page.
    ///
    /// Says first which runs there are and what they will take. The first ^C has the runs under way write a
    /// checkpoint and end; the same command goes on.
    Staleness(GridArgs),
    /// Compares ways to train rollouts more than once, or on another run's archive: full runs of the built-in task,
    /// several seeds, one page.
    ///
    /// Says first which runs there are and what they will take. The first ^C has the runs under way write a
    /// checkpoint and end; the same command goes on.
    Reuse(ReuseArgs),
}

const LOCK: &str = "\
Examples:
  vintage experiment lock --quick
  vintage experiment lock --seeds 100 --output json
  vintage experiment lock --archive 0.5,0.3 --gamma 0.3 --observations 0

The lock has 6 layers of 3 actions: one code of 729 opens it (reward 1 with a chance of 0.9), the first wrong
action is final (0.1). docs/lock.md has the table and says what it shows. The result is a function of
the arguments.";

/// Arguments of `vintage experiment lock`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = LOCK)]
pub(crate) struct LockArgs {
    /// Number of seeds. [default: 100, or 10 with --quick]
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// First seed.
    #[arg(long, value_name = "N", default_value_t = 0)]
    first_seed: u64,
    /// Takes a few seconds: 10 seeds, 1 and 4 observations.
    #[arg(long)]
    quick: bool,
    /// Chances that the archive's policy does the right action. [default: 0.6,0.4,1/3]
    #[arg(long, value_name = "Q,…", value_delimiter = ',')]
    archive: Vec<f64>,
    /// Live episodes of a method.
    #[arg(long, value_name = "N", default_value_t = 150)]
    episodes: usize,
    /// Slope of the clip of true density ratios: gamma times the number of the episode.
    #[arg(long, value_name = "G", default_value_t = 0.1)]
    gamma: f64,
    /// Factor of the penalty 8 / (gamma t) of clipped true ratios; 0 = no penalty.
    #[arg(long, value_name = "F", default_value_t = 0.0)]
    alpha_scale: f64,
    /// Factor of GLOW's threshold 1152 log(6 |F| |W| T H / delta). [default: 0.05 / 1152]
    #[arg(long, value_name = "F")]
    beta_scale: Option<f64>,
    /// Chance of failure in GLOW's threshold.
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    delta: f64,
    /// Functions of the class that promise nothing for a code.
    #[arg(long, value_enum, value_name = "KIND", default_value_t = Decoys::Plain)]
    decoys: Decoys,
    /// Numbers of observations of a state; 0 leaves that part out. [default: 1,2,4,8,16]
    #[arg(long, value_name = "M,…", value_delimiter = ',')]
    observations: Vec<usize>,
    /// Decoders of observations in the class.
    #[arg(long, value_name = "N", default_value_t = 8)]
    decoders: usize,
}

/// Functions of the class that promise nothing for a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Decoys {
    /// 0 for the code's actions, the lure's chance for all others; failures contradict them.
    Plain,
    /// Optimal functions of a lock that pays nothing; no failure contradicts them.
    Consistent,
}

impl LockArgs {
    /// Returns the settings of the experiment.
    pub(crate) fn settings(&self) -> Settings {
        let base = if self.quick {
            Settings::quick()
        } else {
            Settings::default()
        };
        let observed = base.observed.clone().unwrap_or_default();
        let observed = ObservedSettings {
            observations: if self.observations.is_empty() {
                observed.observations
            } else {
                self.observations.clone()
            },
            decoders: self.decoders,
            ..observed
        };
        let scales = Scales {
            gamma: self.gamma,
            alpha_scale: self.alpha_scale,
            beta_scale: self.beta_scale.unwrap_or(base.scales.beta_scale),
            delta: self.delta,
        };
        Settings {
            seeds: self.seeds.unwrap_or(base.seeds),
            first_seed: self.first_seed,
            episodes: self.episodes,
            decoys: match self.decoys {
                Decoys::Plain => lock::Decoys::Plain,
                Decoys::Consistent => lock::Decoys::Consistent,
            },
            qualities: if self.archive.is_empty() {
                base.qualities.clone()
            } else {
                self.archive.clone()
            },
            observed: (observed.observations != [0]).then_some(observed),
            ..base
        }
        .with_scales(scales)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{ExperimentCommand, Settings, lock};
    use crate::args::{Cli, Verb};

    fn settings(words: &str) -> Settings {
        let words = ["vintage", "experiment", "lock"]
            .into_iter()
            .chain(words.split_whitespace());
        match Cli::try_parse_from(words).expect("arguments").verb {
            Verb::Experiment(args) => match args.command {
                ExperimentCommand::Lock(args) => args.settings(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_arguments_the_settings_are_those_of_the_table() {
        assert_eq!(settings(""), Settings::default());
        assert_eq!(settings("--quick"), Settings::quick());
    }

    #[test]
    fn arguments_reach_the_settings() {
        let found = settings("--quick --seeds 3 --archive 0.5,0.2 --gamma 0.3 --observations 0");
        assert_eq!((found.seeds, found.qualities), (3, vec![0.5, 0.2]));
        assert!(found.observed.is_none());
        assert_eq!(
            settings("--decoys consistent").decoys,
            lock::Decoys::Consistent
        );
        let slopes = found
            .methods
            .iter()
            .filter(|method| format!("{method:?}").contains("Some(0.3)"));
        assert_eq!(slopes.count(), 1);
    }
}
