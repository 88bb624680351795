use std::{fmt, str::FromStr};

use crate::error::Error;

/// Key under which the schema's name is stored, in the Arrow schema's metadata and in the headers.
pub(crate) const SCHEMA_KEY: &str = "schema";

/// Names of all known versions, for error messages.
const KNOWN: &str = "vintage.trajectory/1";

/// Version of the trajectory schema.
///
/// A reader of version n also reads version n − 1: it decodes a message under the schema of the
/// message's own version and then lifts the batch to the newest one. Only version 1 exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchemaVersion {
    /// Version 1, `vintage.trajectory/1`.
    V1,
}

impl SchemaVersion {
    /// Version that this build writes.
    pub const NEWEST: Self = Self::V1;

    /// Returns the name used in headers and in the Arrow schema's metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "vintage.trajectory/1",
        }
    }

    /// Returns the version that a message's own metadata names. A message without a name counts as
    /// version 1; its columns are compared with that version's anyway.
    pub(crate) fn of_metadata(name: Option<&str>) -> Result<Self, Error> {
        name.map_or(Ok(Self::V1), str::parse)
    }
}

impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SchemaVersion {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "vintage.trajectory/1" => Ok(Self::V1),
            _ => Err(Error::UnknownSchema {
                found: name.chars().take(80).collect(),
                known: KNOWN,
            }),
        }
    }
}
