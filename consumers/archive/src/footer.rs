//! Footer of an archive file: the Parquet metadata with the archive's own record among it, and the
//! seal before it.

use std::ops::Range;

use parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use vintage_control::{ArchiveFooter, CONTROL_FORMAT};

use crate::{
    columns::CREATED_BY,
    seal::{Seal, TAIL, footer_len},
    thrift,
};

/// Key of the [`ArchiveFooter`] among the Parquet footer's key-value metadata.
pub(crate) const FOOTER_KEY: &str = "vintage.footer";
/// Key of the trajectory schema's name among the Parquet footer's key-value metadata.
pub(crate) const SCHEMA_KEY: &str = "schema";

/// Reason for which the end of a file cannot be read.
pub(crate) enum FooterFault {
    /// The bytes differ from those written.
    Damaged(String),
    /// The seal confirms the bytes, but this build does not know the format.
    NotUnderstood(String),
}

/// Reads the end of a file: `before` ends with the seal, if there is one, and `footer` is Parquet's
/// footer up to the end of the file.
pub(crate) fn parse(
    before: &[u8],
    footer: &[u8],
) -> Result<(ParquetMetaData, Option<Seal>, ArchiveFooter), FooterFault> {
    let seal = Seal::decode(before).map_err(FooterFault::Damaged)?;
    if let Some(seal) = &seal {
        seal.check_footer(footer).map_err(FooterFault::Damaged)?;
    }
    let fault = if seal.is_some() {
        FooterFault::NotUnderstood
    } else {
        FooterFault::Damaged
    };
    let metadata = metadata(&footer[..footer.len() - TAIL]).map_err(fault)?;
    let writer = metadata.file_metadata().created_by().unwrap_or_default();
    if seal.is_none() && writer.starts_with(CREATED_BY) {
        return Err(FooterFault::Damaged("its seal is missing".to_owned()));
    }
    let footer = archive_footer(&metadata).map_err(fault)?;
    Ok((metadata, seal, footer))
}

fn metadata(encoded: &[u8]) -> Result<ParquetMetaData, String> {
    // These bytes are unchecked only if another program wrote the file.
    thrift::check(encoded).map_err(|reason| format!("its footer cannot be read: {reason}"))?;
    let decoded = std::panic::catch_unwind(|| ParquetMetaDataReader::decode_metadata(encoded));
    decoded
        .map_err(|_| "its footer made the Parquet reader panic".to_owned())?
        .map_err(|error| format!("its footer cannot be read: {error}"))
}

/// Reads the footer of an archive file from its bytes, or from those from its seal on. Meant for
/// callers that hold the bytes and have no store; rows are not read.
///
/// # Errors
/// Reason for which the bytes are not those of an archive file.
pub fn read_footer(bytes: &[u8]) -> Result<ArchiveFooter, String> {
    let end = bytes.len().checked_sub(TAIL);
    let end = end.ok_or_else(|| format!("it has only {} bytes", bytes.len()))?;
    let start = end.checked_sub(footer_len(&bytes[end..])?);
    let (before, footer) = bytes.split_at(start.ok_or("its footer is longer than the file")?);
    match parse(before, footer) {
        Ok((_, _, footer)) => Ok(footer),
        Err(FooterFault::Damaged(reason) | FooterFault::NotUnderstood(reason)) => Err(reason),
    }
}

/// Reads the archive's own footer from the Parquet metadata, and checks its format, its offsets and
/// the row count.
fn archive_footer(metadata: &ParquetMetaData) -> Result<ArchiveFooter, String> {
    let json = key_value(metadata, FOOTER_KEY)
        .ok_or_else(|| format!("its key-value metadata has no {FOOTER_KEY}"))?;
    let footer: ArchiveFooter =
        serde_json::from_str(json).map_err(|error| format!("its {FOOTER_KEY}: {error}"))?;
    if footer.format != CONTROL_FORMAT {
        return Err(format!(
            "its format is {:?}, not {CONTROL_FORMAT:?}",
            footer.format
        ));
    }
    if footer.next_offset <= footer.base_offset {
        return Err(format!(
            "its footer claims offsets {} to {}",
            footer.base_offset, footer.next_offset
        ));
    }
    let rows = metadata.file_metadata().num_rows();
    if u64::try_from(rows).ok() != footer.rows.checked_add(footer.quarantined) {
        let (good, bad) = (footer.rows, footer.quarantined);
        return Err(format!(
            "it has {rows} rows, and its footer says {good} and {bad} quarantined"
        ));
    }
    Ok(footer)
}

/// Returns the value of a key in the Parquet metadata.
pub(crate) fn key_value<'a>(metadata: &'a ParquetMetaData, key: &str) -> Option<&'a str> {
    let pairs = metadata.file_metadata().key_value_metadata()?;
    pairs.iter().find(|pair| pair.key == key)?.value.as_deref()
}

/// Returns the offset in the file at which a row group's bytes end.
pub(crate) fn end_of(group: &RowGroupMetaData) -> usize {
    let ends = group.columns().iter().map(|column| chunk(column).end);
    ends.max()
        .map_or(0, |end| usize::try_from(end).unwrap_or(usize::MAX))
}

/// Returns the range of a column chunk's bytes in the file.
pub(crate) fn chunk(column: &ColumnChunkMetaData) -> Range<u64> {
    let start = column
        .dictionary_page_offset()
        .unwrap_or(column.data_page_offset());
    let end = start.saturating_add(column.compressed_size());
    u64::try_from(start).unwrap_or(u64::MAX)..u64::try_from(end).unwrap_or(u64::MAX)
}
