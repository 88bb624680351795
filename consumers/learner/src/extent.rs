//! Extent of a learner's work by all records that it left; its plans are checked against it.

use vintage_control::{Name, UpdateNumber};
use vintage_store::Store;

use crate::error::Result;

/// Record whose existence implies that updates were done before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Path of the record in the store.
    pub record: String,
    /// Number of updates that were done, or at least decided, if the record exists.
    pub updates: u64,
}

/// Most advanced record of every kind that a learner left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extent {
    traces: Vec<Trace>,
}

/// Kinds of records: folder, owner of the subfolder, suffix after the number N, and how many
/// updates record N implies beyond N.
const KINDS: [(&str, Of, &str, u64); 6] = [
    ("plans", Of::Learner, ".json", 1),
    ("results", Of::Learner, ".json", 1),
    ("deviations", Of::Learner, "", 1),
    ("checkpoints", Of::Learner, "/manifest.json", 0),
    ("weights", Of::Policy, "/manifest.json", 0),
    ("evaluations", Of::Policy, ".json", 0),
];

/// Owner of the subfolder in which a kind of records is stored.
#[derive(Clone, Copy)]
enum Of {
    Learner,
    Policy,
}

impl Extent {
    /// Lists the records of a learner and of its policy by path, without reading their content.
    ///
    /// A plan is written before everything that follows from it. Plans that are read after this
    /// call therefore cover at least [`Extent::updates`], even if the learner is still running.
    pub async fn read(store: &Store, learner: &Name, policy: &Name) -> Result<Self> {
        let mut extent = Self::default();
        for (kind, of, end, takes) in KINDS {
            let name = match of {
                Of::Learner => learner,
                Of::Policy => policy,
            };
            let paths = store.list(&format!("{kind}/{name}")).await?;
            for path in paths {
                if let Some(number) = number(&path, end) {
                    extent.note(path, number.saturating_add(takes));
                }
            }
        }
        Ok(extent)
    }

    /// Adds a record that implies this number of updates; per kind, the most advanced one is kept.
    pub fn note(&mut self, record: impl Into<String>, updates: u64) {
        let record = record.into();
        let folder = |record: &str| record.split('/').next().unwrap_or_default().to_owned();
        let kind = folder(&record);
        let trace = Trace { record, updates };
        match self.traces.iter_mut().find(|of| folder(&of.record) == kind) {
            Some(of) if of.updates < updates => *of = trace,
            Some(_) => {}
            None => self.traces.push(trace),
        }
    }

    /// Returns the number of updates that the most advanced record implies.
    pub fn updates(&self) -> u64 {
        self.traces.iter().map(|of| of.updates).max().unwrap_or(0)
    }

    /// Returns true if the learner left no records.
    pub fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    /// Describes the records that imply updates from `update` on; `None` if there are none.
    pub fn gap(&self, update: UpdateNumber) -> Option<String> {
        let beyond = self.traces.iter().filter(|of| of.updates > update.0);
        let beyond: Vec<_> = beyond.map(|of| of.record.as_str()).collect();
        (!beyond.is_empty()).then(|| {
            format!(
                "its plan is missing, and the records tell of {} updates ({}): restore the plan \
                 from a copy of the run",
                self.updates(),
                beyond.join(", ")
            )
        })
    }
}

/// Parses the number of a path `<kind>/<name>/<number><end>`; an empty `end` means up to a `-`.
fn number(path: &str, end: &str) -> Option<u64> {
    let below = path.splitn(3, '/').nth(2)?;
    let digits = if end.is_empty() {
        below.split('-').next()?
    } else {
        below.strip_suffix(end)?
    };
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_furthest_record_of_any_kind_says_how_far_a_learner_came() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        let (learner, policy) = ("lead".parse().unwrap(), "ours".parse().unwrap());
        let read = async || Extent::read(&store, &learner, &policy).await.unwrap();
        assert!(read().await.is_empty());
        for (path, updates) in [
            ("weights/ours/0/manifest.json", 0),
            ("plans/lead/0.json", 1),
            ("plans/lead/9.json", 10),
            ("plans/lead/10.json", 11),
            ("results/lead/11.json", 12),
            ("checkpoints/lead/13/manifest.json", 13),
            ("weights/ours/14/manifest.json", 14),
            ("evaluations/ours/15.json", 15),
            ("deviations/lead/15-0123456789abcdef.json", 16),
            // Records of other names, and a file of a kind that is not counted.
            ("plans/other/99.json", 16),
            ("weights/lead/99/manifest.json", 16),
            ("checkpoints/lead/99/optimizer-0123.safetensors", 16),
        ] {
            let _created = store.create(path, "{}".into()).await.unwrap();
            assert_eq!(read().await.updates(), updates, "{path}");
        }
        let mut extent = read().await;
        let gap = extent.gap(UpdateNumber(12)).unwrap();
        assert!(gap.contains("tell of 16 updates"), "{gap}");
        assert!(gap.contains("checkpoints/lead/13/manifest.json"), "{gap}");
        assert!(!gap.contains("plans/lead"), "{gap}");
        assert_eq!(extent.gap(UpdateNumber(16)), None);
        extent.note("summary.json", 18);
        assert!(extent.gap(UpdateNumber(16)).is_some());
    }
}
