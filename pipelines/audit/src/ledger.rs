//! One learner's plans against the books: what became of each group, and what is not right.
//!
//! Plans are told in order, each after what was recorded before it, so that a checkpoint is held
//! against exactly the plans it claims to follow. Nothing here reads: facts in, findings out.

mod checkpoint;
mod close;
mod plan;

use std::collections::{BTreeMap, HashMap};

use vintage_control::{LearnerStart, Offset, PolicyVersion, RecordId, RejectReason, Rejection};

pub(crate) use self::close::Lost;
use super::{
    books::{Books, Look, Place},
    counts::Account,
    findings::Findings,
};

/// What plans say of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// No plan names it.
    Open,
    /// The plan of this update trains it.
    Trained(PolicyVersion),
    /// The plan of this update rejects it.
    Rejected(PolicyVersion, RejectReason),
}

/// A group as its producer called it.
type Number = (String, u64);

/// One learner's side.
pub(crate) struct Ledger<'a> {
    books: &'a Books,
    name: String,
    /// By group of the books.
    fates: Vec<Fate>,
    /// By group: the partition that the plan found it in.
    homes: Vec<Option<i32>>,
    /// By place and record: the update whose plan names it, plus 1; 0 = none.
    used: BTreeMap<Place, Vec<u32>>,
    /// Largest offset any plan so far names.
    reached: BTreeMap<Place, i64>,
    /// Records up to here were held against a checkpoint.
    checked: BTreeMap<Place, usize>,
    /// Numbers below these were held against a checkpoint.
    windows: HashMap<String, u64>,
    /// Groups whose records only a plan still tells of: retention took them, or their file
    /// cannot be read.
    vouched: HashMap<Number, (Fate, Option<i32>)>,
    /// Where it began to read, if not at the beginning.
    start: BTreeMap<Place, Offset>,
    account: Account,
    /// As checkpoints count them: groups of plans, blended ones included, and refused groups.
    trained: u64,
    rejected: u64,
    lineage: Option<String>,
}

impl<'a> Ledger<'a> {
    /// The empty ledger of a learner.
    pub(crate) fn new(books: &'a Books, name: &str) -> Self {
        let shelves = books.shelves().iter();
        let used = shelves.map(|(place, shelf)| (*place, vec![0; shelf.records().len()]));
        Self {
            name: name.to_owned(),
            fates: vec![Fate::Open; books.groups().len()],
            homes: vec![None; books.groups().len()],
            used: used.collect(),
            books,
            reached: BTreeMap::new(),
            checked: BTreeMap::new(),
            windows: HashMap::new(),
            vouched: HashMap::new(),
            start: BTreeMap::new(),
            account: Account::default(),
            trained: 0,
            rejected: 0,
            lineage: None,
        }
    }

    /// It began to read here; what stands before is not its business.
    pub(crate) fn began_at(&mut self, start: &LearnerStart) {
        let partitions = start.partitions.iter();
        self.start = partitions
            .map(|at| ((at.incarnation, at.partition), at.offset))
            .collect();
    }

    /// What became of a group of the books.
    pub(crate) fn fate(&self, group: u32) -> Fate {
        self.fates[group as usize]
    }

    /// The update whose plan names a record.
    pub(crate) fn used_by(&self, place: Place, record: usize) -> Option<PolicyVersion> {
        let update = *self.used.get(&place)?.get(record)?;
        (update > 0).then(|| PolicyVersion(u64::from(update) - 1))
    }

    /// Whether a record stands before the place where this learner began.
    pub(crate) fn is_before_start(&self, record: RecordId) -> bool {
        let place = (record.incarnation, record.partition);
        self.start
            .get(&place)
            .is_some_and(|start| record.offset < *start)
    }

    /// The lineage its plans train.
    pub(crate) fn lineage(&self) -> Option<&str> {
        self.lineage.as_deref()
    }

    /// A rejection that was told to the run's topic must stand in a plan too.
    pub(crate) fn mirrored(&self, rejection: &Rejection, findings: &mut Findings) {
        for &record in &rejection.records {
            let place = (record.incarnation, record.partition);
            if let Look::There(at, _) = self.books.look(record)
                && self.used_by(place, at).is_none()
            {
                let reason = rejection.reason.as_str();
                findings.breach("rejections that no plan records", || {
                    format!(
                        "learner {} told the run that {record} was rejected ({reason}), and no \
                         plan of it says so",
                        self.name
                    )
                });
            }
        }
    }
}
