//! Memory of the versions that passed through: the newest weights, those that adapters were trained
//! on, and which version needs which.

use std::collections::BTreeMap;

use bytes::Bytes;
use vintage_control::{PolicyVersion, Sha256};

/// Memory of a policy's versions. Only verified bytes enter it.
#[derive(Debug, Default)]
pub(super) struct Held {
    newest: Option<(PolicyVersion, Sha256, Bytes)>,
    /// Weights that adapters were trained on, once some were merged into them.
    pub(super) adapted: Option<(Sha256, Bytes)>,
    /// True once adapters of this process were found to give the weights that it published.
    pub(super) adapters_fit: Option<bool>,
    /// True once a delta was read or is to be written; until then nothing is held.
    pub(super) follows: bool,
    /// Base of each version whose manifest was read; `None` of one that is whole.
    pub(super) bases: BTreeMap<PolicyVersion, Option<PolicyVersion>>,
}

impl Held {
    /// Returns the weights of a version, if they are held and have this digest.
    pub(super) fn get(&self, version: PolicyVersion, digest: Sha256) -> Option<Bytes> {
        let held = self.newest.as_ref();
        let held = held.filter(|(of, sha256, _)| (*of, *sha256) == (version, digest));
        held.map(|(_, _, bytes)| bytes.clone())
    }

    /// Keeps the weights of a version unless those of a newer one are held: an old version that is
    /// looked at must not displace the base of the next.
    pub(super) fn keep(&mut self, version: PolicyVersion, digest: Sha256, bytes: Bytes) {
        let newest = self.newest.as_ref().map(|(of, ..)| *of);
        if newest.is_none_or(|newest| newest <= version) {
            self.newest = Some((version, digest, bytes));
        }
    }
}
