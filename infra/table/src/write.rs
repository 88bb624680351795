//! Tables written as Parquet.

use std::io::Write;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};

/// Number of rows of a row group.
const ROWS: usize = 65_536;

/// Parquet file that is written batch by batch, with zstd.
pub struct ParquetFile<W: Write + Send>(ArrowWriter<W>);

impl<W: Write + Send> ParquetFile<W> {
    /// Starts a file of these columns.
    ///
    /// # Errors
    /// A type without a counterpart in Parquet.
    pub fn new(to: W, schema: SchemaRef) -> Result<Self, ParquetError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            // What is held in memory until it is written.
            .set_max_row_group_row_count(Some(ROWS))
            .build();
        Ok(Self(ArrowWriter::try_new(to, schema, Some(properties))?))
    }

    /// Adds rows of the file's columns.
    ///
    /// # Errors
    /// Other columns, or a failed write.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        self.0.write(rows)
    }

    /// Writes the footer and returns what was written to.
    ///
    /// # Errors
    /// A failed write.
    pub fn finish(self) -> Result<W, ParquetError> {
        self.0.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::Int64Array,
        datatypes::{DataType, Field, Schema},
    };

    use super::*;
    use crate::table::Table;

    #[test]
    fn what_is_written_is_read() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false)]));
        let rows = |values: Vec<i64>| {
            RecordBatch::try_new(
                Arc::clone(&schema),
                vec![Arc::new(Int64Array::from(values))],
            )
        };
        let mut file = ParquetFile::new(Vec::new(), Arc::clone(&schema)).expect("a file");
        file.write(&rows(vec![1, 2]).expect("rows"))
            .expect("written");
        file.write(&rows(vec![3]).expect("rows")).expect("written");
        let bytes = file.finish().expect("a footer");
        let mut table = Table::of(std::io::Cursor::new(bytes), &|_| true).expect("a table");
        let (mut text, mut row) = (String::new(), Vec::new());
        while table.next(&mut row).expect("a row") {
            text += std::str::from_utf8(&row).expect("text");
            row.clear();
        }
        assert_eq!(text, r#"{"a": 1}{"a": 2}{"a": 3}"#);
    }
}
