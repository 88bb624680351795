//! Models fetched from the Hugging Face hub into its local cache, laid out as its own library does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Client, Response, StatusCode, header::RANGE};
use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use vintage_model::{HubModel, ModelFolder};

use crate::{
    Error, Result,
    config::RunConfig,
    event::{Events, RunEvent},
    memory::size,
};

const HUB: &str = "https://huggingface.co";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// A hub that says nothing for this long is not there.
const PATIENCE: Duration = Duration::from_secs(30);
/// Larger files are told of every tenth part.
const LARGE: u64 = 64 << 20;

/// Fetches the model of `config` if it is one of the hub's that the cache lacks. With `HF_HUB_OFFLINE` set nothing is fetched.
///
/// # Errors
/// No network, no such model, no right to it, and a file whose hash is not the hub's. What was
/// fetched so far stays, and the next call goes on from there.
pub(crate) async fn fetch_missing(config: &RunConfig, events: &Events) -> Result<()> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let offline = variable("HF_HUB_OFFLINE").is_some_and(|value| value != "0");
    // What is wrong with a name is said where the model is opened.
    let named = config.model.path.as_deref().map(HubModel::of);
    let Some(Ok(Some(model))) = named else {
        return Ok(());
    };
    let complete = || {
        model
            .snapshot()
            .is_ok_and(|snapshot| is_complete(&snapshot))
    };
    if offline || complete() {
        return Ok(());
    }
    let refuse = |what: String| failed(&model, what);
    let folder = model
        .folder()
        .map_err(|error| Error::Usage(error.to_string()))?;
    create(&folder)?;
    let lock = folder.join(".vintage.lock");
    let lock = File::create(&lock).map_err(io("create", &lock))?;
    // Another process of this machine may be at it.
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
    let hub = Hub {
        model: &model,
        client,
        endpoint: endpoint.trim_end_matches('/').to_owned(),
        token: variable("HF_TOKEN"),
        folder,
        events,
    };
    hub.fetch().await
}

/// One model on the hub, and where it goes.
struct Hub<'a> {
    model: &'a HubModel,
    client: Client,
    endpoint: String,
    token: Option<String>,
    /// `models--OWNER--NAME` in the cache.
    folder: PathBuf,
    events: &'a Events,
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

/// A file as the hub lists it.
#[derive(Deserialize)]
struct Entry {
    path: String,
    /// SHA-1 of git's object; the name of a small file's blob.
    oid: String,
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    /// SHA-256 of the content; the name of a large file's blob.
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
        let wanted = |names: &BTreeSet<&str>| -> Vec<&Entry> {
            let named = |entry: &&Entry| names.contains(entry.path.as_str());
            entries.iter().filter(named).collect()
        };
        let mut names = BTreeSet::from(ModelFolder::FILES);
        let whole = entries.iter().any(|entry| entry.path == WEIGHTS);
        names.insert(if whole { WEIGHTS } else { INDEX });
        let mut files = wanted(&names);
        for file in &files {
            self.file(&sha, file).await?;
        }
        if let (false, Some(index)) = (whole, files.iter().find(|file| file.path == INDEX)) {
            let path = self.blob(index);
            let text = std::fs::read(&path).map_err(io("read", &path))?;
            let index: Index = serde_json::from_slice(&text)
                .map_err(|error| self.refuse(format!("{INDEX}: {error}")))?;
            let shards = index.weight_map.values().map(String::as_str).collect();
            let shards = wanted(&shards);
            for file in &shards {
                self.file(&sha, file).await?;
            }
            files.extend(shards);
        }
        self.link(&sha, &files)
    }

    /// Fetches a file into the blobs, or what is missing of it.
    async fn file(&self, sha: &str, file: &Entry) -> Result<()> {
        let blob = self.blob(file);
        if blob.is_file() {
            return Ok(());
        }
        create(&self.folder.join("blobs"))?;
        let partial = blob.with_extension("incomplete");
        let (mut digest, mut done) = (Sha256::new(), 0);
        let mut out = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(&partial)
            .map_err(io("open", &partial))?;
        let mut part = vec![0; 1 << 20];
        loop {
            match out.read(&mut part).map_err(io("read", &partial))? {
                0 => break,
                read => {
                    digest.update(&part[..read]);
                    done += read as u64;
                }
            }
        }
        let (name, place) = (self.model.repository(), &file.path);
        if done < file.size {
            let url = format!("{}/{name}/resolve/{sha}/{place}", self.endpoint);
            let mut from = self.get(&url, done).await?;
            if done > 0 && from.status() != StatusCode::PARTIAL_CONTENT {
                out.set_len(0).map_err(io("empty", &partial))?;
                (digest, done) = (Sha256::new(), 0);
            }
            let mut next = done;
            while let Some(bytes) = from.chunk().await.map_err(|error| self.broken(&error))? {
                if done >= next {
                    let (done, all) = (size(done), size(file.size));
                    let phase = format!("fetching {name}: {place}, {done} of {all}");
                    let _nobody_listens = self.events.send(RunEvent::Phase(phase));
                    next += (file.size / 10).max(LARGE);
                }
                out.write_all(&bytes).map_err(io("write", &partial))?;
                digest.update(&bytes);
                done += bytes.len() as u64;
            }
        }
        let right = match &file.lfs {
            Some(lfs) => hex::encode(digest.finalize()) == lfs.oid,
            None => done == file.size,
        };
        if !right {
            std::fs::remove_file(&partial).map_err(io("remove", &partial))?;
            let what = format!("{place}: {done} bytes came that are not the ones the hub lists");
            return Err(self.refuse(format!("{what}; run this again, and they are fetched anew")));
        }
        out.sync_all().map_err(io("sync", &partial))?;
        std::fs::rename(&partial, &blob).map_err(io("rename", &partial))
    }

    /// Makes the snapshot, or completes it; what makes it [`is_complete`] comes last.
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
        let response = self.get(url, 0).await?;
        let bytes = response.bytes().await;
        let bytes = bytes.map_err(|error| self.broken(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| self.refuse(format!("{url}: {error}")))
    }

    async fn get(&self, url: &str, from: u64) -> Result<Response> {
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
                Err(Error::Usage(format!(
                    "model.path: {} has no {:?} of revision {:?}, or you no right to it: look at \
                     the name, and set HF_TOKEN for a model that is not public",
                    self.endpoint,
                    self.model.repository(),
                    self.model.revision()
                )))
            }
            status => Err(self.refuse(format!("{url}: {status}; try again later"))),
        }
    }

    fn blob(&self, file: &Entry) -> PathBuf {
        self.folder.join("blobs").join(file.blob())
    }

    fn broken(&self, error: &reqwest::Error) -> Error {
        let mut causes = format!("{error}");
        let mut cause = std::error::Error::source(error);
        while let Some(source) = cause {
            causes = format!("{causes}: {source}");
            cause = source.source();
        }
        self.refuse(format!(
            "{causes}; run this again, and it goes on where it was; without network, name a \
             folder, or a model of the local cache (HF_HOME)"
        ))
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

/// Other programs fetch a tokenizer alone.
fn is_complete(snapshot: &Path) -> bool {
    let has = |name: &str| snapshot.join(name).is_file();
    ModelFolder::NEEDED.into_iter().all(has) && (has(WEIGHTS) || has(INDEX))
}

/// Whether this can be a file's name: it comes from outside.
fn is_digest(text: &str) -> bool {
    text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn failed(model: &HubModel, what: String) -> Error {
    Error::Hub {
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
