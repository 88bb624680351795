//! Groups of which parts are still to come.

use std::collections::BTreeMap;

use vintage_control::{RecordId, RejectReason, Rejection};
use vintage_trajectory::{GroupId, Headers, Rows};

#[derive(Debug)]
struct Parts {
    headers: Headers,
    parts: Vec<Option<(RecordId, Rows)>>,
}

impl Parts {
    fn records(&self) -> Vec<RecordId> {
        self.parts
            .iter()
            .flatten()
            .map(|(record, _)| *record)
            .collect()
    }

    fn refuse(&self, reason: RejectReason, detail: String) -> Rejection {
        Rejection {
            group: Some(self.headers.group.to_string()),
            producer: Some(self.headers.producer.clone()),
            producer_seq: Some(self.headers.producer_seq),
            records: self.records(),
            reason,
            detail,
        }
    }
}

/// What a record did to its group.
pub(super) enum Progress {
    /// More parts are to come.
    Partial,
    /// The group is whole.
    Complete {
        headers: Headers,
        records: Vec<RecordId>,
        parts: Vec<Rows>,
    },
    /// This part does not fit the others.
    Refused(Rejection),
}

#[derive(Debug, Default)]
pub(super) struct Assembly(BTreeMap<(String, GroupId), Parts>);

impl Assembly {
    pub(super) fn add(&mut self, record: RecordId, headers: Headers, rows: Rows) -> Progress {
        let (part, of) = headers.part;
        if of == 1 {
            return Progress::Complete {
                headers,
                records: vec![record],
                parts: vec![rows],
            };
        }
        let key = (headers.producer.clone(), headers.group);
        let group = self.0.entry(key.clone()).or_insert_with(|| Parts {
            headers: headers.clone(),
            parts: vec![None; of as usize],
        });
        let fits = group.parts.len() == of as usize
            && group.headers.producer_seq == headers.producer_seq
            && group.headers.batch == headers.batch;
        let slot = group.parts.get_mut(part as usize - 1);
        match slot {
            Some(slot @ None) if fits => *slot = Some((record, rows)),
            slot => {
                let (reason, detail) = match slot {
                    Some(Some(_)) if fits => (
                        RejectReason::Duplicate,
                        format!("part {part} of {of} came before"),
                    ),
                    _ => (
                        RejectReason::BadHeaders,
                        format!("part {part} of {of} contradicts the group's other parts"),
                    ),
                };
                return Progress::Refused(Rejection {
                    group: Some(headers.group.to_string()),
                    producer: Some(headers.producer),
                    producer_seq: Some(headers.producer_seq),
                    records: vec![record],
                    reason,
                    detail,
                });
            }
        }
        if group.parts.iter().any(Option::is_none) {
            return Progress::Partial;
        }
        let Some(group) = self.0.remove(&key) else {
            return Progress::Partial;
        };
        let (records, parts) = group.parts.into_iter().flatten().unzip();
        Progress::Complete {
            headers: group.headers,
            records,
            parts,
        }
    }

    /// Groups whose parts are spread over more than `patience` records: parts share a key, so
    /// they stand close together in one partition, and what is missing now will not come.
    pub(super) fn overdue(&mut self, now: RecordId, patience: u64) -> Vec<Rejection> {
        let late = |parts: &Parts| {
            parts.parts.iter().flatten().any(|(record, _)| {
                record.incarnation == now.incarnation
                    && record.partition == now.partition
                    && now.offset.0 - record.offset.0 > patience as i64
            })
        };
        let mut refused = Vec::new();
        self.0.retain(|_, parts| {
            if !late(parts) {
                return true;
            }
            let there = parts.records().len();
            let detail = format!(
                "{there} of {} parts came within {patience} records",
                parts.parts.len()
            );
            refused.push(parts.refuse(RejectReason::Incomplete, detail));
            false
        });
        refused
    }

    pub(super) fn forget(&mut self, records: &[RecordId]) {
        self.0.retain(|_, parts| parts.records() != records);
    }
}
