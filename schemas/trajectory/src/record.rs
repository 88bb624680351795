use vintage_control::RejectReason;

use crate::{Error, Headers, Identity, Rows};

/// What kind of bad record it is: what the archive counts by and a plan says as its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BadClass {
    /// A record without a value, as compaction leaves them.
    NoPayload,
    /// A header is missing, repeated or not what it should be.
    BadHeaders,
    /// The payload is not the one the headers tell of, or no trajectory message, or holds what no
    /// reader of the archive could read.
    Undecodable,
}

impl BadClass {
    /// The reason a plan gives.
    pub fn reason(self) -> RejectReason {
        match self {
            Self::NoPayload => RejectReason::NoPayload,
            Self::BadHeaders => RejectReason::BadHeaders,
            Self::Undecodable => RejectReason::Undecodable,
        }
    }

    /// The name under which it is counted.
    pub fn as_str(self) -> &'static str {
        self.reason().as_str()
    }
}

/// A record that says nothing a learner could train on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// As a class to count by.
    pub class: BadClass,
    /// Whose it is, as far as its headers say.
    pub identity: Identity,
    /// In words.
    pub detail: String,
}

/// Reads a record of a rollouts topic. Whoever reads one, reads it here: what is quarantined in the
/// archive and what a plan refuses are the same records, for the same reason.
///
/// # Errors
/// A [`BadRecord`], of the first class that fits.
pub fn read_record<'a>(
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + Clone,
    payload: Option<&[u8]>,
) -> Result<(Headers, Rows), BadRecord> {
    let Some(payload) = payload else {
        let detail = "it has no payload".to_owned();
        return Err(bad(BadClass::NoPayload, headers, detail));
    };
    let parsed = Headers::parse(headers.clone())
        .map_err(|error| bad(BadClass::BadHeaders, headers, error.to_string()))?;
    let rows = parsed.check_payload(payload);
    match rows.and_then(|()| Rows::decode(payload)) {
        Ok(rows) => Ok((parsed, rows)),
        Err(error) => Err(BadRecord {
            class: BadClass::Undecodable,
            identity: Identity::from(&parsed),
            detail: error.to_string(),
        }),
    }
}

/// What [`read_record`] said of a record of which the archive kept headers and a reason.
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
