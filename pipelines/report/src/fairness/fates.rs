//! Fates of records and groups according to the plans of one learner.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use vintage_control::{
    Incarnation, KnownVersion, LearnerStart, Offset, Partition, PlannedGroup, PolicyVersion,
    RecordId, RejectReason, Rejection, Staleness, UpdateNumber,
};

/// Part of a plan from which fates are read.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PlanPart {
    pub(crate) version: PolicyVersion,
    pub(crate) groups: Vec<PlannedGroup>,
    pub(crate) rejections: Vec<Rejection>,
    #[serde(default)]
    pub(crate) known: Vec<KnownVersion>,
}

/// Fate of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Trained by this update.
    Trained(UpdateNumber),
    /// Rejected for this reason.
    Rejected(RejectReason),
    /// Named by no plan.
    InFlight,
    /// Earlier than the learner's first record.
    BeforeStart,
}

/// Entry of a plan that names a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planned {
    /// Group that is trained or rejected.
    Group {
        /// Fate of the group.
        fate: Fate,
        /// Index of its producer.
        producer: u32,
        /// True for the first record of the group.
        first: bool,
    },
    /// Second copy of a group.
    Copy,
}

/// Identity of a numbered group: index of the producer, its number, first half of the group's id.
/// Half of an id tells groups of one number apart as well as the whole of it.
pub(crate) type GroupKey = (u32, u64, u64);

/// Number of groups that plans name, by fate, of one producer.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlannedGroups {
    pub(crate) trained: u64,
    pub(crate) rejected: BTreeMap<RejectReason, u64>,
}

/// Fates of all records that the plans of one learner name: about 100 bytes for each group.
#[derive(Debug, Default)]
pub(crate) struct Fates {
    producers: Vec<String>,
    numbers: HashMap<String, u32>,
    records: HashMap<RecordId, Planned>,
    groups: HashSet<GroupKey>,
    planned: Vec<PlannedGroups>,
    starts: HashMap<(Incarnation, Partition), Offset>,
    known: HashMap<UpdateNumber, Vec<KnownVersion>>,
    blended: u64,
}

/// Name of the producer of records whose headers do not name one.
const UNKNOWN: &str = "unknown";

impl Fates {
    /// Notes where the learner began to read.
    pub(crate) fn began_at(&mut self, start: &LearnerStart) {
        let places = start.partitions.iter();
        self.starts = places
            .map(|at| ((at.incarnation, at.partition), at.offset))
            .collect();
    }

    /// Adds a plan.
    pub(crate) fn plan(&mut self, plan: PlanPart) {
        let update = UpdateNumber::from_version(plan.version);
        for group in &plan.groups {
            if group.source.is_some() {
                self.blended += 1;
                continue;
            }
            let producer = self.producer(Some(&group.producer));
            self.planned[producer as usize].trained += 1;
            let id = half(hex_id(&group.group));
            self.groups.insert((producer, group.producer_seq, id));
            self.name(&group.records, Fate::Trained(update), producer);
        }
        for rejection in &plan.rejections {
            if rejection.source.is_none() {
                self.reject(rejection);
            }
        }
        if !plan.known.is_empty() {
            self.known.insert(update, plan.known);
        }
    }

    fn reject(&mut self, rejection: &Rejection) {
        if rejection.reason == RejectReason::Duplicate {
            let copies = rejection.records.iter();
            self.records
                .extend(copies.map(|record| (*record, Planned::Copy)));
            return;
        }
        let producer = self.producer(rejection.producer.as_deref());
        let rejected = &mut self.planned[producer as usize].rejected;
        *rejected.entry(rejection.reason).or_default() += 1;
        if let Some(seq) = rejection.producer_seq {
            let id = rejection.group.as_deref().and_then(hex_id);
            self.groups.insert((producer, seq, half(id)));
        }
        self.name(
            &rejection.records,
            Fate::Rejected(rejection.reason),
            producer,
        );
    }

    fn name(&mut self, records: &[RecordId], fate: Fate, producer: u32) {
        for (place, record) in records.iter().enumerate() {
            let first = place == 0;
            let planned = Planned::Group {
                fate,
                producer,
                first,
            };
            self.records.insert(*record, planned);
        }
    }

    /// Returns the index of a producer, a new one if it is met for the first time.
    pub(crate) fn producer(&mut self, name: Option<&str>) -> u32 {
        let name = name.unwrap_or(UNKNOWN);
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.producers.len() as u32;
        self.producers.push(name.to_owned());
        self.planned.push(PlannedGroups::default());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    /// Returns the entry of a plan that names a record; `None` if none does.
    pub(crate) fn of(&self, record: RecordId) -> Option<Planned> {
        self.records.get(&record).copied()
    }

    /// Returns true if a plan trains or rejects the group.
    pub(crate) fn decided(&self, key: &GroupKey) -> bool {
        self.groups.contains(key)
    }

    /// Returns the fate of a record that no plan names.
    pub(crate) fn undecided(&self, record: RecordId) -> Fate {
        let start = self.starts.get(&(record.incarnation, record.partition));
        match start {
            Some(start) if record.offset < *start => Fate::BeforeStart,
            _ => Fate::InFlight,
        }
    }

    /// Returns the staleness, or lag, of a token of `policy`'s version `sampler` in an update; see
    /// [`vintage_control::Plan::newest_of`].
    pub(crate) fn staleness(
        &self,
        update: UpdateNumber,
        policy: &str,
        sampler: PolicyVersion,
    ) -> Staleness {
        let known = self.known.get(&update).into_iter().flatten();
        let mut own_log = known.filter(|known| known.source.is_none());
        let newest = own_log.find(|known| known.policy == policy);
        let newest = newest.map_or(update.version_before(), |known| known.version);
        newest.staleness_of(sampler)
    }

    /// Number of groups trained from another run's archive.
    pub(crate) fn blended(&self) -> u64 {
        self.blended
    }

    /// Returns the producers in the order of their indexes, with their planned groups.
    pub(crate) fn into_producers(self) -> impl Iterator<Item = (String, PlannedGroups)> {
        self.producers.into_iter().zip(self.planned)
    }
}

/// Returns the first half of a group's id; 0 without an id.
pub(crate) fn half(id: Option<[u8; 16]>) -> u64 {
    id.map_or(0, |id| {
        let mut half = [0; 8];
        half.copy_from_slice(&id[..8]);
        u64::from_be_bytes(half)
    })
}

fn hex_id(text: &str) -> Option<[u8; 16]> {
    let number = u128::from_str_radix(text, 16).ok()?;
    Some(number.to_be_bytes())
}
