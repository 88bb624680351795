use std::collections::BTreeMap;

use vintage_control::{
    Algorithm, AlgorithmName, CONTROL_FORMAT, Incarnation, MicroBatch, Offset, OptimizerSettings,
    Partition, Plan, PolicyVersion, RecordId, RejectReason, Sha256,
};
use vintage_trajectory::{GroupId, Headers, LogprobMode, PolicySpan, Rows, Trajectory, encode};

use super::{Intake, ReadyGroup};
use crate::{Error, Incoming, Settings, fingerprint};

fn settings() -> Settings {
    Settings {
        learner: "lead".parse().unwrap(),
        policy: "lead".parse().unwrap(),
        steps: 100,
        seed: 0,
        groups_per_update: 2,
        micro_batch_tokens: 64,
        context: 32,
        vocabulary: 16,
        checkpoint_every: 10,
        publish_every: 1,
        keep_versions: 4,
        pin_every: 10,
        max_age: None,
        incomplete_after_records: 4,
        algorithm: Algorithm {
            name: AlgorithmName::M2po,
            m2_threshold: 0.04,
            clip_eps: 0.2,
            log_ratio_clamp: 20.0,
        },
        optimizer: OptimizerSettings {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            decay_vectors: false,
            grad_clip: 1.0,
        },
    }
}

fn row(seq: u64, sample: u16) -> Trajectory {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&seq.to_le_bytes());
    Trajectory {
        group_id: GroupId(id),
        group_size: 2,
        sample_index: sample,
        policy: "lead".to_owned(),
        batch: -1,
        prompt_id: "p".to_owned(),
        prompt_tokens: vec![1, 2, 3],
        completion_tokens: vec![4, 5],
        behavior_logprobs: vec![-0.5, -1.5],
        loss_mask: None,
        policy_spans: vec![PolicySpan {
            start: 0,
            version: PolicyVersion(0),
        }],
        reward: f32::from(sample),
        reward_parts: None,
        finish_reason: "stop".to_owned(),
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        logprob_mode: LogprobMode::Full,
        engine: "test".to_owned(),
        created_at_us: 0,
        generation_seconds: 0.0,
        prompt_text: None,
        completion_text: None,
        metadata: None,
    }
}

fn at(offset: i64) -> RecordId {
    RecordId {
        incarnation: Incarnation(0),
        partition: Partition(0),
        offset: Offset(offset),
    }
}

fn message(offset: i64, seq: u64, part: (u32, u32), rows: &[Trajectory]) -> Incoming {
    let payload = encode(rows).unwrap();
    let decoded = Rows::decode(&payload).unwrap();
    let headers = Headers {
        run: "run".parse().unwrap(),
        policy: rows[0].policy.clone(),
        group: rows[0].group_id,
        rows: rows.len() as u32,
        part,
        batch: rows[0].batch,
        min_policy_version: decoded.min_version().unwrap_or_default(),
        max_policy_version: decoded.max_version().unwrap_or_default(),
        producer: "p".to_owned(),
        producer_seq: seq,
        crc32c: crc32c::crc32c(&payload),
        replay_of: None,
        traceparent: None,
    };
    Incoming {
        record: at(offset),
        crc32c: headers.crc32c,
        message: Ok((headers, decoded)),
    }
}

fn group(offset: i64, seq: u64) -> Incoming {
    message(offset, seq, (1, 1), &[row(seq, 0), row(seq, 1)])
}

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
        optimizer: settings().optimizer,
        fingerprint: fingerprint::current(),
    }
}

fn refused_for(change: impl Fn(&mut Trajectory)) -> RejectReason {
    let mut rows = [row(0, 0), row(0, 1)];
    rows.iter_mut().for_each(change);
    let mut intake = intake();
    intake
        .take(message(0, 0, (1, 1), &rows), PolicyVersion(0))
        .unwrap();
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
    assert_eq!(refused_for(|row| row.temperature = 0.0), R::Temperature);
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

#[test]
fn a_second_copy_of_a_number_is_refused_and_does_not_finish_the_first() {
    let mut intake = intake();
    intake.take(group(0, 7), PolicyVersion(0)).unwrap();
    intake.take(group(1, 7), PolicyVersion(0)).unwrap();
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
fn parts_become_one_group_and_missing_ones_are_refused_in_time() {
    let mut intake = intake();
    intake
        .take(message(0, 0, (2, 2), &[row(0, 1)]), PolicyVersion(0))
        .unwrap();
    intake
        .take(message(1, 1, (1, 2), &[row(1, 0)]), PolicyVersion(0))
        .unwrap();
    intake
        .take(message(2, 0, (1, 2), &[row(0, 0)]), PolicyVersion(0))
        .unwrap();
    assert_eq!(intake.waiting(), [at(2)], "whole once its last part came");
    for offset in 3..7 {
        intake
            .take(group(offset, offset as u64), PolicyVersion(0))
            .unwrap();
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
        rows.iter_mut().for_each(|row| row.batch = batch);
        intake
            .take(
                message(offset, offset as u64, (1, 1), &rows),
                PolicyVersion(0),
            )
            .unwrap();
    }
    let chosen = intake.choose(PolicyVersion(5)).unwrap();
    let records: Vec<_> = chosen
        .iter()
        .map(|group| group.planned.records[0])
        .collect();
    assert_eq!(records, [at(1), at(3)]);
    assert_eq!(intake.drain_refused()[0].reason, RejectReason::BatchFull);
    assert_eq!(intake.waiting(), [at(0), at(4)]);
    assert!(
        intake.choose(PolicyVersion(5)).is_none(),
        "one group is not enough"
    );
}

#[test]
fn a_restart_reads_what_was_not_trained_again_and_nothing_else() {
    let log: Vec<_> = (0..6).map(|n| group(n, n as u64)).collect();
    let mut first = intake();
    for record in &log {
        first.take(record.clone(), PolicyVersion(0)).unwrap();
    }
    let chosen = first.choose(PolicyVersion(0)).unwrap();
    let plan = plan_of(&chosen, &mut first, 0);
    first.finish(&plan);
    let (partitions, producers) = (first.resume_points(), first.finished_numbers());
    assert_eq!(partitions[0].resume, Offset(2));

    let mut second = Intake::new(settings(), &partitions, &producers);
    // The record before the resume point is read again, to see that the topic is the same.
    for record in &log[1..] {
        second.take(record.clone(), PolicyVersion(0)).unwrap();
    }
    assert_eq!(second.waiting(), [at(2), at(3), at(4), at(5)]);
    assert_eq!(second.resume_points(), partitions);

    let mut rewritten = log[1].clone();
    rewritten.crc32c ^= 1;
    let mut third = Intake::new(settings(), &partitions, &producers);
    let error = third.take(rewritten, PolicyVersion(0)).unwrap_err();
    assert!(matches!(error, Error::TopicRewritten { .. }), "{error}");
}

#[test]
fn a_plan_gets_its_groups_back_and_changed_content_is_found_out() {
    let mut live = intake();
    for n in 0..3 {
        live.take(group(n, n as u64), PolicyVersion(0)).unwrap();
    }
    let chosen = live.choose(PolicyVersion(0)).unwrap();
    let plan = plan_of(&chosen, &mut live, 0);

    let mut again = intake();
    again.take(group(0, 0), PolicyVersion(0)).unwrap();
    assert!(
        again.take_planned(&plan).unwrap().is_none(),
        "a record is still to come"
    );
    again.take(group(1, 1), PolicyVersion(0)).unwrap();
    assert_eq!(again.take_planned(&plan).unwrap().unwrap().len(), 2);

    let mut changed = [row(1, 0), row(1, 1)];
    changed[1].behavior_logprobs[0] += 1e-3;
    let mut tampered = intake();
    tampered.take(group(0, 0), PolicyVersion(0)).unwrap();
    tampered
        .take(message(1, 1, (1, 1), &changed), PolicyVersion(0))
        .unwrap();
    let error = tampered.take_planned(&plan).unwrap_err();
    assert!(matches!(error, Error::ContentChanged { .. }), "{error}");
}

#[test]
fn what_a_plan_rejected_is_rejected_again_whatever_the_intake_thinks() {
    let mut live = intake();
    // Refused live, since the version was not announced yet…
    let mut rows = [row(0, 0), row(0, 1)];
    rows.iter_mut()
        .for_each(|row| row.policy_spans[0].version = PolicyVersion(3));
    live.take(message(0, 0, (1, 1), &rows), PolicyVersion(0))
        .unwrap();
    let plan = plan_of(&[], &mut live, 0);
    // …and fine by the time of the recovery.
    let mut again = intake();
    again
        .take(message(0, 0, (1, 1), &rows), PolicyVersion(9))
        .unwrap();
    assert_eq!(again.waiting(), [at(0)]);
    assert_eq!(again.take_planned(&plan).unwrap().unwrap().len(), 0);
    assert!(again.waiting().is_empty());
    again.finish(&plan);
    assert_eq!(again.resume_points()[0].resume, Offset(1));
}
