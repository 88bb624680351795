//! Pieces of a file in memory, and decoding of the rows in them.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, RecordBatchReader as _},
    compute::concat_batches,
};
use bytes::{Buf as _, Bytes};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
    },
    errors::ParquetError,
    file::{
        metadata::ParquetMetaData,
        reader::{ChunkReader, Length},
    },
};

/// Pieces of a file, each with the offset at which it starts; ascending.
#[derive(Debug, Clone)]
pub(crate) struct Loaded(pub(crate) Vec<(u64, Bytes)>);

impl Loaded {
    /// Decodes the rows of row groups `groups` of a file of `length` bytes: all columns, or those
    /// of `roots`.
    pub(crate) fn decode(
        self,
        length: u64,
        metadata: Arc<ParquetMetaData>,
        groups: Vec<usize>,
        roots: Option<&[&str]>,
    ) -> Result<RecordBatch, ParquetError> {
        let window = Window {
            pieces: self.0,
            length,
        };
        // Parquet's own types determine the rows; see the encoder.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::try_new(metadata, options)?;
        let rows: i64 = groups
            .iter()
            .map(|&g| metadata.metadata().row_group(g).num_rows())
            .sum();
        let columns = match roots {
            Some(roots) => ProjectionMask::columns(
                metadata.metadata().file_metadata().schema_descr(),
                roots.iter().copied(),
            ),
            None => ProjectionMask::all(),
        };
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(window, metadata)
            .with_projection(columns)
            .with_row_groups(groups)
            .with_batch_size(usize::try_from(rows).unwrap_or(0).max(1))
            .build()?;
        let schema = reader.schema();
        let batches: Vec<_> = reader.collect::<Result<_, _>>()?;
        Ok(concat_batches(&schema, &batches)?)
    }
}

/// Pieces of a file in memory, presented to the Parquet reader as the whole file.
struct Window {
    pieces: Vec<(u64, Bytes)>,
    length: u64,
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Window {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let piece = self.pieces.iter().rev().find(|(from, _)| *from <= start);
        let length = piece.map_or(0, |(from, bytes)| {
            (from + bytes.len() as u64).saturating_sub(start)
        });
        Ok(self.get_bytes(start, length as usize)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let piece = self.pieces.iter().rev().find(|(from, _)| *from <= start);
        let found = piece.and_then(|(from, bytes)| {
            let from = usize::try_from(start - from).ok()?;
            let range = from..from.checked_add(length)?;
            (range.end <= bytes.len()).then(|| bytes.slice(range))
        });
        found.ok_or_else(|| {
            ParquetError::EOF(format!(
                "{length} bytes at {start} are beyond the row group"
            ))
        })
    }
}
