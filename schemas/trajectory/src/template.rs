use std::sync::LazyLock;

use arrow::{
    array::{RecordBatch, new_null_array},
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    ipc::{
        Message, MetadataVersion, RecordBatch as BatchHeader, root_as_message,
        writer::{IpcWriteOptions, StreamWriter},
    },
};

use crate::schema::schema;

/// End of an Arrow IPC stream: continuation marker and a length of zero.
pub(crate) const END_OF_STREAM: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// Common beginning of every encoded message, written once by the Arrow library: the schema, and
/// the record batch's metadata with the positions of its numbers.
///
/// Every column is always present, so the metadata has one layout and only its numbers differ
/// between messages. Patching them saves building a flatbuffer of 2 kB for each message.
pub(crate) struct Template {
    /// Bytes of the schema frame and the record batch metadata.
    pub(crate) prefix: Vec<u8>,
    /// Length of the schema frame in bytes.
    pub(crate) schema_len: usize,
    /// Position of the row count (i64) in `prefix`.
    pub(crate) rows_at: usize,
    /// Position of the body's length (i64) in `prefix`.
    pub(crate) body_len_at: usize,
    /// Position of the field nodes (i64 length, i64 null count) in `prefix`.
    pub(crate) nodes_at: usize,
    /// Position of the buffers (i64 offset, i64 length) in `prefix`.
    pub(crate) buffers_at: usize,
    /// Index of the validity buffer of every field node.
    pub(crate) validity: Vec<usize>,
    /// Indexes of the buffers that hold 32-bit offsets.
    pub(crate) offsets: Vec<usize>,
    /// Number of buffers of the record batch.
    pub(crate) buffers: usize,
}

/// Template of trajectory v1.
pub(crate) static TEMPLATE: LazyLock<Template> =
    LazyLock::new(|| build(&schema()).expect("the schema of this build can be written"));

fn build(schema: &SchemaRef) -> Result<Template, ArrowError> {
    let mut prefix = frame(schema, None)?;
    let schema_len = prefix.len();

    // A batch of one row, since flatbuffers leave out zeros. All its values are null; the layout of
    // the metadata does not depend on that.
    let columns = schema
        .fields()
        .iter()
        .map(|field| new_null_array(field.data_type(), 1));
    let nullable: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    let nullable = SchemaRef::new(Schema::new(nullable));
    let batch = RecordBatch::try_new(nullable.clone(), columns.collect())?;
    prefix.extend(frame(&nullable, Some(&batch))?);

    let metadata = &prefix[schema_len + 8..];
    let broken = |what: &str| ArrowError::IpcError(format!("the written batch has no {what}"));
    let message = root_as_message(metadata).map_err(|error| broken(&error.to_string()))?;
    let header = message
        .header_as_record_batch()
        .ok_or_else(|| broken("header"))?;
    let nodes = header.nodes().ok_or_else(|| broken("nodes"))?;
    let buffers = header.buffers().ok_or_else(|| broken("buffers"))?;
    let start = metadata.as_ptr() as usize;
    let place = |bytes: &[u8]| schema_len + 8 + (bytes.as_ptr() as usize - start);
    let slot = |table: usize, field: u16| schema_len + 8 + table + usize::from(field);
    let rows = header._tab.vtable().get(BatchHeader::VT_LENGTH);
    let body_len = message._tab.vtable().get(Message::VT_BODYLENGTH);
    if rows == 0 || body_len == 0 {
        return Err(broken("length"));
    }
    let (rows_at, body_len_at) = (
        slot(header._tab.loc(), rows),
        slot(message._tab.loc(), body_len),
    );
    let (nodes_at, buffers_at) = (place(nodes.bytes()), place(buffers.bytes()));
    let buffer_count = buffers.len();

    let mut numbered = Numbered::default();
    schema.fields().iter().for_each(|field| numbered.add(field));
    if numbered.validity.len() != nodes.len() || numbered.buffers != buffer_count {
        return Err(broken("expected number of nodes and buffers"));
    }
    Ok(Template {
        prefix,
        schema_len,
        rows_at,
        body_len_at,
        nodes_at,
        buffers_at,
        validity: numbered.validity,
        offsets: numbered.offsets,
        buffers: numbered.buffers,
    })
}

/// Returns the schema frame, or the metadata frame of a batch without its body.
fn frame(schema: &Schema, batch: Option<&RecordBatch>) -> Result<Vec<u8>, ArrowError> {
    // 8 is the smallest alignment that Arrow allows and enough for 64-bit values. Padding 85
    // buffers to 64 bytes would add 3 kB to a small message.
    let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), schema, options)?;
    let start = if let Some(batch) = batch {
        let start = writer.get_ref().len();
        writer.write(batch)?;
        start
    } else {
        0
    };
    let mut bytes = writer.get_ref().split_at(start).1.to_vec();
    let length = bytes
        .get(4..8)
        .and_then(|length| length.try_into().ok())
        .map(u32::from_le_bytes);
    let length = length.ok_or_else(|| ArrowError::IpcError("a frame has no length".to_owned()))?;
    bytes.truncate(8 + length as usize);
    Ok(bytes)
}

/// Buffers of a schema's columns, numbered in the order of the IPC format.
#[derive(Default)]
struct Numbered {
    validity: Vec<usize>,
    offsets: Vec<usize>,
    buffers: usize,
}

impl Numbered {
    fn add(&mut self, field: &Field) {
        self.validity.push(self.buffers);
        let data_type = field.data_type();
        if matches!(
            data_type,
            DataType::Utf8 | DataType::List(_) | DataType::Map(..)
        ) {
            self.offsets.push(self.buffers + 1);
        }
        self.buffers += match data_type {
            DataType::Utf8 => 3,
            DataType::Struct(_) => 1,
            _ => 2,
        };
        match data_type {
            DataType::List(item) | DataType::Map(item, _) => self.add(item),
            DataType::Struct(fields) => fields.iter().for_each(|field| self.add(field)),
            _ => {}
        }
    }
}
