//! Fault injection: points at which a test may kill or freeze this process or make an operation
//! fail, and bugs ("mistakes") that it may switch on.
//!
//! Roles call [`point`] between two steps whose order matters. Without the feature `on`, as in
//! every released program, the functions here do nothing. With it, the environment selects the
//! faults:
//!
//! ```text
//! VINTAGE_FAULTS=learner.planned=kill@3,store.create=enospc@1..4,mistake.overwrite
//! VINTAGE_FAULTS_LOG=/tmp/faults.jsonl
//! ```
//!
//! Each entry is `NAME=ACTION[@HITS]`, or the bare name of a mistake:
//!
//! * `kill` and `stop` send SIGKILL and SIGSTOP to this process at a [`point`].
//! * `enospc`, `eio` and `erofs` make [`failure`] return that error.
//! * A bare name makes [`mistake`] return true at every hit.
//!
//! `HITS` is the number of the hit, counted from 1 in this process, or a range `FIRST..LAST` or
//! `FIRST..`; the default is 1. Each fault that strikes, except a mistake, adds a line to the log,
//! `{"point":…,"hit":…,"in_hand":…,"pid":…}`, which is on the disk before the signal is sent.
//!
//! [`POINTS`] and [`MISTAKES`] list the names.
//!
//! ```
//! use vintage_faults::{POINTS, failure, point};
//!
//! // Before an operation that a test may make fail:
//! assert!(failure("store.create").is_none());
//!
//! // Between two steps, with three records in hand that are not yet durable:
//! point("archive.gathered", 3);
//! assert!(POINTS.iter().any(|point| point.name == "archive.gathered"));
//! ```

#[cfg(feature = "on")]
mod active;
mod registry;

pub use registry::{MISTAKES, POINTS, Point};

use std::io;

/// Marks a step boundary at which a test may kill or freeze the process. `in_hand` is the number of
/// records, groups or bytes that are taken and not yet durable here: a kill with nothing in hand
/// proves little.
#[inline]
pub fn point(name: &'static str, in_hand: u64) {
    #[cfg(feature = "on")]
    active::point(name, in_hand);
    #[cfg(not(feature = "on"))]
    let _ = (name, in_hand);
}

/// Returns the error with which a test wants the next operation to fail; `None` otherwise.
#[inline]
pub fn failure(name: &'static str) -> Option<io::Error> {
    #[cfg(feature = "on")]
    return active::failure(name);
    #[cfg(not(feature = "on"))]
    {
        let _ = name;
        None
    }
}

/// Returns true if a test has switched on this mistake, to check that it is detected. Exists only
/// with the feature `on`; the mistakes are in files named `sabotage.rs`, compiled only with it.
#[cfg(feature = "on")]
pub fn mistake(name: &'static str) -> bool {
    active::mistake(name)
}
