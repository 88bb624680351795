//! Groups of which parts are still to come.

use std::collections::BTreeMap;

use vintage_control::RecordId;
use vintage_trajectory::{GroupId, Headers, Rows};

/// One message of a group.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) record: RecordId,
    pub(super) headers: Headers,
    pub(super) rows: Rows,
}

/// Parts of a group that came so far; never none. A map: a header may claim any number of parts,
/// and a claim must cost nothing.
#[derive(Debug)]
pub(super) struct Parts {
    there: BTreeMap<u32, Part>,
    of: u32,
}

impl Parts {
    /// Those that came, in part order.
    pub(super) fn there(&self) -> impl Iterator<Item = &Part> {
        self.there.values()
    }

    pub(super) fn records(&self) -> Vec<RecordId> {
        self.there().map(|part| part.record).collect()
    }

    /// Headers of one of them, for what all parts share.
    pub(super) fn headers(&self) -> Option<&Headers> {
        self.there().next().map(|part| &part.headers)
    }

    /// How many there will be.
    pub(super) fn of(&self) -> u32 {
        self.of
    }
}

/// What a record did to its group.
pub(super) enum Progress {
    /// More parts are to come.
    Partial,
    /// The group is whole.
    Complete(Vec<Part>),
    /// This part came before.
    Repeated(Part),
    /// This part contradicts the others: none of them can be trusted.
    Contradictory(Parts, Part),
    /// This part is of another group, and bears the number of the one in the making.
    OfAnother(Part),
}

/// What a part that cannot be read leaves of its group.
pub(super) enum Abandoned {
    /// Nothing of it came.
    Nothing,
    /// These parts came, and the group will never be whole.
    Parts(Parts),
    /// Another group is in the making under its number.
    OfAnother,
}

/// Groups in the making, by their number: parts share one.
#[derive(Debug, Default)]
pub(super) struct Assembly(BTreeMap<(String, u64), Parts>);

impl Assembly {
    /// Groups of which parts are missing.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn add(&mut self, part: Part) -> Progress {
        let (number, of) = part.headers.part;
        let key = key(&part.headers);
        let Some(parts) = self.0.get_mut(&key) else {
            if of == 1 {
                return Progress::Complete(vec![part]);
            }
            let there = BTreeMap::from([(number, part)]);
            self.0.insert(key, Parts { there, of });
            return Progress::Partial;
        };
        let this = &part.headers;
        let other = parts.headers();
        if other.is_some_and(|other| other.group != this.group) {
            return Progress::OfAnother(part);
        }
        let agrees = parts.of == of
            && other.is_some_and(|other| other.batch == this.batch && other.policy == this.policy);
        if agrees && parts.there.contains_key(&number) {
            return Progress::Repeated(part);
        }
        if agrees {
            parts.there.insert(number, part);
            if parts.there.len() < of as usize {
                return Progress::Partial;
            }
            let parts = self.0.remove(&key).map(|parts| parts.there.into_values());
            return Progress::Complete(parts.into_iter().flatten().collect());
        }
        match self.0.remove(&key) {
            Some(parts) => Progress::Contradictory(parts, part),
            None => Progress::Partial,
        }
    }

    /// Takes out what came of the group with this number, if `group` may be it.
    pub(super) fn abandon(
        &mut self,
        (producer, seq): (&str, u64),
        group: Option<GroupId>,
    ) -> Abandoned {
        let key = (producer.to_owned(), seq);
        let Some(parts) = self.0.get(&key) else {
            return Abandoned::Nothing;
        };
        let other = parts.headers().map(|headers| headers.group);
        if group.is_some_and(|group| other != Some(group)) {
            return Abandoned::OfAnother;
        }
        self.0
            .remove(&key)
            .map_or(Abandoned::Nothing, Abandoned::Parts)
    }

    /// Takes out the groups whose parts are spread over more than `patience` records: parts
    /// share a key, so they stand close together in one partition, and what is missing now will
    /// not come. Records are counted, not seconds: the same log gives the same verdict.
    pub(super) fn overdue(&mut self, now: RecordId, patience: u64) -> Vec<Parts> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let late = |parts: &Parts| {
            parts.there().any(|Part { record, .. }| {
                record.incarnation == now.incarnation
                    && record.partition == now.partition
                    && now.offset.0 - record.offset.0 > patience as i64
            })
        };
        let keys = self.0.iter().filter(|(_, parts)| late(parts));
        let keys: Vec<_> = keys.map(|(key, _)| key.clone()).collect();
        keys.iter().filter_map(|key| self.0.remove(key)).collect()
    }

    /// Takes out the group that came in just these records so far.
    pub(super) fn take(&mut self, records: &[RecordId]) -> Option<Parts> {
        let found = self.0.iter().find(|(_, parts)| parts.records() == records);
        let key = found.map(|(key, _)| key.clone())?;
        self.0.remove(&key)
    }
}

fn key(headers: &Headers) -> (String, u64) {
    (headers.producer.clone(), headers.producer_seq)
}
