//! Download of models from the Hugging Face hub into its local cache, in the layout of Hugging
//! Face's own library.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Client;
use rustix::fs::{FlockOperation, flock};

use crate::{
    error::{Error, Result},
    name::{HubModel, token_file},
    repository::Repository,
    wanted::{Wanted, is_complete},
};

const HUB: &str = "https://huggingface.co";
/// Time without a response after which the hub counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(30);

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
    let offline = variable("HF_HUB_OFFLINE").is_some_and(|value| value != "0");
    let complete = || {
        model
            .snapshot()
            .is_ok_and(|snapshot| is_complete(&snapshot, wanted))
    };
    if offline || complete() {
        return Ok(());
    }
    let refuse = |reason: String| Error::Fetch {
        name: model.repository().to_owned(),
        reason,
    };
    let folder = model.folder()?;
    // Another process on this machine may be fetching the model.
    let held = {
        let folder = folder.clone();
        tokio::task::spawn_blocking(move || lock(&folder))
    };
    let _held = held.await.map_err(|error| refuse(error.to_string()))??;
    if complete() {
        return Ok(());
    }
    let client = Client::builder()
        .connect_timeout(PATIENCE)
        .read_timeout(PATIENCE)
        .user_agent(concat!("vintage/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| refuse(error.to_string()))?;
    let repository = Repository {
        model,
        wanted,
        client,
        endpoint: endpoint()?,
        token: token()?,
        folder,
        progress,
    };
    repository.fetch().await
}

/// Waits until no other process fetches into the folder of a model, and returns the lock.
fn lock(folder: &Path) -> Result<File> {
    // Beside the models, where Hugging Face's library keeps its own locks.
    let cache = folder.parent().unwrap_or(folder);
    let locks: PathBuf = cache
        .join(".locks")
        .join(folder.file_name().unwrap_or_default());
    std::fs::create_dir_all(&locks).map_err(Error::io("create", &locks))?;
    let file = locks.join("vintage.lock");
    let lock = File::create(&file).map_err(Error::io("create", &file))?;
    match flock(&lock, FlockOperation::LockExclusive) {
        Ok(()) => Ok(lock),
        Err(error) => Err(Error::io("lock", folder)(error.into())),
    }
}

/// Returns the address of the hub.
fn endpoint() -> Result<String> {
    let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| HUB.to_owned());
    if reqwest::Url::parse(&endpoint).is_ok_and(|url| url.has_host()) {
        Ok(endpoint.trim_end_matches('/').to_owned())
    } else {
        Err(Error::BadEndpoint {
            endpoint,
            example: HUB,
        })
    }
}

/// Returns the user's token; `None` without one.
fn token() -> Result<Option<String>> {
    let token = variable("HF_TOKEN").or_else(|| {
        let file = std::fs::read_to_string(token_file()?).ok()?;
        Some(file.trim().to_owned()).filter(|token| !token.is_empty())
    });
    match token {
        Some(token) if !token.bytes().all(|byte| byte.is_ascii_graphic()) => Err(Error::BadToken),
        token => Ok(token),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
