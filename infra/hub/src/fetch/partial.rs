//! Partial download of a file of the hub.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::{Entry, io};
use crate::error::Result;

/// File beside the blobs that becomes the blob when it is complete.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    /// Digest of the bytes received so far.
    pub(super) digest: Digest,
    /// Number of bytes received so far.
    pub(super) bytes: u64,
}

/// Digest that names a blob.
pub(super) enum Digest {
    /// SHA-256 of a large file's content.
    Content(Sha256),
    /// SHA-1 of a small file's git object, which covers its length and content.
    Object(Sha1),
}

impl Digest {
    fn of(entry: &Entry) -> Self {
        if entry.lfs.is_some() {
            return Self::Content(Sha256::new());
        }
        Self::Object(Sha1::new_with_prefix(format!("blob {}\0", entry.size)))
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Content(digest) => digest.update(bytes),
            Self::Object(digest) => digest.update(bytes),
        }
    }

    pub(super) fn hex(&self) -> String {
        match self {
            Self::Content(digest) => hex::encode(digest.clone().finalize()),
            Self::Object(digest) => hex::encode(digest.clone().finalize()),
        }
    }
}

impl Partial {
    /// Opens the file and reads what is there, so that its digest can be continued.
    pub(super) fn open(path: PathBuf, entry: &Entry) -> Result<Self> {
        let mut options = File::options();
        let options = options.read(true).append(true).create(true);
        let file = options.open(&path).map_err(io("open", &path))?;
        let mut partial = Self {
            path,
            file,
            digest: Digest::of(entry),
            bytes: 0,
        };
        let mut part = vec![0; 1 << 20];
        loop {
            let read = partial.file.read(&mut part);
            match read.map_err(io("read", &partial.path))? {
                0 => return Ok(partial),
                read => {
                    partial.digest.update(&part[..read]);
                    partial.bytes += read as u64;
                }
            }
        }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        written.map_err(io("write", &self.path))?;
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Discards the received bytes, because the server sends the file from its beginning.
    pub(super) fn empty(&mut self, entry: &Entry) -> Result<()> {
        self.file.set_len(0).map_err(io("empty", &self.path))?;
        (self.digest, self.bytes) = (Digest::of(entry), 0);
        Ok(())
    }

    pub(super) fn remove(&self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(io("remove", &self.path))
    }

    /// Renames the complete file to its blob.
    pub(super) fn finish(self, blob: &Path) -> Result<()> {
        self.file.sync_all().map_err(io("sync", &self.path))?;
        std::fs::rename(&self.path, blob).map_err(io("rename", &self.path))
    }
}
