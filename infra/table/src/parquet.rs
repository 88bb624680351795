//! Rows of a Parquet file.

use std::{io, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, FieldRef},
};
use bytes::Bytes;
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
};

use crate::{json, table::damaged};

/// Number of rows that are decoded at a time.
const BATCH: usize = 1024;
/// Mark at both ends of a file.
const MARK: &[u8] = b"PAR1";

pub(crate) struct Rows {
    reader: ParquetRecordBatchReader,
    batch: Option<RecordBatch>,
    /// Next row of the batch.
    at: usize,
    /// All columns in their order: the name, and true if it is read.
    columns: Vec<(String, bool)>,
}

impl Rows {
    pub(crate) fn of(file: Bytes, is_read: &dyn Fn(&str) -> bool) -> io::Result<Self> {
        if !file.ends_with(MARK) {
            let what = "it begins as a Parquet file and does not end as one, so it was not fetched \
                        or written whole; get it again";
            return Err(damaged(what));
        }
        // The file's own types are plain ones; the Arrow types that its writer had add nothing.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options);
        let builder = builder.map_err(|error| unreadable(&error))?;
        let schema = Arc::clone(builder.schema());
        let columns: Vec<(String, bool)> = schema
            .fields()
            .iter()
            .map(|field| (field.name().clone(), is_read(field.name())))
            .collect();
        let read = columns.iter().enumerate().filter(|(_, (_, read))| *read);
        let roots: Vec<usize> = read.map(|(index, _)| index).collect();
        for &root in &roots {
            let field = &schema.fields()[root];
            if let Some(path) = binary(field) {
                return Err(damaged(format!(
                    "its column {path} holds binary data, such as images, and prompts are text; \
                     write the file without it, or as text"
                )));
            }
        }
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let reader = builder.with_projection(mask).with_batch_size(BATCH);
        let reader = reader.build().map_err(|error| unreadable(&error))?;
        Ok(Self {
            reader,
            batch: None,
            at: 0,
            columns,
        })
    }

    pub(crate) fn next(&mut self, row: &mut Vec<u8>) -> io::Result<bool> {
        let batch = loop {
            match &self.batch {
                Some(batch) if self.at < batch.num_rows() => break batch,
                _ => {}
            }
            let Some(next) = self.reader.next() else {
                return Ok(false);
            };
            self.batch = Some(next.map_err(|error| unreadable(&error))?);
            self.at = 0;
        };
        let mut read = batch.columns().iter();
        let mut text = String::from("{");
        for (index, (name, is_read)) in self.columns.iter().enumerate() {
            if index > 0 {
                text.push_str(", ");
            }
            json::string(name, &mut text);
            text.push_str(": ");
            match read.next_if(*is_read) {
                Some(column) => {
                    json::value(column, self.at, &mut text).map_err(|error| unreadable(&error))?;
                }
                None => text.push_str("null"),
            }
        }
        text.push('}');
        self.at += 1;
        *row = text.into_bytes();
        Ok(true)
    }
}

/// Takes the next element on a condition.
trait NextIf: Iterator {
    fn next_if(&mut self, wanted: bool) -> Option<Self::Item> {
        if wanted { self.next() } else { None }
    }
}

impl<I: Iterator> NextIf for I {}

/// Returns the path of the first binary value in a column.
fn binary(field: &FieldRef) -> Option<String> {
    let inner = |field: &FieldRef| Some(format!(".{}", binary(field)?));
    let below = match field.data_type() {
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => Some(String::new()),
        DataType::Struct(fields) => fields.iter().find_map(inner),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => inner(field),
        _ => None,
    };
    below.map(|below| format!("{}{below}", field.name()))
}

fn unreadable(error: &dyn std::fmt::Display) -> io::Error {
    damaged(format!(
        "its Parquet data cannot be read ({error}); get the file again, or write it anew with snappy \
         or zstd"
    ))
}
