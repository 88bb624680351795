//! What fell where, and what came of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Serialize;

use super::{Breach, Findings};

/// A signal to a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blow {
    /// The role, by its verb; or `broker`.
    pub role: &'static str,
    /// The point at which it was, or that it was at random.
    pub at: String,
    /// SIGSTOP and, later, SIGCONT; else SIGKILL.
    pub frozen: bool,
    /// What was taken and not durable; known at points only.
    pub in_hand: Option<u64>,
}

impl Blow {
    /// A SIGKILL at a random moment.
    pub fn at_random(role: &'static str) -> Self {
        Self {
            role,
            at: "at random".to_owned(),
            frozen: false,
            in_hand: None,
        }
    }
}

/// One role at one point.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// SIGKILLs there.
    pub kills: u64,
    /// Of these, with something taken and not durable; at random moments this is not known.
    pub with_work_in_hand: u64,
    /// SIGSTOPs.
    pub freezes: u64,
    /// Breaches of episodes in which this role was struck here.
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
    /// What was found broken, with the episode's folder.
    pub findings: Vec<String>,
    /// Episodes played.
    pub episodes: u64,
}

impl Report {
    /// Adds an episode.
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
        let told = findings.iter();
        self.findings
            .extend(told.map(|(breach, why)| format!("{place}: {breach:?}: {why}")));
    }

    /// All kills.
    pub fn kills(&self) -> u64 {
        self.rows.values().map(|row| row.kills).sum()
    }

    /// Whether a role was killed at a point with work in hand.
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
