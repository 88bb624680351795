//! `vintage report`: finds a run's store and has [`vintage_report`] write the page.

use std::path::Path;

use vintage_report::Report;

use crate::{
    error::{Error, Result},
    folder::open_store,
};

/// Writes `report.html` into a run's folder; a run that is still going, or was killed, has a report
/// too.
///
/// # Errors
/// If the folder is not a run's, a record of it cannot be read, or the page cannot be written.
pub async fn write_report(folder: &Path) -> Result<Report> {
    Ok(vintage_report::write(folder, &open_store(folder)?).await?)
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
            drawing @ vintage_report::Error::Chart { .. } => Self::Bug(drawing.to_string()),
        }
    }
}
