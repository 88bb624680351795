//! Partial download of a file of the hub.

use std::path::{Path, PathBuf};

use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::{self, File},
    io::{AsyncReadExt as _, AsyncWriteExt as _},
};

use crate::{
    error::{Error, Result},
    listing::Entry,
};

/// File beside the blobs that becomes the blob when it is complete.
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
    /// Digest of the bytes received so far.
    pub(crate) digest: Digest,
    /// Number of bytes received so far.
    pub(crate) bytes: u64,
}

/// Digest that names a blob.
pub(crate) enum Digest {
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

    pub(crate) fn hex(&self) -> String {
        match self {
            Self::Content(digest) => hex::encode(digest.clone().finalize()),
            Self::Object(digest) => hex::encode(digest.clone().finalize()),
        }
    }
}

impl Partial {
    /// Opens the file and reads what is there, so that its digest can be continued.
    pub(crate) async fn open(path: PathBuf, entry: &Entry) -> Result<Self> {
        let mut options = File::options();
        options.read(true).append(true).create(true);
        let file = options
            .open(&path)
            .await
            .map_err(Error::io("open", &path))?;
        let mut partial = Self {
            path,
            file,
            digest: Digest::of(entry),
            bytes: 0,
        };
        let mut part = vec![0; 1 << 20];
        loop {
            let read = partial.file.read(&mut part).await;
            match read.map_err(Error::io("read", &partial.path))? {
                0 => return Ok(partial),
                read => {
                    partial.digest.update(&part[..read]);
                    partial.bytes += read as u64;
                }
            }
        }
    }

    pub(crate) async fn add(&mut self, bytes: &[u8]) -> Result<()> {
        // The file writes in the background; bytes count as received once that has succeeded.
        let written = match self.file.write_all(bytes).await {
            Ok(()) => self.file.flush().await,
            failed => failed,
        };
        written.map_err(Error::io("write", &self.path))?;
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Discards the received bytes, because the server sends the file from its beginning.
    pub(crate) async fn empty(&mut self, entry: &Entry) -> Result<()> {
        let emptied = self.file.set_len(0).await;
        emptied.map_err(Error::io("empty", &self.path))?;
        (self.digest, self.bytes) = (Digest::of(entry), 0);
        Ok(())
    }

    pub(crate) async fn remove(&self) -> Result<()> {
        let removed = fs::remove_file(&self.path).await;
        removed.map_err(Error::io("remove", &self.path))
    }

    /// Renames the complete file to its blob.
    pub(crate) async fn finish(self, blob: &Path) -> Result<()> {
        let synced = self.file.sync_all().await;
        synced.map_err(Error::io("sync", &self.path))?;
        let renamed = fs::rename(&self.path, blob).await;
        renamed.map_err(Error::io("rename", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::Lfs;

    #[tokio::test]
    async fn a_download_continues_where_it_was_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blob.incomplete");
        let oid = hex::encode(Sha256::digest(b"first and second"));
        let entry = Entry {
            path: "model.safetensors".to_owned(),
            oid: String::new(),
            size: 16,
            lfs: Some(Lfs { oid: oid.clone() }),
        };
        let mut partial = Partial::open(path.clone(), &entry).await.unwrap();
        partial.add(b"first ").await.unwrap();
        drop(partial);
        let mut partial = Partial::open(path.clone(), &entry).await.unwrap();
        assert_eq!(partial.bytes, 6);
        partial.add(b"and second").await.unwrap();
        assert_eq!((partial.bytes, partial.digest.hex()), (16, oid));
        let blob = folder.path().join("blob");
        partial.finish(&blob).await.unwrap();
        assert_eq!(std::fs::read(&blob).unwrap(), b"first and second");
        assert!(!path.exists());

        let mut partial = Partial::open(path.clone(), &entry).await.unwrap();
        partial.add(b"whole").await.unwrap();
        partial.empty(&entry).await.unwrap();
        partial.add(b"anew").await.unwrap();
        partial.finish(&blob).await.unwrap();
        assert_eq!(std::fs::read(&blob).unwrap(), b"anew");
    }
}
