//! Tests of the order in which groups of granted slots are trained, and of the bound on their
//! staleness.

use super::*;

fn bounded(max_staleness: Option<u64>) -> LearnerSettings {
    LearnerSettings {
        max_staleness,
        ..settings()
    }
}

fn sampled_by(version: u64) -> impl Fn(&mut Trajectory) {
    move |row| row.policy_spans[0].version = PolicyVersion(version)
}

fn intake_of(settings: LearnerSettings, log: &[Incoming]) -> Intake {
    let mut intake = Intake::new(settings, &[], &BTreeMap::new());
    for record in log {
        intake.take(record.clone(), upto(9)).unwrap();
    }
    intake
}

/// Checks that a slow producer's groups are trained before they are too stale, and that nothing
/// changes for learners that grant no slots.
#[test]
fn the_oldest_are_trained_first_only_where_staleness_has_a_bound() {
    let versions = [4, 5, 3, 5, 3, 4];
    let log: Vec<_> = (0..)
        .zip(versions)
        .map(|(n, version)| granted(n, "a", n as u64, sampled_by(version)))
        .collect();
    let chosen = |max_staleness, wanted| {
        let mut intake = intake_of(bounded(max_staleness), &log);
        let first = offsets(&intake.choose(UpdateNumber(5), wanted).unwrap());
        let second = offsets(&intake.choose(UpdateNumber(5), wanted).unwrap());
        (first, second)
    };
    // Those of one version in order of arrival; the batch itself in order of arrival, too.
    assert_eq!(chosen(Some(2), 2), (vec![2, 4], vec![0, 5]));
    assert_eq!(chosen(Some(2), 3), (vec![0, 2, 4], vec![1, 3, 5]));
    assert_eq!(chosen(None, 2), (vec![0, 1], vec![2, 3]));
    assert_eq!(chosen(None, 3), (vec![0, 1, 2], vec![3, 4, 5]));
}

#[test]
fn groups_of_one_version_are_trained_in_order_of_arrival() {
    // Neither slots nor numbers of producers decide.
    let slots = [50, 10, 40, 20, 30];
    let producers = ["e", "d", "c", "b", "a"];
    let log: Vec<_> = (0..5)
        .map(|n| granted(n as i64, producers[n], slots[n], sampled_by(4)))
        .collect();
    for max_staleness in [None, Some(1)] {
        let mut intake = intake_of(bounded(max_staleness), &log);
        let chosen = intake.choose(UpdateNumber(5), 3).unwrap();
        assert_eq!(offsets(&chosen), [0, 1, 2], "{max_staleness:?}");
    }
}

/// Checks that the groups of one update have the order of their slots, whoever was faster, and come
/// before those for any update, which have the order of arrival.
#[test]
fn groups_for_one_update_are_in_the_order_of_their_slots() {
    let for_5 = |offset, slot| granted(offset, "a", slot, for_update(5));
    let log = [
        granted(0, "b", 1, good),
        for_5(1, 12),
        for_5(2, 10),
        granted(3, "b", 0, good),
        for_5(4, 11),
    ];
    let mut intake = intake_of(settings(), &log);
    let chosen = intake.choose(UpdateNumber(5), 5).unwrap();
    assert_eq!(offsets(&chosen), [2, 4, 1, 0, 3]);
}

#[test]
fn a_granted_group_is_refused_beyond_the_bound_and_not_at_it() {
    let log = [
        granted(0, "a", 0, sampled_by(2)),
        granted(1, "a", 1, sampled_by(3)),
        granted(2, "a", 2, sampled_by(5)),
        // As old, without a slot: a replay, or a client that knows no slots.
        group(3, 3),
    ];
    let refused_of = |settings: LearnerSettings| {
        let mut intake = intake_of(settings, &log);
        intake.settle(UpdateNumber(5));
        refused(&mut intake)
    };
    let stale = |offset| (RejectReason::TooStale, offset);
    assert_eq!(refused_of(bounded(Some(2))), [stale(0)]);
    assert_eq!(refused_of(bounded(Some(1))), [stale(0), stale(1)]);
    assert_eq!(refused_of(bounded(Some(3))), []);
    assert_eq!(refused_of(bounded(None)), []);

    // The stricter of the two bounds holds; the one of the settings holds for all groups.
    let with_age = |max_staleness, max_age| {
        let mut settings = bounded(max_staleness);
        settings.learner.max_age = Some(max_age);
        settings
    };
    assert_eq!(
        refused_of(with_age(Some(9), 2)),
        [stale(0), stale(3)],
        "by max_age"
    );
    assert_eq!(refused_of(with_age(Some(1), 4)), [0, 1, 3].map(stale));

    // Its slot is not granted again.
    let mut intake = intake_of(bounded(Some(2)), &log);
    intake.settle(UpdateNumber(5));
    let plan = plan_of(&[], &mut intake, 5);
    assert!(plan.rejections[0].detail.contains("more than 2 updates"));
    intake.finish(&plan);
    assert_eq!(*intake.finished_slots(), slots([0]));
    assert_eq!(intake.waiting(), [at(1), at(2), at(3)]);
}
