//! Headers and counts of archived messages without their tokens, read from a few narrow columns,
//! for counting and for choosing groups.

use std::{ops::Range, result};

use arrow::{
    array::{
        Array, AsArray as _, Float32Array, Int64Array, ListArray, RecordBatch, StringArray,
        TimestampMillisecondArray,
    },
    datatypes::{Float32Type, Int64Type, TimestampMillisecondType, UInt32Type},
};
use vintage_control::{Incarnation, Offset, Partition, PolicyVersion, RecordId};
use vintage_trajectory::{Headers, Identity};

use crate::{
    columns::{BAD_REASON, HEADERS, OFFSET, PAYLOAD_CRC, ROW, TIMESTAMP},
    rowgroup::{column, header_pairs, messages},
};

/// Columns from which heads are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Columns {
    /// Columns of a [`MessageHead`] without its [`FilterValues`].
    Head,
    /// Columns of a [`MessageHead`] with its [`FilterValues`].
    WithFilterValues,
}

impl Columns {
    /// Names of the columns in the file.
    pub(crate) const fn names(self) -> &'static [&'static str] {
        // The columns of a head are those after the first two.
        const ALL: &[&str] = &[
            "policy_spans",
            "reward",
            "prompt_id",
            OFFSET,
            TIMESTAMP,
            ROW,
            HEADERS,
            PAYLOAD_CRC,
            BAD_REASON,
        ];
        match self {
            Self::Head => ALL.split_at(2).1,
            Self::WithFilterValues => ALL,
        }
    }
}

/// Message of the archive without its rows.
#[derive(Debug)]
pub struct MessageHead {
    /// Position in the log: incarnation, partition and offset.
    pub record: RecordId,
    /// Kafka's timestamp, milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    /// Headers of the trajectory format, parsed.
    pub headers: result::Result<Headers, vintage_trajectory::Error>,
    /// Identity of the group as far as it can be read from the headers, even if they do not parse.
    pub identity: Identity,
    /// CRC-32C of the payload as the sink received it; `None` if there was no payload.
    pub payload_crc32c: Option<u32>,
    /// True if the record could not be decoded.
    pub quarantined: bool,
    /// Number of trajectories; 0 if the record is quarantined.
    pub rows: usize,
    /// Id of the prompt that the first row answers; `None` if the record is quarantined.
    pub prompt: Option<String>,
    /// Values that filters compare; read only if a filter needs them.
    pub(crate) filter_values: Option<FilterValues>,
}

/// Values of a message that filters compare.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FilterValues {
    /// Oldest and newest version of any token.
    pub(crate) versions: Option<(PolicyVersion, PolicyVersion)>,
    /// Sum of the rewards of the rows.
    pub(crate) reward: f64,
}

/// Returns the heads in a decoded batch, by ascending offset.
pub(crate) fn heads(
    batch: &RecordBatch,
    incarnation: Incarnation,
    partition: Partition,
    columns: Columns,
) -> result::Result<Vec<MessageHead>, String> {
    let offsets = column(batch, OFFSET)?;
    let rows = column(batch, ROW)?;
    let ranges = messages(offsets.as_primitive(), rows.as_primitive())?;
    let timestamps = column(batch, TIMESTAMP)?;
    let timestamps: &TimestampMillisecondArray =
        timestamps.as_primitive::<TimestampMillisecondType>();
    let headers = column(batch, HEADERS)?;
    let headers: &ListArray = headers.as_list();
    let checksums = column(batch, PAYLOAD_CRC)?;
    let checksums = checksums.as_primitive::<UInt32Type>();
    let reasons = column(batch, BAD_REASON)?;
    let prompts: StringArray = column(batch, "prompt_id")?.as_string().clone();
    let values = (columns == Columns::WithFilterValues)
        .then(|| ValueColumns::of(batch))
        .transpose()?;
    let head = |(offset, range): (Offset, Range<usize>)| {
        let first = range.start;
        let quarantined = reasons.is_valid(first);
        let pairs = header_pairs(headers, first)
            .map_err(|reason| format!("the record at offset {offset}: {reason}"))?;
        Ok(MessageHead {
            record: RecordId {
                incarnation,
                partition,
                offset,
            },
            timestamp_ms: timestamps.is_valid(first).then(|| timestamps.value(first)),
            headers: Headers::parse(pairs.clone()),
            identity: Identity::read(pairs),
            payload_crc32c: checksums.is_valid(first).then(|| checksums.value(first)),
            quarantined,
            rows: if quarantined { 0 } else { range.len() },
            prompt: (!quarantined && prompts.is_valid(first))
                .then(|| prompts.value(first).to_owned()),
            filter_values: match &values {
                Some(columns) if !quarantined => Some(columns.of_message(&range)),
                _ => None,
            },
        })
    };
    ranges.into_iter().map(head).collect()
}

struct ValueColumns {
    rewards: Float32Array,
    spans: ListArray,
    versions: Int64Array,
}

impl ValueColumns {
    fn of(batch: &RecordBatch) -> result::Result<Self, String> {
        let spans: ListArray = column(batch, "policy_spans")?.as_list().clone();
        let versions = spans.values().as_struct().column(1);
        Ok(Self {
            rewards: column(batch, "reward")?
                .as_primitive::<Float32Type>()
                .clone(),
            versions: versions.as_primitive::<Int64Type>().clone(),
            spans,
        })
    }

    fn of_message(&self, rows: &Range<usize>) -> FilterValues {
        let offsets = self.spans.value_offsets();
        let spans = offsets[rows.start] as usize..offsets[rows.end] as usize;
        let versions = || {
            let versions = self.versions.values()[spans.clone()].iter();
            // A decoded message has no negative version.
            versions.map(|&version| PolicyVersion(u64::try_from(version).unwrap_or(0)))
        };
        FilterValues {
            versions: versions().min().zip(versions().max()),
            reward: self.rewards.values()[rows.clone()]
                .iter()
                .map(|&reward| f64::from(reward))
                .sum(),
        }
    }
}
