use std::{
    fmt,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, path::Path};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    bucket,
    contact::Contact,
    created::Created,
    error::{Error, Result, WRITE},
    folder::{self, Guarantees},
    patience::{Patience, WaitStep},
};

/// Root folder or bucket prefix, under which objects have relative `/`-separated paths. Cheap to
/// clone.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    backend: Backend,
    durable: Arc<folder::Durable>,
    guarantees: Guarantees,
    contact: Arc<Contact>,
    /// Patience of every request; `None` to report every failure at once.
    patience: Option<Patience>,
}

/// Object in a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Path relative to the store.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Time at which it was written, in milliseconds since the epoch by the store's clock.
    pub written_ms: i64,
}

/// Backend of a store.
#[derive(Debug, Clone)]
pub(crate) enum Backend {
    /// Local folder that is the root.
    Folder(PathBuf),
    /// S3 bucket with this name.
    Bucket(Arc<str>),
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.location())
    }
}

impl Store {
    pub(crate) fn new(
        objects: Arc<dyn ObjectStore>,
        prefix: Path,
        backend: Backend,
        contact: Arc<Contact>,
    ) -> Self {
        let guarantees = Guarantees::WHOLE;
        #[cfg(feature = "faults")]
        let guarantees = crate::sabotage::broken(guarantees);
        Self {
            objects,
            prefix,
            backend,
            durable: Arc::default(),
            guarantees,
            contact,
            patience: None,
        }
    }

    /// Returns this store with only the given guarantees, to measure what each costs. Without
    /// `fsync` an object may be lost in a power cut; without `fence` a second create replaces the
    /// first object. A bucket always keeps both.
    #[must_use]
    pub fn keeping_only(mut self, fsync: bool, fence: bool) -> Self {
        self.guarantees = Guarantees {
            durable: fsync,
            fenced: fence,
        };
        self
    }

    /// Returns this store with requests, writes included, that wait out a trouble of disk or server
    /// which passes by itself ([`Error::passes`]). What is refused for good is reported at once, as
    /// before.
    #[must_use]
    pub fn patient(mut self, patience: Patience) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Returns this store with requests that report every failure at once.
    #[must_use]
    pub fn impatient(mut self) -> Self {
        self.patience = None;
        self
    }

    /// Returns what is known of the store's answers to this process.
    pub fn contact(&self) -> &Arc<Contact> {
        &self.contact
    }

    /// Returns the part of this store below `prefix`.
    #[must_use]
    pub fn at(&self, prefix: &str) -> Self {
        let parts = prefix.split('/').filter(|part| !part.is_empty());
        Self {
            objects: Arc::clone(&self.objects),
            prefix: parts.clone().fold(self.prefix.clone(), Path::join),
            backend: match &self.backend {
                Backend::Folder(folder) => Backend::Folder(folder.join(parts.collect::<PathBuf>())),
                bucket @ Backend::Bucket(_) => bucket.clone(),
            },
            durable: Arc::clone(&self.durable),
            guarantees: self.guarantees,
            contact: Arc::clone(&self.contact),
            patience: self.patience.clone(),
        }
    }

    /// Returns the root's path or URL, for messages.
    pub fn location(&self) -> String {
        match &self.backend {
            Backend::Folder(folder) => folder.display().to_string(),
            Backend::Bucket(bucket) => format!("s3://{bucket}/{}", self.prefix),
        }
    }

    /// Returns true for a bucket, whose create-if-absent should be tested with
    /// [`Store::probe_conditional_put`].
    pub fn is_remote(&self) -> bool {
        matches!(self.backend, Backend::Bucket(_))
    }

    /// Creates an object unless it exists. When this returns `New`, bytes and directory entry are
    /// on the disk. Of several concurrent creators exactly one gets `New`. On an error no partial
    /// object is left; the whole object may exist if only the last sync failed or a server's
    /// response was lost. A patient store that tries again takes such an object for its own.
    pub async fn create(&self, path: &str, bytes: Bytes) -> Result<Created> {
        let full = self.full(path)?;
        let Some(file) = self.local_path(path) else {
            let token = bucket::token();
            let create = || async {
                let put = bucket::create(self.objects.as_ref(), &full, &bytes, &token);
                let created = put.await;
                created.map_err(|error| Error::of(WRITE, self.name(path), error))
            };
            return self.patiently(create).await;
        };
        let tries = AtomicU64::new(0);
        let create = || async {
            tries.fetch_add(1, Ordering::Relaxed);
            self.create_file(path, file.clone(), bytes.clone()).await
        };
        let created = self.patiently(create).await?;
        let again = tries.load(Ordering::Relaxed) > 1;
        if again && created == Created::Exists && self.get(path).await?.as_ref() == Some(&bytes) {
            return Ok(Created::New); // of a try whose last sync failed
        }
        Ok(created)
    }

    async fn create_file(&self, path: &str, file: PathBuf, bytes: Bytes) -> Result<Created> {
        let (durable, guarantees) = (Arc::clone(&self.durable), self.guarantees);
        let created = tokio::task::spawn_blocking(move || {
            folder::create(&file, &bytes, &durable, guarantees)
        })
        .await;
        let created = created.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        created.map_err(|error| Error::of(WRITE, self.name(path), error))
    }

    /// Runs a request, again and again if this store is patient and the trouble passes by itself.
    async fn patiently<T, W: Future<Output = Result<T>>>(
        &self,
        mut work: impl FnMut() -> W,
    ) -> Result<T> {
        let Some(patience) = &self.patience else {
            return work().await;
        };
        let begun = Instant::now();
        let tell = |step, error: Option<&Error>| match (step, error) {
            (WaitStep::Failed(_, Some(next)), Some(error)) => {
                let left = patience.longest.saturating_sub(begun.elapsed());
                tracing::warn!(
                    "the store is away and tried again in {next:?}, for up to {left:.0?} more: {error}"
                );
            }
            (WaitStep::Failed(..), _) => {}
            (WaitStep::Passed, _) => {
                tracing::warn!("the store is back after {:.0?}", begun.elapsed());
            }
        };
        let passing = |error: &Error| error.trouble().filter(|_| error.passes());
        let waited = patience.wait_out(&self.contact, passing, tell, work);
        waited.await
    }

    /// Reads a whole object; `None` if there is none.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>> {
        self.patiently(|| self.get_once(path)).await
    }

    async fn get_once(&self, path: &str) -> Result<Option<Bytes>> {
        let failed = |error| Error::of("read", self.name(path), error);
        match self.objects.get(&self.full(path)?).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(failed)?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Reads the bytes `range` of an object. A missing object or a range outside it is an error.
    pub async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let full = self.full(path)?;
        self.patiently(|| async {
            let read = self.objects.get_range(&full, range.clone()).await;
            read.map_err(|error| Error::of("read", self.name(path), error))
        })
        .await
    }

    /// Reads the last `count` bytes of an object, or all of a smaller one, in one request; returns them with the
    /// length of the object. `None` if there is none.
    pub async fn get_tail(&self, path: &str, count: u64) -> Result<Option<(Bytes, u64)>> {
        let full = self.full(path)?;
        let options = GetOptions::new().with_range(Some(GetRange::Suffix(count)));
        let failed = |error| Error::of("read", self.name(path), error);
        self.patiently(|| async {
            match self.objects.get_opts(&full, options.clone()).await {
                Ok(found) => {
                    let length = found.meta.size;
                    let bytes = found.bytes().await.map_err(failed)?;
                    Ok(Some((bytes, length)))
                }
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                // An empty object has no last bytes, which S3 answers with 416.
                Err(error) => match self.objects.head(&full).await {
                    Ok(meta) if meta.size == 0 => Ok(Some((Bytes::new(), 0))),
                    _ => Err(failed(error)),
                },
            }
        })
        .await
    }

    /// Returns the length of an object in bytes; `None` if there is none.
    pub async fn head(&self, path: &str) -> Result<Option<u64>> {
        let full = self.full(path)?;
        self.patiently(|| async {
            match self.objects.head(&full).await {
                Ok(meta) => Ok(Some(meta.size)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(Error::of("look up", self.name(path), error)),
            }
        })
        .await
    }

    /// Lists the objects in the folder `prefix` and below (`""` lists all), sorted, with paths
    /// relative to this store.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let sizes = self.list_sizes(prefix).await?;
        Ok(sizes.into_iter().map(|(path, _)| path).collect())
    }

    /// Lists as [`Store::list`] does, each object with its size in bytes.
    pub async fn list_sizes(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let listed = self.list_objects(prefix).await?.into_iter();
        Ok(listed.map(|object| (object.path, object.bytes)).collect())
    }

    /// Lists as [`Store::list`] does, each object with its size and age.
    pub async fn list_objects(&self, prefix: &str) -> Result<Vec<Listed>> {
        let failed = |error| Error::of("list", self.name(prefix), error);
        let folder = self.at(prefix).prefix;
        let list = || async {
            let listed = self.objects.list(Some(&folder));
            listed.try_collect::<Vec<_>>().await.map_err(failed)
        };
        let metas = self.patiently(list).await?;
        // Both paths are normalised by the same rules, so the text prefix is the path prefix.
        let skip = self.prefix.as_ref().len() + usize::from(!self.prefix.as_ref().is_empty());
        let mut paths: Vec<_> = metas
            .iter()
            .map(|meta| Listed {
                path: meta.location.as_ref()[skip..].to_owned(),
                bytes: meta.size,
                written_ms: meta.last_modified.timestamp_millis(),
            })
            .collect();
        paths.sort_unstable();
        Ok(paths)
    }

    /// Deletes an object durably. A missing object is not an error.
    pub async fn delete(&self, path: &str) -> Result<()> {
        self.patiently(|| self.delete_once(path)).await
    }

    async fn delete_once(&self, path: &str) -> Result<()> {
        match self.objects.delete(&self.full(path)?).await {
            Ok(()) => {}
            Err(object_store::Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(Error::of("delete", self.name(path), error)),
        }
        // The library does not sync what it deletes, and the order of deletes (a manifest before
        // its files) must survive a power cut.
        let Some(file) = self.local_path(path) else {
            return Ok(());
        };
        let synced =
            tokio::task::spawn_blocking(move || folder::sync(file.parent().unwrap_or(&file)));
        let synced = synced
            .await
            .map_err(|error| Error::of("delete", self.name(path), error))?;
        match synced {
            // Another process deleted the last object in the folder, and the folder with it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            synced => synced
                .map_err(|error| Error::of("make durable the delete of", self.name(path), error)),
        }
    }

    /// Creates a record as one line of JSON; see [`Store::create`].
    pub async fn create_json<T: Serialize>(&self, path: &str, record: &T) -> Result<Created> {
        let mut line = serde_json::to_vec(record).map_err(|source| Error::Json {
            path: self.name(path),
            source,
        })?;
        line.push(b'\n');
        self.create(path, line.into()).await
    }

    /// Reads a JSON record; `None` if there is none. One that does not parse is an error that names
    /// the object.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let Some(bytes) = self.get(path).await? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&bytes).map_err(|source| Error::Json {
            path: self.name(path),
            source,
        })?;
        Ok(Some(record))
    }

    /// Returns the file of an object if the store is a folder; `None` for a bucket.
    pub fn local_path(&self, path: &str) -> Option<PathBuf> {
        match &self.backend {
            Backend::Folder(folder) => Some(folder.join(path)),
            Backend::Bucket(_) => None,
        }
    }

    /// Verifies that the store can be written and honours create-if-absent. To be called once at
    /// the start.
    pub async fn probe_conditional_put(&self) -> Result<()> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos();
        let path = format!("_probe-{}-{now}", std::process::id());
        let first = match self.create(&path, Bytes::from_static(b"first")).await {
            // Some stores answer an unknown condition with "forbidden" or "bad request".
            Err(Error::Access { source, .. } | Error::Refused { source, .. })
                if self.takes_unconditional(&path).await =>
            {
                return Err(Error::NoConditionalPut {
                    path: self.name(&path),
                    reason: format!(
                        "it takes a plain put, and refuses a conditional one: {source}"
                    ),
                });
            }
            first => first?,
        };
        let second = self.create(&path, Bytes::from_static(b"second")).await?;
        let kept = self.get(&path).await?;
        self.delete(&path).await?;
        let honoured =
            (first, second) == (Created::New, Created::Exists) && kept.as_deref() == Some(b"first");
        if honoured {
            Ok(())
        } else {
            Err(Error::NoConditionalPut {
                path: self.name(&path),
                reason: "a second create succeeded".to_owned(),
            })
        }
    }

    /// Returns true if a bucket accepts an unconditional put. The test object is deleted
    /// afterwards.
    async fn takes_unconditional(&self, path: &str) -> bool {
        let Ok(full) = self.full(path) else {
            return false;
        };
        let put = self.objects.put(&full, Bytes::from_static(b"plain").into());
        if put.await.is_err() {
            return false;
        }
        if let Err(error) = self.delete(path).await {
            tracing::warn!("{} is left over from a probe: {error}", self.name(path));
        }
        true
    }

    /// Returns the object's name for messages: its file path, or its URL in a bucket.
    pub(crate) fn name(&self, path: &str) -> String {
        match self.local_path(path) {
            Some(file) => file.display().to_string(),
            None => format!("{}/{path}", self.location().trim_end_matches('/')),
        }
    }

    fn full(&self, path: &str) -> Result<Path> {
        let below = Path::parse(path).map_err(|error| Error::Location {
            location: self.name(path),
            reason: error.to_string(),
        })?;
        Ok(below.parts().fold(self.prefix.clone(), Path::join))
    }
}

#[cfg(test)]
mod away;
#[cfg(test)]
mod tests;
