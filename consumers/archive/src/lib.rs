//! The archive: an exactly-once Parquet sink and its reader.
