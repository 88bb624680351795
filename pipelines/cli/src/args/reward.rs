//! Arguments of `vintage reward`.
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::config::ConfigArgs;

/// The reward that judges completions.
#[derive(Debug, Args)]
pub(crate) struct RewardArgs {
    #[command(subcommand)]
    pub(crate) command: RewardCommand,
}

/// Actions on a reward.
#[derive(Debug, Subcommand)]
pub(crate) enum RewardCommand {
    Test(Box<RewardTestArgs>),
}

const TEST: &str = "\
Examples:
  vintage reward test --prompts mine.jsonl --completion 'The answer is 7'
  vintage reward test --prompts mine.jsonl --set 'rollout.reward.command=[\"python3\",\"judge.py\"]'
  vintage reward test models/Qwen3-0.6B -c mine.toml --samples 4
  vintage reward test runs/a                          the run's own prompts, reward and newest version

Exit code 3 if a completion gets no reward. Nothing is written.";

/// Judges a few completions with the reward of a run, before anything is trained.
///
/// For each of the first prompts it shows the text that a model completes, and the rewards of the
/// known answer, of an empty completion, of those given with --completion, and of those sampled by
/// the model or run, if one is named.
#[derive(Debug, Args)]
#[command(after_long_help = TEST)]
pub(crate) struct RewardTestArgs {
    /// Folder of a run, Hugging Face folder of a model, or hf://OWNER/NAME, which samples
    /// completions; the setting `model.path` if not given.
    #[arg(value_name = "RUN|MODEL")]
    pub(crate) what: Option<PathBuf>,
    /// Prompts to try (setting `prompts.train`).
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: Option<PathBuf>,
    /// Number of prompts, from the start of the file.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) count: usize,
    /// Completion to judge for every prompt; may be repeated.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) completion: Vec<String>,
    /// Completions to sample for each prompt, where there is a model.
    #[arg(long, value_name = "K", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) samples: u16,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}
