use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::{
    error::Error,
    version::{SCHEMA_KEY, SchemaVersion},
};

/// Returns the Arrow schema of trajectory v1, with metadata `schema = vintage.trajectory/1`.
pub fn schema() -> SchemaRef {
    SCHEMA.clone()
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(v1()));

fn v1() -> Schema {
    let required = |name: &str, data_type| Field::new(name, data_type, false);
    let optional = |name: &str, data_type| Field::new(name, data_type, true);
    let id = || DataType::FixedSizeBinary(16);
    let span = DataType::Struct(Fields::from(vec![
        required("start", DataType::Int32),
        required("version", DataType::Int64),
    ]));
    let fields = vec![
        required("group_id", id()),
        required("trajectory_id", id()),
        required("group_size", DataType::UInt16),
        required("sample_index", DataType::UInt16),
        required("policy", DataType::Utf8),
        required("batch", DataType::Int64),
        required("prompt_id", DataType::Utf8),
        required("prompt_tokens", list(DataType::Int32)),
        required("completion_tokens", list(DataType::Int32)),
        required("behavior_logprobs", list(DataType::Float32)),
        optional("loss_mask", list(DataType::Boolean)),
        required("policy_spans", list(span)),
        required("reward", DataType::Float32),
        optional("reward_parts", map(DataType::Float32)),
        required("finish_reason", DataType::Utf8),
        required("temperature", DataType::Float32),
        required("top_p", DataType::Float32),
        required("top_k", DataType::Int32),
        required("logprob_mode", DataType::Utf8),
        required("engine", DataType::Utf8),
        required(
            "created_at",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ),
        required("generation_seconds", DataType::Float32),
        optional("prompt_text", DataType::Utf8),
        optional("completion_text", DataType::Utf8),
        optional("metadata", map(DataType::Utf8)),
    ];
    let tag = (SCHEMA_KEY.to_owned(), SchemaVersion::V1.as_str().to_owned());
    Schema::new_with_metadata(fields, HashMap::from([tag]))
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, false)))
}

fn map(value: DataType) -> DataType {
    let entry = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", value, false),
    ]);
    DataType::Map(
        Arc::new(Field::new("entries", DataType::Struct(entry), false)),
        false,
    )
}

/// Refuses `found` unless it has v1's columns in v1's order.
///
/// Nullability is not compared, because pyarrow and Parquet writers declare everything nullable
/// by default; actual nulls are checked on the data. Names of list items and map entries
/// are not compared either, because Arrow leaves them to the writer.
pub(crate) fn check(found: &Schema) -> Result<(), Error> {
    let expected = &SCHEMA;
    for (index, field) in expected.fields().iter().enumerate() {
        let Some(other) = found.fields().get(index) else {
            return Err(mismatch(field.name(), field.data_type(), "absent"));
        };
        if other.name() != field.name() {
            let what = format!("named {:?}", other.name());
            return Err(mismatch(field.name(), field.data_type(), &what));
        }
        if !same_type(field.data_type(), other.data_type()) {
            let what = other.data_type().to_string();
            return Err(mismatch(field.name(), field.data_type(), &what));
        }
    }
    match found.fields().get(expected.fields().len()) {
        None => Ok(()),
        Some(extra) => Err(Error::Schema {
            column: extra.name().clone(),
            expected: "nothing".to_owned(),
            found: extra.data_type().to_string(),
        }),
    }
}

/// Builds the error for a column that is `found` instead of the `expected` type.
pub(crate) fn mismatch(column: &str, expected: &DataType, found: &str) -> Error {
    Error::Schema {
        column: column.to_owned(),
        expected: expected.to_string(),
        found: found.to_owned(),
    }
}

fn same_type(expected: &DataType, found: &DataType) -> bool {
    match (expected, found) {
        (DataType::List(a), DataType::List(b)) => same_type(a.data_type(), b.data_type()),
        (DataType::Map(a, _), DataType::Map(b, _)) => {
            let (DataType::Struct(a), DataType::Struct(b)) = (a.data_type(), b.data_type()) else {
                return false;
            };
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| same_type(a.data_type(), b.data_type()))
        }
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| a.name() == b.name() && same_type(a.data_type(), b.data_type()))
        }
        _ => expected == found,
    }
}
