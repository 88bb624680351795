//! Report as text.

use std::fmt::Write as _;

use super::report::{Cell, Contrast, Report};
use crate::text::{aligned, missing, of_all, percent, points, seeds, share, small};

impl Report {
    /// Formats the report for people: the table, differences, runs that did not finish.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n\n", self.caption());
        out += &aligned(&Self::HEAD, &self.rows());
        if !self.contrasts.is_empty() {
            out += "\ndifference in points of sampled accuracy, same seeds\n";
            let rows = self.contrasts.iter().map(Contrast::row);
            out += &aligned(&Contrast::HEAD, &rows.collect::<Vec<_>>());
        }
        for line in self.missing() {
            let _infallible = writeln!(out, "{line}");
        }
        out
    }

    /// Returns what the numbers of the table are, in one paragraph.
    pub fn caption(&self) -> String {
        let grid = &self.grid;
        let seeds = seeds(grid.first_seed, grid.seeds);
        let mut rates: Vec<_> = grid.losses.iter().map(|loss| loss.lr).collect();
        rates.dedup();
        let tuning = match rates[..] {
            [one] => format!("learning rate {one:e} for every loss, tuned for none"),
            _ => "learning rates as given, loss by loss".to_owned(),
        };
        format!(
            "Accuracy in % on {} held-out prompts: mean of the last four evaluations; area: mean of all. \
             {} updates a run, {tuning}; {seeds}. {} of {} runs finished, {} failed.",
            self.counts.prompts,
            grid.updates,
            self.counts.finished,
            self.trials.len(),
            self.counts.failed,
        )
    }

    /// Column heads of the table.
    pub const HEAD: [&str; 16] = [
        "staleness",
        "loss",
        "seeds",
        "sampled",
        "from fresh",
        "greedy",
        "area",
        "greedy area",
        "masked",
        "M2 bounded",
        "M2 other",
        "effective",
        "cosine",
        "entropy",
        "far",
        "collapsed",
    ];

    /// Returns the cells of the table, row by row.
    pub fn rows(&self) -> Vec<Vec<String>> {
        self.cells.iter().map(Cell::row).collect()
    }

    /// Returns a line for each run that did not finish.
    pub fn missing(&self) -> Vec<String> {
        missing(&self.trials, |_| self.grid.updates)
    }
}

/// Formats a number of runs and the first update or version of them.
fn first(runs: u64, at: Option<u64>) -> String {
    at.map_or_else(|| "0".to_owned(), |at| format!("{runs}, first at {at}"))
}

impl Cell {
    fn row(&self) -> Vec<String> {
        let seeds = of_all(self.seeds.len(), self.missing);
        let mut row = vec![self.staleness.to_string(), self.loss.to_owned(), seeds];
        let Some(means) = &self.means else {
            row.resize(Report::HEAD.len(), String::new());
            return row;
        };
        row.extend([
            percent(means.sampled_last),
            means.from_fresh.map_or_else(String::new, points),
            percent(means.greedy_last),
            percent(means.sampled_area),
            percent(means.greedy_area),
            format!("{:.2} %", 100.0 * means.masked_share),
            small(means.m2_bounded),
            means.m2_other.map_or_else(String::new, small),
            means.effective_rows.map_or_else(String::new, share),
            means
                .gradient_cosine
                .map_or_else(String::new, |cosine| format!("{cosine:.2}")),
            format!("{:.3}", means.entropy),
            first(means.drifted, means.first_drift),
            first(means.collapsed, means.first_collapse),
        ]);
        row
    }
}

impl Contrast {
    /// Column heads of the table of differences.
    pub const HEAD: [&str; 4] = ["staleness", "difference", "seeds", "points"];

    /// Returns the cells of its row.
    pub fn row(&self) -> Vec<String> {
        vec![
            self.staleness.to_string(),
            format!("{} - {}", self.loss, self.from),
            self.seeds.to_string(),
            points(self.difference),
        ]
    }
}
