//! Arguments of `vintage samples`.
use std::path::PathBuf;

use clap::Args;
use vintage_control::{Name, UpdateNumber};
use vintage_flow::samples::Order;

const SAMPLES: &str = "\
Examples:
  vintage samples runs/a                     the rollouts sampled last
  vintage samples runs/a --worst --full      those with the lowest rewards, whole
  vintage samples runs/a --update 12         what update 12 trained
  vintage samples runs/a --prompt 3f2a90 --best
  vintage samples runs/a --count 1000 --output json | jq 'select(.finish_reason == \"length\")'

Rollouts come from the archive, so a run that goes on shows those archived so far.";

/// Shows archived rollouts: question, reference answer, completion, reward, and what became of
/// each.
#[derive(Debug, Args)]
#[command(after_long_help = SAMPLES)]
pub(crate) struct SamplesArgs {
    /// Folder of the run.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    order: OrderArgs,
    /// Only what this update trained.
    #[arg(long, value_name = "N")]
    update: Option<u64>,
    /// Only completions of the prompt with this id.
    #[arg(long, value_name = "ID")]
    pub(crate) prompt: Option<String>,
    /// Largest number of rollouts.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub(crate) count: usize,
    /// Whole texts, with their line breaks, instead of one line each.
    #[arg(long)]
    pub(crate) full: bool,
    /// Learner whose updates are meant; the lead if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<Name>,
}

/// Order of the rollouts: at most one of these.
#[derive(Debug, Args)]
#[group(multiple = false)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags of which clap takes one"
)]
struct OrderArgs {
    /// Rollouts sampled last. [default]
    #[arg(long)]
    last: bool,
    /// Rollouts with the highest rewards.
    #[arg(long)]
    best: bool,
    /// Rollouts with the lowest rewards.
    #[arg(long)]
    worst: bool,
    /// Rollouts with the most tokens.
    #[arg(long)]
    longest: bool,
}

impl SamplesArgs {
    /// Order of the rollouts.
    pub(crate) fn order(&self) -> Order {
        match &self.order {
            OrderArgs { best: true, .. } => Order::Best,
            OrderArgs { worst: true, .. } => Order::Worst,
            OrderArgs { longest: true, .. } => Order::Longest,
            OrderArgs { .. } => Order::Newest,
        }
    }

    /// Update that trained the rollouts, if one was named.
    pub(crate) fn update(&self) -> Option<UpdateNumber> {
        self.update.map(UpdateNumber)
    }
}
