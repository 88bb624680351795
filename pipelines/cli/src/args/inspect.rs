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

/// Look into a topic, an archive, a run or a single message.
#[derive(Debug, Args)]
#[command(after_long_help = INSPECT)]
pub(crate) struct InspectArgs {
    /// A run's folder, an archive's folder, a topic, or - for one message on standard input.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// Of an archive, or of a run's: the rollouts instead of the files.
    #[arg(long, conflicts_with = "verify")]
    pub(crate) rows: bool,
    /// At most so many records (topics, rows of an archive). [default: 10]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Only this partition.
    #[arg(long, value_name = "P")]
    pub(crate) partition: Option<i32>,
    /// From this offset on; of a topic, from its oldest record if not given.
    #[arg(long, value_name = "OFFSET")]
    pub(crate) from: Option<i64>,
    /// Read every byte of an archive, or of a run's, and check it.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Of a topic: folder of the run it belongs to, whose settings and local broker are taken.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}
