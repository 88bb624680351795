//! Points at which a test may kill, freeze or starve this process, and mistakes it may seed.
//!
//! Roles call [`point`] between two steps whose order matters. Built without the feature `on`, as
//! every released program is, the functions here are empty. Built with it, the environment says
//! what happens where:
//!
//! ```text
//! VINTAGE_FAULTS=learner.planned=kill@3,store.stage=enospc@1..4,mistake.overwrite
//! VINTAGE_FAULTS_LOG=/tmp/faults.jsonl
//! ```
//!
//! `NAME=ACTION[@HITS]`: `kill` and `stop` send SIGKILL and SIGSTOP to this process, `enospc`, `eio`
//! and `erofs` make [`failure`] give that error. `HITS` is the number of the hit, counted from 1 in
//! this process, or a range `FIRST..LAST` or `FIRST..`; 1 if left out. Each that strikes adds a line
//! to the log: `{"point":…,"hit":…,"in_hand":…,"pid":…}`, on the disk before the signal is sent.

#[cfg(feature = "on")]
mod active;
mod registry;

pub use registry::{MISTAKES, POINTS, Point};

use std::io;

/// A step boundary. `in_hand` is how many records, groups or bytes are taken and not yet durable
/// here: a kill with nothing in hand proves little.
#[inline]
pub fn point(name: &'static str, in_hand: u64) {
    #[cfg(feature = "on")]
    active::point(name, in_hand);
    #[cfg(not(feature = "on"))]
    let _ = (name, in_hand);
}

/// The error a test wants instead of what comes next.
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

/// Whether a test has seeded this mistake, to see that the checks find it. Not there without the
/// feature: what makes a mistake is in files named `sabotage.rs`, which are built with it alone.
#[cfg(feature = "on")]
pub fn mistake(name: &'static str) -> bool {
    active::mistake(name)
}
