//! Tests of files that another program rewrote, as pyarrow, Polars or DuckDB do.

use std::{collections::HashMap, fs::File};

use arrow::{
    array::{Float32Array, Float32Builder, ListArray, RecordBatchReader as _},
    compute::concat_batches,
    datatypes::{Field, Float32Type},
};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::Compression,
    file::{metadata::KeyValue, properties::WriterProperties},
};
use vintage_store::Store;

use super::*;
use crate::{
    file::ArchiveFile,
    filter::Filter,
    fixture::{INCARNATION, Log, TOPIC, archive, assert_holds, group_at, messages, scratch},
    reader::Reader,
};

/// Returns a type as other programs write it: everything nullable, list items named `element`,
/// 64-bit offsets.
fn foreign(data_type: &DataType) -> DataType {
    let loose =
        |name: &str, field: &Field| Arc::new(Field::new(name, foreign(field.data_type()), true));
    match data_type {
        DataType::List(item) if matches!(item.data_type(), DataType::Struct(_)) => {
            DataType::List(loose("element", item))
        }
        DataType::List(item) => DataType::LargeList(loose("element", item)),
        DataType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|field| loose(field.name(), field))
                .collect(),
        ),
        DataType::Utf8 => DataType::LargeUtf8,
        DataType::Binary => DataType::LargeBinary,
        other => other.clone(),
    }
}

/// Reads a file and writes it back after `edit`, in row groups of 5 rows.
fn rewrite(store: &Store, file: &ArchiveFile, edit: impl Fn(&str, ArrayRef) -> ArrayRef) {
    let path = store.local_path(&file.path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
    let pairs = reader
        .metadata()
        .file_metadata()
        .key_value_metadata()
        .unwrap()
        .clone();
    let reader = reader.build().unwrap();
    let schema = reader.schema();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    let batch = concat_batches(&schema, &batches).unwrap();
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    // Another order of columns, too.
    for (field, column) in schema.fields().iter().zip(batch.columns()).rev() {
        let data_type = foreign(field.data_type());
        columns.push(cast(&edit(field.name(), Arc::clone(column)), &data_type).unwrap());
        fields.push(Field::new(field.name(), data_type, true));
    }
    let schema = Arc::new(Schema::new_with_metadata(fields, HashMap::new()));
    let properties = WriterProperties::builder()
        .set_created_by("another program".to_owned())
        .set_max_row_group_row_count(Some(5))
        // pyarrow's default.
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(
            pairs
                .into_iter()
                .map(|pair| KeyValue::new(pair.key, pair.value))
                .collect(),
        ))
        .build();
    let file = File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).unwrap();
    writer
        .write(&RecordBatch::try_new(schema, columns).unwrap())
        .unwrap();
    writer.close().unwrap();
}

async fn archived() -> (tempfile::TempDir, Store, Log, ArchiveFile) {
    let (folder, store) = scratch();
    let log = Log::small(1, 12);
    archive(&store, &log).await;
    let file = Reader::new(store.clone(), TOPIC)
        .chain(INCARNATION, Partition(0))
        .await
        .unwrap()
        .remove(0);
    (folder, store, log, file)
}

#[tokio::test]
async fn a_file_that_another_program_rewrote_reads_the_same() {
    let (_folder, store, log, file) = archived().await;
    rewrite(&store, &file, |_, column| column);
    assert_holds(&store, &log).await;
    let reader = Reader::new(store, TOPIC);
    reader.verify(&file).await.unwrap();
    let id = RecordId {
        incarnation: INCARNATION,
        partition: Partition(0),
        offset: Offset(7),
    };
    let message = reader.message(id).await.unwrap();
    assert_eq!(message.rows.unwrap().to_trajectories(), group_at(0, 7));
}

#[tokio::test]
async fn an_edited_log_prob_is_read_as_edited() {
    let (_folder, store, _, file) = archived().await;
    rewrite(&store, &file, |name, column| {
        if name != "behavior_logprobs" {
            return column;
        }
        let lists: &ListArray = column.as_list();
        let values = lists.values().as_primitive::<Float32Type>();
        let mut edited = Float32Builder::new();
        edited.append_slice(values.values());
        edited.values_slice_mut()[9] -= 1e-3;
        let edited: Float32Array = edited.finish();
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let offsets = lists.offsets().clone();
        Arc::new(ListArray::new(
            item,
            offsets,
            Arc::new(edited),
            lists.nulls().cloned(),
        ))
    });
    let mut differing = Vec::new();
    for message in messages(&store, 0, &Filter::default()).await {
        let offset = message.record.offset.0;
        if message.rows.unwrap().to_trajectories() != group_at(0, offset) {
            differing.push(offset);
        }
    }
    assert_eq!(differing, [0]);
}

#[tokio::test]
async fn a_rewritten_file_without_the_archives_columns_is_refused() {
    let (_folder, store, _, file) = archived().await;
    let nulls = |name: &str, column: ArrayRef| {
        if name == "reward" {
            arrow::array::new_null_array(&DataType::Float32, column.len())
        } else {
            column
        }
    };
    rewrite(&store, &file, nulls);
    let mut read = Reader::new(store, TOPIC)
        .messages(INCARNATION, Partition(0), &Filter::default())
        .await
        .unwrap();
    let error = read.next().await.unwrap_err().to_string();
    assert!(
        error.contains("reward") && error.contains(&file.path),
        "{error}"
    );
}

#[test]
fn rows_that_do_not_make_messages_are_refused() {
    let of = |offsets: &[i64], rows: &[i32]| {
        super::messages(
            &Int64Array::from(offsets.to_vec()),
            &arrow::array::Int32Array::from(rows.to_vec()),
        )
    };
    let good = of(&[3, 3, 5], &[0, 1, 0]).unwrap();
    assert_eq!(good, [(Offset(3), 0..2), (Offset(5), 2..3)]);
    assert_eq!(of(&[], &[]).unwrap(), []);
    for (offsets, rows) in [
        (vec![3, 3], vec![0, 2]),
        (vec![3, 3], vec![0, 0]),
        (vec![3], vec![1]),
        (vec![5, 3], vec![0, 0]),
        (vec![3, 5], vec![0, 1]),
    ] {
        assert!(of(&offsets, &rows).is_err(), "{offsets:?} {rows:?}");
    }
}

/// Tests that reading any bytes of an unsealed file ends with values or an error: without a seal,
/// damage cannot be distinguished from edits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_rewritten_file_never_panics() {
    let (_folder, store, _, file) = archived().await;
    rewrite(&store, &file, |_, column| column);
    let path = store.local_path(&file.path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for at in (0..bytes.len())
        .step_by(67)
        .chain(bytes.len() - 60..bytes.len())
    {
        let mut damaged = bytes.clone();
        damaged[at] = damaged[at].wrapping_add(0x55);
        std::fs::write(&path, damaged).unwrap();
        let reader = Reader::new(store.clone(), TOPIC);
        if let Ok(mut read) = reader
            .messages(INCARNATION, Partition(0), &Filter::default())
            .await
        {
            while let Ok(Some(_)) = read.next().await {}
        }
    }
}
