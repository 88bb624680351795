//! Summary file of a run, in the run's folder.

use std::{fs, path::Path};

use serde::de::DeserializeOwned;

use crate::error::{Error, Result, damaged};

/// Name of the file that holds the summary of a finished or interrupted run. Stored in the run's
/// folder, beside `config.toml`, even where the run's store is elsewhere.
pub const SUMMARY_FILE: &str = "summary.json";

/// Reads the summary of the run in `folder`, or the part of it that `T` has; returns `None` if the
/// run has not ended.
///
/// # Errors
/// A file that cannot be read, or is no summary.
pub fn read_summary<T: DeserializeOwned>(folder: &Path) -> Result<Option<T>> {
    let path = folder.join(SUMMARY_FILE);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| damaged(&path, &error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io {
            attempted: "read",
            path,
            source,
        }),
    }
}
