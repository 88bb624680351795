use std::fmt::Display;

use vintage_control::{Name, PolicyVersion, SlotNumber};

use crate::{
    error::Error,
    id::GroupId,
    rows::Rows,
    version::{SCHEMA_KEY, SchemaVersion},
};

/// Value of the header `content-type`.
pub const CONTENT_TYPE: &str = "application/vnd.apache.arrow.stream";

/// Text headers of a message: everything that routing and counting need without decoding the
/// payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// Run that the message belongs to.
    pub run: Name,
    /// Policy that sampled the group.
    pub policy: String,
    /// Id of the group.
    pub group: GroupId,
    /// Number of rows in this message.
    pub rows: u32,
    /// Part i of n, from 1. A group that was not split is part 1 of 1.
    pub part: (u32, u32),
    /// Update that the group was sampled for; −1 = any.
    pub batch: i64,
    /// Oldest policy version of any token.
    pub min_policy_version: PolicyVersion,
    /// Newest policy version of any token.
    pub max_policy_version: PolicyVersion,
    /// Producer that numbered the group.
    pub producer: String,
    /// Producer's sequence number of the group. A producer numbers its groups from 0 without gaps;
    /// all parts of a group share one number.
    pub producer_seq: u64,
    /// CRC-32C of the payload.
    pub crc32c: u32,
    /// Slot that was granted to the producer, if the run grants slots. A second group of a slot is a
    /// repetition of the first.
    pub slot: Option<SlotNumber>,
    /// Topic that the message was recorded from; set on replays only.
    pub replay_of: Option<String>,
    /// W3C trace context, if a tracing library added one.
    pub traceparent: Option<String>,
}

impl Headers {
    /// Returns the headers in the form they are published, schema and content type first.
    pub fn to_pairs(&self) -> Vec<(String, Vec<u8>)> {
        let (part, parts) = self.part;
        let texts = [
            (SCHEMA_KEY, SchemaVersion::NEWEST.to_string()),
            ("content-type", CONTENT_TYPE.to_owned()),
            ("run", self.run.to_string()),
            ("policy", self.policy.clone()),
            ("group", self.group.to_string()),
            ("rows", self.rows.to_string()),
            ("part", format!("{part}/{parts}")),
            ("batch", self.batch.to_string()),
            ("min-policy-version", self.min_policy_version.to_string()),
            ("max-policy-version", self.max_policy_version.to_string()),
            ("producer", self.producer.clone()),
            ("producer-seq", self.producer_seq.to_string()),
            ("crc32c", format!("{:08x}", self.crc32c)),
        ];
        let slot = self.slot.map(|slot| slot.to_string());
        let optional = [
            ("slot", &slot),
            ("replay-of", &self.replay_of),
            ("traceparent", &self.traceparent),
        ];
        let optional = optional
            .into_iter()
            .filter_map(|(key, text)| Some((key, text.clone()?)));
        texts
            .into_iter()
            .chain(optional)
            .map(|(key, text)| (key.to_owned(), text.into_bytes()))
            .collect()
    }

    /// Parses headers in any order; unknown ones are ignored.
    ///
    /// # Errors
    /// A required header is missing, repeated or invalid, or the schema is unknown. Optional
    /// headers cause no error: one that is not text, or is repeated with different values (two
    /// tracing libraries each add their own), counts as absent.
    pub fn parse<'a>(
        pairs: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Result<Self, Error> {
        let found = Found::collect(pairs)?;
        let _: SchemaVersion = found.text(SCHEMA_KEY)?.parse()?;
        found.read("content-type", CONTENT_TYPE, |text| {
            (text == CONTENT_TYPE).then_some(())
        })?;
        let (min, max) = ("min-policy-version", "max-policy-version");
        let headers = Self {
            run: found.read("run", "a run's name", |text| text.parse().ok())?,
            policy: found.read("policy", "a policy's name of at most 255 bytes", name)?,
            group: found.read("group", "32 hexadecimal digits", |text| text.parse().ok())?,
            rows: found.read("rows", "a number of rows, at least 1", |text| {
                decimal(text).filter(|&rows| rows > 0)
            })?,
            part: found.read("part", "i/n with i from 1 to n, e.g. 1/1", part)?,
            batch: found.read("batch", "an update's number, or -1", |text| match text {
                "-1" => Some(-1),
                _ => decimal(text).filter(|&batch| batch >= 0),
            })?,
            min_policy_version: found.read(min, VERSION, version)?,
            max_policy_version: found.read(max, VERSION, version)?,
            producer: found.read("producer", "a producer's name of at most 255 bytes", name)?,
            producer_seq: found.read("producer-seq", "a number from 0", decimal)?,
            crc32c: found.read("crc32c", "8 hexadecimal digits", |text| {
                let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
            })?,
            slot: found
                .optional("slot")
                .and_then(|text| decimal(&text))
                .map(SlotNumber),
            replay_of: found.optional("replay-of"),
            traceparent: found.optional("traceparent"),
        };
        if headers.min_policy_version > headers.max_policy_version {
            return Err(found.refuse(min, "at most max-policy-version"));
        }
        Ok(headers)
    }

    /// Compares the payload's CRC-32C with the header `crc32c`.
    ///
    /// # Errors
    /// [`Error::Crc`] if they differ.
    pub fn check_payload(&self, payload: &[u8]) -> Result<(), Error> {
        let found = crc32c::crc32c(payload);
        if found == self.crc32c {
            Ok(())
        } else {
            Err(Error::Crc {
                bytes: payload.len(),
                expected: self.crc32c,
                found,
            })
        }
    }

    /// Compares the headers with the rows they came with. Consistency among the rows is checked by
    /// [`crate::validate`].
    ///
    /// # Errors
    /// [`Error::HeaderMismatch`] for the first header that contradicts the rows.
    pub fn check_rows(&self, rows: &Rows) -> Result<(), Error> {
        if rows.is_empty() {
            return Err(mismatch("rows", &self.rows, &0));
        }
        compare("rows", &u64::from(self.rows), &(rows.len() as u64))?;
        compare("group", &self.group, &rows.group_id(0))?;
        compare("policy", &self.policy.as_str(), &rows.policy(0))?;
        compare("batch", &self.batch, &rows.batch_number(0))?;
        let range = [rows.min_version(), rows.max_version()].map(Option::unwrap_or_default);
        compare("min-policy-version", &self.min_policy_version, &range[0])?;
        compare("max-policy-version", &self.max_policy_version, &range[1])
    }
}

const VERSION: &str = "a policy version, a number from 0";

fn compare<T: PartialEq + Display>(name: &'static str, header: &T, rows: &T) -> Result<(), Error> {
    if header == rows {
        Ok(())
    } else {
        Err(mismatch(name, header, rows))
    }
}

fn mismatch(name: &'static str, header: &impl Display, rows: &impl Display) -> Error {
    Error::HeaderMismatch {
        name,
        header: header.to_string(),
        rows: rows.to_string(),
    }
}

/// Parses digits only; `parse` alone would accept a sign.
pub(crate) fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

fn version(text: &str) -> Option<PolicyVersion> {
    decimal(text)
        .filter(|&number: &u64| i64::try_from(number).is_ok())
        .map(PolicyVersion)
}

pub(crate) fn part(text: &str) -> Option<(u32, u32)> {
    let (part, parts) = text.split_once('/')?;
    let (part, parts) = (decimal(part)?, decimal(parts)?);
    (1 <= part && part <= parts).then_some((part, parts))
}

/// Accepts a name of 1 to 255 bytes. Plans and checkpoints hold such names, so their length is
/// limited to keep foreign records from bloating these files.
pub(crate) fn name(text: &str) -> Option<String> {
    (1..=255).contains(&text.len()).then(|| text.to_owned())
}

/// Values of the known headers, indexed as in [`NAMES`].
struct Found<'a> {
    values: [Option<&'a [u8]>; NAMES.len()],
    /// True for a header that occurs twice with different values.
    contradicted: [bool; NAMES.len()],
}

/// Number of required headers, which are the first ones of [`NAMES`].
const REQUIRED: usize = 13;

const NAMES: [&str; 16] = [
    SCHEMA_KEY,
    "content-type",
    "run",
    "policy",
    "group",
    "rows",
    "part",
    "batch",
    "min-policy-version",
    "max-policy-version",
    "producer",
    "producer-seq",
    "crc32c",
    "slot",
    "replay-of",
    "traceparent",
];

impl<'a> Found<'a> {
    fn collect(
        pairs: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Result<Self, Error> {
        let mut found = Self {
            values: [None; NAMES.len()],
            contradicted: [false; NAMES.len()],
        };
        for (key, value) in pairs {
            let Some(place) = NAMES.iter().position(|&name| name == key) else {
                continue;
            };
            let before = found.values[place];
            if before.is_some() && place < REQUIRED {
                return Err(found.refuse(NAMES[place], "there once"));
            }
            found.contradicted[place] |= before.is_some() && before != value;
            found.values[place] = value;
        }
        Ok(found)
    }

    fn bytes(&self, name: &'static str) -> Option<&'a [u8]> {
        NAMES
            .iter()
            .position(|&known| known == name)
            .and_then(|place| self.values[place])
    }

    fn text(&self, name: &'static str) -> Result<&'a str, Error> {
        let bytes = self.bytes(name).ok_or(Error::MissingHeader { name })?;
        std::str::from_utf8(bytes).map_err(|_| self.refuse(name, "UTF-8 text"))
    }

    fn optional(&self, name: &'static str) -> Option<String> {
        let place = NAMES.iter().position(|&known| known == name)?;
        let text = std::str::from_utf8(self.values[place]?).ok()?;
        (!self.contradicted[place]).then(|| text.to_owned())
    }

    fn read<T>(
        &self,
        name: &'static str,
        expected: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Error> {
        read(self.text(name)?).ok_or_else(|| self.refuse(name, expected))
    }

    fn refuse(&self, name: &'static str, expected: &'static str) -> Error {
        let text = String::from_utf8_lossy(self.bytes(name).unwrap_or_default());
        Error::Header {
            name,
            value: text.chars().take(80).collect(),
            expected,
        }
    }
}
