//! Groups and records as producers, log and archive report them.
//!
//! A group is one number of a producer; a record without a readable number is a group of its own.
//! Memory holds the identity of groups and records, about 200 bytes each, and no tokens.

pub(crate) mod partition_records;
pub(crate) mod producer;

use std::collections::{BTreeMap, HashMap, HashSet};

use vintage_archive::MessageHead;
use vintage_control::{Offset, RecordId, Sha256};
use vintage_trajectory::Identity;

use self::{
    partition_records::{PartitionId, PartitionRecords, Record, RecordState},
    producer::{MissingNumbers, Producer},
};
use crate::findings::Findings;

/// Group as producers, log and archive report it.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Index of its producer in [`Inventory::producers`]; `None` if no header names the producer or
    /// the number.
    pub(crate) producer: Option<u32>,
    /// True if an earlier group has the same number: the producer restarted its numbering.
    pub(crate) renumbered: bool,
    /// Number given by the producer.
    pub(crate) seq: u64,
    /// Group id of the first record.
    pub(crate) id: Option<[u8; 16]>,
    /// First and last record, set when the inventory is closed; `None` if neither archive nor log
    /// holds the group.
    pub(crate) records: Option<(RecordId, RecordId)>,
    /// Number of records, copies included.
    pub(crate) copies: u32,
    /// True if the archive holds a record of the group.
    pub(crate) archived: bool,
    /// Update that the group was sampled for; −1 for any.
    pub(crate) batch: i64,
}

/// Reports of producers, log and archive, without those of learners.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    producers: Vec<Producer>,
    names: HashMap<String, u32>,
    groups: Vec<Group>,
    numbers: HashMap<(u32, u64), u32>,
    /// Groups whose number belongs to an earlier group, by producer, number and group id.
    renumbered: HashMap<(u32, u64, [u8; 16]), u32>,
    /// Numbers on records whose headers do not name the producer.
    without_producer: Vec<u64>,
    partitions: BTreeMap<PartitionId, PartitionRecords>,
}

/// Identity and checksums of a record, read from archive or log.
#[derive(Debug)]
pub(crate) struct RecordReport {
    pub(crate) record: RecordId,
    pub(crate) identity: Identity,
    /// Number of rows; `None` if the record cannot be decoded.
    pub(crate) rows: Option<u32>,
    pub(crate) crc32c: Option<u32>,
    pub(crate) content: Option<Sha256>,
}

impl RecordReport {
    pub(crate) fn of(head: &MessageHead) -> Self {
        Self {
            record: head.record,
            identity: head.identity.clone(),
            rows: (!head.quarantined).then_some(head.rows as u32),
            crc32c: head.payload_crc32c,
            content: None,
        }
    }
}

impl Inventory {
    /// Notes that a producer has a journal, possibly an empty one.
    pub(crate) fn journal(&mut self, producer: &str) {
        let producer = self.producer_number(producer);
        self.producers[producer as usize].journal = true;
    }

    /// Adds a group that the log acknowledged to its producer.
    pub(crate) fn acknowledge(&mut self, producer: &str, seq: u64) {
        let producer = self.producer_number(producer);
        self.numbered(producer, seq);
    }

    /// Notes the offset at which the archive of a partition was begun.
    pub(crate) fn begin(&mut self, place: PartitionId, offset: i64) {
        self.partition_records(place).begun = Some(offset);
    }

    /// Notes that `vintage prune` deleted the archive of a partition before `offset`.
    pub(crate) fn prune(&mut self, place: PartitionId, offset: i64) {
        self.partition_records(place).pruned = Some(offset);
    }

    /// Notes offsets that a file of the archive covers; its records are added one by one.
    pub(crate) fn claim(&mut self, place: PartitionId, offsets: std::ops::Range<i64>) {
        self.partition_records(place).claim(offsets);
    }

    /// Notes the offsets that the topic holds.
    pub(crate) fn live(&mut self, place: PartitionId, offsets: std::ops::Range<i64>) {
        self.partition_records(place).live = Some(offsets);
    }

    /// Notes offsets whose archive file cannot be read.
    pub(crate) fn mark_unreadable(&mut self, place: PartitionId, offsets: std::ops::Range<i64>) {
        self.partition_records(place).unreadable.push(offsets);
    }

    /// Adds a record of the archive; a second one at its offset is a breach.
    pub(crate) fn archived(&mut self, report: &RecordReport, findings: &mut Findings) {
        let record = self.entry(report);
        let at = report.record;
        if !self
            .partition_records((at.incarnation, at.partition))
            .archive(record)
        {
            findings.breach("records archived twice", || {
                format!("{at} is in the archive twice")
            });
        }
    }

    /// Adds a record of the topic; one that differs from the archived record is a breach.
    pub(crate) fn found_live(&mut self, report: &RecordReport, findings: &mut Findings) {
        let at = report.record;
        let place = (at.incarnation, at.partition);
        if let Some(archived) = self.partition_records(place).archived_at(at.offset) {
            archived.live = true;
            let differs = |a, b| matches!((a, b), (Some(a), Some(b)) if a != b);
            if archived.crc32c != report.crc32c {
                findings.breach("records differ between archive and log", || {
                    format!("{at}: the archive holds another payload than the log")
                });
            } else if differs(archived.content, report.content) {
                findings.breach("records differ between archive and log", || {
                    format!("{at}: the archive's rows are not those of the log's payload")
                });
            }
            return;
        }
        let record = self.entry(report);
        self.partition_records(place).add_live(record);
    }

    fn entry(&mut self, report: &RecordReport) -> Record {
        let identity = &report.identity;
        let id = identity.group.map(|group| group.0);
        let producer = identity.producer.as_deref();
        let producer = producer.map(|name| self.producer_number(name));
        let group = match (producer, identity.producer_seq) {
            (Some(producer), Some(seq)) => {
                let group = self.group_of(producer, seq, id);
                if report.rows.is_some() {
                    let known = &mut self.producers[producer as usize];
                    known.last = known.last.max(Some(seq));
                }
                group
            }
            (Some(producer), None) => {
                self.producers[producer as usize].unnumbered += 1;
                self.add(None, 0)
            }
            (None, seq) => {
                self.without_producer.extend(seq);
                self.add(None, 0)
            }
        };
        let known = &mut self.groups[group as usize];
        if known.id.is_none() {
            known.id = id;
            known.batch = identity.batch.unwrap_or(-1);
        }
        Record {
            offset: report.record.offset.0,
            group,
            part: identity.part.unwrap_or((1, 1)),
            id,
            rows: report.rows,
            crc32c: report.crc32c,
            content: report.content,
            archived: false,
            live: false,
            surplus: false,
        }
    }

    /// Completes the inventory after all records were added: finds first and last records and
    /// surplus copies, and compares archive and log.
    pub(crate) fn close(&mut self, findings: &mut Findings) {
        for (producer, groups) in self.renumbering() {
            findings.note("producers that number again", || {
                format!(
                    "producer {producer} numbers again: {groups} of its groups bear numbers of \
                     earlier ones, and are refused as renumbered; give every start of a producer a \
                     name of its own, or let it continue numbering where it ended"
                )
            });
        }
        let mut seen: HashSet<(u32, u32)> = HashSet::new();
        for (place, partition_records) in &mut self.partitions {
            partition_records.close(*place, findings);
            for record in partition_records.records_mut() {
                let at = RecordId {
                    incarnation: place.0,
                    partition: place.1,
                    offset: Offset(record.offset),
                };
                let group = &mut self.groups[record.group as usize];
                let first = group.records.map_or(at, |(first, _)| first);
                group.records = Some((first, at));
                group.copies += 1;
                group.archived |= record.archived;
                record.surplus = !seen.insert((record.group, record.part.0));
            }
        }
    }

    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    pub(crate) fn partitions(&self) -> &BTreeMap<PartitionId, PartitionRecords> {
        &self.partitions
    }

    /// Returns the group of a number; the first one if the producer restarted its numbering.
    pub(crate) fn number(&self, producer: &str, seq: u64) -> Option<u32> {
        let producer = *self.names.get(producer)?;
        self.numbers.get(&(producer, seq)).copied()
    }

    /// Returns the indices of the groups that satisfy `wanted`.
    pub(crate) fn find(&self, wanted: impl Fn(&Group) -> bool) -> Vec<u32> {
        let groups = (0..).zip(&self.groups);
        let found = groups.filter(|(_, group)| wanted(group));
        found.map(|(number, _)| number).collect()
    }

    /// Returns the producers that restarted their numbering, with the number of affected groups.
    fn renumbering(&self) -> BTreeMap<&str, u64> {
        let mut producers = BTreeMap::new();
        for group in self.groups.iter().filter(|group| group.renumbered) {
            if let Some(name) = self.producer_of(group) {
                *producers.entry(name).or_default() += 1;
            }
        }
        producers
    }

    /// Returns the name of a group's producer.
    pub(crate) fn producer_of(&self, group: &Group) -> Option<&str> {
        let producer = group.producer? as usize;
        Some(&self.producers[producer].name)
    }

    /// Looks up a record in archive and log.
    pub(crate) fn state_of(&self, record: RecordId) -> RecordState<'_> {
        match self.partitions.get(&(record.incarnation, record.partition)) {
            Some(partition_records) => partition_records.state_of(record.offset.0),
            None => RecordState::Beyond,
        }
    }

    /// Returns the number of parts of a record's group, according to that record; 1 if it is
    /// unknown.
    pub(crate) fn parts_at(&self, record: RecordId) -> u32 {
        match self.state_of(record) {
            RecordState::Present(_, record) => record.part.1,
            _ => 1,
        }
    }

    /// Returns the name of a group for messages.
    pub(crate) fn named(&self, group: &Group) -> String {
        match (self.producer_of(group), group.records) {
            (Some(name), _) => format!("group {name}/{}", group.seq),
            (None, Some((record, _))) => format!("the unnumbered record at {record}"),
            (None, None) => "a group without a number".to_owned(),
        }
    }

    /// Returns the missing numbers of each producer without a journal. A producer numbers without
    /// gaps, so every number below its last was acknowledged. A record whose headers give half of
    /// its number explains one of them.
    pub(crate) fn missing_numbers(&self) -> Vec<(&Producer, MissingNumbers)> {
        let mut without_producer: BTreeMap<u64, u64> = BTreeMap::new();
        for seq in &self.without_producer {
            *without_producer.entry(*seq).or_default() += 1;
        }
        let producers = self.producers.iter();
        let found = producers.map(|producer| {
            let mut missing = producer.missing_numbers();
            let mut found = producer.unnumbered.min(missing.all);
            let last = producer.last.filter(|_| !producer.journal).unwrap_or(0);
            for (seq, left) in without_producer.range_mut(..last) {
                let fills = *left > 0 && found < missing.all && !producer.numbers.contains(*seq);
                *left -= u64::from(fills);
                found += u64::from(fills);
            }
            missing.found = found;
            (producer, missing)
        });
        found.filter(|(_, missing)| missing.all > 0).collect()
    }

    /// Returns true if the first records of a partition are gone from the log and were never
    /// archived.
    pub(crate) fn begins_late(&self) -> bool {
        self.partitions
            .values()
            .any(|partition_records| partition_records.start() > 0)
    }

    /// Returns true if `vintage prune` deleted archived records.
    pub(crate) fn is_pruned(&self) -> bool {
        let mut partitions = self.partitions.values();
        partitions.any(|partition_records| partition_records.pruned.is_some())
    }

    /// Returns the number of trajectory rows in the archive.
    pub(crate) fn archived_rows(&self) -> u64 {
        let records = self.partitions.values().flat_map(PartitionRecords::records);
        let archived = records.filter(|record| record.archived);
        archived
            .map(|record| u64::from(record.rows.unwrap_or(0)))
            .sum()
    }

    fn partition_records(&mut self, place: PartitionId) -> &mut PartitionRecords {
        self.partitions.entry(place).or_default()
    }

    fn producer_number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.names.get(name) {
            return number;
        }
        let number = self.producers.len() as u32;
        self.producers.push(Producer::new(name));
        self.names.insert(name.to_owned(), number);
        number
    }

    fn numbered(&mut self, producer: u32, seq: u64) -> u32 {
        if let Some(&group) = self.numbers.get(&(producer, seq)) {
            return group;
        }
        let group = self.add(Some(producer), seq);
        self.numbers.insert((producer, seq), group);
        self.producers[producer as usize].numbers.insert(seq);
        group
    }

    /// Returns the group of a record: the one of its number, or a separate one if the record has
    /// another group id than the first group of that number.
    fn group_of(&mut self, producer: u32, seq: u64, id: Option<[u8; 16]>) -> u32 {
        let first = self.numbered(producer, seq);
        let (Some(id), Some(known)) = (id, self.groups[first as usize].id) else {
            return first;
        };
        if id == known {
            return first;
        }
        if let Some(&group) = self.renumbered.get(&(producer, seq, id)) {
            return group;
        }
        let group = self.add(Some(producer), seq);
        self.groups[group as usize].renumbered = true;
        self.renumbered.insert((producer, seq, id), group);
        group
    }

    fn add(&mut self, producer: Option<u32>, seq: u64) -> u32 {
        self.groups.push(Group {
            renumbered: false,
            producer,
            seq,
            id: None,
            records: None,
            copies: 0,
            archived: false,
            batch: -1,
        });
        (self.groups.len() - 1) as u32
    }
}
