use proptest::{option, prelude::*};
use vintage_control::{PolicyVersion, SlotNumber};
use vintage_trajectory::{Error, GroupId, Headers, Identity, Rows, encode};

use crate::sample::{full, granted_headers, headers};

type Pairs = Vec<(String, Vec<u8>)>;

fn parse(pairs: &Pairs) -> Result<Headers, Error> {
    Headers::parse(
        pairs
            .iter()
            .map(|(key, value)| (key.as_str(), Some(value.as_slice()))),
    )
}

/// Returns the sample's headers with one of them set to `text`.
fn with(key: &str, text: &str) -> Pairs {
    let mut pairs = headers().to_pairs();
    let pair = pairs.iter_mut().find(|pair| pair.0 == key).unwrap();
    pair.1 = text.as_bytes().to_vec();
    pairs
}

#[test]
fn any_order_and_unknown_headers_are_read() {
    let mut pairs = headers().to_pairs();
    pairs.reverse();
    pairs.push(("x-proxy".to_owned(), vec![0xff, 0xfe]));
    pairs.push(("x-proxy".to_owned(), vec![]));
    assert_eq!(parse(&pairs).unwrap(), headers());
}

#[test]
fn each_header_but_the_last_three_is_required_and_none_of_these_repeats() {
    for headers in [headers, granted_headers] {
        each_is_required_but_the_last_three(headers);
    }
}

fn each_is_required_but_the_last_three(headers: fn() -> Headers) {
    for at in 0..headers().to_pairs().len() {
        let mut pairs = headers().to_pairs();
        let pair = pairs.remove(at);
        let optional = ["slot", "replay-of", "traceparent"].contains(&pair.0.as_str());
        assert_eq!(parse(&pairs).is_ok(), optional, "without {}", pair.0);
        if !optional {
            let error = parse(&pairs).unwrap_err();
            assert!(error.to_string().contains(&pair.0), "{error}");
        }
        pairs.extend([pair.clone(), pair]);
        assert_eq!(parse(&pairs).is_ok(), optional);
    }
    let pairs = headers().to_pairs();
    let none = pairs.iter().map(|(key, _)| (key.as_str(), None));
    assert!(matches!(
        Headers::parse(none),
        Err(Error::MissingHeader { name: "schema" })
    ));
}

#[test]
fn what_tracing_libraries_add_costs_no_record() {
    let parsed = |traces: &[&[u8]]| {
        let mut pairs = headers().to_pairs();
        pairs.retain(|(key, _)| key != "traceparent");
        let traces = traces.iter().map(|trace| trace.to_vec());
        pairs.extend(traces.map(|trace| ("traceparent".to_owned(), trace)));
        parse(&pairs).unwrap().traceparent
    };
    assert_eq!(parsed(&[b"00-a", b"00-a"]).as_deref(), Some("00-a"));
    assert_eq!(parsed(&[b"00-a", b"00-b"]), None);
    assert_eq!(parsed(&[b"00-a", b"00-b", b"00-b"]), None);
    assert_eq!(parsed(&[b"\xff"]), None);
}

/// Checks that a slot that cannot be read costs no record: its group is trained like one of a client
/// that knows no slots.
#[test]
fn a_slot_that_cannot_be_read_counts_as_absent() {
    let parsed = |slots: &[&[u8]]| {
        let mut pairs = granted_headers().to_pairs();
        pairs.retain(|(key, _)| key != "slot");
        let slots = slots.iter().map(|slot| slot.to_vec());
        pairs.extend(slots.map(|slot| ("slot".to_owned(), slot)));
        let parsed = parse(&pairs).unwrap();
        assert_eq!(
            Headers {
                slot: granted_headers().slot,
                ..parsed.clone()
            },
            granted_headers()
        );
        parsed.slot.map(|slot| slot.0)
    };
    assert_eq!(parsed(&[]), None);
    for (text, slot) in [("0", 0), ("007", 7), ("18446744073709551615", u64::MAX)] {
        assert_eq!(parsed(&[text.as_bytes()]), Some(slot), "{text}");
    }
    for text in [
        "",
        "-1",
        "+1",
        " 7",
        "7.0",
        "7x",
        "٧",
        "18446744073709551616",
    ] {
        assert_eq!(parsed(&[text.as_bytes()]), None, "{text:?}");
    }
    assert_eq!(parsed(&[b"\xff"]), None);
    assert_eq!(parsed(&[b"7", b"7"]), Some(7));
    assert_eq!(parsed(&[b"7", b"8"]), None);
    assert_eq!(parsed(&[b"7", b"8", b"8"]), None);
    let null = granted_headers().to_pairs();
    let null = null.iter().map(|(key, value)| {
        let value = (key != "slot").then_some(value.as_slice());
        (key.as_str(), value)
    });
    assert_eq!(Headers::parse(null).unwrap().slot, None);
}

/// Checks that the slot of a message belongs to its group only in the run that granted it.
#[test]
fn a_replay_has_no_slot_of_its_own() {
    let of = |headers: &Headers| {
        let pairs = headers.to_pairs();
        let read = pairs
            .iter()
            .map(|(key, value)| (key.as_str(), Some(value.as_slice())));
        let identity = Identity::read(read);
        assert_eq!(identity, Identity::from(headers));
        identity.slot
    };
    let granted = granted_headers();
    assert_eq!(of(&granted), granted.slot);
    let replayed = Headers {
        replay_of: headers().replay_of,
        ..granted
    };
    assert!(replayed.slot.is_some(), "a replay keeps the header");
    assert_eq!(of(&replayed), None);
}

#[test]
fn values_must_be_what_they_should_be() {
    let bad = [
        ("schema", "vintage.trajectory/2"),
        ("schema", "vintage.trajectory/01"),
        ("content-type", "application/json"),
        ("run", "Not A Name"),
        ("policy", ""),
        ("group", "0123"),
        ("group", "0123456789abcdef0123456789abcdeg"),
        ("rows", "0"),
        ("rows", "+1"),
        ("rows", "1.0"),
        ("rows", ""),
        ("rows", "4294967296"),
        ("part", "1"),
        ("part", "0/1"),
        ("part", "2/1"),
        ("part", "1/1/1"),
        ("part", "/"),
        ("batch", "-2"),
        ("batch", "--1"),
        ("batch", "9223372036854775808"),
        ("min-policy-version", "-1"),
        ("min-policy-version", "6"),
        ("max-policy-version", "2"),
        ("max-policy-version", "9223372036854775808"),
        ("producer", ""),
        ("producer-seq", "-0"),
        ("producer-seq", "18446744073709551616"),
        ("crc32c", "1234567"),
        ("crc32c", "0x123456"),
        ("crc32c", "+1234567"),
    ];
    for (key, text) in bad {
        let error = parse(&with(key, text)).unwrap_err().to_string();
        assert!(
            error.contains(key.split('-').next().unwrap()),
            "{key}={text}: {error}"
        );
    }
    let mut pairs = with("run", "x");
    pairs[2].1 = vec![0xff];
    let error = parse(&pairs).unwrap_err().to_string();
    assert!(error.contains("UTF-8"), "{error}");
}

#[test]
fn a_damaged_payload_is_found() {
    let mut payload = encode(&[full()]).unwrap().to_vec();
    headers().check_payload(&payload).unwrap();
    payload[100] ^= 1;
    let error = headers().check_payload(&payload).unwrap_err();
    assert!(matches!(error, Error::Crc { .. }), "{error}");
}

#[test]
fn headers_that_contradict_the_rows_are_found() {
    let rows = Rows::decode(&encode(&[full()]).unwrap()).unwrap();
    headers().check_rows(&rows).unwrap();
    let wrong = [
        ("rows", "2"),
        ("group", "00000000000000000000000000000000"),
        ("policy", "other"),
        ("batch", "18"),
        ("min-policy-version", "2"),
        ("max-policy-version", "6"),
    ];
    for (key, text) in wrong {
        let error = parse(&with(key, text))
            .unwrap()
            .check_rows(&rows)
            .unwrap_err();
        let Error::HeaderMismatch { name, header, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!((*name, header.as_str()), (key, text));
    }
}

prop_compose! {
    fn any_headers()(
        run in "[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?",
        texts in prop::array::uniform2(".+"),
        group in any::<[u8; 16]>(),
        rows in 1_u32..,
        part in (1_u32.., 1_u32..),
        batch in -1_i64..,
        versions in (0..=i64::MAX as u64, 0..=i64::MAX as u64),
        numbers in any::<(u64, u32)>(),
        slot in option::of(any::<u64>()),
        optional in prop::array::uniform2(option::of(any::<String>())),
    ) -> Headers {
        let [policy, producer] = texts;
        let [replay_of, traceparent] = optional;
        Headers {
            run: run.parse().unwrap(),
            policy,
            group: GroupId(group),
            rows,
            part: (part.0.min(part.1), part.0.max(part.1)),
            batch,
            min_policy_version: PolicyVersion(versions.0.min(versions.1)),
            max_policy_version: PolicyVersion(versions.0.max(versions.1)),
            producer,
            producer_seq: numbers.0,
            crc32c: numbers.1,
            slot: slot.map(SlotNumber),
            replay_of,
            traceparent,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(headers in any_headers()) {
        prop_assert_eq!(parse(&headers.to_pairs()).unwrap(), headers);
    }

    #[test]
    fn any_bytes_are_headers_or_an_error(
        edits in prop::collection::vec((0_usize..16, prop::collection::vec(any::<u8>(), 0..40)), 1..4),
    ) {
        let mut pairs = Headers { slot: granted_headers().slot, ..headers() }.to_pairs();
        for (at, bytes) in edits {
            pairs[at].1 = bytes;
        }
        if let Ok(parsed) = parse(&pairs) {
            prop_assert_eq!(parse(&parsed.to_pairs()).unwrap(), parsed);
        }
    }
}
