//! Groups as the learner gets them: real headers and rows, with two tokens a row. Their size on the
//! wire is the simulation's.

use vintage_control::{
    BadName, Incarnation, Name, Offset, Partition, PolicyVersion, RecordId, SlotNumber,
};
use vintage_learner::Incoming;
use vintage_trajectory::{GroupId, Headers, Rows, encode};

use crate::{
    error::{Error, Result, of},
    synthetic::{headers, small_row},
};

/// Longest prompt and completion of a group, in tokens, and the size of its vocabulary.
pub(super) const CONTEXT: usize = 4;

/// Policy of the simulated run.
pub(super) const POLICY: &str = "lead";

/// Maker of groups of one size.
#[derive(Debug)]
pub(super) struct Messages {
    run: Name,
    group_size: u16,
    count: u64,
    offsets: Vec<i64>,
}

/// Group that a producer has sampled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sampled<'a> {
    pub(super) producer: &'a str,
    pub(super) seq: u64,
    pub(super) version: PolicyVersion,
    pub(super) slot: Option<SlotNumber>,
}

impl Messages {
    pub(super) fn new(group_size: u16, partitions: usize) -> Result<Self> {
        let run = "fleet".parse();
        Ok(Self {
            run: run.map_err(|error: BadName| Error::Failed(error.to_string()))?,
            group_size,
            count: 0,
            offsets: vec![0; partitions],
        })
    }

    /// Returns the number of groups in the log.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Appends a group to the log; returns its partition, and the record as the learner reads it.
    pub(super) fn append(&mut self, group: Sampled<'_>) -> Result<(usize, Incoming)> {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.count.to_be_bytes());
        // A key's hash spreads groups evenly, and so do turns.
        let partition = (self.count % self.offsets.len() as u64) as usize;
        self.count += 1;
        let offset = self.offsets[partition];
        self.offsets[partition] += 1;
        let row = |index| small_row(GroupId(id), self.group_size, index, group.version);
        let rows: Vec<_> = (0..self.group_size).map(row).collect();
        let payload = encode(&rows).map_err(of("encoding a group"))?;
        let headers = Headers {
            slot: group.slot,
            ..headers(self.run.clone(), &rows, &payload, group.producer, group.seq)
        };
        let incoming = Incoming {
            record: RecordId {
                incarnation: Incarnation(0),
                partition: Partition(partition as i32),
                offset: Offset(offset),
            },
            crc32c: headers.crc32c,
            timestamp_ms: None,
            message: Ok((headers, Rows::decode(&payload)?)),
        };
        Ok((partition, incoming))
    }
}
