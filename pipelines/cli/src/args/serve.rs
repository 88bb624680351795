//! Arguments of `vintage serve`.
use std::{convert::Infallible, net::SocketAddr, path::PathBuf};

use clap::Args;

use super::verbs::no_policy_version;

const SERVE: &str = "\
Examples:
  vintage serve runs/a                                the newest version of a run's policy
  vintage serve runs/a --policy-version 100 --listen 127.0.0.1:8001
  vintage serve models/Qwen3-0.6B --model-name policy
  curl -s localhost:8000/v1/completions -d '{\"prompt\": \"12+7=\", \"max_tokens\": 4}'
  vintage run --set rollout.engine=vllm --set 'rollout.endpoints=[\"http://127.0.0.1:8000\"]' …

GET /health, /version, /v1/models; POST /v1/completions, /v1/chat/completions and
/inference/v1/generate; and the calls by which a run changes a server's weights. A field that is not
known is refused with its name. It computes on this machine's CPU, in one continuous batch: for many
tokens take vLLM.
With --output json it prints one line once it listens. The first ^C answers what has come.";

/// Serves a model, or a version of a run's policy, over vLLM's HTTP.
///
/// The engine is the one in the process of `vintage run`: log-probs are over the whole vocabulary at
/// the sampling temperature, and a seed gives the same tokens. A request joins those that are being
/// sampled. Weights are changed when these have ended, so all tokens of a completion are of one version.
#[derive(Debug, Args)]
#[command(after_long_help = SERVE, disable_version_flag = true)]
pub(crate) struct ServeArgs {
    /// Folder of a run, Hugging Face folder of a model, or hf://OWNER/NAME.
    #[arg(value_name = "RUN|MODEL")]
    pub(crate) what: PathBuf,
    /// Version of a run's policy; the newest if not given.
    #[arg(long, value_name = "N")]
    pub(crate) policy_version: Option<u64>,
    /// Refused name of the version, which would print the program's own.
    #[arg(long = "version", hide = true, num_args = 0..=1, default_missing_value = "", value_parser = no_policy_version)]
    _version: Option<Infallible>,
    /// Learner of a run whose policy is served; the lead if not given.
    #[arg(long, value_name = "NAME", alias = "learner")]
    pub(crate) name: Option<vintage_control::Name>,
    /// Name of the model in requests. [default: the folder's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) model_name: Option<String>,
    /// Address to listen at; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub(crate) listen: SocketAddr,
    /// Lets clients pause the engine and load weights although the address is not on loopback:
    /// anybody who reaches it can. On loopback they always may.
    #[arg(long)]
    pub(crate) control: bool,
    /// Largest number of tokens that are sampled together, prompts and longest completions; their
    /// keys and values are what sampling needs memory for. A chat without max_tokens counts as the
    /// whole context.
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    pub(crate) batch_tokens: usize,
}
