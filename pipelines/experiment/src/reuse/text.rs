//! Report as text.

use std::fmt::Write as _;

use super::{
    report::{Contrast, Report, Row},
    way::Comparison,
};
use crate::{
    statistics::Spread,
    text::{aligned, missing, of_all, percent, points, seeds, share},
};

impl Report {
    /// Column heads of the table.
    pub const HEAD: [&str; 12] = [
        "way",
        "seeds",
        "new groups",
        "steps",
        "sampled",
        "difference",
        "greedy",
        "area",
        "area difference",
        "new groups to it",
        "effective",
        "collapsed",
    ];

    /// Formats the report for people: the table, what the ways are, runs that did not finish.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n\n", self.caption());
        out += &aligned(&Self::HEAD, &self.cells());
        if !self.contrasts.is_empty() {
            out += "\npairs: difference in points, same seeds, equal numbers of new groups but for hybrids\n";
            let rows = self.contrasts.iter().map(Contrast::cells);
            out += &aligned(&Contrast::HEAD, &rows.collect::<Vec<_>>());
        }
        out.push('\n');
        for way in self.plan.comparison.ways() {
            let _infallible = writeln!(out, "{}: {}", way.name, way.meaning);
        }
        for line in self.missing() {
            let _infallible = writeln!(out, "{line}");
        }
        out
    }

    /// Returns what the numbers of the table are, in one paragraph.
    pub fn caption(&self) -> String {
        let plan = &self.plan;
        let seeds = seeds(plan.first_seed, plan.seeds);
        let budget = match plan.comparison {
            Comparison::Hybrid => "Equal numbers of updates",
            Comparison::Remix | Comparison::Samplers => "Equal numbers of new groups",
        };
        format!(
            "{budget}, learning rate {:e}; accuracy in % on {} held-out prompts, mean of the last four \
             evaluations; area: mean of all; differences in points from {}, same seeds; new groups to it: until {} sampled accuracy; {seeds}. {} of {} runs \
             finished, {} failed.",
            plan.lr,
            self.counts.prompts,
            plan.comparison.baseline(),
            share(self.accuracy),
            self.counts.finished,
            self.trials.len(),
            self.counts.failed,
        )
    }

    /// Returns the cells of the table, row by row.
    pub fn cells(&self) -> Vec<Vec<String>> {
        self.rows.iter().map(Row::cells).collect()
    }

    /// Returns a line for each run that did not finish.
    pub fn missing(&self) -> Vec<String> {
        missing(&self.trials, |arm| arm.way.updates(&self.plan))
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let seeds = of_all(self.seeds.len(), self.missing);
        let mut cells = vec![
            self.way.to_owned(),
            seeds,
            self.groups.to_string(),
            self.steps.to_string(),
        ];
        let Some(means) = &self.means else {
            cells.resize(Report::HEAD.len(), String::new());
            return cells;
        };
        let reached = means.groups_to.map_or_else(
            || "never".to_owned(),
            |groups| match self.seeds.len() as u64 {
                all if all == means.reached => whole(groups),
                all => format!("{}, {} of {all}", whole(groups), means.reached),
            },
        );
        cells.extend([
            percent(means.sampled_last),
            means.difference.map_or_else(String::new, points),
            percent(means.greedy_last),
            percent(means.sampled_area),
            means.area_difference.map_or_else(String::new, points),
            reached,
            means.effective_rows.map_or_else(String::new, share),
            means.collapsed.to_string(),
        ]);
        cells
    }
}

impl Contrast {
    /// Column heads of the table of differences.
    pub const HEAD: [&str; 6] = ["difference", "seeds", "steps", "sampled", "greedy", "area"];

    /// Returns the cells of its row.
    pub fn cells(&self) -> Vec<String> {
        vec![
            format!("{} - {}", self.way, self.from),
            self.seeds.to_string(),
            format!("{}, {}", self.steps.0, self.steps.1),
            points(self.sampled_last),
            points(self.greedy_last),
            points(self.sampled_area),
        ]
    }
}

/// Formats a number of groups with its interval.
fn whole(groups: Spread) -> String {
    match groups.interval {
        None => format!("{:.0}", groups.mean),
        Some((low, high)) => format!("{:.0} [{low:.0}, {high:.0}]", groups.mean),
    }
}
