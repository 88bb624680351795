//! Durable object storage in a folder or an S3 bucket: records that are created if absent, and
//! weights by version and hash.
//!
//! Create-if-absent is the only commit primitive of the whole system: plans, weights manifests,
//! checkpoints and archive files all take effect through it. An object is whole and on the disk
//! (file and directory entry synced) before it can be seen, and is never overwritten.
//!
//! Where to begin reading:
//!
//! * [`Store`] is the handle. [`Store::open`] and [`Store::open_with`] make it from a location, and
//!   [`Store::create`] is the commit.
//! * [`Weights`] publishes and reads the weights of one policy, verified by SHA-256.
//! * [`Error`] lists every failure; [`Trouble`] groups those that may pass by themselves.
//! * [`Patience`] waits such a trouble out, and [`Contact`] says whether the store answers.
//! * `folder.rs` and `bucket.rs` implement create-if-absent for the two backends. `answer.rs`
//!   interprets the refusals of S3 servers.
//!
//! ```
//! use vintage_store::{Created, Store};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let store = Store::open(&folder.path().to_string_lossy())?;
//!
//! let path = "plans/lead/0.json";
//! assert_eq!(store.create(path, "first".into()).await?, Created::New);
//! assert_eq!(store.create(path, "second".into()).await?, Created::Exists);
//! assert_eq!(store.get(path).await?.as_deref(), Some(&b"first"[..]));
//! # Ok(())
//! # }
//! ```

mod answer;
mod bucket;
mod contact;
mod created;
mod error;
mod folder;
mod lane;
mod open;
mod passing;
mod patience;
mod prunes;
mod records;
#[cfg(feature = "faults")]
mod sabotage;
mod store;
mod sweep;
mod weights;

pub use contact::{Contact, Outage};
pub use created::Created;
pub use error::{Error, Result, Trouble};
pub use lane::{AT_ONCE, Lane};
pub use open::{check_option, is_secret_option};
pub use patience::{Patience, WaitStep};
pub use prunes::{next_prune, prunes, write_prune};
pub use records::{Checkpoint, CheckpointFiles, Records, evaluation_path, write_evaluation};
pub use store::{Listed, Store};
pub use weights::{ADAPTER_FILES, Form, MODEL_FILE, Weights, label};

use sha2::Digest as _;
use vintage_control::Sha256;

/// Returns the SHA-256 of `bytes`, as `sha256sum` prints it.
pub fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}
