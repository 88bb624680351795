use super::*;
use crate::fixture::{group_at, record};

fn message(offset: i64) -> Message {
    Message::of(record(0, offset, &group_at(0, offset)))
}

fn gathered(offsets: std::ops::Range<i64>) -> OpenFile {
    let mut roll = OpenFile::new(Start::at(Offset(offsets.start)));
    let now = Instant::now();
    offsets.for_each(|offset| {
        roll.push(message(offset), now);
    });
    roll
}

fn offsets(messages: &[Message]) -> Vec<i64> {
    messages.iter().map(|message| message.offset.0).collect()
}

#[test]
fn a_file_begins_where_the_last_one_ended() {
    let now = Instant::now();
    let mut roll = gathered(0..3);
    let (base, next, messages) = roll.close();
    assert_eq!(
        (base, next, offsets(&messages)),
        (Offset(0), Offset(3), vec![0, 1, 2])
    );
    roll.push(message(3), now);
    assert_eq!(
        roll.due(&SinkLimits::default(), now, true),
        None,
        "one file at a time"
    );
    assert_eq!(roll.committed(Offset(3), Vec::new(), now), 0);
    let (base, next, messages) = roll.close();
    assert_eq!(
        (base, next, offsets(&messages)),
        (Offset(3), Offset(4), vec![3])
    );
}

#[test]
fn after_a_lost_race_only_what_the_winner_lacks_is_kept() {
    let now = Instant::now();
    // The winner's file is shorter than ours.
    let mut roll = gathered(0..5);
    let (_, _, ours) = roll.close();
    roll.push(message(5), now);
    let rest = ours
        .into_iter()
        .filter(|message| message.offset >= Offset(2))
        .collect();
    assert_eq!(roll.committed(Offset(2), rest, now), 0);
    let (base, next, messages) = roll.close();
    assert_eq!(
        (base, next, offsets(&messages)),
        (Offset(2), Offset(6), vec![2, 3, 4, 5])
    );

    // It is longer, and longer than what was gathered since.
    let mut roll = gathered(0..3);
    roll.close();
    let bytes = roll.push(message(3), now);
    assert_eq!(roll.committed(Offset(6), Vec::new(), now), bytes);
    assert!(roll.is_empty() && roll.bytes() == 0);
    assert_eq!(roll.push(message(4), now), 0, "the winner has it");
    assert!(roll.push(message(6), now) > 0);
    let (base, next, messages) = roll.close();
    assert_eq!(
        (base, next, offsets(&messages)),
        (Offset(6), Offset(7), vec![6])
    );
}

#[test]
fn a_file_is_due_by_bytes_age_demand_or_shutdown() {
    let limits = SinkLimits::default();
    let now = Instant::now();
    let roll = gathered(0..3);
    assert_eq!(roll.due(&limits, now, false), None);
    assert_eq!(roll.due(&limits, now, true), Some(Reason::Shutdown));
    assert_eq!(
        roll.due(&limits, now + limits.file_age * 2, false),
        Some(Reason::Age)
    );
    let small = SinkLimits {
        file_bytes: roll.bytes(),
        ..limits
    };
    assert_eq!(roll.due(&small, now, false), Some(Reason::Bytes));
    assert_eq!(
        OpenFile::new(Start::at(Offset(0))).due(&small, now, true),
        None,
        "an empty file is never due"
    );
}

#[test]
fn a_demand_waits_for_its_record_and_is_met_once() {
    let (limits, now) = (SinkLimits::default(), Instant::now());
    let mut roll = gathered(0..3);
    roll.want(Offset(0));
    roll.want(Offset(4));
    assert_eq!(
        roll.due(&limits, now, false),
        None,
        "offset 0 is met, record 3 not here"
    );
    roll.push(message(3), now);
    assert_eq!(roll.due(&limits, now, false), Some(Reason::Demand));
    roll.close();
    roll.want(Offset(4));
    roll.push(message(4), now);
    roll.committed(Offset(4), Vec::new(), now);
    assert_eq!(roll.due(&limits, now, false), None);
}
