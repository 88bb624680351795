//! How far a learner came, by everything it left: what a check of its plans is held against.

use vintage_control::{Name, PolicyVersion};
use vintage_store::Store;

use crate::Result;

/// A record that takes updates to have been done before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The record, by its path.
    pub record: String,
    /// Updates done, or at least decided, if it is there.
    pub updates: u64,
}

/// The furthest record of every kind that a learner left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extent {
    traces: Vec<Trace>,
}

/// Kinds of records, where their number stands, and how many updates record N takes.
const KINDS: [(&str, Of, &str, u64); 6] = [
    ("plans", Of::Learner, ".json", 1),
    ("results", Of::Learner, ".json", 1),
    ("deviations", Of::Learner, "", 1),
    ("checkpoints", Of::Learner, "/manifest.json", 0),
    ("weights", Of::Policy, "/manifest.json", 0),
    ("evaluations", Of::Policy, ".json", 0),
];

/// Whose folder a kind of records lies in.
#[derive(Clone, Copy)]
enum Of {
    Learner,
    Policy,
}

impl Extent {
    /// Reads the names of a learner's records and of its lineage's, and no record.
    ///
    /// A plan precedes whatever follows from it, so that plans read after this hold at least
    /// [`Extent::updates`], also while the learner goes on.
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

    /// Adds a record that takes so many updates.
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

    /// Updates done by the furthest record.
    pub fn updates(&self) -> u64 {
        self.traces.iter().map(|of| of.updates).max().unwrap_or(0)
    }

    /// Whether nothing was left.
    pub fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    /// What says that updates were done from `update` on, in words; `None` if nothing does.
    pub fn gap(&self, update: PolicyVersion) -> Option<String> {
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

/// `<kind>/<name>/<number><end>`, or the number up to a `-` where `end` is empty.
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
            // Of others, and no records.
            ("plans/other/99.json", 16),
            ("weights/lead/99/manifest.json", 16),
            ("checkpoints/lead/99/optimizer-0123.safetensors", 16),
        ] {
            let _created = store.create(path, "{}".into()).await.unwrap();
            assert_eq!(read().await.updates(), updates, "{path}");
        }
        let mut extent = read().await;
        let gap = extent.gap(PolicyVersion(12)).unwrap();
        assert!(gap.contains("tell of 16 updates"), "{gap}");
        assert!(gap.contains("checkpoints/lead/13/manifest.json"), "{gap}");
        assert!(!gap.contains("plans/lead"), "{gap}");
        assert_eq!(extent.gap(PolicyVersion(16)), None);
        extent.note("summary.json", 18);
        assert!(extent.gap(PolicyVersion(16)).is_some());
    }
}
