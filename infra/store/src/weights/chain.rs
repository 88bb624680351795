//! Versions that are stored as deltas: writing one, and following a chain of them back to weights
//! that are whole.

use std::{
    collections::BTreeSet,
    sync::{MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use vintage_control::{PolicyVersion, Sha256, WeightsDelta, WeightsManifest};
use vintage_delta::{Ends, apply, encode};

use super::{DELTA_FILE, Form, Stored, Weights, blocking, digest_of, held::Held};
use crate::{
    created::Created,
    error::{Error, Result},
};

impl Weights {
    /// Writes a version as a delta, if it is to be one and that takes less; `None` if it is to be
    /// written whole. A base that cannot be read is no failure: the weights at hand are whole.
    pub(super) async fn write_delta(
        &self,
        version: PolicyVersion,
        new: &Bytes,
        digest: Sha256,
        form: Form,
    ) -> Result<Option<Stored>> {
        let Some(base) = form.base.filter(|base| *base < version) else {
            return Ok(None);
        };
        let Some(manifest) = self.manifest(base).await? else {
            return Ok(None);
        };
        let steps = manifest.delta.as_ref().map_or(0, |delta| delta.steps) + 1;
        if steps >= form.full_every || manifest.weights_bytes != new.len() as u64 {
            return Ok(None);
        }
        let old = match self.fetch(base).await {
            Ok(old) => old,
            Err(error) => {
                tracing::warn!("version {version} is stored whole: its base: {error}");
                return Ok(None);
            }
        };
        let ends = Ends {
            base_sha256: manifest.weights_sha256,
            weights_sha256: digest,
        };
        let path = self.path(version, DELTA_FILE);
        let whole = new.clone();
        let delta = blocking(move || encode(&old, &whole, ends)).await;
        let delta = delta.map_err(|source| Error::Delta {
            path: self.store.name(&path),
            source,
        })?;
        let Some(delta) = delta.filter(|delta| delta.len() < new.len()) else {
            return Ok(None);
        };
        let delta = Bytes::from(delta);
        let sha256 = digest_of(delta.clone()).await;
        let bytes = delta.len() as u64;
        if self.store.create(&path, delta).await? == Created::Exists {
            let left = self.store.get(&path).await?.unwrap_or_default();
            if digest_of(left).await != sha256 {
                // A delta that an unfinished publication left leads elsewhere: it is passed over.
                return Ok(None);
            }
        }
        Ok(Some(Stored {
            sha256: digest,
            bytes: new.len() as u64,
            delta: Some(WeightsDelta {
                base,
                base_sha256: ends.base_sha256,
                steps,
                sha256,
                bytes,
            }),
            adapter: None,
            adopted: false,
        }))
    }

    /// Returns the whole bytes of a version that is stored as a delta: those of the nearest version
    /// before it that is held or stored whole, and the deltas since.
    pub(super) async fn follow(&self, wanted: WeightsManifest) -> Result<Bytes> {
        let version = wanted.version;
        let expected = wanted.weights_sha256;
        self.memory().follows = true;
        let mut links = Vec::new();
        let mut at = wanted;
        let start = loop {
            self.note_base(&at);
            let Some(delta) = at.delta.clone() else {
                break self.fetch_whole(at.version, at.weights_sha256).await;
            };
            let (base, base_sha256) = (delta.base, delta.base_sha256);
            let broken = |reason| Error::NoBase {
                path: self.store.name(&self.path(at.version, DELTA_FILE)),
                base,
                reason,
            };
            if base >= at.version {
                return Err(broken("which is no version before it"));
            }
            let ends = Ends {
                base_sha256,
                weights_sha256: at.weights_sha256,
            };
            links.push((at.version, delta, ends));
            if let Some(held) = self.held(base, base_sha256) {
                break Ok(held);
            }
            let Some(before) = self.manifest(base).await? else {
                break Err(broken("which is not there"));
            };
            if before.weights_sha256 != base_sha256 {
                return Err(broken("of which other weights are there"));
            }
            at = before;
        };
        let bytes = match start {
            Ok(bytes) => self.apply_all(bytes, links).await,
            Err(error) => Err(error),
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            // The version may be removed while it is read, and its bases after it.
            Err(_) if self.manifest(version).await?.is_none() => {
                return Err(self.no_such(version));
            }
            Err(error) => return Err(error),
        };
        let found = digest_of(bytes.clone()).await;
        if found != expected {
            return Err(Error::Corrupt {
                path: self.store.name(&self.path(version, DELTA_FILE)),
                expected,
                found,
            });
        }
        self.memory().keep(version, expected, bytes.clone());
        Ok(bytes)
    }

    /// Applies deltas to the bytes of their base, the last of `links` first.
    async fn apply_all(
        &self,
        base: Bytes,
        links: Vec<(PolicyVersion, WeightsDelta, Ends)>,
    ) -> Result<Bytes> {
        // A copy only if somebody else holds the bytes.
        let own = |base: Bytes| {
            base.try_into_mut()
                .unwrap_or_else(|held| BytesMut::from(&held[..]))
        };
        let mut bytes = blocking(move || own(base)).await;
        for (version, delta, ends) in links.into_iter().rev() {
            let path = self.path(version, DELTA_FILE);
            let Some(file) = self.store.get(&path).await? else {
                return Err(Error::Missing {
                    path: self.store.name(&path),
                });
            };
            let found = digest_of(file.clone()).await;
            if found != delta.sha256 {
                return Err(Error::Corrupt {
                    path: self.store.name(&path),
                    expected: delta.sha256,
                    found,
                });
            }
            let applied = blocking(move || {
                let applied = apply(&mut bytes, &file, ends);
                applied.map(|()| bytes)
            });
            bytes = applied.await.map_err(|source| Error::Delta {
                path: self.store.name(&path),
                source,
            })?;
        }
        Ok(bytes.freeze())
    }

    /// Returns the versions without which those in `kept` cannot be read: the bases of their
    /// deltas and adapters, directly or not. One that is not published has none.
    pub async fn bases(
        &self,
        kept: impl IntoIterator<Item = PolicyVersion>,
    ) -> Result<BTreeSet<PolicyVersion>> {
        let mut bases = BTreeSet::new();
        for mut version in kept {
            while let Some(base) = self.base_of(version).await? {
                if base >= version || !bases.insert(base) {
                    break;
                }
                version = base;
            }
        }
        Ok(bases)
    }

    /// Returns the version on which this one is a delta or adapters; `None` if it is whole or not
    /// published. A manifest never changes, so it is read once.
    pub async fn base_of(&self, version: PolicyVersion) -> Result<Option<PolicyVersion>> {
        let known = self.memory().bases.get(&version).copied();
        if let Some(base) = known {
            return Ok(base);
        }
        let Some(manifest) = self.manifest(version).await? else {
            return Ok(None);
        };
        self.note_base(&manifest);
        Ok(base(&manifest))
    }

    pub(super) fn note_base(&self, manifest: &WeightsManifest) {
        self.memory().bases.insert(manifest.version, base(manifest));
    }

    /// Notes which of the published `versions` have no delta or adapters beside them, as those of
    /// `based` have: they are whole.
    pub(super) fn note_whole(&self, versions: &[PolicyVersion], based: &BTreeSet<PolicyVersion>) {
        let whole = versions.iter().filter(|version| !based.contains(version));
        let whole = whole.map(|version| (*version, None));
        self.memory().bases.extend(whole);
    }

    /// Forgets on which version a removed one was a delta.
    pub(super) fn forget(&self, version: PolicyVersion) {
        self.memory().bases.remove(&version);
    }

    /// Holds weights as the base of the next version.
    pub(super) fn hold(&self, version: PolicyVersion, digest: Sha256, bytes: Bytes) {
        let mut held = self.memory();
        held.follows = true;
        held.keep(version, digest, bytes);
    }

    /// Holds weights that are whole, if deltas were among those before.
    pub(super) fn hold_if_followed(&self, version: PolicyVersion, digest: Sha256, bytes: &Bytes) {
        let mut held = self.memory();
        if held.follows {
            held.keep(version, digest, bytes.clone());
        }
    }

    /// Returns the weights of a version, if they are held and have this digest.
    pub(super) fn held(&self, version: PolicyVersion, digest: Sha256) -> Option<Bytes> {
        self.memory().get(version, digest)
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the version on which a version is a delta or adapters.
fn base(manifest: &WeightsManifest) -> Option<PolicyVersion> {
    let delta = manifest.delta.as_ref().map(|delta| delta.base);
    delta.or_else(|| manifest.adapter.as_ref().map(|adapter| adapter.base))
}

#[cfg(test)]
mod tests;
