//! Arguments of `vintage mismatch`.
use std::path::PathBuf;

use clap::Args;

const MISMATCH: &str = "\
Examples:
  vintage mismatch runs/a                         256 rollouts of each engine
  vintage mismatch runs/a --rows 4096 --by-producer
  vintage mismatch runs/a --output json | jq '.engines[].mismatch.kl'

Only versions that are still in the store can be recomputed: learner.keep_versions keeps more of
them. Exit code 3 if an engine is beyond the tolerance; the likely cause is printed then.";

/// Recomputes archived log-probs under the versions that sampled the tokens.
///
/// A learner divides by the log-probs that engines report, so an engine that reports others than it
/// sampled by biases every update. The weights of a version are in the store, and the log-probs can
/// be computed again: mean difference, divergence, tails and the worst token, by engine and
/// version.
#[derive(Debug, Args)]
#[command(after_long_help = MISMATCH)]
pub(crate) struct MismatchArgs {
    /// Folder of the run.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Number of rollouts to recompute of each engine, drawn at random.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) rows: usize,
    /// Measure each producer process apart, even if several have the same engine.
    #[arg(long)]
    pub(crate) by_producer: bool,
    /// Largest mean difference that is accepted, in nats a token; learner.mismatch.tolerance of the
    /// run if not given.
    #[arg(long, value_name = "NATS")]
    pub(crate) tolerance: Option<f64>,
    /// Learner whose policy sampled the rollouts; the lead if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<vintage_control::Name>,
}
