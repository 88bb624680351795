//! Groups that are incomplete because parts have not arrived yet.

use std::collections::BTreeMap;

use vintage_control::RecordId;

use crate::{header::Headers, id::GroupId};

/// One message of a group, with whatever its reader keeps of it.
#[derive(Debug, Clone)]
pub struct Part<T> {
    /// Position of the message.
    pub record: RecordId,
    /// Headers of the message.
    pub headers: Headers,
    /// Content, or where to read it.
    pub body: T,
}

/// Parts of a group that have arrived, at least one. They are in a map, because a header may claim
/// any number of parts and the claim itself must cost no memory.
#[derive(Debug)]
pub struct Parts<T> {
    there: BTreeMap<u32, Part<T>>,
    of: u32,
}

impl<T> Parts<T> {
    /// Returns the parts that were met, in part order.
    pub fn there(&self) -> impl Iterator<Item = &Part<T>> {
        self.there.values()
    }

    /// Returns the records of the parts that were met, in part order.
    pub fn records(&self) -> Vec<RecordId> {
        self.there().map(|part| part.record).collect()
    }

    /// Returns the headers of one part, for what all parts share.
    pub fn headers(&self) -> Option<&Headers> {
        self.there().next().map(|part| &part.headers)
    }

    /// Returns the number of parts that the whole group has.
    pub fn of(&self) -> u32 {
        self.of
    }
}

/// Effect of a message on its group.
pub enum Progress<T> {
    /// Group that still lacks parts.
    Partial,
    /// Group that is whole: its parts, in part order.
    Complete(Vec<Part<T>>),
    /// Part that was met before.
    Repeated(Part<T>),
    /// Parts met before, and a part that contradicts them; none of them can be trusted.
    Contradictory(Parts<T>, Part<T>),
    /// Part of another group that has the number of an unfinished one.
    OfAnother(Part<T>),
}

/// Effect of an unreadable part on its group.
pub enum Abandoned<T> {
    /// Group of which no other part was met.
    Nothing,
    /// Group that will never be whole: the parts that were met.
    Parts(Parts<T>),
    /// Another unfinished group under the same number; its parts are kept.
    OfAnother,
}

/// Unfinished groups, by producer and number.
#[derive(Debug)]
pub struct Assembly<T>(BTreeMap<(String, u64), Parts<T>>);

impl<T> Default for Assembly<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Assembly<T> {
    /// Returns the number of unfinished groups.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if no group is unfinished.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a part and returns what became of its group.
    pub fn add(&mut self, part: Part<T>) -> Progress<T> {
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

    /// Takes out the parts of the group with this number, if `group` may be it.
    pub fn abandon(
        &mut self,
        (producer, seq): (&str, u64),
        group: Option<GroupId>,
    ) -> Abandoned<T> {
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

    /// Takes out the groups whose parts are spread over more than `patience` records: parts share a
    /// key and are written one after the other, so a part that is missing by then will not come.
    /// Records are counted, not seconds: the same log gives the same verdict.
    pub fn overdue(&mut self, now: RecordId, patience: u64) -> Vec<Parts<T>> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let late = |parts: &Parts<T>| {
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

    /// Takes out the group whose parts so far are exactly these records.
    pub fn take(&mut self, records: &[RecordId]) -> Option<Parts<T>> {
        let found = self.0.iter().find(|(_, parts)| parts.records() == records);
        let key = found.map(|(key, _)| key.clone())?;
        self.0.remove(&key)
    }

    /// Takes out every unfinished group: no more parts will come.
    pub fn drain(&mut self) -> Vec<Parts<T>> {
        std::mem::take(&mut self.0).into_values().collect()
    }
}

fn key(headers: &Headers) -> (String, u64) {
    (headers.producer.clone(), headers.producer_seq)
}
