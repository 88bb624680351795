//! Columns of an archive file and how each is encoded.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use parquet::{
    arrow::ArrowSchemaConverter,
    basic::{Compression, Encoding, Type, ZstdLevel},
    errors::ParquetError,
    file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder},
    schema::types::ColumnDescriptor,
};

/// Compression of the pages of an archive file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Zstandard at the given level.
    Zstd(i32),
    /// None, for benchmarks.
    Uncompressed,
}

impl Default for Codec {
    fn default() -> Self {
        Self::Zstd(1)
    }
}

pub(crate) const PARTITION: &str = "_kafka_partition";
pub(crate) const OFFSET: &str = "_kafka_offset";
pub(crate) const TIMESTAMP: &str = "_kafka_timestamp";
pub(crate) const ROW: &str = "_row_in_msg";
pub(crate) const KEY: &str = "_key";
pub(crate) const HEADERS: &str = "_headers";
pub(crate) const PAYLOAD_CRC: &str = "_payload_crc32c";
pub(crate) const BAD_REASON: &str = "_bad_reason";
pub(crate) const BAD_PAYLOAD: &str = "_bad_payload";
pub(crate) const BAD_PAYLOAD_BYTES: &str = "_bad_payload_bytes";
pub(crate) const BAD_PAYLOAD_SHA256: &str = "_bad_payload_sha256";

/// Returns the Arrow schema of an archive file: the columns of trajectory v1, then Kafka's metadata
/// of the record.
///
/// All trajectory columns are nullable, because a quarantined record is a row without a trajectory.
/// `_key`, `_headers` and `_payload_crc32c` belong to the message and are set in its first row
/// (`_row_in_msg` = 0) only.
pub fn file_schema() -> SchemaRef {
    SCHEMA.clone()
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let trajectory = vintage_trajectory::schema();
    let nullable = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_nullable(true));
    let mut fields: Vec<_> = trajectory.fields().iter().map(nullable).collect();
    fields.extend(log_fields().into_iter().map(Arc::new));
    Arc::new(Schema::new(fields))
});

fn log_fields() -> Vec<Field> {
    let timestamp = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    vec![
        Field::new(PARTITION, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
        Field::new(TIMESTAMP, timestamp, true),
        Field::new(ROW, DataType::Int32, false),
        Field::new(KEY, DataType::Binary, true),
        Field::new(HEADERS, DataType::List(header_field()), true),
        Field::new(PAYLOAD_CRC, DataType::UInt32, true),
        Field::new(BAD_REASON, DataType::Utf8, true),
        Field::new(BAD_PAYLOAD, DataType::Binary, true),
        Field::new(BAD_PAYLOAD_BYTES, DataType::Int64, true),
        Field::new(BAD_PAYLOAD_SHA256, DataType::FixedSizeBinary(32), true),
    ]
}

/// Returns the Arrow field of one header, a struct of key and value. Headers are a list of these
/// and not a map, because Kafka allows repeated keys and null values.
pub(crate) fn header_field() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(header_fields()), false))
}

pub(crate) fn header_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Binary, true),
    ])
}

/// Writer settings of a leaf column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaf {
    encoding: Encoding,
    dictionary: bool,
    /// True if the codec can shrink this column. A compressor is created for every such column of
    /// every row group, which costs more than encoding a hundred rows.
    compressed: bool,
    /// True if the smallest and largest value of each row group are written, by which readers
    /// prune.
    statistics: bool,
}

impl Leaf {
    const fn of(encoding: Encoding) -> Self {
        Self {
            encoding,
            dictionary: false,
            compressed: false,
            statistics: false,
        }
    }

    /// Settings of a column with few distinct values.
    const DICTIONARY: Self = Self {
        dictionary: true,
        ..Self::of(Encoding::PLAIN)
    };
    const COMPRESSED: Self = Self {
        compressed: true,
        ..Self::of(Encoding::PLAIN)
    };
    /// Settings of tokens and log-probs. Token ids are not monotone: their deltas are as wide as
    /// the vocabulary and, bit-packed, hide repeats from zstd (16.8 bits per token against 8.5).
    /// Their statistics would only bloat the index.
    const SPLIT: Self = Self {
        compressed: true,
        ..Self::of(Encoding::BYTE_STREAM_SPLIT)
    };
    /// Settings of a column that is constant, counts or ascends.
    const DELTA: Self = Self {
        statistics: true,
        ..Self::of(Encoding::DELTA_BINARY_PACKED)
    };
}

/// Returns the writer settings of a leaf column. They are derived for every leaf that the file has,
/// rather than set by path, because the writer silently ignores a setting for a path that does not
/// exist.
pub(crate) fn leaf(column: &ColumnDescriptor, any_quarantined: bool) -> Leaf {
    let parts = column.path().parts();
    let (root, last) = (parts[0].as_str(), parts[parts.len() - 1].as_str());
    match (root, last) {
        ("prompt_tokens" | "completion_tokens" | "behavior_logprobs", _) => Leaf::SPLIT,
        ("reward" | "temperature" | "top_p", _) => Leaf {
            statistics: true,
            ..Leaf::DICTIONARY
        },
        (
            "policy" | "prompt_id" | "finish_reason" | "logprob_mode" | "engine" | "reward_parts",
            _,
        )
        | ("metadata" | HEADERS, "key") => Leaf::DICTIONARY,
        ("generation_seconds", _) => Leaf::of(Encoding::BYTE_STREAM_SPLIT),
        // Digests, and a key that is a digest.
        ("trajectory_id" | KEY | PAYLOAD_CRC | BAD_PAYLOAD_SHA256, _) => Leaf::of(Encoding::PLAIN),
        (BAD_REASON | BAD_PAYLOAD, _) => Leaf {
            compressed: any_quarantined,
            ..Leaf::of(Encoding::PLAIN)
        },
        _ if matches!(column.physical_type(), Type::INT32 | Type::INT64) => Leaf::DELTA,
        _ => Leaf::COMPRESSED,
    }
}

/// Returns the writer settings for a file of [`file_schema`].
pub(crate) fn properties(
    codec: Codec,
    any_quarantined: bool,
) -> Result<WriterProperties, ParquetError> {
    let compression = match codec {
        Codec::Zstd(level) => Compression::ZSTD(ZstdLevel::try_new(level)?),
        Codec::Uncompressed => Compression::UNCOMPRESSED,
    };
    let builder = WriterProperties::builder()
        .set_created_by(format!(
            "{CREATED_BY} version {}",
            env!("CARGO_PKG_VERSION")
        ))
        .set_dictionary_enabled(false)
        // Row groups end where a message ends; the encoder closes them.
        .set_max_row_group_row_count(None)
        .set_max_row_group_bytes(None)
        // Rows are kilobytes wide: pages end by size, 1 MiB.
        .set_data_page_row_count_limit(usize::MAX);
    let parquet = ArrowSchemaConverter::new().convert(&SCHEMA)?;
    let set = |builder: WriterPropertiesBuilder, column: &Arc<ColumnDescriptor>| {
        let leaf = leaf(column, any_quarantined);
        let path = column.path().clone();
        let compression = if leaf.compressed {
            compression
        } else {
            Compression::UNCOMPRESSED
        };
        let statistics = if leaf.statistics {
            EnabledStatistics::Chunk
        } else {
            EnabledStatistics::None
        };
        builder
            .set_column_encoding(path.clone(), leaf.encoding)
            .set_column_dictionary_enabled(path.clone(), leaf.dictionary)
            .set_column_compression(path.clone(), compression)
            .set_column_statistics_enabled(path, statistics)
    };
    Ok(parquet.columns().iter().fold(builder, set).build())
}

/// Prefix of Parquet's `created_by` in files that this crate wrote.
pub(crate) const CREATED_BY: &str = "vintage";

#[cfg(test)]
mod tests;
