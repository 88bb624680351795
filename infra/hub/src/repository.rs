//! Repository of a model on the hub: its listing, and the files that the cache lacks.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Client, Response, StatusCode, header::RANGE};
use vintage_human::size;

use crate::{
    error::{Error, Result},
    listing::{Entry, Revision, is_digest},
    name::HubModel,
    partial::Partial,
    wanted::{INDEX, WEIGHTS, Wanted, shards_of},
};

/// Interval in bytes between progress reports of a file, or a tenth of the file if that is more.
const LARGE: u64 = 64 << 20;
/// Number of attempts per request; [`PAUSE`] is the pause before the second one.
const TRIES: u32 = 4;
/// Pause before the second attempt; it doubles before each further one.
const PAUSE: Duration = Duration::from_millis(500);

/// Repository of a model on the hub, and its folder in the cache.
pub(crate) struct Repository<'a> {
    pub(crate) model: &'a HubModel,
    pub(crate) wanted: Wanted,
    pub(crate) client: Client,
    pub(crate) endpoint: String,
    pub(crate) token: Option<String>,
    /// Folder of the model in the cache, `models--OWNER--NAME`.
    pub(crate) folder: PathBuf,
    pub(crate) progress: &'a (dyn Fn(String) + Sync),
}

impl Repository<'_> {
    /// Fetches the files that the cache lacks, and links them in a snapshot.
    pub(crate) async fn fetch(&self) -> Result<()> {
        let (name, revision) = (self.model.repository(), self.model.revision());
        let api = format!("{}/api/models/{name}", self.endpoint);
        let named = format!("{api}/revision/{}", revision.replace('/', "%2F"));
        let Revision { sha } = self.json(&named).await?;
        let entries: Vec<Entry> = self.json(&format!("{api}/tree/{sha}")).await?;
        let digests = entries.iter().map(Entry::blob);
        if !is_digest(&sha) || !digests.into_iter().all(is_digest) {
            return Err(self.refuse(format!("{} lists no digests", self.endpoint)));
        }
        let listed = |names: &BTreeSet<&str>| -> Vec<&Entry> {
            let named = |entry: &&Entry| names.contains(entry.path.as_str());
            entries.iter().filter(named).collect()
        };
        let mut names = self.wanted.files.iter().copied().collect::<BTreeSet<_>>();
        let whole = entries.iter().any(|entry| entry.path == WEIGHTS);
        names.insert(if whole { WEIGHTS } else { INDEX });
        let sharded = entries.iter().any(|entry| entry.path == INDEX);
        let weights = (!whole && !sharded).then_some(WEIGHTS);
        let needed = self.wanted.needed.iter().copied();
        let lacks = |name: &&str| !entries.iter().any(|entry| entry.path == **name);
        if let Some(file) = weights.into_iter().chain(needed.filter(lacks)).next() {
            return Err(self.lacks(file, &entries));
        }
        let mut files = listed(&names);
        for file in &files {
            self.file(&sha, file).await?;
        }
        if let (false, Some(index)) = (whole, files.iter().find(|file| file.path == INDEX)) {
            let path = self.blob(index);
            let text = tokio::fs::read(&path).await;
            let text = text.map_err(Error::io("read", &path))?;
            let named =
                shards_of(&text).map_err(|reason| self.refuse(format!("{INDEX}: {reason}")))?;
            let shards = listed(&named.iter().map(String::as_str).collect());
            if shards.len() < named.len() {
                let there: Vec<_> = shards.iter().map(|shard| &shard.path).collect();
                return Err(self.refuse(format!(
                    "{INDEX} names {named:?}, of which it lists only {there:?}"
                )));
            }
            for file in &shards {
                self.file(&sha, file).await?;
            }
            files.extend(shards);
        }
        self.link(&sha, &files).await
    }

    /// Returns the error for a repository without a file that every model has.
    fn lacks(&self, file: &str, entries: &[Entry]) -> Error {
        let name = self.model.repository();
        let there: Vec<_> = entries.iter().map(|entry| entry.path.clone()).collect();
        let advice = (self.wanted.instead_of)(file, name, &there);
        Error::NoModel {
            name: name.to_owned(),
            file: file.to_owned(),
            revision: self.model.revision().to_owned(),
            advice: advice
                .unwrap_or_else(|| format!("there is {}; name another model", there.join(", "))),
        }
    }

    /// Fetches a file, or the missing rest of it, into the blobs, and verifies its digest.
    async fn file(&self, sha: &str, file: &Entry) -> Result<()> {
        let blob = self.blob(file);
        if blob.is_file() {
            return Ok(());
        }
        create(&self.folder.join("blobs")).await?;
        let mut partial = Partial::open(blob.with_extension("incomplete"), file).await?;
        let url = format!(
            "{}/{}/resolve/{sha}/{}",
            self.endpoint,
            self.model.repository(),
            file.path
        );
        self.retrying(async || self.rest(&url, file, &mut partial).await)
            .await?;
        if partial.digest.hex() != file.blob() {
            partial.remove().await?;
            return Err(self.refuse(format!(
                "{}: {} bytes came that are not the ones the hub lists; run this again, and they \
                 are fetched anew",
                file.path, partial.bytes
            )));
        }
        partial.finish(&blob).await
    }

    /// Fetches the part of a file that `partial` lacks.
    async fn rest(&self, url: &str, file: &Entry, partial: &mut Partial) -> Result<(), Failed> {
        if partial.bytes >= file.size {
            return Ok(());
        }
        let mut response = self.get(url, partial.bytes).await?;
        if partial.bytes > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            partial.empty(file).await?;
        }
        let mut next = partial.bytes;
        while let Some(bytes) = response
            .chunk()
            .await
            .map_err(|error| self.broken(&error))?
        {
            if partial.bytes >= next {
                let (done, all) = (size(partial.bytes), size(file.size));
                let name = self.model.repository();
                self.report(format!("fetching {name}: {}, {done} of {all}", file.path));
                next += (file.size / 10).max(LARGE);
            }
            partial.add(&bytes).await?;
        }
        Ok(())
    }

    /// Creates the snapshot or completes it. The file that makes it [`is_complete`] is linked last.
    async fn link(&self, sha: &str, files: &[&Entry]) -> Result<()> {
        let snapshot = self.folder.join("snapshots").join(sha);
        create(&snapshot).await?;
        let last = |file: &Entry| file.path == WEIGHTS || file.path == INDEX;
        let (ends, rest): (Vec<&Entry>, Vec<&Entry>) = files.iter().partition(|file| last(file));
        for file in rest.into_iter().chain(ends) {
            let link = snapshot.join(&file.path);
            if !link.is_file() {
                let blob = Path::new("../../blobs").join(file.blob());
                let linked = tokio::fs::symlink(blob, &link).await;
                linked.map_err(Error::io("link", &link))?;
            }
        }
        if self.model.revision() == sha {
            return Ok(());
        }
        let reference = self.folder.join("refs").join(self.model.revision());
        create(reference.parent().unwrap_or(&reference)).await?;
        let written = tokio::fs::write(&reference, sha).await;
        written.map_err(Error::io("write", &reference))
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<T> {
        let bytes = async || {
            let response = self.get(url, 0).await?;
            let bytes = response.bytes().await;
            bytes.map_err(|error| self.broken(&error))
        };
        let bytes = self.retrying(bytes).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            self.refuse(format!(
                "{url} answers no such JSON as a hub does: {error}; look whether HF_ENDPOINT is one"
            ))
        })
    }

    /// Repeats an attempt, after growing pauses, as long as that may help.
    async fn retrying<T>(&self, mut attempt: impl AsyncFnMut() -> Result<T, Failed>) -> Result<T> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match attempt().await {
                Err(Failed { error, again: true }) => self.report(format!("{error}; trying again")),
                done => return done.map_err(|failed| failed.error),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        attempt().await.map_err(|failed| failed.error)
    }

    async fn get(&self, url: &str, from: u64) -> Result<Response, Failed> {
        let mut request = self.client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                Err(Failed::from(Error::NotOnHub {
                    endpoint: self.endpoint.clone(),
                    name: self.model.repository().to_owned(),
                    revision: self.model.revision().to_owned(),
                }))
            }
            status => Err(Failed {
                error: self.refuse(format!("{url}: {status}; run this again later")),
                again: status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS,
            }),
        }
    }

    fn report(&self, phase: String) {
        (self.progress)(phase);
    }

    fn blob(&self, file: &Entry) -> PathBuf {
        self.folder.join("blobs").join(file.blob())
    }

    fn broken(&self, error: &reqwest::Error) -> Failed {
        let mut causes = format!("{error}");
        let mut cause = std::error::Error::source(error);
        while let Some(source) = cause {
            causes = format!("{causes}: {source}");
            cause = source.source();
        }
        let error = self.refuse(format!(
            "{causes}; run this again, and it continues where it was; without network, name a \
             folder, or a model of the local cache (HF_HOME)"
        ));
        Failed { error, again: true }
    }

    fn refuse(&self, reason: String) -> Error {
        Error::Fetch {
            name: self.model.repository().to_owned(),
            reason,
        }
    }
}

/// Error of an attempt; `again` is true if another attempt may succeed.
struct Failed {
    error: Error,
    /// True if another attempt may succeed.
    again: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            error,
            again: false,
        }
    }
}

async fn create(folder: &Path) -> Result<()> {
    let created = tokio::fs::create_dir_all(folder).await;
    created.map_err(Error::io("create", folder))
}
