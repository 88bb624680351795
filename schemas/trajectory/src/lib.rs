//! Trajectory v1: domain types, Arrow schema, IPC codec, text headers, evolution.
//!
//! One Kafka message is one prompt group (or a part of one): a complete, uncompressed Arrow IPC
//! stream with one record batch, one row per sampled completion, and text headers beside it.
//! `schemas/README.md` has the wire format in prose. Nothing here does IO or reads a clock.

mod columns;
mod decode;
mod digest;
mod encode;
mod error;
mod evolve;
mod frame;
mod header;
mod id;
mod identity;
mod layout;
mod plausible;
mod portable;
mod record;
mod rows;
mod schema;
mod template;
mod trajectory;
mod validate;
mod wire_schema;

pub use digest::content_sha256;
pub use encode::{encode, encoded_len, split};
pub use error::Error;
pub use evolve::SchemaVersion;
pub use header::{CONTENT_TYPE, Headers};
pub use id::{BadId, GroupId, TrajectoryId};
pub use identity::Identity;
pub use plausible::{GENERATION_SECONDS, LEAST_LOGPROB, plausible};
pub use portable::TIMES_US;
pub use record::{BadClass, BadRecord, read_again, read_record};
pub use rows::Rows;
pub use schema::schema;
pub use trajectory::{BadLogprobMode, LogprobMode, PolicySpan, Trajectory};
pub use validate::{Invalid, LARGEST_REWARD, LOGPROB_SLACK, validate};

// Arrow buffers are written and read in the machine's byte order, and a message declares
// little-endian.
const _: () = assert!(
    cfg!(target_endian = "little"),
    "only little-endian machines"
);
