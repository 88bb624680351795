use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use crate::{
    error::{Error, Result},
    store::Store,
};

/// Age at which a staging file counts as left behind by a dead process; writing one object takes
/// seconds.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

impl Store {
    /// Deletes the staging files that killed processes left under `prefix`, and returns their
    /// number; always 0 for a bucket.
    ///
    /// Staging files are named `.<object>#<number>` (without the dot by earlier builds), are never
    /// listed and can never become an object; the sweep only frees their space. Files younger than an hour are kept, because their
    /// writer may be alive.
    pub async fn sweep(&self, prefix: &str) -> Result<usize> {
        self.sweep_older_than(prefix, ABANDONED_AFTER).await
    }

    pub(crate) async fn sweep_older_than(&self, prefix: &str, age: Duration) -> Result<usize> {
        let Some(folder) = self.local_path(prefix) else {
            return Ok(0);
        };
        let name = folder.display().to_string();
        let swept = tokio::task::spawn_blocking(move || sweep_folder(folder, age)).await;
        let swept = swept.map_err(|error| Error::of("sweep", name.clone(), error))?;
        swept.map_err(|error| Error::of("sweep", name, error))
    }
}

fn sweep_folder(root: PathBuf, age: Duration) -> std::io::Result<usize> {
    let mut swept = 0;
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && is_staging(&entry.file_name().to_string_lossy()) {
                let written = entry.metadata().and_then(|meta| meta.modified());
                let old = written.is_ok_and(|at| {
                    SystemTime::now()
                        .duration_since(at)
                        .is_ok_and(|since| since >= age)
                });
                if old && std::fs::remove_file(entry.path()).is_ok() {
                    tracing::info!(path = %entry.path().display(), "removed an abandoned staging file");
                    swept += 1;
                }
            }
        }
    }
    Ok(swept)
}

fn is_staging(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, number)| {
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}
