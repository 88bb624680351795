//! Reading of messages of earlier schema versions.

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use crate::{schema, version::SchemaVersion};

impl SchemaVersion {
    /// Returns the schema under which messages of this version are decoded.
    pub(crate) fn schema(self) -> SchemaRef {
        match self {
            Self::V1 => schema::schema(),
        }
    }

    /// Converts a batch of this version into one of the newest.
    pub(crate) fn lift(self, batch: RecordBatch) -> RecordBatch {
        match self {
            Self::V1 => batch,
        }
    }
}
