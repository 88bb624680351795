//! What producers, log and archive say, group by group and record by record.
//!
//! A group is a producer's number; a record without a readable number is a group of its own. Held
//! in memory is what identifies groups and records, about 200 bytes for each, and no token.

mod shelf;

use std::collections::{BTreeMap, HashMap, HashSet};

use vintage_archive::Head;
use vintage_control::{Incarnation, NumberSet, Offset, Partition, RecordId, Sha256};
use vintage_trajectory::Identity;

pub(crate) use self::shelf::{Look, Record, Shelf};
use super::findings::Findings;

/// A partition of one life of the topic.
pub(crate) type Place = (Incarnation, Partition);

/// No producer numbers this far, and no reader of JSON counts further: what a forged number
/// leaves below itself is told as at most this many.
const MOST_HOLES: u64 = 1 << 53;

/// A group as producers, log and archive know it.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Its producer, by number in [`Books::producers`]; `None` if no header tells it or its number.
    pub(crate) producer: Option<u32>,
    /// Its number is another group's, which came before: the producer numbers again.
    pub(crate) renumbered: bool,
    /// Its number.
    pub(crate) seq: u64,
    /// Group id of its first record.
    pub(crate) id: Option<[u8; 16]>,
    /// Its first record and its last, once closed; `None` if nothing holds it.
    pub(crate) records: Option<(RecordId, RecordId)>,
    /// How many records it has, copies included.
    pub(crate) copies: u32,
    /// The archive holds one.
    pub(crate) archived: bool,
    /// Update it was sampled for, −1 for any.
    pub(crate) batch: i64,
}

/// What is known of one producer life.
#[derive(Debug, Clone)]
pub(crate) struct Producer {
    pub(crate) name: String,
    /// Whether its own journal is at hand.
    pub(crate) journal: bool,
    /// Largest number that stands on a readable message.
    pub(crate) last: Option<u64>,
    numbers: NumberSet,
    /// Records of which no header tells the number, or tells it without saying whose it is: each
    /// is one of the numbers that nothing holds.
    nameless: u64,
}

/// Numbers of a producer that no record bears.
#[derive(Debug, Default)]
pub(crate) struct Holes {
    /// How many.
    pub(crate) all: u64,
    /// How many of them are records whose headers do not tell the number.
    pub(crate) found: u64,
    /// The first few runs.
    pub(crate) runs: Vec<(u64, u64)>,
}

impl Producer {
    fn holes(&self) -> Holes {
        let mut holes = Holes::default();
        let Some(last) = self.last.filter(|_| !self.journal) else {
            return holes;
        };
        let mut next = 0;
        for (first, end) in self.numbers.runs() {
            if first > last {
                break;
            }
            if first > next {
                holes.all = holes.all.saturating_add(first - next);
                if holes.runs.len() < 3 {
                    holes.runs.push((next, first - 1));
                }
            }
            next = end.saturating_add(1);
        }
        holes.all = holes.all.min(MOST_HOLES);
        holes
    }
}

/// Everything but what learners say.
#[derive(Debug, Default)]
pub(crate) struct Books {
    producers: Vec<Producer>,
    names: HashMap<String, u32>,
    groups: Vec<Group>,
    numbers: HashMap<(u32, u64), u32>,
    /// Groups under a number that another group bears, by their ids.
    renumbered: HashMap<(u32, u64, [u8; 16]), u32>,
    /// Numbers of which no header tells whose they are.
    ownerless: Vec<u64>,
    shelves: BTreeMap<Place, Shelf>,
}

/// What a record says about itself, wherever it was read.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) record: RecordId,
    pub(crate) identity: Identity,
    /// Rows, or `None` if it cannot be decoded.
    pub(crate) rows: Option<u32>,
    pub(crate) crc32c: Option<u32>,
    pub(crate) content: Option<Sha256>,
}

impl Told {
    pub(crate) fn of(head: &Head) -> Self {
        Self {
            record: head.record,
            identity: head.identity.clone(),
            rows: (!head.quarantined).then_some(head.rows as u32),
            crc32c: head.payload_crc32c,
            content: None,
        }
    }
}

impl Books {
    /// A producer life has a journal, if only an empty one.
    pub(crate) fn journal(&mut self, producer: &str) {
        let producer = self.producer_number(producer);
        self.producers[producer as usize].journal = true;
    }

    /// The log acknowledged a group.
    pub(crate) fn acknowledge(&mut self, producer: &str, seq: u64) {
        let producer = self.producer_number(producer);
        self.numbered(producer, seq);
    }

    /// The archive of a partition was begun at this offset.
    pub(crate) fn begin(&mut self, place: Place, offset: i64) {
        self.shelf(place).begun = Some(offset);
    }

    /// The archive claims these offsets, and holds the records still to be told of.
    pub(crate) fn claim(&mut self, place: Place, offsets: std::ops::Range<i64>) {
        self.shelf(place).claim(offsets);
    }

    /// The topic holds these offsets.
    pub(crate) fn live(&mut self, place: Place, offsets: std::ops::Range<i64>) {
        self.shelf(place).live = Some(offsets);
    }

    /// A file of the archive that cannot be read begins here.
    pub(crate) fn darken(&mut self, place: Place, offsets: std::ops::Range<i64>) {
        self.shelf(place).dark.push(offsets);
    }

    /// The archive holds a record.
    pub(crate) fn archived(&mut self, told: &Told, findings: &mut Findings) {
        let record = self.entry(told);
        let at = told.record;
        if !self.shelf((at.incarnation, at.partition)).archive(record) {
            findings.breach("records archived twice", || {
                format!("{at} is in the archive twice")
            });
        }
    }

    /// The topic holds a record.
    pub(crate) fn found_live(&mut self, told: &Told, findings: &mut Findings) {
        let at = told.record;
        let place = (at.incarnation, at.partition);
        if let Some(archived) = self.shelf(place).archived_at(at.offset) {
            archived.live = true;
            let differs = |a, b| matches!((a, b), (Some(a), Some(b)) if a != b);
            if archived.crc32c != told.crc32c {
                findings.breach("records differ between archive and log", || {
                    format!("{at}: the archive holds another payload than the log")
                });
            } else if differs(archived.content, told.content) {
                findings.breach("records differ between archive and log", || {
                    format!("{at}: the archive's rows are not those of the log's payload")
                });
            }
            return;
        }
        let record = self.entry(told);
        self.shelf(place).put_live(record);
    }

    fn entry(&mut self, told: &Told) -> Record {
        let identity = &told.identity;
        let id = identity.group.map(|group| group.0);
        let producer = identity.producer.as_deref();
        let producer = producer.map(|name| self.producer_number(name));
        let group = match (producer, identity.producer_seq) {
            (Some(producer), Some(seq)) => {
                let group = self.group_of(producer, seq, id);
                if told.rows.is_some() {
                    let known = &mut self.producers[producer as usize];
                    known.last = known.last.max(Some(seq));
                }
                group
            }
            (Some(producer), None) => {
                self.producers[producer as usize].nameless += 1;
                self.add(None, 0)
            }
            (None, seq) => {
                self.ownerless.extend(seq);
                self.add(None, 0)
            }
        };
        let known = &mut self.groups[group as usize];
        if known.id.is_none() {
            known.id = id;
            known.batch = identity.batch.unwrap_or(-1);
        }
        Record {
            offset: told.record.offset.0,
            group,
            part: identity.part.unwrap_or((1, 1)),
            id,
            rows: told.rows,
            crc32c: told.crc32c,
            content: told.content,
            archived: false,
            live: false,
            surplus: false,
        }
    }

    /// Everything is told: finds first and last records and surplus copies, and compares archive
    /// and log.
    pub(crate) fn close(&mut self, findings: &mut Findings) {
        for (producer, groups) in self.renumbering() {
            findings.note("producers that number again", || {
                format!(
                    "producer {producer} numbers again: {groups} of its groups bear numbers of \
                     earlier ones, and are refused as renumbered; give every start of a producer a \
                     name of its own, or let it go on numbering where it ended"
                )
            });
        }
        let mut seen: HashSet<(u32, u32)> = HashSet::new();
        for (place, shelf) in &mut self.shelves {
            shelf.close(*place, findings);
            for record in shelf.records_mut() {
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

    pub(crate) fn shelves(&self) -> &BTreeMap<Place, Shelf> {
        &self.shelves
    }

    /// The group of a number; of several, the first.
    pub(crate) fn number(&self, producer: &str, seq: u64) -> Option<u32> {
        let producer = *self.names.get(producer)?;
        self.numbers.get(&(producer, seq)).copied()
    }

    /// The groups under a number, or with an id.
    pub(crate) fn find(&self, wanted: impl Fn(&Group) -> bool) -> Vec<u32> {
        let groups = (0..).zip(&self.groups);
        let found = groups.filter(|(_, group)| wanted(group));
        found.map(|(number, _)| number).collect()
    }

    /// Producers that number again, and how many of their groups bear a number of an earlier one.
    fn renumbering(&self) -> BTreeMap<&str, u64> {
        let mut producers = BTreeMap::new();
        for group in self.groups.iter().filter(|group| group.renumbered) {
            if let Some(name) = self.producer_of(group) {
                *producers.entry(name).or_default() += 1;
            }
        }
        producers
    }

    /// Name of a group's producer.
    pub(crate) fn producer_of(&self, group: &Group) -> Option<&str> {
        let producer = group.producer? as usize;
        Some(&self.producers[producer].name)
    }

    /// Looks a record up.
    pub(crate) fn look(&self, record: RecordId) -> Look<'_> {
        match self.shelves.get(&(record.incarnation, record.partition)) {
            Some(shelf) => shelf.look(record.offset.0),
            None => Look::Beyond,
        }
    }

    /// How many parts the group of a record has, by that record.
    pub(crate) fn parts_at(&self, record: RecordId) -> u32 {
        match self.look(record) {
            Look::There(_, record) => record.part.1,
            _ => 1,
        }
    }

    /// How a group is called.
    pub(crate) fn named(&self, group: &Group) -> String {
        match (self.producer_of(group), group.records) {
            (Some(name), _) => format!("group {name}/{}", group.seq),
            (None, Some((record, _))) => format!("the unnumbered record at {record}"),
            (None, None) => "a group without a number".to_owned(),
        }
    }

    /// Numbers below the last of each producer without a journal that nothing holds: how many, and
    /// the first few runs. It numbers without gaps, so each was acknowledged before its last. A record
    /// whose headers tell half of its number is one of them.
    pub(crate) fn holes(&self) -> Vec<(&Producer, Holes)> {
        let mut ownerless: BTreeMap<u64, u64> = BTreeMap::new();
        for seq in &self.ownerless {
            *ownerless.entry(*seq).or_default() += 1;
        }
        let producers = self.producers.iter();
        let found = producers.map(|producer| {
            let mut holes = producer.holes();
            let mut found = producer.nameless.min(holes.all);
            let last = producer.last.filter(|_| !producer.journal).unwrap_or(0);
            for (seq, left) in ownerless.range_mut(..last) {
                let fills = *left > 0 && found < holes.all && !producer.numbers.contains(*seq);
                *left -= u64::from(fills);
                found += u64::from(fills);
            }
            holes.found = found;
            (producer, holes)
        });
        found.filter(|(_, holes)| holes.all > 0).collect()
    }

    /// Whether some partition's first records are gone from the log and were never archived.
    pub(crate) fn begins_late(&self) -> bool {
        self.shelves.values().any(|shelf| shelf.start() > 0)
    }

    /// Trajectory rows in the archive.
    pub(crate) fn archived_rows(&self) -> u64 {
        let records = self.shelves.values().flat_map(Shelf::records);
        let archived = records.filter(|record| record.archived);
        archived
            .map(|record| u64::from(record.rows.unwrap_or(0)))
            .sum()
    }

    fn shelf(&mut self, place: Place) -> &mut Shelf {
        self.shelves.entry(place).or_default()
    }

    fn producer_number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.names.get(name) {
            return number;
        }
        let number = self.producers.len() as u32;
        self.producers.push(Producer {
            name: name.to_owned(),
            journal: false,
            last: None,
            numbers: NumberSet::default(),
            nameless: 0,
        });
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

    /// The group of a record: that of its number, unless the record bears another id than the
    /// group that came first.
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
