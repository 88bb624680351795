use std::collections::BTreeMap;

use vintage_control::{
    CONTROL_FORMAT, MicroBatch, Offset, Plan, PolicyVersion, RejectReason, Sha256, UpdateNumber,
};
use vintage_trajectory::{BadClass, BadRecord, Identity, LogprobMode, PolicySpan, Trajectory};

use super::{
    Intake, ReadyGroup,
    fixture::{at, group, message, row, settings},
    judge::PermittedVersions,
};
use crate::{error::Error, fingerprint, trainer::in_order};

mod drawn;
mod numbers;
mod slots;
mod strangers;

fn intake() -> Intake {
    Intake::new(settings(), &[], &BTreeMap::new())
}

fn plan_of(groups: &[ReadyGroup], intake: &mut Intake, version: u64) -> Plan {
    Plan {
        format: CONTROL_FORMAT.to_owned(),
        learner: "lead".parse().unwrap(),
        writer: "w".to_owned(),
        policy: "lead".parse().unwrap(),
        version: PolicyVersion(version),
        weights_sha256: Sha256([0; 32]),
        seed: 0,
        groups: groups.iter().map(|group| group.planned.clone()).collect(),
        micro_batches: vec![MicroBatch { rows: vec![0, 1] }],
        rejections: intake.drain_refused(),
        algorithm: settings().algorithm,
        optimizer: settings().learner.optimizer,
        training: settings().learner.training(),
        fingerprint: fingerprint::current(),
        follows: None,
        known: Vec::new(),
        reused: Vec::new(),
        reuse: vintage_control::Reuse::default(),
    }
}

fn upto(version: u64) -> PermittedVersions {
    PermittedVersions::UpTo(Some(PolicyVersion(version)))
}

fn refused_for(change: impl Fn(&mut Trajectory)) -> RejectReason {
    let mut rows = [row(0, 0), row(0, 1)];
    rows.iter_mut().for_each(change);
    let mut intake = intake();
    intake.take(message(0, 0, (1, 1), &rows), upto(0)).unwrap();
    let refused = intake.drain_refused();
    assert_eq!(refused.len(), 1, "nothing was refused");
    assert_eq!(refused[0].records, [at(0)]);
    refused[0].reason
}

#[test]
fn every_demand_is_made() {
    use RejectReason as R;

    let future = PolicySpan {
        start: 0,
        version: PolicyVersion(1),
    };
    assert_eq!(
        refused_for(|row| row.policy = "other".to_owned()),
        R::OtherPolicy
    );
    assert_eq!(
        refused_for(|row| row.logprob_mode = LogprobMode::Truncated),
        R::LogprobMode
    );
    for beyond in [0.0, 1e-30, 1e30] {
        assert_eq!(refused_for(|row| row.temperature = beyond), R::Temperature);
    }
    // No such update will come, so the group would wait for ever.
    assert_eq!(refused_for(|row| row.batch = 1_000_000_000), R::BatchFull);
    assert_eq!(
        refused_for(|row| row.completion_tokens[1] = 16),
        R::OutOfVocabulary
    );
    assert_eq!(
        refused_for(|row| row.completion_tokens[1] = -1),
        R::OutOfVocabulary
    );
    assert_eq!(
        refused_for(|row| row.prompt_tokens = vec![1; 31]),
        R::TooLong
    );
    assert_eq!(
        refused_for(|row| row.behavior_logprobs[0] = f32::NAN),
        R::BadLogprob
    );
    assert_eq!(
        refused_for(|row| row.behavior_logprobs[0] = 0.5),
        R::BadLogprob
    );
    assert_eq!(refused_for(|row| row.reward = f32::INFINITY), R::BadReward);
    assert_eq!(
        refused_for(|row| row.policy_spans[0] = future),
        R::FutureVersion
    );
    assert_eq!(
        refused_for(|row| row.behavior_logprobs.truncate(1)),
        R::Malformed
    );
    assert_eq!(refused_for(|row| row.group_size = 3), R::Incomplete);
}

/// Checks that the detail of a refusal is limited, since plans hold it and must remain small enough
/// to be mirrored.
#[test]
fn what_a_record_says_of_itself_does_not_swell_a_plan() {
    let swollen = "\u{1}".repeat(1 << 20);
    let rows = [0, 1].map(|sample| {
        let mut row = row(0, sample);
        row.policy.clone_from(&swollen);
        row
    });
    let mut incoming = message(0, 0, (1, 1), &rows);
    if let Ok((headers, _)) = &mut incoming.message {
        headers.policy = "lead".to_owned();
    }
    let mut intake = intake();
    intake.take(incoming, upto(0)).unwrap();
    let refused = intake.drain_refused();
    let json = serde_json::to_string(&refused).unwrap();
    assert!(refused.len() == 1 && json.len() < 4000, "{}", json.len());
}

#[test]
fn parts_become_one_group_and_missing_ones_are_refused_in_time() {
    let mut intake = intake();
    intake
        .take(message(0, 0, (2, 2), &[row(0, 1)]), upto(0))
        .unwrap();
    intake
        .take(message(1, 1, (1, 2), &[row(1, 0)]), upto(0))
        .unwrap();
    intake
        .take(message(2, 0, (1, 2), &[row(0, 0)]), upto(0))
        .unwrap();
    assert_eq!(intake.waiting(), [at(2)], "whole once its last part came");
    for offset in 3..7 {
        intake.take(group(offset, offset as u64), upto(0)).unwrap();
    }
    let refused = intake.drain_refused();
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (refused[0].reason, &refused[0].records[..]),
        (RejectReason::Incomplete, &[at(1)][..])
    );
}

#[test]
fn groups_of_a_batch_go_first_and_late_ones_are_refused() {
    let mut intake = intake();
    for (offset, batch) in [(0, -1), (1, 5), (2, 4), (3, 5), (4, 6)] {
        let mut rows = [row(offset as u64, 0), row(offset as u64, 1)];
        for row in &mut rows {
            row.batch = batch;
        }
        intake
            .take(message(offset, offset as u64, (1, 1), &rows), upto(0))
            .unwrap();
    }
    let chosen = intake.choose(UpdateNumber(5), 2).unwrap();
    let records: Vec<_> = chosen
        .iter()
        .map(|group| group.planned.records[0])
        .collect();
    assert_eq!(records, [at(1), at(3)]);
    assert_eq!(intake.drain_refused()[0].reason, RejectReason::BatchFull);
    assert_eq!(intake.waiting(), [at(0), at(4)]);
    assert!(
        intake.choose(UpdateNumber(5), 2).is_none(),
        "one group is not enough"
    );
}

#[test]
fn a_restart_reads_what_was_not_trained_again_and_nothing_else() {
    let log: Vec<_> = (0..6).map(|n| group(n, n as u64)).collect();
    let mut first = intake();
    for record in &log {
        first.take(record.clone(), upto(0)).unwrap();
    }
    let chosen = first.choose(UpdateNumber(0), 2).unwrap();
    let plan = plan_of(&chosen, &mut first, 0);
    first.finish(&plan);
    let (partitions, producers) = (first.resume_points(), first.finished_numbers());
    assert_eq!(partitions[0].resume, Offset(2));

    let mut second = Intake::new(settings(), &partitions, &producers);
    // The record before the resume point is read again, to check that the topic is unchanged.
    for record in &log[1..] {
        second.take(record.clone(), upto(0)).unwrap();
    }
    assert_eq!(second.waiting(), [at(2), at(3), at(4), at(5)]);
    assert_eq!(second.resume_points(), partitions);

    let mut rewritten = log[1].clone();
    rewritten.crc32c ^= 1;
    let mut third = Intake::new(settings(), &partitions, &producers);
    let error = third.take(rewritten, upto(0)).unwrap_err();
    assert!(matches!(error, Error::TopicRewritten { .. }), "{error}");
}

#[test]
fn a_plan_gets_its_groups_back_and_changed_content_is_found_out() {
    let mut live = intake();
    for n in 0..3 {
        live.take(group(n, n as u64), upto(0)).unwrap();
    }
    let chosen = live.choose(UpdateNumber(0), 2).unwrap();
    let plan = plan_of(&chosen, &mut live, 0);

    let mut again = intake();
    again.take(group(0, 0), upto(0)).unwrap();
    assert!(
        again.take_planned(&plan).unwrap().is_none(),
        "a record is still to come"
    );
    again.take(group(1, 1), upto(0)).unwrap();
    assert_eq!(again.take_planned(&plan).unwrap().unwrap().len(), 2);

    let mut changed = [row(1, 0), row(1, 1)];
    changed[1].behavior_logprobs[0] += 1e-3;
    let mut tampered = intake();
    tampered.take(group(0, 0), upto(0)).unwrap();
    tampered
        .take(message(1, 1, (1, 1), &changed), upto(0))
        .unwrap();
    let error = tampered.take_planned(&plan).unwrap_err();
    assert!(matches!(error, Error::ContentChanged { .. }), "{error}");
}

/// Checks that groups of an archive that is not read are missed, not left out: the micro-batches
/// would take other rows.
#[test]
fn a_plan_without_one_of_its_groups_is_an_error() {
    let mut live = intake();
    for n in 0..2 {
        live.take(group(n, n as u64), upto(0)).unwrap();
    }
    let mut own = live.choose(UpdateNumber(0), 2).unwrap();
    let mut plan = plan_of(&own, &mut live, 0);
    plan.groups[1].source = Some("elsewhere".to_owned());
    let blended = own.pop().into_iter().collect();
    let error = in_order(&plan, own, Vec::new(), Vec::new()).unwrap_err();
    assert!(error.to_string().contains("groups of elsewhere"), "{error}");
    assert!(in_order(&plan, Vec::new(), blended, Vec::new()).is_err());
}

#[test]
fn what_a_plan_rejected_is_rejected_again_whatever_the_intake_thinks() {
    let mut live = intake();
    // Refused in the first process, because the version was not announced yet…
    let mut rows = [row(0, 0), row(0, 1)];
    for row in &mut rows {
        row.policy_spans[0].version = PolicyVersion(3);
    }
    live.take(message(0, 0, (1, 1), &rows), upto(0)).unwrap();
    let plan = plan_of(&[], &mut live, 0);
    // …and acceptable by the time of the recovery.
    let mut again = intake();
    again.take(message(0, 0, (1, 1), &rows), upto(9)).unwrap();
    assert_eq!(again.waiting(), [at(0)]);
    assert_eq!(again.take_planned(&plan).unwrap().unwrap().len(), 0);
    assert!(again.waiting().is_empty());
    again.finish(&plan);
    assert_eq!(again.resume_points()[0].resume, Offset(1));
}

/// Checks that parts of one group may differ in their number of rows and in their versions.
#[test]
fn a_group_split_unevenly_is_whole() {
    let mut intake = Intake::new(settings(), &[], &BTreeMap::new());
    let mut rows: Vec<_> = (0..3).map(|sample| row(0, sample)).collect();
    for row in &mut rows {
        row.group_size = 3;
    }
    rows[2].policy_spans[0].version = PolicyVersion(1);
    intake
        .take(message(0, 0, (1, 2), &rows[..2]), upto(1))
        .unwrap();
    intake
        .take(message(1, 0, (2, 2), &rows[2..]), upto(1))
        .unwrap();
    assert_eq!(intake.drain_refused(), []);
    assert_eq!(intake.waiting(), [at(0)]);
}

/// Checks that the number of a split group counts once: the group is trained, or rejected with all
/// parts that arrived, and later parts are duplicates.
#[test]
fn a_group_counts_once_whatever_its_parts_do() {
    use RejectReason as R;

    let part = |offset, seq, part, batch: i64| {
        let mut row = row(seq, part as u16 - 1);
        row.batch = batch;
        message(offset, seq, (part, 2), &[row])
    };
    let unreadable = |offset, seq, n| {
        let mut broken = part(offset, seq, n, -1);
        let (headers, _) = broken.message.unwrap();
        broken.message = Err(BadRecord {
            class: BadClass::Undecodable,
            identity: Identity::from(&headers),
            detail: "noise".to_owned(),
        });
        broken
    };
    let refused = |records: Vec<crate::Incoming>| -> Vec<(RejectReason, Vec<i64>)> {
        let mut intake = intake();
        for record in records {
            intake.take(record, upto(0)).unwrap();
        }
        assert!(intake.waiting().is_empty());
        assert_eq!(intake.refused_groups(), 1);
        let refused = intake.drain_refused().into_iter();
        let offsets = |records: &[vintage_control::RecordId]| -> Vec<i64> {
            records.iter().map(|record| record.offset.0).collect()
        };
        refused.map(|r| (r.reason, offsets(&r.records))).collect()
    };
    // A part that contradicts the first one, then the missing part.
    assert_eq!(
        refused(vec![part(0, 0, 1, -1), part(1, 0, 2, 7), part(2, 0, 2, -1)]),
        [(R::BadHeaders, vec![0, 1]), (R::Duplicate, vec![2])]
    );
    assert_eq!(
        refused(vec![part(0, 0, 1, -1), unreadable(1, 0, 2)]),
        [(R::Undecodable, vec![0, 1])]
    );
    assert_eq!(
        refused(vec![unreadable(0, 0, 1), part(1, 0, 2, -1)]),
        [(R::Undecodable, vec![0]), (R::Duplicate, vec![1])]
    );
    // A part that arrives long after the first.
    let mut late = vec![part(0, 0, 1, -1)];
    late.extend((1..6).map(|offset| part(offset, 0, 1, -1)));
    late.push(part(6, 0, 2, -1));
    let refused = refused(late);
    assert_eq!(refused[0], (R::Incomplete, vec![0]));
    assert!(
        refused[1..]
            .iter()
            .all(|(reason, _)| *reason == R::Duplicate)
    );
    assert_eq!(refused.len(), 7, "one for each record: {refused:?}");
}

/// Checks that a group with an implausible value is refused, but trained where a plan names it that
/// was made before values had a range.
#[test]
fn an_implausible_group_is_refused_and_trained_where_a_plan_names_it() {
    let rows = |reward: f32| {
        let mut rows = [row(0, 0), row(0, 1)];
        rows[1].reward = reward;
        message(0, 0, (1, 1), &rows)
    };
    let mut earlier = intake();
    earlier.take(rows(1.0), upto(0)).unwrap();
    let mut plan = {
        let chosen = earlier.choose(UpdateNumber(0), 1).unwrap();
        plan_of(&chosen, &mut earlier, 0)
    };

    let mut now = intake();
    now.take(rows(1e38), upto(0)).unwrap();
    assert!(now.waiting().is_empty());
    assert_eq!(now.refused_groups(), 1);
    let error = now.take_planned(&plan).unwrap_err();
    assert!(matches!(error, Error::ContentChanged { .. }), "{error}");

    let mut now = intake();
    let (_, decoded) = rows(1e38).message.unwrap();
    plan.groups[0].content_sha256 = vintage_trajectory::content_sha256([&decoded]);
    now.take(rows(1e38), upto(0)).unwrap();
    assert_eq!(now.take_planned(&plan).unwrap().unwrap().len(), 1);
    assert_eq!(now.drain_refused(), []);
}

/// Checks that a header that claims four billion parts costs memory for one part only.
#[test]
fn a_claim_of_many_parts_costs_nothing() {
    let mut intake = intake();
    for seq in 0..100 {
        let claim = message(seq as i64, seq, (1, u32::MAX), &[row(seq, 0)]);
        intake.take(claim, upto(0)).unwrap();
    }
    assert_eq!(
        intake.refused_groups(),
        95,
        "all but the last few are overdue"
    );
}
