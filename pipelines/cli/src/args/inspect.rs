//! Arguments of `vintage inspect`.
use std::path::PathBuf;

use clap::Args;

use super::ConfigArgs;

const INSPECT: &str = "\
Examples:
  vintage inspect runs/a                             what a run holds
  vintage inspect runs/a/archive                     files, offsets, versions
  vintage inspect runs/a --rows --limit 3            and the rollouts in it
  vintage inspect vintage.run.rollouts.v1 --broker localhost:9092 --output json | jq .reward
  vintage inspect vintage.run.rollouts.v1 --broker local --out runs/a
  kcat -C -b localhost:9092 -t vintage.run.rollouts.v1 -c 1 | vintage inspect -";

/// Shows the contents of a topic, an archive, a run or a single message.
#[derive(Debug, Args)]
#[command(after_long_help = INSPECT)]
pub(crate) struct InspectArgs {
    /// Folder of a run, folder of an archive, a topic, or - for one message on standard input.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// Shows the rollouts of an archive, or of a run's archive, instead of the files.
    #[arg(long, conflicts_with = "verify")]
    pub(crate) rows: bool,
    /// Maximum number of records (topics, rows of an archive). [default: 10]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Partition to show; all if not given.
    #[arg(long, value_name = "P")]
    pub(crate) partition: Option<i32>,
    /// First offset to show; of a topic, its oldest record if not given.
    #[arg(long, value_name = "OFFSET")]
    pub(crate) from: Option<i64>,
    /// Reads every byte of an archive, or of a run's archive, and checks it.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Folder of the run to which a topic belongs, whose settings and local broker are used.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}
