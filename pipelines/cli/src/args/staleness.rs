//! Arguments of `vintage staleness`.
use std::path::PathBuf;

use clap::Args;

const STALENESS: &str = "\
Examples:
  vintage staleness runs/a                        one sentence, and a table by staleness
  vintage staleness runs/a --html ages.html       charts too, in one file
  vintage staleness runs/a --groups 256 --versions 8
  vintage staleness runs/a --output json | jq '.ages[] | [.staleness, .m2, .losses.grpo.masked]'
  vintage staleness runs/a --gradients            the direction of each loss's gradient, too
  vintage staleness runs/a --gradients --losses m2po,grpo,none --fresh 1024

Nothing is trained. Versions that are no longer in the store cannot be recomputed:
learner.keep_versions keeps more of them, and one in evaluation.every always stays. The sentence
names the largest staleness up to which M2PO would mask nothing: docs/staleness.md.";

/// Says how old rollouts may be: how off-policy a run's would be at each staleness.
///
/// Archived groups are recomputed under later versions of the policy, at staleness 0, 1, 2, 4, 8 and
/// so on: second moment of the log-ratio, effective sample size, tails of the ratio, and the tokens
/// that each loss would mask or truncate. With --gradients, also the gradient of each loss on them, against
/// that of rollouts which the later version samples now.
#[derive(Debug, Args)]
#[command(after_long_help = STALENESS)]
pub(crate) struct StalenessArgs {
    /// Folder of the run.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Largest number of groups to recompute at each staleness, drawn at random. [default: 64, or 256 with
    /// --gradients]
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    groups: Option<usize>,
    /// Number of versions under which groups of one staleness are recomputed. [default: 4, or 8 with
    /// --gradients]
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    versions: Option<usize>,
    /// Computes the gradient of each loss, too, and compares its direction with the on-policy gradient: that of
    /// REINFORCE on fresh rollouts of the same version, with the run's prompts, temperature and reward.
    #[arg(long)]
    pub(crate) gradients: bool,
    /// Losses whose gradients are compared, as the setting `algorithm` names them; all if not given.
    #[arg(long, value_name = "LOSS,…", value_delimiter = ',', value_parser = super::loss::loss, requires = "gradients")]
    pub(crate) losses: Vec<vintage_control::AlgorithmName>,
    /// Number of groups that each version samples for the on-policy gradient, in batches of an update's size.
    #[arg(long, value_name = "N", default_value_t = 512, requires = "gradients", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) fresh: usize,
    /// Largest number of backward passes of --gradients. Fewer versions are taken if there would be more.
    #[arg(long, value_name = "N", default_value_t = 6000, requires = "gradients")]
    pub(crate) passes: u64,
    /// Seed of the fresh rollouts, beside the run's.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "gradients")]
    pub(crate) seed: u64,
    /// Page with charts to write; none if not given.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Learner whose policy sampled the rollouts; the lead if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<vintage_control::Name>,
}

impl StalenessArgs {
    /// Largest number of groups at each staleness. A direction needs more of them than a moment does.
    pub(crate) fn groups(&self) -> usize {
        self.groups.unwrap_or(if self.gradients { 256 } else { 64 })
    }

    /// Number of versions at each staleness.
    pub(crate) fn versions(&self) -> usize {
        self.versions.unwrap_or(if self.gradients { 8 } else { 4 })
    }
}
