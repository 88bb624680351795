//! Folders of versions, in the layout of Hugging Face, for servers that read weights from a disk.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use vintage_store::MODEL_FILE;

/// Number of folders kept: the one in use, and those that a server coming back may still read.
const KEPT: usize = 3;

/// Folder in which versions are written for the servers.
#[derive(Debug)]
pub(crate) struct Staging {
    /// Path as this process sees it.
    here: PathBuf,
    /// Path as the servers see it.
    there: String,
    written: Vec<String>,
}

impl Staging {
    pub(crate) fn new(here: PathBuf, there: Option<String>) -> Self {
        let there = there.unwrap_or_else(|| {
            let whole = std::path::absolute(&here).unwrap_or_else(|_| here.clone());
            whole.display().to_string()
        });
        Self {
            here,
            there: there.trim_end_matches('/').to_owned(),
            written: Vec::new(),
        }
    }

    /// Path of the folder in this process.
    pub(crate) fn here(&self) -> &Path {
        &self.here
    }

    /// Writes a version into a folder of its own, which appears whole or not at all, and returns its
    /// path as the servers see it. Folders of older versions are deleted.
    ///
    /// A server that is given a path a second time may read the first weights again, so every
    /// version has a path of its own.
    pub(crate) fn write(
        &mut self,
        name: &str,
        weights: &Bytes,
        files: &[(&'static str, Bytes)],
    ) -> io::Result<String> {
        let folder = self.here.join(name);
        if !folder.is_dir() {
            fs::create_dir_all(&self.here)?;
            let unfinished = self
                .here
                .join(format!(".{name}-{}", uuid::Uuid::now_v7().simple()));
            fs::create_dir(&unfinished)?;
            let all = files.iter().map(|(name, bytes)| (*name, bytes));
            for (name, bytes) in all.chain([(MODEL_FILE, weights)]) {
                let mut file = File::create(unfinished.join(name))?;
                file.write_all(bytes)?;
                file.sync_all()?;
            }
            File::open(&unfinished)?.sync_all()?;
            if let Err(error) = fs::rename(&unfinished, &folder) {
                fs::remove_dir_all(&unfinished)?;
                // Another producer was faster with the same bytes.
                if !folder.is_dir() {
                    return Err(error);
                }
            }
            File::open(&self.here)?.sync_all()?;
        }
        self.written.retain(|written| written != name);
        self.written.push(name.to_owned());
        while self.written.len() > KEPT {
            let oldest = self.written.remove(0);
            match fs::remove_dir_all(self.here.join(oldest)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(format!("{}/{name}", self.there))
    }
}
