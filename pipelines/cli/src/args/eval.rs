//! Arguments of `vintage eval`.
use std::{convert::Infallible, path::PathBuf};

use clap::Args;
use vintage_control::Name;

use super::{config::ConfigArgs, verbs::no_policy_version};

const EVAL: &str = "\
Examples:
  vintage eval runs/a                                 the newest version, on the run's held-out prompts
  vintage eval runs/a --policy-version 0 --policy-version 400 --samples 16
  vintage eval runs/a --name b --prompts other.jsonl  a follower's policy on other prompts
  vintage eval models/Qwen3-0.6B --prompts gsm8k.jsonl --set rollout.reward.kind=math \\
    --set prompts.chat=true --set rollout.max_tokens=256
  vintage eval runs/a --output json | jq '.versions[].sampled.pass_at'
  vintage eval runs/a --follow                        every version that is due, as the run publishes it
  vintage eval runs/a --follow --name b               the same of a follower's

A run is evaluated with its own settings, which --set changes: reward, chat, largest number of
tokens. Nothing is written, but with --follow the results that `vintage run` writes: one for every
evaluation.every-th version and the last. Versions that are no longer in the store cannot be evaluated:
learner.keep_versions keeps more of them.";

/// Evaluates a model, or versions of a run's policy, on held-out prompts.
///
/// Every prompt is answered once greedily and several times by sampling. The mean reward is printed
/// with its 95 % interval over the prompts, and where rewards are 0 or 1 the share of prompts of
/// which one of k answers is right.
#[derive(Debug, Args)]
#[command(after_long_help = EVAL, disable_version_flag = true)]
pub(crate) struct EvalArgs {
    /// Folder of a run, Hugging Face folder of a model, or hf://OWNER/NAME.
    #[arg(value_name = "RUN|MODEL")]
    pub(crate) what: PathBuf,
    /// Version of a run's policy; may be repeated. The newest if not given.
    #[arg(long, value_name = "N")]
    pub(crate) policy_version: Vec<u64>,
    /// Refused name of the version, which would print the program's own.
    #[arg(long = "version", hide = true, num_args = 0..=1, default_missing_value = "", value_parser = no_policy_version)]
    _version: Option<Infallible>,
    /// Learner of a run whose policy is evaluated; the lead if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<Name>,
    /// Prompts to answer (setting `prompts.heldout`); those of the run if not given.
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: Option<PathBuf>,
    /// Largest number of prompts, from the start of the file; all if not given.
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) count: Option<usize>,
    /// Answers to each prompt.
    #[arg(long, value_name = "K", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) samples: u16,
    /// Temperature of the sampled answers.
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = temperature)]
    pub(crate) temperature: f32,
    /// Evaluate the versions of a run that are due, those already there and each as it appears, and
    /// record the results in the run; until its last update, or ^C.
    #[arg(long, conflicts_with_all = ["policy_version", "prompts", "count", "samples", "temperature"])]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

fn temperature(text: &str) -> Result<f32, String> {
    let read: f32 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.001..=1000.0).contains(&read) {
        Ok(read)
    } else {
        Err("a temperature is from 0.001 to 1000; the greedy answer is always given".to_owned())
    }
}
