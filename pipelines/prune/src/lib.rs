//! Deletion of what a run no longer needs: chosen by a policy, recorded, then deleted (`vintage prune`).
//!
//! `choose.rs` decides, as a pure function; `facts.rs` and `reads.rs` read what it decides on;
//! `pruning.rs` is what it comes to, in objects and bytes; `delete.rs` writes the record and then
//! deletes. A kill at any moment loses nothing that was to stay, and the next prune goes on with
//! what the record names.
//!
//! ```
//! use vintage_archive::Reader;
//! use vintage_control::PrunePolicy;
//! use vintage_prune::{Place, Run, prune};
//! use vintage_store::Store;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let store = Store::open(&folder.path().to_string_lossy())?;
//! let reader = Reader::new(store.at("archive"), "vintage.demo.rollouts.v1");
//! let run = Run { store: &store, reader: &reader, learners: &[], journals: &[] };
//! let asked = PrunePolicy { keep_versions: Some(10), ..PrunePolicy::default() };
//!
//! // The store is empty, so nothing may go.
//! let pruning = prune(&run, &asked).await?;
//! assert!(pruning.is_empty());
//! # Ok(())
//! # }
//! ```

mod choose;
mod delete;
mod error;
mod facts;
mod pruning;
mod reads;

use std::path::PathBuf;

use vintage_archive::Reader;
use vintage_control::{NumberSet, PrunePolicy};
use vintage_store::{Store, prunes};

pub use self::{
    choose::{Choice, Facts, LearnerFacts, Place, PolicyFacts, choose, is_young},
    error::{Error, Result},
    facts::{LearnerNeeds, now_ms, since_epoch},
    pruning::Pruning,
};

/// Run that is pruned.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// Store of plans, checkpoints and weights.
    pub store: &'a Store,
    /// Archive of the run's rollouts.
    pub reader: &'a Reader,
    /// Every learner of the run; one that is missing here is taken to need nothing.
    pub learners: &'a [LearnerNeeds],
    /// Journals that may go: those of producers that have certainly ended.
    pub journals: &'a [Journal],
}

/// Journal of a producer that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// Value of the producer's `producer` header.
    pub producer: String,
    /// Numbers that the log acknowledged.
    pub numbers: NumberSet,
    /// File of the journal.
    pub path: PathBuf,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// Finds out what may go; deletes nothing.
pub async fn prune(run: &Run<'_>, asked: &PrunePolicy) -> Result<Pruning> {
    let earlier = prunes(run.store).await?;
    let (facts, sizes) = facts::read(run.store, run.reader, run.learners, asked, &earlier).await?;
    let choice = choose(&facts, asked);
    Ok(Pruning::of(run, asked, choice, &facts, &sizes, &earlier))
}
