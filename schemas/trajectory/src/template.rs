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

/// What every encoded message begins with, written once by the Arrow library: the schema, and
/// the record batch's metadata with the places of its numbers.
///
/// Every column is always there, so the metadata has one layout and only numbers differ from
/// message to message; patching them saves building a flatbuffer of 2 kB each time.
pub(crate) struct Template {
    /// Schema frame and record batch metadata, as they begin a message.
    pub(crate) prefix: Vec<u8>,
    /// Length of the schema frame.
    pub(crate) schema_len: usize,
    /// Where the row count lies (i64).
    pub(crate) rows_at: usize,
    /// Where the length of the body lies (i64).
    pub(crate) body_len_at: usize,
    /// Where the field nodes lie (i64 length, i64 null count).
    pub(crate) nodes_at: usize,
    /// Where the buffers lie (i64 offset, i64 length).
    pub(crate) buffers_at: usize,
    /// For every field node, which buffer holds its validity.
    pub(crate) validity: Vec<usize>,
    /// Which buffers hold 32-bit offsets.
    pub(crate) offsets: Vec<usize>,
    /// Number of buffers.
    pub(crate) buffers: usize,
}

/// The template of v1.
pub(crate) static TEMPLATE: LazyLock<Template> =
    LazyLock::new(|| build(&schema()).expect("the schema of this build can be written"));

fn build(schema: &SchemaRef) -> Result<Template, ArrowError> {
    let mut prefix = frame(schema, None)?;
    let schema_len = prefix.len();

    // A batch of one row, since flatbuffers leave out zeros; all null, which the metadata's
    // layout does not depend on.
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

/// The schema frame, or the metadata frame of a batch without its body.
fn frame(schema: &Schema, batch: Option<&RecordBatch>) -> Result<Vec<u8>, ArrowError> {
    // 8 is the least alignment Arrow allows, and all that 64-bit values need: 85 buffers padded
    // to 64 bytes cost a small message 3 kB.
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

/// The buffers of a schema's columns, numbered as the IPC format orders them.
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
