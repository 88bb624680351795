//! Trajectory v1: the format of the rollouts on the wire (types, Arrow schema, codec, headers).
//!
//! One Kafka message is one prompt group or a part of one. Its value is a complete, uncompressed
//! Arrow IPC stream with one record batch and one row per sampled completion; its headers are text.
//! This crate does no IO and reads no clock. `schemas/README.md` describes the wire format in
//! prose.
//!
//! Places to begin reading:
//! * [`Trajectory`]: one completion, as a producer holds it; [`encode()`] and [`split`] make
//!   messages.
//! * [`Rows`]: the rows of a received message, read without copying.
//! * [`Headers`] and [`Identity`]: the text headers, read strictly and leniently.
//! * [`read_record`]: headers and rows of a Kafka record, or the reason why it is bad.
//! * [`validate()`] and [`plausible()`]: checks that rows can be trained on.
//! * [`schema()`] and [`SchemaVersion`]: the Arrow schema and its evolution.
//!
//! ```
//! use vintage_control::PolicyVersion;
//! use vintage_trajectory::{GroupId, LogprobMode, PolicySpan, Rows, Trajectory, encode, validate};
//!
//! let row = Trajectory {
//!     group_id: GroupId([7; 16]),
//!     prompt_tokens: vec![3, 14, 15],
//!     completion_tokens: vec![9, 2],
//!     behavior_logprobs: vec![-0.5, -1.25],
//!     policy_spans: vec![PolicySpan { start: 0, version: PolicyVersion(4) }],
//!     reward: 1.0,
//!     // … and the prompt's id, the sampling settings and the engine.
//! #   group_size: 1,
//! #   sample_index: 0,
//! #   policy: "lead".to_owned(),
//! #   batch: -1,
//! #   prompt_id: "sum".to_owned(),
//! #   loss_mask: None,
//! #   reward_parts: None,
//! #   finish_reason: "stop".to_owned(),
//! #   temperature: 1.0,
//! #   top_p: 1.0,
//! #   top_k: 0,
//! #   logprob_mode: LogprobMode::Full,
//! #   engine: "local".to_owned(),
//! #   created_at_us: 1_700_000_000_000_000,
//! #   generation_seconds: 0.25,
//! #   prompt_text: None,
//! #   completion_text: None,
//! #   metadata: None,
//! };
//! let rows = Rows::decode(&encode(std::slice::from_ref(&row))?)?;
//! validate(&rows)?;
//! assert_eq!(rows.to_trajectories(), [row]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod assembly;
mod columns;
mod decode;
mod digest;
mod encode;
mod error;
mod evolve;
mod excerpt;
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
mod version;
mod wire_schema;

pub use assembly::{Abandoned, Assembly, Part, Parts, Progress};
pub use digest::{content_sha256, sampled_sha256};
pub use encode::{encode, encoded_len, split};
pub use error::Error;
pub use excerpt::Excerpt;
pub use header::{CONTENT_TYPE, Headers};
pub use id::{BadId, GroupId, TrajectoryId};
pub use identity::Identity;
pub use plausible::{GENERATION_SECONDS, LEAST_LOGPROB, plausible};
pub use portable::TIMES_US;
pub use record::{BadClass, BadRecord, read_again, read_record};
pub use rows::Rows;
pub use schema::schema;
pub use trajectory::{BadLogprobMode, LogprobMode, PolicySpan, REFERENCE_ANSWER, Trajectory};
pub use validate::{Invalid, LARGEST_REWARD, LOGPROB_SLACK, validate};
pub use version::SchemaVersion;

// Arrow buffers are written and read in the machine's byte order, and messages declare
// little-endian.
const _: () = assert!(
    cfg!(target_endian = "little"),
    "only little-endian machines"
);
