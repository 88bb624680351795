use bytes::Bytes;
use vintage_control::RejectReason;

use crate::{error::Error, header::Headers, identity::Identity, rows::Rows};

/// Kind of a bad record. The archive counts by it, and a plan gives it as its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BadClass {
    /// The record has no value, as left by compaction.
    NoPayload,
    /// A header is missing, repeated or invalid.
    BadHeaders,
    /// The payload differs from the one the headers describe, is not a trajectory message, or holds
    /// a value that other readers of the archive could not read.
    Undecodable,
}

impl BadClass {
    /// Returns the reject reason that a plan records for this class.
    pub fn reason(self) -> RejectReason {
        match self {
            Self::NoPayload => RejectReason::NoPayload,
            Self::BadHeaders => RejectReason::BadHeaders,
            Self::Undecodable => RejectReason::Undecodable,
        }
    }

    /// Returns the snake_case name under which the class is counted.
    pub fn as_str(self) -> &'static str {
        self.reason().as_str()
    }
}

/// Record from which a learner cannot train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// Kind of the fault, as a class to count by.
    pub class: BadClass,
    /// Group and producer of the record, as far as its headers can be read.
    pub identity: Identity,
    /// Description of the fault, in words.
    pub detail: String,
}

/// Reads a record of a rollouts topic. All readers use this function, so the archive quarantines
/// and plans refuse the same records for the same reasons. The rows share the payload's memory.
///
/// # Errors
/// A [`BadRecord`] of the first class that fits.
pub fn read_record<'a>(
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + Clone,
    payload: Option<&Bytes>,
) -> Result<(Headers, Rows), BadRecord> {
    let Some(payload) = payload else {
        let detail = "it has no payload".to_owned();
        return Err(bad(BadClass::NoPayload, headers, detail));
    };
    let parsed = Headers::parse(headers.clone())
        .map_err(|error| bad(BadClass::BadHeaders, headers, error.to_string()))?;
    let rows = parsed.check_payload(payload);
    match rows.and_then(|()| Rows::sharing(payload)) {
        Ok(rows) => Ok((parsed, rows)),
        Err(error) => Err(BadRecord {
            class: BadClass::Undecodable,
            identity: Identity::from(&parsed),
            detail: error.to_string(),
        }),
    }
}

/// Rebuilds the error of [`read_record`] for a record of which the archive kept only headers and a
/// reason.
pub fn read_again<'a>(
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    parsed: &Result<Headers, Error>,
    had_payload: bool,
    reason: &str,
) -> BadRecord {
    match parsed {
        _ if !had_payload => bad(BadClass::NoPayload, headers, reason.to_owned()),
        Err(error) => bad(BadClass::BadHeaders, headers, error.to_string()),
        Ok(headers) => BadRecord {
            class: BadClass::Undecodable,
            identity: Identity::from(headers),
            detail: reason.to_owned(),
        },
    }
}

fn bad<'a>(
    class: BadClass,
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    detail: String,
) -> BadRecord {
    BadRecord {
        class,
        identity: Identity::read(headers),
        detail,
    }
}
