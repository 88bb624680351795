//! Splits a decoded row group into messages.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray as _, BinaryArray, FixedSizeBinaryArray, Int32Array, Int64Array,
        ListArray, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array,
    },
    compute::cast,
    datatypes::{DataType, Int64Type, Schema, SchemaRef, TimestampMillisecondType, UInt32Type},
};
use bytes::Bytes;
use vintage_bus::Header;
use vintage_control::{Incarnation, Offset, Partition, RecordId, Sha256};
use vintage_trajectory::{Headers, Identity, Rows};

use crate::{
    columns::{
        BAD_PAYLOAD, BAD_PAYLOAD_BYTES, BAD_PAYLOAD_SHA256, BAD_REASON, HEADERS, KEY, OFFSET,
        PAYLOAD_CRC, ROW, TIMESTAMP, file_schema,
    },
    error,
    file::Opened,
    footer::SCHEMA_KEY,
    message::{ArchivedMessage, Quarantined},
};

/// Rows of a row group, with each column in the type in which it was written.
#[derive(Debug)]
pub(crate) struct RowGroup {
    incarnation: Incarnation,
    partition: Partition,
    /// Schema of a message's rows.
    schema: SchemaRef,
    trajectory: Vec<ArrayRef>,
    timestamps: TimestampMillisecondArray,
    keys: BinaryArray,
    headers: ListArray,
    payload_crcs: UInt32Array,
    reasons: StringArray,
    payloads: BinaryArray,
    payload_bytes: Int64Array,
    digests: FixedSizeBinaryArray,
    /// Offset and row range of each message, ascending.
    messages: Vec<(Offset, Range<usize>)>,
    /// Approximate number of bytes held in memory.
    pub(crate) bytes: usize,
}

impl RowGroup {
    /// Reads a row group of a file.
    pub(crate) async fn read(file: &Opened, group: usize) -> error::Result<Self> {
        Self::of_file(file, &file.read(group).await?)
    }

    /// Builds a row group from a batch that was decoded from `file`.
    pub(crate) fn of_file(file: &Opened, batch: &RecordBatch) -> error::Result<Self> {
        let footer = &file.file.footer;
        let schema = file.schema_name();
        let rows = Self::of(batch, footer.incarnation, footer.partition, schema);
        rows.map_err(|reason| file.corrupt(reason))
    }

    /// Builds a row group from a decoded batch. Columns are found by name and cast, because a
    /// program that rewrote the file may have renamed list items, reordered columns or changed the
    /// width of offsets.
    fn of(
        batch: &RecordBatch,
        incarnation: Incarnation,
        partition: Partition,
        schema_name: Option<&str>,
    ) -> Result<Self, String> {
        let column = |name: &str| column(batch, name);
        let trajectory = vintage_trajectory::schema();
        let names = trajectory.fields().iter().map(|field| field.name());
        let offsets = column(OFFSET)?;
        let rows = column(ROW)?;
        let messages = messages(offsets.as_primitive(), rows.as_primitive())?;
        let named = schema_name.map(|name| (SCHEMA_KEY.to_owned(), name.to_owned()));
        let metadata = named.map_or_else(|| trajectory.metadata().clone(), |pair| [pair].into());
        Ok(Self {
            incarnation,
            partition,
            schema: Arc::new(Schema::new_with_metadata(
                trajectory.fields().clone(),
                metadata,
            )),
            trajectory: names.map(|name| column(name)).collect::<Result<_, _>>()?,
            timestamps: column(TIMESTAMP)?
                .as_primitive::<TimestampMillisecondType>()
                .clone(),
            keys: column(KEY)?.as_binary().clone(),
            headers: column(HEADERS)?.as_list().clone(),
            payload_crcs: column(PAYLOAD_CRC)?.as_primitive::<UInt32Type>().clone(),
            reasons: column(BAD_REASON)?.as_string().clone(),
            payloads: column(BAD_PAYLOAD)?.as_binary().clone(),
            payload_bytes: column(BAD_PAYLOAD_BYTES)?
                .as_primitive::<Int64Type>()
                .clone(),
            digests: column(BAD_PAYLOAD_SHA256)?.as_fixed_size_binary().clone(),
            messages,
            bytes: batch.get_array_memory_size(),
        })
    }

    /// Number of messages in the row group.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Returns the index of the first message at or after `offset`.
    pub(crate) fn at_or_after(&self, offset: Offset) -> usize {
        self.messages.partition_point(|(at, _)| *at < offset)
    }

    /// Returns the offset of message `index`.
    pub(crate) fn offset(&self, index: usize) -> Offset {
        self.messages[index].0
    }

    /// Returns message `index`; its rows share this row group's memory.
    pub(crate) fn message(&self, index: usize) -> Result<ArchivedMessage, String> {
        let (offset, range) = &self.messages[index];
        let first = range.start;
        let in_message = |reason: String| format!("the record at offset {offset}: {reason}");
        let raw_headers = self.raw_headers(first).map_err(in_message)?;
        let pairs = raw_headers
            .iter()
            .map(|h| (h.key.as_str(), h.value.as_deref()));
        let (headers, identity) = (Headers::parse(pairs.clone()), Identity::read(pairs));
        let rows = if self.reasons.is_valid(first) {
            Err(self.quarantined(first))
        } else {
            Ok(self.rows(range).map_err(in_message)?)
        };
        Ok(ArchivedMessage {
            record: RecordId {
                incarnation: self.incarnation,
                partition: self.partition,
                offset: *offset,
            },
            timestamp_ms: self
                .timestamps
                .is_valid(first)
                .then(|| self.timestamps.value(first)),
            key: binary(&self.keys, first),
            headers,
            identity,
            raw_headers,
            payload_crc32c: self
                .payload_crcs
                .is_valid(first)
                .then(|| self.payload_crcs.value(first)),
            rows,
        })
    }

    fn rows(&self, range: &Range<usize>) -> Result<Rows, String> {
        let columns = self
            .trajectory
            .iter()
            .map(|column| column.slice(range.start, range.len()));
        let batch = RecordBatch::try_new(self.schema.clone(), columns.collect())
            .map_err(|error| error.to_string())?;
        Rows::from_batch(batch).map_err(|error| error.to_string())
    }

    fn raw_headers(&self, row: usize) -> Result<Vec<Header>, String> {
        let pairs = header_pairs(&self.headers, row)?;
        let headers = pairs.map(|(key, value)| Header {
            key: key.to_owned(),
            value: value.map(Bytes::copy_from_slice),
        });
        Ok(headers.collect())
    }

    fn quarantined(&self, row: usize) -> Quarantined {
        let digest = self.digests.is_valid(row).then(|| self.digests.value(row));
        Quarantined {
            reason: self.reasons.value(row).to_owned(),
            payload: binary(&self.payloads, row),
            payload_bytes: u64::try_from(self.payload_bytes.value(row)).unwrap_or(0),
            payload_sha256: digest.and_then(|bytes| Some(Sha256(bytes.try_into().ok()?))),
        }
    }
}

/// Returns column `name`, cast to the type in which it was written.
pub(crate) fn column(batch: &RecordBatch, name: &str) -> Result<ArrayRef, String> {
    let expected = file_schema();
    let expected = expected
        .field_with_name(name)
        .map_err(|error| error.to_string())?;
    let found = batch
        .column_by_name(name)
        .ok_or_else(|| format!("it has no column {name}"))?;
    conform(found, expected.data_type()).map_err(|reason| format!("column {name}: {reason}"))
}

/// Returns the headers in row `row` without copying them.
pub(crate) fn header_pairs(
    headers: &ListArray,
    row: usize,
) -> Result<impl Iterator<Item = (&str, Option<&[u8]>)> + Clone, String> {
    let offsets = headers.value_offsets();
    let range = if headers.is_valid(row) {
        offsets[row] as usize..offsets[row + 1] as usize
    } else {
        0..0
    };
    let entries = headers.values().as_struct();
    let (names, values) = (
        entries.column(0).as_string::<i32>(),
        entries.column(1).as_binary::<i32>(),
    );
    if range.clone().any(|at| names.is_null(at)) {
        return Err("a header has no name".to_owned());
    }
    Ok(range.map(|at| {
        let value = values.is_valid(at).then(|| values.value(at));
        (names.value(at), value)
    }))
}

fn binary(column: &BinaryArray, row: usize) -> Option<Bytes> {
    column
        .is_valid(row)
        .then(|| Bytes::copy_from_slice(column.value(row)))
}

fn conform(found: &ArrayRef, expected: &DataType) -> Result<ArrayRef, String> {
    if found.data_type() == expected {
        return Ok(Arc::clone(found));
    }
    cast(found, expected).map_err(|error| error.to_string())
}

/// Finds the messages in a batch and checks them: a message is the rows of one offset, numbered
/// from 0, and offsets ascend.
pub(crate) fn messages(
    offsets: &Int64Array,
    rows: &Int32Array,
) -> Result<Vec<(Offset, Range<usize>)>, String> {
    if offsets.null_count() > 0 || rows.null_count() > 0 {
        return Err(format!("{OFFSET} or {ROW} has nulls"));
    }
    let mut messages: Vec<(Offset, Range<usize>)> = Vec::new();
    for (at, (&offset, &row)) in offsets.values().iter().zip(rows.values()).enumerate() {
        let offset = Offset(offset);
        match messages.last_mut() {
            Some((last, range)) if *last == offset && row == range.len() as i32 => range.end += 1,
            Some((last, _)) if *last >= offset || row != 0 => {
                return Err(format!(
                    "row {row} of offset {offset} follows offset {last}"
                ));
            }
            None if row != 0 => return Err(format!("it begins with row {row} of offset {offset}")),
            _ => messages.push((offset, at..at + 1)),
        }
    }
    Ok(messages)
}

#[cfg(test)]
mod tests;
