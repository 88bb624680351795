//! Revisions and files as the hub lists them.

use serde::Deserialize;

/// Commit that a revision names.
#[derive(Deserialize)]
pub(crate) struct Revision {
    pub(crate) sha: String,
}

/// File as the hub lists it.
#[derive(Deserialize)]
pub(crate) struct Entry {
    pub(crate) path: String,
    /// SHA-1 of the git object; names the blob of a small file.
    pub(crate) oid: String,
    pub(crate) size: u64,
    pub(crate) lfs: Option<Lfs>,
}

/// Content that the hub keeps outside of git.
#[derive(Deserialize)]
pub(crate) struct Lfs {
    /// SHA-256 of the content; names the blob of a large file.
    pub(crate) oid: String,
}

impl Entry {
    /// Returns the digest that names the file's blob.
    pub(crate) fn blob(&self) -> &str {
        self.lfs.as_ref().map_or(&self.oid, |lfs| &lfs.oid)
    }
}

/// Returns true if the text is a digest. It comes from the network and is used as a file name.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
