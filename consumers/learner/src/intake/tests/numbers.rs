//! Tests of what the numbers of records mean: copies, and producers that number again.

use super::*;

#[test]
fn a_second_copy_of_a_number_is_refused_and_does_not_finish_the_first() {
    let mut intake = intake();
    intake.take(group(0, 7), upto(0)).unwrap();
    intake.take(group(1, 7), upto(0)).unwrap();
    assert_eq!(intake.waiting(), [at(0)]);
    assert_eq!(intake.refused_groups(), 0, "a duplicate is no group");
    let plan = plan_of(&[], &mut intake, 0);
    assert_eq!(plan.rejections[0].reason, RejectReason::Duplicate);
    intake.finish(&plan);
    assert!(intake.finished_numbers().is_empty());
    let resume = &intake.resume_points()[0];
    assert_eq!(
        (resume.resume, resume.done.as_slice()),
        (Offset(0), &[Offset(1)][..])
    );
}

#[test]
fn only_what_bears_a_number_is_a_numbered_rejection() {
    let mut intake = intake();
    let unreadable = |offset, seq: Option<u64>| {
        let mut broken = group(offset, seq.unwrap_or_default());
        let (headers, _) = broken.message.unwrap();
        let identity = Identity::from(&headers);
        broken.message = Err(BadRecord {
            class: BadClass::BadHeaders,
            identity: Identity {
                producer_seq: seq,
                ..identity
            },
            detail: "noise".to_owned(),
        });
        broken
    };
    for offset in 0..10 {
        intake.take(unreadable(offset, None), upto(0)).unwrap();
    }
    intake.take(group(10, 1), upto(0)).unwrap();
    intake.take(unreadable(11, Some(2)), upto(0)).unwrap();
    intake.take(group(12, 3), upto(0)).unwrap();
    // A copy of the group with number 1.
    intake.take(group(13, 1), upto(0)).unwrap();
    assert_eq!(intake.refused_groups(), 11);
    assert_eq!(intake.numbered_rejections(0), 1);

    let groups = intake.choose(UpdateNumber(0), 2).unwrap();
    let plan = plan_of(&groups, &mut intake, 0);
    intake.finish(&plan);
    assert_eq!(intake.numbered_rejections(2), 1, "a plan records it now");
    let (at, numbers) = (intake.resume_points(), intake.finished_numbers());
    let mut again = Intake::new(settings(), &at, &numbers);
    assert_eq!(again.numbered_rejections(2), 1, "and a checkpoint");
    again.take(unreadable(14, Some(4)), upto(0)).unwrap();
    assert_eq!(again.numbered_rejections(2), 2);
}

/// Checks records of a producer that lost its count and numbers from 0 again, with other prompts.
#[test]
fn who_numbers_again_is_told_apart_from_a_copy() {
    use RejectReason as R;

    let other = |offset, seq: u64, number: u64, part| {
        let rows = [row(number, 0), row(number, 1)];
        match part {
            (1, 1) => message(offset, seq, part, &rows),
            (n, _) => message(offset, seq, part, &rows[n as usize - 1..n as usize]),
        }
    };
    let mut intake = intake();
    let log = [
        group(0, 0),
        group(1, 0),
        other(2, 0, 70, (1, 1)),
        other(3, 0, 70, (1, 1)),
        other(4, 0, 71, (1, 1)),
        // A group that is being assembled meanwhile.
        other(5, 1, 1, (1, 2)),
        other(6, 1, 72, (1, 1)),
        other(7, 1, 1, (2, 2)),
    ];
    for record in log {
        intake.take(record, upto(0)).unwrap();
    }
    assert_eq!(intake.waiting(), [at(0), at(5)]);
    assert_eq!(intake.refused_groups(), 3, "copies are none");
    assert_eq!(intake.numbered_rejections(0), 0, "they took no new number");
    let plan = plan_of(&[], &mut intake, 0);
    let refused = plan
        .rejections
        .iter()
        .map(|r| (r.reason, r.records[0].offset.0));
    assert_eq!(
        refused.collect::<Vec<_>>(),
        [
            (R::Duplicate, 1),
            (R::Renumbered, 2),
            (R::Duplicate, 3),
            (R::Renumbered, 4),
            (R::Renumbered, 6)
        ]
    );
    assert!(plan.rejections[1].detail.contains("a name of its own"));
    intake.finish(&plan);
    assert!(intake.finished_numbers().is_empty());

    // A later process knows the number from its checkpoint, and its groups only if they are
    // recalled.
    let chosen = intake.choose(UpdateNumber(0), 2).unwrap();
    let plan = plan_of(&chosen, &mut intake, 0);
    intake.finish(&plan);
    let (partitions, producers) = (intake.resume_points(), intake.finished_numbers());
    for (recalled, reason) in [(true, R::Renumbered), (false, R::Duplicate)] {
        let mut again = Intake::new(settings(), &partitions, &producers);
        let record = other(8, 0, 73, (1, 1));
        assert_eq!(again.needs_recall(&record), Some(("p".to_owned(), 0)));
        let known = [chosen[0].planned.group.parse().unwrap()];
        again.recall("p", 0, if recalled { &known } else { &[] });
        assert_eq!(again.needs_recall(&record), None);
        again.take(record, upto(0)).unwrap();
        again.take(group(9, 0), upto(0)).unwrap();
        let found: Vec<_> = again.drain_refused().iter().map(|r| r.reason).collect();
        assert_eq!(found, [reason, R::Duplicate]);
    }
}

/// Checks that a record whose group was trained before a restart recalls no groups: that would read
/// all plans for a record that is passed over.
#[test]
fn a_record_that_is_done_recalls_nothing() {
    let mut intake = intake();
    intake.take(group(0, 0), upto(0)).unwrap();
    intake.take(group(1, 1), upto(0)).unwrap();
    let chosen = intake.choose(UpdateNumber(0), 2).unwrap();
    let plan = plan_of(&chosen[1..], &mut intake, 0);
    intake.finish(&plan);
    let (partitions, producers) = (intake.resume_points(), intake.finished_numbers());
    assert_eq!(partitions[0].resume, Offset(0));
    assert_eq!(partitions[0].done, [Offset(1)]);

    let mut again = Intake::new(settings(), &partitions, &producers);
    let recalled = Some(("p".to_owned(), 1));
    assert_eq!(again.needs_recall(&group(1, 1)), None, "done");
    assert_eq!(again.needs_recall(&group(2, 1)), recalled, "a copy");
    again.take(group(0, 0), upto(0)).unwrap();
    again.take(group(1, 1), upto(0)).unwrap();
    assert_eq!(again.needs_recall(&group(1, 1)), None, "arrived");
    assert_eq!(again.needs_recall(&group(2, 1)), recalled, "a copy");
}
