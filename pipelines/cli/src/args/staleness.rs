//! Arguments of `vintage staleness`.
use std::path::PathBuf;

use clap::Args;

const STALENESS: &str = "\
Examples:
  vintage staleness runs/a                        one sentence, and a table by staleness
  vintage staleness runs/a --html ages.html       charts too, in one file
  vintage staleness runs/a --groups 256 --versions 8
  vintage staleness runs/a --output json | jq '.ages[] | [.staleness, .m2, .losses.grpo.masked]'

Nothing is trained. Versions that are no longer in the store cannot be recomputed:
learner.keep_versions keeps more of them, and one in evaluation.every always stays. The sentence
names the largest staleness up to which M2PO would mask nothing: docs/staleness.md.";

/// Says how old rollouts may be: how off-policy a run's would be at each staleness.
///
/// Archived groups are recomputed under later versions of the policy, at staleness 0, 1, 2, 4, 8 and
/// so on: second moment of the log-ratio, effective sample size, tails of the ratio, and the tokens
/// that each loss would mask or truncate.
#[derive(Debug, Args)]
#[command(after_long_help = STALENESS)]
pub(crate) struct StalenessArgs {
    /// Folder of the run.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Largest number of groups to recompute at each staleness, drawn at random.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) groups: usize,
    /// Number of versions under which groups of one staleness are recomputed.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) versions: usize,
    /// Page with charts to write; none if not given.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Learner whose policy sampled the rollouts; the lead if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<vintage_control::Name>,
}
