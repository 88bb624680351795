//! Partly downloaded file of a model, kept on disk so that a download can be continued.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::{Entry, io};
use crate::error::Result;

/// Partly downloaded file, stored in `blobs` as `<blob>.incomplete`.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    /// Digest of the bytes received so far.
    pub(super) digest: Digest,
    /// Number of bytes received so far.
    pub(super) bytes: u64,
}

/// Running digest whose result names a blob.
pub(super) enum Digest {
    /// SHA-256 of the bytes, for a file in LFS.
    Content(Sha256),
    /// SHA-1 of a git object (a header with the file's length, then its bytes), for other files.
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
    /// Opens or creates the file at `path`, and digests the bytes that it already holds.
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

    /// Discards the bytes received so far, because the server sends the file from its start.
    pub(super) fn empty(&mut self, entry: &Entry) -> Result<()> {
        self.file.set_len(0).map_err(io("empty", &self.path))?;
        (self.digest, self.bytes) = (Digest::of(entry), 0);
        Ok(())
    }

    pub(super) fn remove(&self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(io("remove", &self.path))
    }

    /// Syncs the complete file to disk and renames it to its blob's name.
    pub(super) fn finish(self, blob: &Path) -> Result<()> {
        self.file.sync_all().map_err(io("sync", &self.path))?;
        std::fs::rename(&self.path, blob).map_err(io("rename", &self.path))
    }
}
