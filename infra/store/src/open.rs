//! Parsing of a store's location: a local folder, or a prefix of an S3 bucket.

use std::{
    collections::BTreeMap,
    path::{Component, Path as FsPath, PathBuf},
    sync::Arc,
    time::Duration,
};

use object_store::{
    BackoffConfig, ClientOptions, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    local::LocalFileSystem,
    path::Path,
};

use crate::{
    answer::Connector,
    contact::Contact,
    error::{Error, Result},
    store::{Backend, Store},
};

/// Limit on one request, from connecting to the last byte of the response. The library's 30 s would
/// abort the transfer of a gigabyte of weights at 300 Mbit/s.
const REQUEST: Duration = Duration::from_secs(300);
/// Retries of one request. With growing waits they take up to about 20 s, which outlasts a restart
/// of the server and still reports a wrong address soon.
const RETRIES: usize = 8;
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const GIVE_UP: Duration = Duration::from_secs(120);

/// Options that hold a secret; a configuration may contain only a reference to it.
const SECRETS: [AmazonS3ConfigKey; 2] =
    [AmazonS3ConfigKey::SecretAccessKey, AmazonS3ConfigKey::Token];

impl Store {
    /// Opens a folder, given as a path or a `file://` URL. The folder need not exist: the first
    /// create makes it.
    pub fn open(location: &str) -> Result<Self> {
        Self::open_with(location, &BTreeMap::new())
    }

    /// Opens a folder, or `s3://bucket/prefix` with endpoint, region and credentials from `options`
    /// and the environment's `AWS_*`; the options take precedence. No request is sent.
    pub fn open_with(location: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        let refuse = |reason: String| Error::Location {
            location: location.to_owned(),
            reason,
        };
        match location.split_once("://") {
            Some(("file", path)) if path.starts_with('/') => folder(location, path),
            Some(("file", _)) => Err(refuse("a file URL needs an absolute path".to_owned())),
            Some(("s3", place)) => bucket(place, options).map_err(refuse),
            Some((scheme, _)) => Err(refuse(format!("there is no backend for {scheme}://"))),
            None => folder(location, location),
        }
    }
}

/// Checks the name of an option of an S3 store.
///
/// # Errors
/// A description of the problem with the name.
pub fn check_option(name: &str) -> Result<(), String> {
    s3_key(name).map(|_| ())
}

/// Returns true if an option of an S3 store holds a secret.
pub fn is_secret_option(name: &str) -> bool {
    s3_key(name)
        .is_ok_and(|key| SECRETS.contains(&key) || key.as_ref().starts_with("aws_sse_customer_key"))
}

fn s3_key(name: &str) -> Result<AmazonS3ConfigKey, String> {
    let known = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>();
    match known {
        Ok(AmazonS3ConfigKey::ConditionalPut) => {
            Err(format!("{name} is fixed by vintage: commits rest on it"))
        }
        Ok(AmazonS3ConfigKey::Bucket) => Err(format!(
            "{name} is given by the location, as s3://bucket/prefix"
        )),
        Ok(key) => Ok(key),
        Err(_) => Err(format!(
            "{name} is no option of an S3 store: there are endpoint, region, allow_http, \
             aws_access_key_id, aws_secret_access_key, timeout and the others of object_store's \
             AmazonS3ConfigKey"
        )),
    }
}

fn folder(location: &str, path: &str) -> Result<Store> {
    let refuse = |reason: &str| Error::Location {
        location: location.to_owned(),
        reason: reason.into(),
    };
    if path.is_empty() {
        return Err(refuse("it is empty"));
    }
    let folder = resolve(FsPath::new(path))
        .map_err(|error| Error::of("open a store at", path.to_owned(), error))?;
    if folder.exists() && !folder.is_dir() {
        let path = folder.display().to_string();
        return Err(Error::NotADirectory {
            action: "open a store at",
            path,
        });
    }
    let prefix = Path::from_absolute_path(&folder).map_err(|error| refuse(&error.to_string()))?;
    let objects = Arc::new(LocalFileSystem::new());
    let contact = Arc::default();
    Ok(Store::new(
        objects,
        prefix,
        Backend::Folder(folder),
        contact,
    ))
}

fn bucket(place: &str, options: &BTreeMap<String, String>) -> Result<Store, String> {
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.is_empty() {
        return Err("it names no bucket; give s3://bucket/prefix".to_owned());
    }
    let prefix = Path::parse(prefix).map_err(|error| error.to_string())?;
    let contact = Arc::new(Contact::default());
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_http_connector(Connector::noting(&contact))
        .with_client_options(ClientOptions::new().with_timeout(REQUEST))
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                max_backoff: LONGEST_WAIT,
                ..BackoffConfig::default()
            },
            max_retries: RETRIES,
            retry_timeout: GIVE_UP,
        });
    for (name, value) in options {
        builder = builder.with_config(s3_key(name)?, value);
    }
    let objects = builder.build().map_err(|error| error.to_string())?;
    Ok(Store::new(
        Arc::new(objects),
        prefix,
        Backend::Bucket(bucket.into()),
        contact,
    ))
}

/// Returns the absolute path without `.` and `..`, and without symlinks as far as it exists.
fn resolve(path: &FsPath) -> std::io::Result<PathBuf> {
    let mut resolved = PathBuf::new();
    for part in std::path::absolute(path)?.components() {
        match part {
            Component::ParentDir => {
                resolved.pop();
            }
            Component::CurDir => {}
            part => resolved.push(part),
        }
        if let Ok(real) = resolved.canonicalize() {
            resolved = real;
        }
    }
    Ok(resolved)
}
