use arrow::error::ArrowError;

/// Why a message could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are not one whole, uncompressed Arrow IPC stream with one record batch.
    #[error(
        "decoding a trajectory message of {bytes} bytes failed: {why}; publish one uncompressed \
         Arrow IPC stream of schema, one record batch and end-of-stream (schemas/README.md)"
    )]
    Stream {
        /// Length of the message, bytes.
        bytes: usize,
        /// What is wrong.
        why: String,
    },
    /// The message names a schema this build does not know.
    #[error(
        "reading trajectories failed: they are of schema {found:?} and this build knows {known}; \
         read them with a newer vintage, or publish a schema it knows"
    )]
    UnknownSchema {
        /// The name found.
        found: String,
        /// The names known, oldest first.
        known: &'static str,
    },
    /// A column is not the one the schema has there.
    #[error(
        "reading trajectories failed: column {column} is {found}, but vintage.trajectory/1 has \
         {expected} there; build the batch with the schema printed in schemas/README.md"
    )]
    Schema {
        /// Path of the column.
        column: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The record batch contradicts itself or has nulls where the schema has none.
    #[error("decoding a trajectory record batch failed: {0}; correct what encoded it")]
    Batch(#[from] ArrowError),
    /// A value the column's type allows and the schema does not.
    #[error("reading trajectories failed: row {row}, column {column}: {why}; correct the producer")]
    Value {
        /// Row of the batch, from 0.
        row: usize,
        /// Column.
        column: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A null where the schema has none.
    #[error("reading trajectories failed: column {column}: {why}; correct the producer")]
    Nulls {
        /// Column.
        column: &'static str,
        /// Which element.
        why: String,
    },
    /// The Arrow library panicked on the bytes.
    #[error(
        "decoding a trajectory message of {bytes} bytes failed: the decoder panicked: {why}; keep \
         the message and report it, the decoder should have refused it"
    )]
    Panicked {
        /// Length of the message, bytes.
        bytes: usize,
        /// The panic's message.
        why: String,
    },
    /// A message of no rows.
    #[error("encoding a trajectory message failed: it has no rows; publish at least one")]
    NoRows,
    /// Arrow's 32-bit list offsets cannot span the rows.
    #[error(
        "encoding {rows} trajectories failed: {column} holds {elements} elements together, and \
         Arrow's 32-bit offsets end at 2147483647; split the rows into more messages"
    )]
    TooManyElements {
        /// Rows to encode.
        rows: usize,
        /// The column.
        column: &'static str,
        /// Elements (or bytes of text) in it.
        elements: usize,
    },
    /// One row alone exceeds what the topic takes.
    #[error(
        "splitting group {group} into messages failed: sample {sample_index} alone takes {bytes} \
         bytes and a message may have {max_bytes}; shorten the completion, or raise \
         max.message.bytes of the topic"
    )]
    RowTooLarge {
        /// The group.
        group: crate::GroupId,
        /// The row.
        sample_index: u16,
        /// Its encoded size, bytes.
        bytes: usize,
        /// The limit, bytes.
        max_bytes: usize,
    },
    /// A header every message must have is absent.
    #[error("reading message headers failed: header {name:?} is missing; publish it as text")]
    MissingHeader {
        /// The header.
        name: &'static str,
    },
    /// A header's value is not what it should be.
    #[error(
        "reading message headers failed: header {name:?} is {value:?}, and should be {expected}"
    )]
    Header {
        /// The header.
        name: &'static str,
        /// What it holds (at most 80 characters of it).
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// The payload is not the one the producer sent.
    #[error(
        "checking a message of {bytes} bytes failed: its CRC-32C is {found:08x} and header \
         crc32c says {expected:08x}; the payload was damaged or replaced on the way"
    )]
    Crc {
        /// Length of the payload, bytes.
        bytes: usize,
        /// What the header says.
        expected: u32,
        /// What the payload has.
        found: u32,
    },
    /// Headers and rows of one message contradict each other.
    #[error(
        "checking a message failed: header {name:?} says {header} and the rows say {rows}; \
         correct the producer"
    )]
    HeaderMismatch {
        /// The header.
        name: &'static str,
        /// Its value.
        header: String,
        /// The rows' value.
        rows: String,
    },
}
