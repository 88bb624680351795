//! Report of the signals sent, by role and point, and of the breaches found.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Serialize;

use super::{Breach, Findings};

/// Signal to a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blow {
    /// Verb of the role, or `broker`.
    pub role: &'static str,
    /// Point at which the process was, or `at random`.
    pub at: String,
    /// True for SIGSTOP with a later SIGCONT, false for SIGKILL.
    pub frozen: bool,
    /// Number of records, groups or bytes that were taken and not durable; known only at points.
    pub in_hand: Option<u64>,
}

impl Blow {
    /// Returns a SIGKILL at a random moment.
    pub fn at_random(role: &'static str) -> Self {
        Self {
            role,
            at: "at random".to_owned(),
            frozen: false,
            in_hand: None,
        }
    }
}

/// Counts of one role at one point.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Number of SIGKILLs at the point.
    pub kills: u64,
    /// Number of SIGKILLs with something taken and not durable; at random moments this is not
    /// known.
    pub with_work_in_hand: u64,
    /// Number of SIGSTOPs at the point.
    pub freezes: u64,
    /// Findings of lost records, in episodes in which this role was struck at this point.
    pub lost: u64,
    /// Findings of records archived or trained twice, in episodes in which this role was
    /// struck at this point.
    pub duplicated: u64,
    /// Findings of weights other than recorded or announced, in episodes in which this role was
    /// struck at this point.
    pub diverging: u64,
}

/// Counts by role and point, and the findings.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Counts by `role point`.
    pub rows: BTreeMap<String, Row>,
    /// Descriptions of the breaches, each with the episode's folder.
    pub findings: Vec<String>,
    /// Number of episodes played.
    pub episodes: u64,
}

impl Report {
    /// Adds the signals and findings of an episode.
    pub fn add(&mut self, blows: &[Blow], findings: &Findings, place: &str) {
        self.episodes += 1;
        let count = |breach| findings.iter().filter(|(of, _)| *of == breach).count() as u64;
        let mut met = BTreeSet::new();
        for blow in blows {
            let name = format!("{} {}", blow.role, blow.at);
            let row = self.rows.entry(name.clone()).or_default();
            row.kills += u64::from(!blow.frozen);
            row.freezes += u64::from(blow.frozen);
            row.with_work_in_hand += u64::from(blow.in_hand.is_some_and(|n| n > 0));
            if met.insert(name) {
                row.lost += count(Breach::Lost);
                row.duplicated += count(Breach::Duplicated);
                row.diverging += count(Breach::Diverging);
            }
        }
        let findings = findings.iter();
        self.findings
            .extend(findings.map(|(breach, why)| format!("{place}: {breach:?}: {why}")));
    }

    /// Returns the number of all kills.
    pub fn kills(&self) -> u64 {
        self.rows.values().map(|row| row.kills).sum()
    }

    /// Returns true if a role was killed at a point with work in hand.
    pub fn covers(&self, role: &str, point: &str) -> bool {
        let row = self.rows.get(&format!("{role} {point}"));
        row.is_some_and(|row| row.with_work_in_hand > 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| role and point | kills | with work in hand | freezes | lost | duplicated | diverging |\n\
             |---|---|---|---|---|---|---|"
        )?;
        for (name, row) in &self.rows {
            writeln!(
                f,
                "| {name} | {} | {} | {} | {} | {} | {} |",
                row.kills,
                row.with_work_in_hand,
                row.freezes,
                row.lost,
                row.duplicated,
                row.diverging
            )?;
        }
        let (kills, episodes) = (self.kills(), self.episodes);
        writeln!(
            f,
            "\n{kills} kills in {episodes} episodes, {} findings",
            self.findings.len()
        )
    }
}
