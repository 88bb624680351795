//! Durable objects: create-if-absent records, and weights by version and hash.
//!
//! Creating an object that is not there is the one commit primitive of the whole system: plans,
//! weights manifests, checkpoints and archive files all become real by it. An object is whole
//! and on the disk (file and directory entry synced) before it can be seen, and is never
//! overwritten.

mod answer;
mod bucket;
mod error;
mod folder;
mod open;
mod records;
#[cfg(feature = "faults")]
mod sabotage;
mod store;
mod sweep;
mod weights;

pub use error::{Error, Fault, Result, Trouble};
pub use open::{check_option, is_secret_option};
pub use records::{Checkpoint, Records, evaluation_path, write_evaluation};
pub use store::{Created, Store};
pub use weights::{MODEL_FILE, Weights};

use sha2::Digest as _;
use vintage_control::Sha256;

/// SHA-256 of `bytes`, as `sha256sum` prints it.
pub fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}
