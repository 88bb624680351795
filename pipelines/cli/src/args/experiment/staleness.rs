//! Arguments of `vintage experiment staleness`.

use std::path::PathBuf;

use clap::Args;
use vintage_control::{Ages, AlgorithmName};
use vintage_experiment::staleness::{Arm, Grid, Loss, Staleness};

use super::runs::{RunsArgs, Taken};
use crate::args::loss::loss;

/// Learning rate of losses that have none of their own: the default of the built-in task.
const LR: f64 = 1e-4;

const STALENESS: &str = "\
Examples:
  vintage experiment staleness --quick                    at most five minutes on two idle cores
  vintage experiment staleness --dry-run                  which runs, and what they will take
  vintage experiment staleness --out runs/old --losses m2po,grpo,oapl --staleness 0,64,tail-256 --seeds 5
  vintage experiment staleness --quick --lr 1e-4,none=3e-5
  vintage experiment staleness --quick --task evens_first --set m2po.threshold=0.1 --output json

Each run is `vintage run --out DIR/LOSS-STALENESS-SEED` on the embedded broker, in a process of its own: it
can be audited, replayed and resumed by itself, and DIR/logs has what it said. The same command goes
on with what is unfinished; a folder whose runs have other settings is refused. More losses, values of staleness
and seeds may be added later. DIR/staleness.html is the page, DIR/staleness.json has its numbers.

Exit code 3 if a run failed; the others are done nevertheless.";

/// Arguments of `vintage experiment staleness`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = STALENESS)]
pub(crate) struct GridArgs {
    /// Folder of the runs and of the page. [default: runs/staleness, or runs/staleness-quick with --quick]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Losses, as the setting `algorithm` names them; the first is what others are compared with.
    #[arg(long, value_name = "LOSS,…", value_delimiter = ',', value_parser = loss, default_value = "m2po,grpo,none")]
    losses: Vec<AlgorithmName>,
    /// Values of staleness: every batch was sampled so many updates before (setting `gate.exact`). uniform-K and tail-K
    /// are batches of mixed ages up to K (`gate.ages`). [default: 0,32,128,256,512,uniform-256,tail-256, or 0,64 with
    /// --quick]
    #[arg(long, value_name = "K,…", value_delimiter = ',')]
    staleness: Vec<Staleness>,
    /// Number of updates of a run. [default: 1000, or 400 with --quick]
    #[arg(long, value_name = "N")]
    updates: Option<u64>,
    /// Learning rate of all losses, or LOSS=X of one. [default: 1e-4]
    #[arg(long, value_name = "X", value_delimiter = ',', value_parser = rate)]
    lr: Vec<Rate>,
    /// Takes at most five minutes on two idle cores: one seed, two values of staleness, 400 updates.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    pub(crate) runs: RunsArgs,
}

/// Learning rate, of one loss or of all.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rate {
    of: Option<AlgorithmName>,
    lr: f64,
}

/// Parses a learning rate: `X`, or `LOSS=X`.
fn rate(text: &str) -> Result<Rate, String> {
    let (of, number) = match text.split_once('=') {
        Some((name, number)) => (Some(loss(name)?), number),
        None => (None, text),
    };
    let lr: f64 = number
        .parse()
        .map_err(|_| format!("{number} is no number"))?;
    Ok(Rate { of, lr })
}

impl GridArgs {
    /// Settings that the experiment gives its runs itself, and how or why.
    pub(crate) const TAKEN: [Taken; 7] = [
        ("algorithm", "by --losses"),
        ("gate.exact", "by --staleness"),
        ("gate.ages", "by --staleness"),
        ("learner.steps", "by --updates"),
        ("learner.optimizer.lr", "by --lr"),
        (
            "learner.publish_every",
            "because exact staleness needs every version",
        ),
        ("learner.keep_versions", "by --staleness"),
    ];

    /// Returns the folder of the runs.
    pub(crate) fn folder(&self) -> PathBuf {
        let usual = if self.quick {
            "runs/staleness-quick"
        } else {
            "runs/staleness"
        };
        self.out.clone().unwrap_or_else(|| usual.into())
    }

    /// Returns the arms of the experiment.
    pub(crate) fn grid(&self) -> Grid {
        let rate_of = |name| {
            let own = self.lr.iter().rfind(|rate| rate.of == Some(name));
            let any = || self.lr.iter().rfind(|rate| rate.of.is_none());
            own.or_else(any).map_or(LR, |rate| rate.lr)
        };
        let loss = |name: &AlgorithmName| Loss {
            name: *name,
            lr: rate_of(*name),
        };
        let usual = || {
            let same: &[u64] = if self.quick {
                &[0, 64]
            } else {
                &[0, 32, 128, 256, 512]
            };
            let mixed: &[Ages] = if self.quick {
                &[]
            } else {
                &[Ages::Uniform, Ages::Tail]
            };
            let mixed = mixed.iter().map(|ages| Staleness {
                bound: 256,
                ages: *ages,
            });
            same.iter()
                .copied()
                .map(Staleness::same)
                .chain(mixed)
                .collect()
        };
        Grid {
            losses: self.losses.iter().map(loss).collect(),
            staleness: if self.staleness.is_empty() {
                usual()
            } else {
                self.staleness.clone()
            },
            first_seed: self.runs.first_seed,
            seeds: self.runs.seeds(self.quick),
            updates: self.updates.unwrap_or(if self.quick { 400 } else { 1000 }),
        }
    }

    /// Returns losses that --lr names and the experiment does not have.
    pub(crate) fn idle_rates(&self) -> Vec<&'static str> {
        let named = self.lr.iter().filter_map(|rate| rate.of);
        let idle = named.filter(|name| !self.losses.contains(name));
        idle.map(AlgorithmName::as_str).collect()
    }

    /// Returns the values of --set for the run of an arm: those of the experiment, then the user's.
    pub(crate) fn settings(&self, arm: &Arm, updates: u64) -> Vec<String> {
        let own = [
            format!("algorithm={}", arm.loss.as_str()),
            format!("gate.exact={}", arm.staleness.bound),
            format!("gate.ages={}", arm.staleness.ages.as_str()),
            format!("seed={}", arm.seed),
            format!("prompts.task={}", self.runs.task.as_str()),
            format!("learner.steps={updates}"),
            format!("learner.optimizer.lr={:e}", arm.lr),
            // Exact staleness needs every version, and as many of them as a batch is old.
            "learner.publish_every=1".to_owned(),
            format!(
                "learner.keep_versions={}",
                arm.staleness.bound.saturating_add(1)
            ),
        ];
        own.into_iter()
            .chain(self.runs.set.iter().cloned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use vintage_control::{
        Ages,
        AlgorithmName::{Grpo, M2po, None as Plain},
    };

    use super::GridArgs;
    use crate::args::{Cli, ConfigArgs, ExperimentCommand, Verb};

    fn parse(words: &str) -> Result<GridArgs, clap::Error> {
        let words = ["vintage", "experiment", "staleness"]
            .into_iter()
            .chain(words.split_whitespace());
        Ok(match Cli::try_parse_from(words)?.verb {
            Verb::Experiment(args) => match args.command {
                ExperimentCommand::Staleness(args) => args,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_quick_experiment_is_six_runs_and_the_whole_one_a_hundred_and_five() {
        let of = |words| parse(words).expect("arguments").grid().arms().len();
        assert_eq!((of("--quick"), of("")), (6, 105));
    }

    #[test]
    fn a_learning_rate_is_of_all_losses_or_of_one() {
        let grid = parse("--lr 2e-4,none=3e-5").expect("arguments").grid();
        let rates: Vec<_> = grid
            .losses
            .iter()
            .map(|loss| (loss.name, loss.lr))
            .collect();
        assert_eq!(rates, [(M2po, 2e-4), (Grpo, 2e-4), (Plain, 3e-5)]);
        let idle = parse("--losses m2po --lr oapl=1e-5").expect("arguments");
        assert_eq!(idle.idle_rates(), ["oapl"]);
        let refused = parse("--losses m3po")
            .expect_err("no such loss")
            .to_string();
        assert!(refused.contains("there are m2po, m2po_areal"), "{refused}");
    }

    #[test]
    fn a_run_has_the_settings_of_its_arm_and_the_users() {
        let args = parse("--quick --task sums --set evaluation.prompts=64").expect("arguments");
        assert!(args.runs.check_taken(&GridArgs::TAKEN).is_ok());
        let grid = args.grid();
        let arm = grid.arms()[4];
        let settings = ConfigArgs {
            set: args.settings(&arm, grid.updates),
            ..ConfigArgs::default()
        };
        let config = settings.resolve(None, &[]).expect("settings").config;
        assert_eq!(
            (config.algorithm.as_str(), config.gate.exact),
            ("grpo", Some(64))
        );
        assert_eq!(config.learner.keep_versions, 65);
        assert_eq!((config.evaluation.prompts, config.learner.steps), (64, 400));
        for (set, how) in [
            ("seed=3", "--first-seed"),
            ("gate.exact=3", "--staleness"),
            ("gate.ages=tail", "--staleness"),
        ] {
            let args = parse(&format!("--set {set}")).expect("arguments");
            let refused = args.runs.check_taken(&GridArgs::TAKEN);
            let refused = refused.expect_err("refused").to_string();
            assert!(refused.contains(how), "{refused}");
        }
    }

    #[test]
    fn ages_of_a_mix_are_a_setting_of_its_runs() {
        let args = parse("--quick --staleness 8,tail-64").expect("arguments");
        let grid = args.grid();
        let of = |arm: usize| {
            let settings = ConfigArgs {
                set: args.settings(&grid.arms()[arm], grid.updates),
                ..ConfigArgs::default()
            };
            let config = settings.resolve(None, &[]).expect("settings").config;
            (
                config.gate.exact,
                config.gate.ages,
                config.learner.keep_versions,
            )
        };
        assert_eq!(of(0), (Some(8), Ages::Same, 9));
        assert_eq!(of(3), (Some(64), Ages::Tail, 65));
    }

    #[test]
    fn runs_share_the_cores() {
        let args = parse("--threads 2").expect("arguments");
        assert_eq!((args.runs.jobs(8), args.runs.jobs(1)), (4, 1));
        assert_eq!(parse("--jobs 3").expect("arguments").runs.jobs(8), 3);
    }
}
