//! Position in its log at which a learner begins to read.

use std::{collections::BTreeMap, str::FromStr};

use vintage_control::{Offset, Partition, PolicyVersion};

/// Parsed value of `learner.start`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// First record that archive or log holds.
    Earliest,
    /// End of the log: only records that arrive from now on.
    Latest,
    /// Given offsets; partitions that are not named begin at their first record.
    Offsets(BTreeMap<Partition, Offset>),
    /// First record produced at or after this time, in milliseconds since the epoch.
    Time(i64),
    /// First record with a token of this version or a newer one.
    Version(PolicyVersion),
}

const FORMS: &str = "give earliest, latest, offset=P:O,…, time=2026-01-31T12:00:00Z or version=V";

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "earliest" => Ok(Self::Earliest),
            None if text == "latest" => Ok(Self::Latest),
            Some(("offset", places)) => {
                let mut offsets = BTreeMap::new();
                for place in places.split(',') {
                    let (partition, offset) = offset(place)
                        .ok_or_else(|| format!("{place:?} is not partition:offset; {FORMS}"))?;
                    if offsets.insert(partition, offset).is_some() {
                        return Err(format!("names partition {partition} twice; {FORMS}"));
                    }
                }
                Ok(Self::Offsets(offsets))
            }
            Some(("time", time)) => time
                .parse::<jiff::Timestamp>()
                .map(|time| Self::Time(time.as_millisecond()))
                .map_err(|error| format!("{time:?} is no RFC 3339 time ({error}); {FORMS}")),
            Some(("version", version)) => version
                .parse()
                .map(|version| Self::Version(PolicyVersion(version)))
                .map_err(|_| format!("{version:?} is no version; {FORMS}")),
            _ => Err(FORMS.to_owned()),
        }
    }
}

fn offset(place: &str) -> Option<(Partition, Offset)> {
    let (partition, offset) = place.split_once(':')?;
    let partition = partition.trim().parse().ok().filter(|at| *at >= 0)?;
    let offset = offset.trim().parse().ok().filter(|at| *at >= 0)?;
    Some((Partition(partition), Offset(offset)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let read = |text: &str| text.parse::<Start>();
        assert_eq!(read("earliest"), Ok(Start::Earliest));
        assert_eq!(read("latest"), Ok(Start::Latest));
        assert_eq!(read("version=12"), Ok(Start::Version(PolicyVersion(12))));
        assert_eq!(
            read("time=1970-01-01T00:00:01.5Z"),
            Ok(Start::Time(1500)),
            "a time without a zone would mean another moment on another machine"
        );
        let offsets = [(Partition(0), Offset(7)), (Partition(3), Offset(0))];
        assert_eq!(
            read("offset=0:7, 3:0"),
            Ok(Start::Offsets(offsets.into_iter().collect()))
        );
    }

    #[test]
    fn what_is_no_start_is_refused_with_the_forms_there_are() {
        let forms = "|first|offset|offset=|offset=0|offset=0:-1|offset=-1:0|offset=0:1,0:2|latest=1|\
                     time=yesterday|time=2026-01-31T12:00:00|version=-1|version=";
        for text in forms.split('|') {
            let refused = text.parse::<Start>().unwrap_err();
            assert!(refused.contains("earliest, latest"), "{text:?}: {refused}");
        }
    }
}
