//! What was killed where, and what came of it.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{Breach, Findings};

/// One role at one point.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// SIGKILLs there.
    pub kills: u64,
    /// Of these, with something taken and not durable; at random moments this is not known.
    pub with_work_in_hand: u64,
    /// Breaches of episodes in which this role was killed here.
    pub lost: u64,
    /// The same, twice archived or trained.
    pub duplicated: u64,
    /// The same, other weights than recorded or announced.
    pub diverging: u64,
}

/// Rows by role and point, and what was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// `role point` → row.
    pub rows: BTreeMap<String, Row>,
    /// What each failed episode was found to have broken, with its folder.
    pub findings: Vec<String>,
    /// Episodes played.
    pub episodes: u64,
}

/// A kill: role, point, and what was in hand where a point knows it.
pub type Kill = (&'static str, String, Option<u64>);

impl Report {
    /// Adds an episode.
    pub fn add(&mut self, kills: &[Kill], findings: &Findings, place: &str) {
        self.episodes += 1;
        let count = |breach| findings.iter().filter(|(of, _)| *of == breach).count() as u64;
        let mut met = std::collections::BTreeSet::new();
        for (role, point, in_hand) in kills {
            let name = format!("{role} {point}");
            let row = self.rows.entry(name.clone()).or_default();
            row.kills += 1;
            row.with_work_in_hand += u64::from(in_hand.is_some_and(|n| n > 0));
            if met.insert(name) {
                row.lost += count(Breach::Lost);
                row.duplicated += count(Breach::Duplicated);
                row.diverging += count(Breach::Diverging);
            }
        }
        let told = findings.iter();
        self.findings
            .extend(told.map(|(breach, why)| format!("{place}: {breach:?}: {why}")));
    }

    /// All kills.
    pub fn kills(&self) -> u64 {
        self.rows.values().map(|row| row.kills).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<34} {:>5} {:>12} {:>5} {:>10} {:>9}",
            "role and point", "kills", "work in hand", "lost", "duplicated", "diverging"
        )?;
        for (name, row) in &self.rows {
            writeln!(
                f,
                "{name:<34} {:>5} {:>12} {:>5} {:>10} {:>9}",
                row.kills, row.with_work_in_hand, row.lost, row.duplicated, row.diverging
            )?;
        }
        let (kills, episodes) = (self.kills(), self.episodes);
        writeln!(
            f,
            "{kills} kills in {episodes} episodes, {} findings",
            self.findings.len()
        )
    }
}
