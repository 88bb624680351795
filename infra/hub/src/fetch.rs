//! Download of models from the Hugging Face hub into its local cache, in the layout of Hugging
//! Face's own library.

mod partial;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Client, Response, StatusCode, header::RANGE};
use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;
use vintage_human::size;

use self::partial::Partial;
use crate::{
    error::{Error, Result},
    name::{HubModel, token_file},
};

const HUB: &str = "https://huggingface.co";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Time without a response after which the hub counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(30);
/// Interval in bytes between progress reports of a file, or a tenth of the file if that is more.
const LARGE: u64 = 64 << 20;
/// Number of attempts per request; [`PAUSE`] is the pause before the second one.
const TRIES: u32 = 4;
/// Pause before the second attempt; it doubles before each further one.
const PAUSE: Duration = Duration::from_millis(500);

/// Names of the files of a model folder, given by the code that will open the folder.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Files to fetch if the repository has them. Weights are always fetched and not listed.
    pub files: &'static [&'static str],
    /// Files that a folder must have to be usable.
    pub needed: &'static [&'static str],
    /// Function that gives advice on a repository without a needed file. Arguments: the missing
    /// file, the model's name, the files that the repository has.
    pub instead_of: fn(&str, &str, &[String]) -> Option<String>,
}

/// Fetches the files of `model` that the local cache lacks, and reports each step to `progress`.
/// Fetches nothing if `HF_HUB_OFFLINE` is set. If the future is dropped, the bytes received so far
/// are kept, and the next call continues from there.
///
/// # Errors
/// No network, no such model, no permission to read it, a file whose hash differs from the hub's,
/// or an unusable `HF_ENDPOINT` or `HF_TOKEN`.
pub async fn fetch_missing(
    model: &HubModel,
    wanted: Wanted,
    progress: &(dyn Fn(String) + Sync),
) -> Result<()> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let offline = variable("HF_HUB_OFFLINE").is_some_and(|value| value != "0");
    let complete = || {
        model
            .snapshot()
            .is_ok_and(|snapshot| is_complete(&snapshot, wanted))
    };
    if offline || complete() {
        return Ok(());
    }
    let refuse = |what: String| failed(model, what);
    let folder = model
        .folder()
        .map_err(|error| Error::Usage(error.to_string()))?;
    // Beside the models, where Hugging Face's library keeps its own locks.
    let (cache, name) = (folder.parent(), folder.file_name());
    let locks = cache
        .unwrap_or(&folder)
        .join(".locks")
        .join(name.unwrap_or_default());
    create(&locks)?;
    let lock = locks.join("vintage.lock");
    let lock = File::create(&lock).map_err(io("create", &lock))?;
    // Another process on this machine may be fetching the model.
    let held = move || flock(&lock, FlockOperation::LockExclusive).map(|()| lock);
    let held = tokio::task::spawn_blocking(held).await;
    let held = held.map_err(|error| refuse(error.to_string()))?;
    let _held = held.map_err(|error| io("lock", &folder)(error.into()))?;
    if complete() {
        return Ok(());
    }
    let client = Client::builder()
        .connect_timeout(PATIENCE)
        .read_timeout(PATIENCE)
        .user_agent(concat!("vintage/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| refuse(error.to_string()))?;
    let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| HUB.to_owned());
    if !reqwest::Url::parse(&endpoint).is_ok_and(|url| url.has_host()) {
        return Err(Error::Usage(format!(
            "HF_ENDPOINT = {endpoint:?} is no address of a hub: write it as {HUB}"
        )));
    }
    let token = variable("HF_TOKEN").or_else(|| {
        let file = std::fs::read_to_string(token_file()?).ok()?;
        Some(file.trim().to_owned()).filter(|token| !token.is_empty())
    });
    if token
        .as_ref()
        .is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        let what = "HF_TOKEN, or the file of hf auth login, holds more than a token: look for \
                    spaces and ends of lines in it";
        return Err(Error::Usage(what.to_owned()));
    }
    let hub = Hub {
        model,
        wanted,
        client,
        endpoint: endpoint.trim_end_matches('/').to_owned(),
        token,
        folder,
        progress,
    };
    hub.fetch().await
}

/// Model on the hub, and its folder in the cache.
struct Hub<'a> {
    model: &'a HubModel,
    wanted: Wanted,
    client: Client,
    endpoint: String,
    token: Option<String>,
    /// Folder of the model in the cache, `models--OWNER--NAME`.
    folder: PathBuf,
    progress: &'a (dyn Fn(String) + Sync),
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

/// File as the hub lists it.
#[derive(Deserialize)]
struct Entry {
    path: String,
    /// SHA-1 of the git object; names the blob of a small file.
    oid: String,
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    /// SHA-256 of the content; names the blob of a large file.
    oid: String,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Hub<'_> {
    async fn fetch(&self) -> Result<()> {
        let (name, revision) = (self.model.repository(), self.model.revision());
        let api = format!("{}/api/models/{name}", self.endpoint);
        let told = format!("{api}/revision/{}", revision.replace('/', "%2F"));
        let Revision { sha } = self.json(&told).await?;
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
            return Err(Error::Usage(self.lacks(file, &entries)));
        }
        let mut files = listed(&names);
        for file in &files {
            self.file(&sha, file).await?;
        }
        if let (false, Some(index)) = (whole, files.iter().find(|file| file.path == INDEX)) {
            let path = self.blob(index);
            let text = std::fs::read(&path).map_err(io("read", &path))?;
            let named = shards_of(&text).map_err(|why| self.refuse(format!("{INDEX}: {why}")))?;
            let shards = listed(&named.iter().map(String::as_str).collect());
            if shards.len() < named.len() {
                let there: Vec<_> = shards.iter().map(|shard| &shard.path).collect();
                let what = format!("{INDEX} names {named:?}, of which it lists only {there:?}");
                return Err(self.refuse(what));
            }
            for file in &shards {
                self.file(&sha, file).await?;
            }
            files.extend(shards);
        }
        self.link(&sha, &files)
    }

    /// Returns the error message for a repository without a file that every model has.
    fn lacks(&self, file: &str, entries: &[Entry]) -> String {
        let name = self.model.repository();
        let there: Vec<_> = entries.iter().map(|entry| entry.path.clone()).collect();
        let instead = (self.wanted.instead_of)(file, name, &there);
        let instead =
            instead.unwrap_or_else(|| format!("there is {}; name another model", there.join(", ")));
        format!(
            "model.path: {name} has no {file} at revision {}: {instead}",
            self.model.revision()
        )
    }

    /// Fetches a file, or the missing rest of it, into the blobs, and verifies its digest.
    async fn file(&self, sha: &str, file: &Entry) -> Result<()> {
        let blob = self.blob(file);
        if blob.is_file() {
            return Ok(());
        }
        create(&self.folder.join("blobs"))?;
        let mut partial = Partial::open(blob.with_extension("incomplete"), file)?;
        let url = format!(
            "{}/{}/resolve/{sha}/{}",
            self.endpoint,
            self.model.repository(),
            file.path
        );
        self.retrying(async || self.rest(&url, file, &mut partial).await)
            .await?;
        if partial.digest.hex() != file.blob() {
            partial.remove()?;
            return Err(self.refuse(format!(
                "{}: {} bytes came that are not the ones the hub lists; run this again, and they \
                 are fetched anew",
                file.path, partial.bytes
            )));
        }
        partial.finish(&blob)
    }

    /// Fetches the part of a file that `partial` lacks.
    async fn rest(&self, url: &str, file: &Entry, partial: &mut Partial) -> Result<(), Failed> {
        if partial.bytes >= file.size {
            return Ok(());
        }
        let mut response = self.get(url, partial.bytes).await?;
        if partial.bytes > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            partial.empty(file)?;
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
                self.tell(format!("fetching {name}: {}, {done} of {all}", file.path));
                next += (file.size / 10).max(LARGE);
            }
            partial.add(&bytes)?;
        }
        Ok(())
    }

    /// Creates the snapshot or completes it. The file that makes it [`is_complete`] is linked last.
    fn link(&self, sha: &str, files: &[&Entry]) -> Result<()> {
        let snapshot = self.folder.join("snapshots").join(sha);
        create(&snapshot)?;
        let last = |file: &Entry| file.path == WEIGHTS || file.path == INDEX;
        let (ends, others): (Vec<&Entry>, Vec<&Entry>) = files.iter().partition(|file| last(file));
        for file in others.into_iter().chain(ends) {
            let link = snapshot.join(&file.path);
            if !link.is_file() {
                let blob = Path::new("../../blobs").join(file.blob());
                std::os::unix::fs::symlink(blob, &link).map_err(io("link", &link))?;
            }
        }
        if self.model.revision() == sha {
            return Ok(());
        }
        let reference = self.folder.join("refs").join(self.model.revision());
        create(reference.parent().unwrap_or(&reference))?;
        std::fs::write(&reference, sha).map_err(io("write", &reference))
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
                Err(Failed { error, again: true }) => self.tell(format!("{error}; trying again")),
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
                Err(Failed::from(Error::Usage(format!(
                    "model.path: {} has no {:?} of revision {:?}, or you no right to it: look at \
                     the name, and set HF_TOKEN or use hf auth login for a model that is not \
                     public",
                    self.endpoint,
                    self.model.repository(),
                    self.model.revision()
                ))))
            }
            status => Err(Failed {
                error: self.refuse(format!("{url}: {status}; run this again later")),
                again: status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS,
            }),
        }
    }

    fn tell(&self, phase: String) {
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
            "{causes}; run this again, and it goes on where it was; without network, name a \
             folder, or a model of the local cache (HF_HOME)"
        ));
        Failed { error, again: true }
    }

    fn refuse(&self, what: String) -> Error {
        failed(self.model, what)
    }
}

impl Entry {
    fn blob(&self) -> &str {
        self.lfs.as_ref().map_or(&self.oid, |lfs| &lfs.oid)
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

/// Returns true if a snapshot has all needed files and all weights. A snapshot may lack some:
/// another program may have fetched a tokenizer alone, or been interrupted between two shards.
fn is_complete(snapshot: &Path, wanted: Wanted) -> bool {
    let has = |name: &str| snapshot.join(name).is_file();
    let sharded = || {
        let index = std::fs::read(snapshot.join(INDEX));
        let shards = index.ok().and_then(|index| shards_of(&index).ok());
        shards.is_some_and(|shards| shards.iter().all(|shard| has(shard)))
    };
    wanted.needed.iter().all(|name| has(name)) && (has(WEIGHTS) || sharded())
}

/// Returns the names of the files in an index of weights.
fn shards_of(index: &[u8]) -> serde_json::Result<BTreeSet<String>> {
    let index: Index = serde_json::from_slice(index)?;
    Ok(index.weight_map.into_values().collect())
}

/// Returns true if the text is a digest. It comes from the network and is used as a file name.
fn is_digest(text: &str) -> bool {
    text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn failed(model: &HubModel, what: String) -> Error {
    Error::Fetch {
        name: model.repository().to_owned(),
        what,
    }
}

fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(io("create", folder))
}

fn io(attempted: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        attempted,
        path,
        source,
    }
}
