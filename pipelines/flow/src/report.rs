//! `vintage report`: finds the stores of runs and has [`vintage_report`] write the page.

use std::path::{Path, PathBuf};

use vintage_report::{RunCourse, WrittenComparison, WrittenReport};

use crate::{
    archive_source::archive_of_run,
    error::{Error, Result},
    folder::{config_file, open_store},
};

/// Writes `report.html` into a run's folder; a run that is still going, or was killed, has a report
/// too.
///
/// # Errors
/// If the folder is not a run's, a record of it cannot be read, or the page cannot be written.
pub async fn write_report(folder: &Path) -> Result<WrittenReport> {
    let store = open_store(folder)?;
    let config_file = config_file(folder);
    let archive = if config_file.is_file() {
        let config = vintage_config::read(&config_file)?;
        archive_of_run(&config, &store, true).await
    } else {
        Err(Error::Folder {
            path: folder.to_owned(),
            reason: "has no settings".to_owned(),
        })
    };
    let archive = archive.as_ref();
    let archive = archive.map_or_else(|error| Err(error.to_string()), |(reader, _)| Ok(reader));
    Ok(vintage_report::write(folder, &store, archive).await?)
}

/// Writes one page that shows several runs side by side to `to`, and returns what it shows.
///
/// # Errors
/// If a folder is not a run's, a record of it cannot be read, or the page cannot be written.
pub async fn compare_runs(folders: &[PathBuf], to: &Path) -> Result<WrittenComparison> {
    let mut runs = Vec::new();
    for folder in folders {
        runs.push((folder.as_path(), open_store(folder)?));
    }
    Ok(vintage_report::compare(&runs, to).await?)
}

/// Reads results and evaluations of the run in `folder`, which may still be going.
///
/// # Errors
/// If the folder is not a run's, or a record of it cannot be read.
pub async fn read_course(folder: &Path) -> Result<RunCourse> {
    Ok(vintage_report::read_course(folder, &open_store(folder)?).await?)
}

impl From<vintage_report::Error> for Error {
    fn from(error: vintage_report::Error) -> Self {
        match error {
            vintage_report::Error::Folder { path, reason } => Self::Folder { path, reason },
            vintage_report::Error::Io {
                attempted,
                path,
                source,
            } => Self::Io {
                attempted,
                path,
                source,
            },
            vintage_report::Error::Store(error) => Self::Store(error),
            vintage_report::Error::Archive(error) => error.into(),
            drawing @ vintage_report::Error::Chart { .. } => Self::Bug(drawing.to_string()),
        }
    }
}
