//! Groups that are incomplete because parts have not arrived yet.

use std::collections::BTreeMap;

use vintage_control::RecordId;
use vintage_trajectory::{GroupId, Headers, Rows};

/// Message that holds one part of a group.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) record: RecordId,
    pub(super) headers: Headers,
    pub(super) rows: Rows,
}

/// Parts of a group that have arrived, at least one. They are in a map, because a header may claim
/// any number of parts and the claim itself must cost no memory.
#[derive(Debug)]
pub(super) struct Parts {
    there: BTreeMap<u32, Part>,
    of: u32,
}

impl Parts {
    /// Returns the parts that have arrived, in part order.
    pub(super) fn there(&self) -> impl Iterator<Item = &Part> {
        self.there.values()
    }

    pub(super) fn records(&self) -> Vec<RecordId> {
        self.there().map(|part| part.record).collect()
    }

    /// Returns the headers of one part, for values that all parts share.
    pub(super) fn headers(&self) -> Option<&Headers> {
        self.there().next().map(|part| &part.headers)
    }

    /// Returns the number of parts that the headers claim for the whole group.
    pub(super) fn of(&self) -> u32 {
        self.of
    }
}

/// Effect of a record on its group.
pub(super) enum Progress {
    /// More parts are needed.
    Partial,
    /// All parts of the group have arrived.
    Complete(Vec<Part>),
    /// Part that arrived before.
    Repeated(Part),
    /// Part that contradicts the earlier ones, so that none of them can be trusted.
    Contradictory(Parts, Part),
    /// Part of another group, with the number of the group that is being assembled.
    OfAnother(Part),
}

/// State in which an unreadable part leaves its group.
pub(super) enum Abandoned {
    /// No part of the group has arrived.
    Nothing,
    /// Parts that have arrived of a group that can never be complete.
    Parts(Parts),
    /// Another group is being assembled under the number.
    OfAnother,
}

/// Incomplete groups, by the producer and number that all parts of a group share.
#[derive(Debug, Default)]
pub(super) struct Assembly(BTreeMap<(String, u64), Parts>);

impl Assembly {
    /// Returns the number of incomplete groups.
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

    /// Removes and returns the parts of the group with this number, unless `group` names another
    /// one.
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

    /// Removes and returns the groups with a part more than `patience` offsets before `now`. All
    /// parts of a group have one key, so they are close together in one partition, and a part that
    /// is missing by then will not arrive. Age is counted in records instead of seconds, so that
    /// one log always gives one verdict.
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

    /// Removes and returns the group whose parts so far arrived in exactly these records.
    pub(super) fn take(&mut self, records: &[RecordId]) -> Option<Parts> {
        let found = self.0.iter().find(|(_, parts)| parts.records() == records);
        let key = found.map(|(key, _)| key.clone())?;
        self.0.remove(&key)
    }
}

fn key(headers: &Headers) -> (String, u64) {
    (headers.producer.clone(), headers.producer_seq)
}
