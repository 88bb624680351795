//! Counts of random histories against counts made group by group.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vintage_control::{
    CONTROL_FORMAT, Incarnation, LearnerStart, Offset, Partition, PartitionStart, PlannedGroup,
    PolicyVersion, RecordId, RejectReason, Rejection, Sha256,
};

use super::{
    Amount, ProducerFigures, Producers,
    census::{Census, Message, Rollout},
    fates::{Fates, PlanPart},
};
use crate::{
    figures::Age,
    producers::{figure, section},
};

/// Fate of a group in a made-up history.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Trained,
    Rejected,
    InFlight,
    BeforeStart,
    /// Trained, and not archived.
    Unarchived,
}

#[derive(Debug, Clone)]
struct Group {
    producer: u8,
    end: End,
    /// Rollouts of each part: length and reward.
    parts: Vec<Vec<(u64, i8)>>,
    /// Update that decides the group, and the version that sampled it.
    update: u64,
    sampler: u64,
    /// True for a second copy of the first part, and whether a plan names that copy.
    copied: (bool, bool),
    /// True if the archive has a message of the group that could not be decoded.
    damaged: bool,
}

fn group() -> impl Strategy<Value = Group> {
    let end = prop_oneof![
        4 => Just(End::Trained),
        2 => Just(End::Rejected),
        1 => Just(End::InFlight),
        1 => Just(End::BeforeStart),
        1 => Just(End::Unarchived),
    ];
    let part = prop::collection::vec((0_u64..2_000, -3_i8..3), 1..5);
    let parts = prop::collection::vec(part, 1..4);
    let copied = (prop::bool::weighted(0.3), any::<bool>());
    let versions = (0_u64..40, 0_u64..40);
    (
        0_u8..3,
        end,
        parts,
        versions,
        copied,
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(producer, end, parts, (update, sampler), copied, damaged)| Group {
                producer,
                end,
                parts,
                update,
                sampler,
                copied,
                damaged: damaged && end == End::Rejected,
            },
        )
}

const START: i64 = 1_000_000;

fn record(partition: i32, offset: i64) -> RecordId {
    RecordId {
        incarnation: Incarnation(0),
        partition: Partition(partition),
        offset: Offset(offset),
    }
}

fn name(producer: u8) -> String {
    format!("producer-{producer}")
}

fn id(seq: u64) -> [u8; 16] {
    (u128::from(seq) << 64 | 7).to_be_bytes()
}

/// Counts a history as the page does.
fn census(groups: &[Group]) -> Producers {
    let mut plans: BTreeMap<u64, PlanPart> = BTreeMap::new();
    let mut messages: Vec<(RecordId, usize, usize)> = Vec::new();
    let mut offset = 0;
    for (seq, group) in groups.iter().enumerate() {
        let mut records = Vec::new();
        for part in 0..group.parts.len() {
            let place = i32::from(group.end == End::BeforeStart);
            records.push(record(place, offset));
            if group.end != End::Unarchived {
                messages.push((record(place, offset), seq, part));
            }
            offset += 1;
        }
        let plan = plans.entry(group.update).or_insert_with(|| PlanPart {
            version: PolicyVersion(group.update),
            groups: Vec::new(),
            rejections: Vec::new(),
            known: Vec::new(),
        });
        let reject = |reason, records| Rejection {
            group: Some(hex(seq)),
            producer: Some(name(group.producer)),
            producer_seq: Some(seq as u64),
            records,
            reason,
            detail: String::new(),
            source: None,
        };
        match group.end {
            End::Trained | End::Unarchived => plan.groups.push(PlannedGroup {
                group: hex(seq),
                records,
                rows: 0,
                producer: name(group.producer),
                producer_seq: seq as u64,
                content_sha256: Sha256([0; 32]),
                source: None,
            }),
            End::Rejected => plan
                .rejections
                .push(reject(RejectReason::TooStale, records)),
            End::InFlight | End::BeforeStart => {}
        }
        let (copied, planned) = group.copied;
        let decided = matches!(group.end, End::Trained | End::Rejected);
        if copied && group.end != End::Unarchived {
            let at = record(i32::from(group.end == End::BeforeStart), offset);
            messages.push((at, seq, 0));
            offset += 1;
            if planned && decided {
                plan.rejections
                    .push(reject(RejectReason::Duplicate, vec![at]));
            }
        }
    }
    let mut fates = Fates::default();
    fates.began_at(&LearnerStart {
        format: CONTROL_FORMAT.to_owned(),
        learner: "lead".parse().unwrap(),
        start: "latest".to_owned(),
        partitions: vec![PartitionStart {
            incarnation: Incarnation(0),
            partition: Partition(1),
            offset: Offset(START),
        }],
    });
    for plan in plans.into_values() {
        fates.plan(plan);
    }
    let mut census = Census::new(fates);
    for (record, seq, part) in messages {
        let group = &groups[seq];
        let rollout = |&(tokens, reward): &(u64, i8)| Rollout {
            tokens,
            reward: f64::from(reward),
            oldest: Some(PolicyVersion(group.sampler)),
        };
        let damaged = group.damaged && part == 0;
        let producer = name(group.producer);
        census.add(&Message {
            record,
            producer: Some(&producer),
            seq: Some(seq as u64),
            group: Some(id(seq as u64)),
            part: (part as u32 + 1, group.parts.len() as u32),
            policy: "lead",
            rollouts: group.parts[part]
                .iter()
                .filter(|_| !damaged)
                .map(rollout)
                .collect(),
        });
    }
    census.close(0)
}

fn hex(seq: usize) -> String {
    format!("{:032x}", u128::from_be_bytes(id(seq as u64)))
}

/// Rollouts of a group that the archive shows.
fn rollouts(group: &Group) -> Vec<(u64, i8)> {
    let parts = group.parts.iter().enumerate();
    let there =
        parts.filter(|(part, _)| group.end != End::Unarchived && !(group.damaged && *part == 0));
    there.flat_map(|(_, rows)| rows.clone()).collect()
}

fn amount<'a>(groups: impl Iterator<Item = &'a Group>) -> Amount {
    let mut amount = Amount::default();
    for group in groups {
        let rollouts = rollouts(group);
        amount += Amount {
            groups: 1,
            rollouts: rollouts.len() as u64,
            tokens: rollouts.iter().map(|rollout| rollout.0).sum(),
        };
    }
    amount
}

fn close(found: Option<f64>, expected: &[f64]) -> bool {
    match found {
        None => expected.is_empty(),
        Some(found) => {
            let mean = expected.iter().sum::<f64>() / expected.len() as f64;
            (found - mean).abs() <= 1e-9 * mean.abs().max(1.0)
        }
    }
}

fn check(found: &ProducerFigures, groups: &[Group]) -> Result<(), TestCaseError> {
    let of = |ends: &[End]| amount(groups.iter().filter(|group| ends.contains(&group.end)));
    let trained = of(&[End::Trained, End::Unarchived]);
    prop_assert_eq!(found.produced, amount(groups.iter()));
    prop_assert_eq!(found.trained, trained);
    prop_assert_eq!(
        found.rejected.get("too_stale").copied().unwrap_or_default(),
        of(&[End::Rejected])
    );
    prop_assert!(found.rejected.len() <= 1, "{:?}", found.rejected);
    prop_assert_eq!(found.in_flight, of(&[End::InFlight]));
    prop_assert_eq!(found.before_start, of(&[End::BeforeStart]));
    prop_assert_eq!(found.unarchived, of(&[End::Unarchived]).groups);
    let values = |ends: &[End], of: fn(&(u64, i8)) -> f64| -> Vec<f64> {
        let groups = groups.iter().filter(|group| ends.contains(&group.end));
        groups
            .flat_map(rollouts)
            .map(|rollout| of(&rollout))
            .collect()
    };
    let produced = [End::Trained, End::Rejected, End::InFlight];
    let length = |rollout: &(u64, i8)| rollout.0 as f64;
    let reward = |rollout: &(u64, i8)| f64::from(rollout.1);
    let mean = |side: Option<super::Distribution>| side.map(|side| side.mean);
    let lengths = &found.length;
    prop_assert!(close(mean(lengths.produced), &values(&produced, length)));
    prop_assert!(close(
        mean(lengths.trained),
        &values(&[End::Trained], length)
    ));
    prop_assert!(close(found.reward.produced, &values(&produced, reward)));
    prop_assert!(close(
        found.reward.trained,
        &values(&[End::Trained], reward)
    ));
    let aged = groups.iter().filter(|group| group.end == End::Trained);
    let ages = aged.flat_map(|group| {
        let age = group.update.saturating_sub(group.sampler) as f64;
        rollouts(group).into_iter().map(move |_| age)
    });
    let ages: Vec<_> = ages.collect();
    prop_assert!(close(mean(found.staleness), &ages));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_group_of_a_history_is_counted_once(
        groups in prop::collection::vec(group(), 0..60),
    ) {
        let found = census(&groups);
        check(&found.total, &groups)?;
        for producer in 0..3 {
            let own: Vec<_> = groups.iter().filter(|group| group.producer == producer).cloned().collect();
            match found.by_producer.get(&name(producer)) {
                Some(figures) => check(figures, &own)?,
                None => prop_assert!(own.is_empty()),
            }
        }
        let mut sums = [Amount::default(); 3];
        for figures in found.by_producer.values() {
            for (sum, part) in sums.iter_mut().zip([figures.produced, figures.trained, figures.in_flight]) {
                *sum += part;
            }
        }
        let total = &found.total;
        prop_assert_eq!(sums, [total.produced, total.trained, total.in_flight]);
        let rejected: u64 = total.rejected.values().map(|amount| amount.groups).sum();
        prop_assert_eq!(
            total.produced.groups,
            total.trained.groups + rejected + total.in_flight.groups + total.before_start.groups
        );
    }
}

#[test]
fn one_long_completion_leaves_room_for_the_others() {
    let groups = (0..200).map(|at| plain(0, End::Trained, if at == 0 { 900_000 } else { 100 }));
    let found = census(&groups.collect::<Vec<_>>());
    let drawn = figure(&found.lengths).unwrap();
    assert!(
        drawn
            .note
            .contains("The last bars have everything longer, up to 900,000.")
    );
    assert!(drawn.svg.is_some());
    assert!(figure(&census(&[]).lengths).unwrap().svg.is_none());
}

fn plain(producer: u8, end: End, length: u64) -> Group {
    Group {
        producer,
        end,
        parts: vec![vec![(length, 1); 4]],
        update: 5,
        sampler: 3,
        copied: (false, false),
        damaged: false,
    }
}

#[test]
fn a_bound_that_lets_short_answers_through_is_reported() {
    let fair = |producer| {
        (0..200).map(move |at| {
            let end = if at % 3 == 0 {
                End::Rejected
            } else {
                End::Trained
            };
            plain(producer, end, 100 + at / 3 % 50)
        })
    };
    let short_first = (0..200).map(|at| {
        let length = 50 + at % 100;
        let end = if length > 100 {
            End::Rejected
        } else {
            End::Trained
        };
        plain(1, end, length)
    });
    let found = census(&fair(0).chain(short_first).collect::<Vec<_>>());
    let bias = |producer| found.by_producer[&name(producer)].length.bias;
    assert!(!bias(0).biased, "{:?}", bias(0));
    assert!(bias(1).biased && bias(1).ratio < Some(0.8), "{:?}", bias(1));
    assert!(found.total.length.bias.biased);
    assert!(!found.total.reward.bias.biased);
    let mut page = String::new();
    section(&mut page, &found, Age::Staleness);
    let said = "What trained is not like what was produced: length of all producers, length of producer-1.";
    assert!(page.contains(said), "{page}");
    assert!(
        page.contains("all 2") && page.contains("<small>too stale 67</small>"),
        "{page}"
    );
}

#[test]
fn a_producer_that_hardly_trains_biases_the_whole() {
    let groups = (0..100).flat_map(|at| {
        let late = if at < 30 { End::Trained } else { End::Rejected };
        [
            plain(0, End::Trained, 40 + at % 7),
            plain(1, late, 400 + at % 7),
        ]
    });
    let found = census(&groups.collect::<Vec<_>>());
    let each = found.by_producer.values();
    assert!(each.into_iter().all(|figures| !figures.length.bias.biased));
    assert!(found.total.length.bias.biased, "{:?}", found.total.length);
    assert_eq!(found.by_producer[&name(1)].trained_share, Some(0.3));
}
