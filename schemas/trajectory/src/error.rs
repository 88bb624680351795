use arrow::error::ArrowError;

use crate::id::GroupId;

/// Errors of writing or reading a trajectory message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are not one whole, uncompressed Arrow IPC stream with one record batch.
    #[error(
        "decoding a trajectory message of {bytes} bytes failed: {reason}; publish one uncompressed \
         Arrow IPC stream of schema, one record batch and end-of-stream (schemas/README.md)"
    )]
    Stream {
        /// Length of the message in bytes.
        bytes: usize,
        /// Description of the fault.
        reason: String,
    },
    /// The message names a schema that this build does not know.
    #[error(
        "reading trajectories failed: they are of schema {found:?} and this build knows {known}; \
         read them with a newer vintage, or publish a schema it knows"
    )]
    UnknownSchema {
        /// Schema name found.
        found: String,
        /// Schema names known, oldest first.
        known: &'static str,
    },
    /// A column differs from the one that the schema has in its place.
    #[error(
        "reading trajectories failed: column {column} is {found}, but vintage.trajectory/1 has \
         {expected} there; build the batch with the schema printed in schemas/README.md"
    )]
    Schema {
        /// Name of the column, `#N` for the first surplus one, or `*` for the whole schema.
        column: String,
        /// Type or presence that the schema has.
        expected: String,
        /// Type or presence that was found.
        found: String,
    },
    /// The record batch contradicts itself or has nulls where the schema has none.
    #[error("decoding a trajectory record batch failed: {0}; correct what encoded it")]
    Batch(#[from] ArrowError),
    /// The column's type allows the value and the schema does not.
    #[error(
        "reading trajectories failed: row {row}, column {column}: {reason}; correct the producer"
    )]
    Value {
        /// Row of the batch, from 0.
        row: usize,
        /// Name of the column.
        column: &'static str,
        /// Description of the fault.
        reason: String,
    },
    /// A value is null where the schema allows no nulls.
    #[error("reading trajectories failed: column {column}: {reason}; correct the producer")]
    Nulls {
        /// Name of the column.
        column: &'static str,
        /// Index of the first null element.
        reason: String,
    },
    /// The Arrow library panicked on the bytes.
    #[error(
        "decoding a trajectory message of {bytes} bytes failed: the decoder panicked: {reason}; \
         keep the message and report it, the decoder should have refused it"
    )]
    Panicked {
        /// Length of the message in bytes.
        bytes: usize,
        /// Message of the panic.
        reason: String,
    },
    /// The message to encode has no rows.
    #[error("encoding a trajectory message failed: it has no rows; publish at least one")]
    NoRows,
    /// The rows hold more elements than Arrow's 32-bit list offsets can address.
    #[error(
        "encoding {rows} trajectories failed: {column} holds {elements} elements together, and \
         Arrow's 32-bit offsets end at 2147483647; split the rows into more messages"
    )]
    TooManyElements {
        /// Number of rows to encode.
        rows: usize,
        /// Name of the column.
        column: &'static str,
        /// Number of elements (or bytes of text) in the column.
        elements: usize,
    },
    /// A single row exceeds the largest message that the topic takes.
    #[error(
        "splitting group {group} into messages failed: sample {sample_index} alone takes {bytes} \
         bytes and a message may have {max_bytes}; shorten the completion, or raise \
         max.message.bytes of the topic"
    )]
    RowTooLarge {
        /// Group that was to be split.
        group: GroupId,
        /// Sample index of the row.
        sample_index: u16,
        /// Encoded size of the row in bytes.
        bytes: usize,
        /// Limit in bytes.
        max_bytes: usize,
    },
    /// A required header is absent.
    #[error("reading message headers failed: header {name:?} is missing; publish it as text")]
    MissingHeader {
        /// Name of the header.
        name: &'static str,
    },
    /// A header's value is invalid.
    #[error(
        "reading message headers failed: header {name:?} is {value:?}, and should be {expected}"
    )]
    Header {
        /// Name of the header.
        name: &'static str,
        /// Value found, at most 80 characters of it.
        value: String,
        /// Description of a valid value.
        expected: &'static str,
    },
    /// The payload differs from the one the producer sent.
    #[error(
        "checking a message of {bytes} bytes failed: its CRC-32C is {found:08x} and header \
         crc32c says {expected:08x}; the payload was damaged or replaced on the way"
    )]
    Crc {
        /// Length of the payload in bytes.
        bytes: usize,
        /// CRC-32C in the header.
        expected: u32,
        /// CRC-32C of the payload.
        found: u32,
    },
    /// Headers and rows of one message contradict each other.
    #[error(
        "checking a message failed: header {name:?} says {header} and the rows say {rows}; \
         correct the producer"
    )]
    HeaderMismatch {
        /// Name of the header.
        name: &'static str,
        /// Value in the header.
        header: String,
        /// Value in the rows.
        rows: String,
    },
}
