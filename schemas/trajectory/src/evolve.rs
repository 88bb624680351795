use std::{fmt, str::FromStr};

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use crate::{Error, schema};

/// Key of the schema's name, in the Arrow schema's metadata and among the headers.
pub(crate) const SCHEMA_KEY: &str = "schema";

/// The names of all versions, for error messages.
const KNOWN: &str = "vintage.trajectory/1";

/// A version of the trajectory schema.
///
/// A reader of version n also reads n − 1: it decodes a message under the schema of the
/// message's own version and then lifts the batch to the newest one. Only version 1 exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchemaVersion {
    /// `vintage.trajectory/1`.
    V1,
}

impl SchemaVersion {
    /// What this build writes.
    pub const NEWEST: Self = Self::V1;

    /// The name in headers and in the Arrow schema's metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "vintage.trajectory/1",
        }
    }

    /// The version a message's own metadata names. A message that names none is of version 1:
    /// its columns are compared with that version's anyway.
    pub(crate) fn of_metadata(name: Option<&str>) -> Result<Self, Error> {
        name.map_or(Ok(Self::V1), str::parse)
    }

    /// The schema messages of this version are decoded under.
    pub(crate) fn schema(self) -> SchemaRef {
        match self {
            Self::V1 => schema::schema(),
        }
    }

    /// Turns a batch of this version into one of the newest.
    pub(crate) fn lift(self, batch: RecordBatch) -> RecordBatch {
        match self {
            Self::V1 => batch,
        }
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
