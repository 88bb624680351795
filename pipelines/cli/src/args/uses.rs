//! Arguments of `vintage uses`.
use std::path::PathBuf;

use clap::Args;
use vintage_control::Name;

const USES: &str = "\
Examples:
  vintage uses runs/a --to uses.parquet
  duckdb -c \"SELECT staleness, avg(reward) FROM 'uses.parquet' GROUP BY 1 ORDER BY 1\"

One row for each rollout that an update trained: update, first_trained, group, incarnation, partition, offset,
producer, producer_seq, sample_index, prompt_id, oldest_version, newest_version, staleness, tokens, reward,
advantage, update_masked_share. Group and sample_index, or incarnation, partition and offset, join it with the archive.";

/// Writes which update trained which rollout as a Parquet file.
#[derive(Debug, Args)]
#[command(after_long_help = USES)]
pub(crate) struct UsesArgs {
    /// Folder of the run.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// File to write; must not exist.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// Learner whose updates are meant; the lead if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<Name>,
}
