use vintage_control::SlotNumber;

use crate::{header, header::Headers, id::GroupId};

/// Identity of a record's group, as far as its headers can be read.
///
/// Used for accounting, not for training. A record whose headers are refused for one faulty value
/// is still a group of some producer, and leaving it out would make its number look missing. Values
/// that [`Headers::parse`] refuses are therefore accepted here: a sign, spaces, a UUID with dashes,
/// a header name in another case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Id of the group.
    pub group: Option<GroupId>,
    /// Producer that numbered the group.
    pub producer: Option<String>,
    /// Producer's sequence number of the group.
    pub producer_seq: Option<u64>,
    /// Policy that sampled the group.
    pub policy: Option<String>,
    /// Update that the group was sampled for; −1 = any.
    pub batch: Option<i64>,
    /// Part i of n, from 1.
    pub part: Option<(u32, u32)>,
    /// Slot that was granted to the producer. `None` on a replay, because slots belong to the run
    /// that granted them.
    pub slot: Option<SlotNumber>,
}

impl Identity {
    /// Reads the headers that can be read. A repeated header counts only if all its values agree.
    pub fn read<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) -> Self {
        let pairs: Vec<_> = pairs.into_iter().collect();
        let text = |name: &str| agreed(&pairs, name);
        let trimmed = |name: &str| text(name).map(|text| text.trim_matches(is_blank));
        Self {
            group: trimmed("group").and_then(group),
            producer: text("producer").and_then(header::name),
            producer_seq: trimmed("producer-seq").and_then(number),
            policy: text("policy").and_then(header::name),
            batch: trimmed("batch").and_then(|text| match text {
                "-1" => Some(-1),
                _ => number(text).and_then(|batch| i64::try_from(batch).ok()),
            }),
            part: trimmed("part").and_then(header::part),
            slot: trimmed("slot")
                .filter(|_| text("replay-of").is_none())
                .and_then(number)
                .map(SlotNumber),
        }
    }

    /// Returns the producer and its sequence number, if both are known.
    pub fn number(&self) -> Option<(&str, u64)> {
        Some((self.producer.as_deref()?, self.producer_seq?))
    }
}

impl From<&Headers> for Identity {
    fn from(headers: &Headers) -> Self {
        Self {
            group: Some(headers.group),
            producer: Some(headers.producer.clone()),
            producer_seq: Some(headers.producer_seq),
            policy: Some(headers.policy.clone()),
            batch: Some(headers.batch),
            part: Some(headers.part),
            slot: headers.slot.filter(|_| headers.replay_of.is_none()),
        }
    }
}

/// Returns the text that all headers of a name agree on. Headers whose names differ by case or
/// underscores are considered only if no header has the exact name.
fn agreed<'a>(pairs: &[(&str, Option<&'a [u8]>)], name: &str) -> Option<&'a str> {
    let exact = |key: &str| key == name;
    let alike = |key: &str| key.to_ascii_lowercase().replace('_', "-") == name;
    let found = |fits: &dyn Fn(&str) -> bool| -> Vec<&'a [u8]> {
        let fitting = pairs.iter().filter(|(key, _)| fits(key));
        fitting.filter_map(|(_, value)| *value).collect()
    };
    let mut values = found(&exact);
    if values.is_empty() {
        values = found(&alike);
    }
    let first = *values.first()?;
    let agree = values.iter().all(|value| *value == first);
    std::str::from_utf8(first).ok().filter(|_| agree)
}

fn is_blank(character: char) -> bool {
    character.is_whitespace() || character == '\0'
}

/// Parses digits, with an optional `+` before or `.0` after them, as some serializers write.
fn number(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    header::decimal(text.strip_suffix(".0").unwrap_or(text))
}

/// Parses 32 hexadecimal digits or a UUID.
fn group(text: &str) -> Option<GroupId> {
    let text = text.strip_prefix("urn:uuid:").unwrap_or(text);
    let text = text.trim_start_matches('{').trim_end_matches('}');
    text.replace('-', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Identity {
        Identity::read(
            pairs
                .iter()
                .map(|(key, value)| (*key, Some(value.as_bytes()))),
        )
    }

    #[test]
    fn what_can_be_read_of_a_group_is_read() {
        let id = "01234567-89ab-cdef-0123-456789abcdef";
        let group = id.replace('-', "").parse().ok();
        for text in [id, &format!("{{{id}}}"), &format!("urn:uuid:{id}\n")] {
            assert_eq!(read(&[("group", text)]).group, group, "{text:?}");
        }
        for text in ["7", "+7", " 7", "7\n", "7\0", "7.0", "007"] {
            let found = read(&[("producer", "p"), ("producer-seq", text)]);
            assert_eq!(found.number(), Some(("p", 7)), "{text:?}");
        }
        for key in ["Producer-Seq", "producer_seq", "PRODUCER_SEQ"] {
            assert_eq!(read(&[(key, "7")]).producer_seq, Some(7), "{key}");
        }
        let found = read(&[("batch", "+3"), ("part", "2/3"), ("policy", "lead")]);
        assert_eq!((found.batch, found.part), (Some(3), Some((2, 3))));
        assert_eq!(found.policy.as_deref(), Some("lead"));
    }

    #[test]
    fn what_cannot_be_read_is_not_guessed() {
        assert_eq!(Identity::read([]), Identity::default());
        for text in ["", "-7", "7x", "7.5", "++7", "18446744073709551616", "٧"] {
            assert_eq!(read(&[("producer-seq", text)]).producer_seq, None, "{text}");
        }
        assert_eq!(read(&[("producer", "")]).producer, None);
        assert_eq!(read(&[("producer", &"p".repeat(256))]).producer, None);
        assert_eq!(read(&[("group", "0123")]).group, None);
        let bytes: [(&str, Option<&[u8]>); 2] = [("producer", Some(b"\xff")), ("group", None)];
        assert_eq!(Identity::read(bytes), Identity::default());
    }

    #[test]
    fn a_header_that_is_there_twice_must_agree_and_the_exact_name_counts() {
        assert_eq!(read(&[("producer", "a"), ("producer", "b")]).producer, None);
        let twice = read(&[("producer", "a"), ("producer", "a")]);
        assert_eq!(twice.producer.as_deref(), Some("a"));
        let beside = read(&[("Producer", "a host"), ("producer", "a")]);
        assert_eq!(beside.producer.as_deref(), Some("a"));
    }

    #[test]
    fn the_slot_is_read_of_garbled_headers_too() {
        let slot = |pairs: &[(&str, &str)]| read(pairs).slot.map(|slot| slot.0);
        for text in ["7", "+7", " 7", "7\n", "7\0", "7.0", "007"] {
            assert_eq!(
                slot(&[("slot", text), ("rows", "none")]),
                Some(7),
                "{text:?}"
            );
        }
        assert_eq!(slot(&[("Slot", "7")]), Some(7));
        assert_eq!(slot(&[("SLOT", "8"), ("slot", "7")]), Some(7));
        assert_eq!(slot(&[("slot", "7"), ("slot", "7")]), Some(7));
        assert_eq!(slot(&[("slot", "7"), ("slot", "8")]), None);
        for text in ["", "-7", "7x", "7.5", "++7", "18446744073709551616", "٧"] {
            assert_eq!(slot(&[("slot", text)]), None, "{text:?}");
        }
        assert_eq!(slot(&[("producer", "p"), ("producer-seq", "7")]), None);
        let replay = ("replay-of", "vintage.old.rollouts.v1");
        assert_eq!(slot(&[("slot", "7"), replay]), None);
    }
}
