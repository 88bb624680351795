//! Encodes messages of one partition into the bytes of one archive file.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, BinaryBuilder, FixedSizeBinaryBuilder, Int32Builder, Int64Builder,
        ListBuilder, RecordBatch, StringBuilder, StructBuilder, TimestampMillisecondBuilder,
        UInt32Builder, new_null_array,
    },
    compute::concat,
    error::ArrowError,
};
use parquet::{
    arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions},
    file::metadata::KeyValue,
};
use vintage_control::{ArchiveFooter, CONTROL_FORMAT, Incarnation, Offset, OffsetRange, Partition};
use vintage_store::sha256;
use vintage_trajectory::{Rows, SchemaVersion};

use crate::{
    columns::{Codec, file_schema, header_field, header_fields, properties},
    footer::{FOOTER_KEY, SCHEMA_KEY, end_of},
    message::{BAD_PAYLOAD_LIMIT, Body, Message},
    path::TopicFolder,
    seal::seal,
};

/// Message bytes per row group, 16 MiB. A row group is the unit of pruning and of reading one
/// message back.
const ROW_GROUP_BYTES: usize = 16 << 20;
/// Message bytes handed to the Parquet writer at a time, 1 MiB: such a copy fits the CPU's cache
/// and its memory is reused.
const BATCH_BYTES: usize = 1 << 20;

/// Facts about a file that its footer records besides its rows.
pub(crate) struct Label {
    pub(crate) topic_folder: Arc<TopicFolder>,
    pub(crate) incarnation: Incarnation,
    pub(crate) partition: Partition,
    pub(crate) base: Offset,
    pub(crate) next: Offset,
    pub(crate) writer: Arc<str>,
    pub(crate) reason: &'static str,
    /// Offsets from `base` on that retention deleted before they were archived.
    pub(crate) lost: Option<OffsetRange>,
}

/// Returns the bytes of a file that holds `messages`, and its footer.
pub(crate) fn encode(
    label: &Label,
    messages: &[Message],
    codec: Codec,
) -> Result<(Vec<u8>, ArchiveFooter), String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let footer = footer(label, messages);
    let json = serde_json::to_string(&footer).map_err(|error| said(&error))?;
    // Without ARROW:schema: Parquet's own types are sufficient, and without it pyarrow keeps the
    // key-value metadata when it rewrites a file.
    let options = ArrowWriterOptions::new()
        .with_properties(properties(codec, footer.quarantined > 0).map_err(|error| said(&error))?)
        .with_skip_arrow_metadata(true);
    // More than the file needs; pages that are never written to use no memory.
    let mut file = Vec::with_capacity(messages.iter().map(Message::bytes).sum());
    let mut writer = ArrowWriter::try_new_with_options(&mut file, file_schema(), options)
        .map_err(|error| said(&error))?;
    for row_group in chunks(messages, ROW_GROUP_BYTES) {
        for messages in chunks(row_group, BATCH_BYTES) {
            let batch = batch(label.partition, messages).map_err(|error| said(&error))?;
            writer.write(&batch).map_err(|error| said(&error))?;
        }
        writer.flush().map_err(|error| said(&error))?;
    }
    writer.append_key_value_metadata(KeyValue::new(FOOTER_KEY.to_owned(), json));
    let schema = SchemaVersion::NEWEST.as_str().to_owned();
    writer.append_key_value_metadata(KeyValue::new(SCHEMA_KEY.to_owned(), schema));
    let metadata = writer.close().map_err(|error| said(&error))?;
    let ends: Vec<_> = metadata.row_groups().iter().map(end_of).collect();
    seal(&mut file, &ends)?;
    Ok((file, footer))
}

fn footer(label: &Label, messages: &[Message]) -> ArchiveFooter {
    let rows = messages.iter().filter_map(|message| match &message.body {
        Body::Rows(rows) => Some(rows),
        Body::Bad { .. } => None,
    });
    let quarantined = messages.len() - rows.clone().count();
    let timestamps = messages.iter().filter_map(|message| message.timestamp_ms);
    ArchiveFooter {
        format: CONTROL_FORMAT.to_owned(),
        topic: label.topic_folder.topic().to_owned(),
        incarnation: label.incarnation,
        partition: label.partition,
        base_offset: label.base,
        next_offset: label.next,
        messages: messages.len() as u64,
        rows: rows.clone().map(|rows| rows.len() as u64).sum(),
        quarantined: quarantined as u64,
        min_policy_version: rows.clone().filter_map(Rows::min_version).min(),
        max_policy_version: rows.filter_map(Rows::max_version).max(),
        min_timestamp_ms: timestamps.clone().min(),
        max_timestamp_ms: timestamps.max(),
        writer: label.writer.to_string(),
        roll_reason: label.reason.to_owned(),
        lost: label.lost,
    }
}

/// Splits messages into consecutive chunks. Each ends with the message at which it reaches `limit`
/// bytes; the last may be smaller.
fn chunks(messages: &[Message], limit: usize) -> impl Iterator<Item = &[Message]> {
    let mut rest = messages;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let full = rest.iter().position(|message| {
            bytes += message.bytes();
            bytes >= limit
        });
        let (chunk, left) = rest.split_at(full.map_or(rest.len(), |last| last + 1));
        rest = left;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn batch(partition: Partition, messages: &[Message]) -> Result<RecordBatch, ArrowError> {
    let schema = file_schema();
    let width = vintage_trajectory::schema().fields().len();
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (index, field) in schema.fields().iter().take(width).enumerate() {
        let absent = new_null_array(field.data_type(), 1);
        let parts: Vec<&dyn Array> = messages
            .iter()
            .map(|message| match &message.body {
                Body::Rows(rows) => rows.batch().column(index).as_ref(),
                Body::Bad { .. } => absent.as_ref(),
            })
            .collect();
        columns.push(concat(&parts)?);
    }
    columns.extend(log_columns(partition, messages)?);
    RecordBatch::try_new(schema, columns)
}

fn log_columns(partition: Partition, messages: &[Message]) -> Result<Vec<ArrayRef>, ArrowError> {
    let mut partitions = Int32Builder::new();
    let mut offsets = Int64Builder::new();
    let mut timestamps = TimestampMillisecondBuilder::new().with_timezone("UTC");
    let mut rows_in_msg = Int32Builder::new();
    let mut keys = BinaryBuilder::new();
    let header = StructBuilder::from_fields(header_fields(), 0);
    let mut headers = ListBuilder::new(header).with_field(header_field());
    let mut payload_crcs = UInt32Builder::new();
    let mut reasons = StringBuilder::new();
    let mut payloads = BinaryBuilder::new();
    let mut payload_bytes = Int64Builder::new();
    let mut digests = FixedSizeBinaryBuilder::new(32);
    for message in messages {
        let rows = message.rows();
        partitions.append_value_n(partition.0, rows);
        offsets.append_value_n(message.offset.0, rows);
        rows_in_msg.extend((0..rows as i32).map(Some));
        for row in 0..rows {
            timestamps.append_option(message.timestamp_ms);
            keys.append_option(message.key.as_ref().filter(|_| row == 0));
        }
        append_headers(&mut headers, message)?;
        payload_crcs.append_option(message.payload_crc32c);
        for _ in 1..rows {
            headers.append(false);
            payload_crcs.append_null();
        }
        if let Body::Bad {
            reason, payload, ..
        } = &message.body
        {
            reasons.append_value(reason);
            let kept = payload
                .as_ref()
                .map(|bytes| &bytes[..bytes.len().min(BAD_PAYLOAD_LIMIT)]);
            payloads.append_option(kept);
            payload_bytes.append_value(payload.as_ref().map_or(0, |bytes| bytes.len() as i64));
            match payload {
                Some(bytes) => digests.append_value(sha256(bytes).0)?,
                None => digests.append_null(),
            }
        } else {
            for _ in 0..rows {
                reasons.append_null();
                payloads.append_null();
                payload_bytes.append_null();
                digests.append_null();
            }
        }
    }
    Ok(vec![
        Arc::new(partitions.finish()),
        Arc::new(offsets.finish()),
        Arc::new(timestamps.finish()),
        Arc::new(rows_in_msg.finish()),
        Arc::new(keys.finish()),
        Arc::new(headers.finish()),
        Arc::new(payload_crcs.finish()),
        Arc::new(reasons.finish()),
        Arc::new(payloads.finish()),
        Arc::new(payload_bytes.finish()),
        Arc::new(digests.finish()),
    ])
}

fn append_headers(
    headers: &mut ListBuilder<StructBuilder>,
    message: &Message,
) -> Result<(), ArrowError> {
    let other = || ArrowError::SchemaError("headers are not built as they are declared".to_owned());
    for header in &message.headers {
        let entry = headers.values();
        entry
            .field_builder::<StringBuilder>(0)
            .ok_or_else(other)?
            .append_value(&header.key);
        let value = entry.field_builder::<BinaryBuilder>(1).ok_or_else(other)?;
        value.append_option(header.value.as_ref());
        entry.append(true);
    }
    headers.append(true);
    Ok(())
}
