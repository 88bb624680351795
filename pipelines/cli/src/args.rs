//! The command line. The long help of every verb says what it does, what it needs and gives
//! examples.

mod bench;
mod broker;
mod candidates;
mod config;
mod curate;
mod eval;
mod experiment;
mod fleet;
#[cfg(test)]
mod hints;
mod inspect;
mod loss;
mod mismatch;
mod prune;
mod report;
mod reward;
mod samples;
mod selection;
mod serve;
mod staleness;
mod uses;
mod verbs;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

pub(crate) use bench::{
    ArchiveArmArgs, ArchiveBenchArgs, BenchArgs, BenchArm, BenchCommand, GenerateBenchArgs,
    PublishBenchArgs, PublishBenchShape, UpdateBenchArgs,
};
pub(crate) use broker::{BrokerArgs, BrokerCommand};
pub(crate) use config::ConfigArgs;
pub(crate) use curate::{CurateBenchArgs, CurateBenchArm, CurateBenchWorkload};
pub(crate) use eval::EvalArgs;
pub(crate) use experiment::{ExperimentArgs, ExperimentCommand, GridArgs, LockArgs, ReuseArgs};
pub(crate) use fleet::FleetBenchArgs;
pub(crate) use inspect::InspectArgs;
pub(crate) use mismatch::MismatchArgs;
pub(crate) use prune::PruneArgs;
pub(crate) use report::ReportArgs;
pub(crate) use reward::{RewardArgs, RewardCommand, RewardTestArgs};
pub(crate) use samples::SamplesArgs;
pub(crate) use selection::SelectionArgs;
pub(crate) use serve::ServeArgs;
pub(crate) use staleness::StalenessArgs;
pub(crate) use uses::UsesArgs;
pub(crate) use verbs::{
    ArchiveArgs, AuditArgs, CompletionsArgs, ConfigCommand, ConfigExplainArgs, ConfigShowArgs,
    DoctorArgs, ExportArgs, InitArgs, LearnArgs, ParityArgs, ReplayArgs, RoleArgs, RolloutArgs,
    RunArgs, TopicsArgs, TopicsCommand, Variant, WeighArgs,
};

const AFTER: &str = "\
Examples:
  vintage run                                   train the built-in task, about a minute
  vintage run --prompts mine.jsonl --out runs/mine
  vintage run --preset stale-256 --set algorithm=grpo
  vintage replay --exact runs/mine              the same training again, bit for bit
  vintage replay runs/mine --to old --broker localhost:9092
  vintage report runs/mine

Exit codes: 0 done; 1 the run failed; 2 wrong usage or configuration; 3 a check was negative;
130 or 143 interrupted (the first ^C finishes what is under way, the second stops at once).
Data goes to standard output, logs and progress to standard error.";

/// Trains language models by reinforcement learning on rollouts of any age.
///
/// Rollouts travel as Arrow over Kafka, every token tagged with the policy version that sampled
/// it. A learner trains on them with M2PO however stale they are; a Parquet archive keeps every
/// one; and any run can be resumed, inspected and replayed from its log.
#[derive(Debug, Parser)]
#[command(name = "vintage", version, after_long_help = AFTER, after_help = "See --help for examples and exit codes.")]
#[command(propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) shown: ShownArgs,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options that control what is printed, and how.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct ShownArgs {
    /// More log lines: -v for our steps, -vv for our details, -vvv for those of libraries too;
    /// RUST_LOG takes precedence.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// No progress, and no log lines except errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Format of log lines and progress; as JSON, progress is one object per event.
    #[arg(
        long,
        value_enum,
        default_value_t,
        global = true,
        hide_possible_values = false
    )]
    pub(crate) log_format: LogFormat,
    /// Format of results on standard output.
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(crate) output: OutputFormat,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Format of results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Text for people.
    #[default]
    Text,
    /// JSON for programs: one object, or one per line if there are many.
    Json,
}

/// Verbs of the program.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(Box<RunArgs>),
    Rollout(Box<RolloutArgs>),
    Learn(Box<LearnArgs>),
    Archive(Box<ArchiveArgs>),
    Replay(Box<ReplayArgs>),
    Audit(Box<AuditArgs>),
    Weigh(WeighArgs),
    Parity(ParityArgs),
    Mismatch(MismatchArgs),
    Staleness(StalenessArgs),
    Eval(Box<EvalArgs>),
    Export(ExportArgs),
    Serve(ServeArgs),
    Report(ReportArgs),
    Samples(SamplesArgs),
    Uses(UsesArgs),
    Reward(RewardArgs),
    Inspect(Box<InspectArgs>),
    Prune(Box<PruneArgs>),
    Topics(TopicsArgs),
    Broker(BrokerArgs),
    Doctor(Box<DoctorArgs>),
    /// Shows the configuration and where each value comes from.
    #[command(subcommand)]
    Config(ConfigCommand),
    Init(InitArgs),
    Bench(BenchArgs),
    Experiment(ExperimentArgs),
    Completions(CompletionsArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_says_what_it_does_and_how_in_its_long_help() {
        for verb in Cli::command().get_subcommands() {
            let name = verb.get_name();
            assert!(verb.get_about().is_some(), "{name} has no help");
            if !verb.has_subcommands() {
                assert!(
                    verb.get_after_long_help().is_some(),
                    "{name} has no examples"
                );
            }
        }
    }

    #[test]
    fn a_version_under_the_programs_own_flag_is_refused_with_the_right_one() {
        for (words, option) in [
            ("export runs/a --to x --version 77", "--policy-version"),
            ("export runs/a --to x --version=77", "--policy-version"),
            ("export --version", "--policy-version"),
            ("serve runs/a --version 3", "--policy-version"),
            ("replay runs/a --to x --version 3..9", "--versions"),
            ("replay runs/a --exact --version 3", "--versions"),
        ] {
            let refused = Cli::try_parse_from(["vintage"].into_iter().chain(words.split(' ')));
            let refused = refused.expect_err("refused");
            assert!(refused.use_stderr(), "{words}: {refused}");
            assert!(refused.to_string().contains(option), "{words}: {refused}");
        }
        for words in ["--version", "run --version"] {
            let refused = Cli::try_parse_from(["vintage"].into_iter().chain(words.split(' ')));
            assert!(!refused.expect_err("the version").use_stderr(), "{words}");
        }
        let export = "vintage export runs/a --to x --policy-version 77";
        assert!(Cli::try_parse_from(export.split(' ')).is_ok());
    }
}
