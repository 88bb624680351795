//! Arguments of experiments whose runs are processes.

use clap::{Args, ValueEnum};

use crate::exit::Usage;

/// Seeds, task, number of runs at a time, and settings of all of them.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunsArgs {
    /// Number of seeds. [default: 5, or 1 with --quick]
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// First seed.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) first_seed: u64,
    /// Built-in task (setting `prompts.task`).
    #[arg(long, value_enum, value_name = "TASK", default_value_t)]
    pub(crate) task: Task,
    /// Number of runs at a time. [default: the number of cores, divided by --threads]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Threads that compute in a run. Results do not depend on it.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: u16,
    /// Says which runs there are and what they will take, and starts none.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Setting of every run, for example --set rollout.group_size=16; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// Setting that an experiment gives its runs itself, which --set may not change, and how or why.
pub(crate) type Taken = (&'static str, &'static str);

/// Settings that every experiment gives its runs itself.
const TAKEN: [Taken; 5] = [
    ("prompts.task", "by --task"),
    ("seed", "by --first-seed and --seeds"),
    ("broker", "because each run has an embedded one"),
    ("store", "because each run has its folder"),
    (
        "metrics.listen",
        "because runs at a time cannot share a port",
    ),
];

impl RunsArgs {
    /// Refuses a value of --set that is the experiment's own: one of `taken`, or of those of every experiment.
    pub(crate) fn check_taken(&self, taken: &[Taken]) -> Result<(), Usage> {
        let keys = || self.set.iter().filter_map(|text| text.split_once('='));
        let is_set = |name: &str| keys().any(|(key, _)| key.trim() == name);
        let mut taken = taken.iter().chain(&TAKEN);
        match taken.find(|(name, _)| is_set(name)) {
            None => Ok(()),
            Some((setting, how)) => Err(Usage::new(format!(
                "--set {setting}: the experiment gives this setting itself, {how}"
            ))),
        }
    }

    /// Returns the number of seeds; one is enough for a `quick` experiment.
    pub(crate) fn seeds(&self, quick: bool) -> u64 {
        self.seeds.unwrap_or(if quick { 1 } else { 5 })
    }

    /// Returns the number of runs at a time on a machine with so many cores.
    pub(crate) fn jobs(&self, cores: usize) -> usize {
        let usual = cores / usize::from(self.threads);
        self.jobs.map_or(usual, usize::from).max(1)
    }
}

/// Built-in task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Task {
    /// Digits in ascending order, found by the reward alone.
    #[default]
    Sort,
    /// Even digits, then odd ones: harder.
    EvensFirst,
    /// Running sums, known from the start and sharpened.
    Sums,
}

impl Task {
    /// Returns the name that the setting `prompts.task` has.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sort => "sort",
            Self::EvensFirst => "evens_first",
            Self::Sums => "sums",
        }
    }
}
