//! Arguments of `vintage report`.
use std::path::PathBuf;

use clap::Args;

const REPORT: &str = "\
Examples:
  vintage report runs/a && xdg-open runs/a/report.html
  vintage report runs/a runs/b --to a-or-b.html
  vintage report runs/* --output json | jq .settings";

/// Writes a run's report.html: curves, the account of every group, producers, samples, settings.
///
/// The page is one file without dependencies. It can be written of a run that is still going or was
/// killed. Of several runs it shows what each came to, their curves in the same charts, and the
/// settings that differ.
#[derive(Debug, Args)]
#[command(after_long_help = REPORT)]
pub(crate) struct ReportArgs {
    /// Folder of the run, or of each run to compare.
    #[arg(value_name = "DIR", required = true)]
    pub(crate) folders: Vec<PathBuf>,
    /// Page to write. [default: report.html in the run's folder; of several runs comparison.html in
    /// the current folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}
