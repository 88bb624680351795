//! Arguments of `vintage bench curate`.

use clap::{Args, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  vintage bench curate
  vintage bench curate --rows 64,512,4096 --size 16,64,256 --output json
  vintage bench curate --rows 64000,1000000 --size 20 --curators sieve,levels

One update inserts a candidate and deletes the oldest of the window, which slides by its own length.
A million rows take long; --updates ends a measurement earlier, before every structure has
paid for its rare rebuilds. Calls and values are a function of the seed; times are not.";

/// Arguments of `vintage bench curate`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CurateBenchArgs {
    /// Live rows of the window.
    #[arg(
        long,
        visible_alias = "window",
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "500,2000,8000"
    )]
    pub(crate) rows: Vec<usize>,
    /// Sizes of the chosen set.
    #[arg(
        long,
        value_name = "K,…",
        value_delimiter = ',',
        default_value = "20,50"
    )]
    pub(crate) size: Vec<usize>,
    /// Accuracy of levels and sieve, from 0.01 to 0.5.
    #[arg(long, value_name = "E", default_value_t = 0.2)]
    pub(crate) epsilon: f64,
    /// Updates between two questions for the set, in the totals.
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "1,16"
    )]
    pub(crate) every: Vec<usize>,
    /// Most updates of a measurement. [default: as many as there are rows, at least 2000]
    #[arg(long, value_name = "N")]
    pub(crate) updates: Option<usize>,
    /// Curators to measure beside lazy greedy. [default: all]
    #[arg(long, value_enum, value_name = "NAME,…", value_delimiter = ',')]
    curators: Vec<CurateBenchArm>,
    /// Objective, with candidates for it.
    #[arg(long, value_enum, value_name = "NAME", default_value_t = CurateBenchWorkload::Groups)]
    pub(crate) workload: CurateBenchWorkload,
    /// Seed of candidates and draws.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

impl CurateBenchArgs {
    /// Returns the curators to measure, all unless chosen.
    pub(crate) fn curators(&self) -> Vec<CurateBenchArm> {
        if self.curators.is_empty() {
            CurateBenchArm::value_variants().to_vec()
        } else {
            self.curators.clone()
        }
    }
}

/// Curator to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CurateBenchArm {
    /// Sieve-streaming, with reruns after deletions.
    Sieve,
    /// Levels of samples for each guess of the optimum.
    Levels,
    /// Levels that also watch their samples.
    LevelsEager,
    /// Uniform sample.
    Uniform,
    /// Candidates inserted last.
    Newest,
}

/// Objective, with candidates for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CurateBenchWorkload {
    /// Groups of 8 rollouts, concave over their prompts, outcomes and lengths.
    Groups,
    /// Sets of features, of which some are common: weighted coverage.
    Coverage,
}
