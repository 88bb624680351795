use serde_json::json;
use vintage_control::EvaluationResult;

use super::{Comparison, Plan, Report, Trial};
use crate::course::{Arm as _, State};

const ALL: [Comparison; 3] = [Comparison::Remix, Comparison::Samplers, Comparison::Hybrid];

fn plan(comparison: Comparison) -> Plan {
    Plan {
        comparison,
        groups: 1600,
        first_seed: 7,
        seeds: 2,
        lr: 1e-4,
    }
}

#[test]
fn every_way_but_those_of_hybrids_has_the_same_new_groups() {
    for comparison in ALL {
        let plan = plan(comparison);
        plan.check().expect("a plan");
        for way in comparison.ways() {
            let groups = way.updates(&plan) * way.new;
            if comparison == Comparison::Hybrid {
                assert_eq!(way.updates(&plan), 100, "{}", way.name);
            } else {
                // As near as whole updates come to it.
                assert!((1600 - groups) < way.new, "{}: {groups}", way.name);
            }
        }
    }
}

#[test]
fn equal_steps_are_equal() {
    let plan = plan(Comparison::Remix);
    let steps = |name| {
        let mut ways = plan.comparison.ways().iter();
        ways.find(|way| way.name == name)
            .expect("a way")
            .steps(&plan)
    };
    assert_eq!((steps("grpo_steps"), steps("mix_utd")), (320, 320));
    // 80 updates of two steps, and 80 of one.
    assert_eq!((steps("grpo"), steps("remix")), (100, 240));
}

#[test]
fn names_are_unique_and_a_whole_table_of_a_seed_comes_first() {
    for comparison in ALL {
        let arms = plan(comparison).arms();
        let ways = comparison.ways().len();
        assert!(arms[..ways].iter().all(|arm| arm.seed == 7));
        let mut names: Vec<_> = arms.iter().map(crate::course::Arm::name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), arms.len());
    }
}

fn evaluations(every: u64, sampled: &[f64]) -> Vec<EvaluationResult> {
    let one = |(at, sampled): (u64, &f64)| {
        let result = json!({
            "format": "vintage-control/1", "policy": "lead", "version": every * at,
            "sampled_accuracy": sampled, "greedy_accuracy": sampled, "samples": 64, "seconds": 0.0,
        });
        serde_json::from_value(result).expect("an evaluation")
    };
    (0..).zip(sampled).map(one).collect()
}

#[test]
fn what_a_way_differs_from_is_a_way() {
    for comparison in ALL {
        let is_way = |name: &str| comparison.ways().iter().any(|way| way.name == name);
        let beside = comparison.ways().iter().filter_map(|way| way.beside);
        assert!(beside.into_iter().all(is_way), "{comparison:?}");
    }
}

#[test]
fn a_hybrid_begins_after_the_run_whose_archive_it_takes() {
    let arms = plan(Comparison::Hybrid).arms();
    for (at, arm) in arms.iter().enumerate() {
        let Some(after) = arm.after() else { continue };
        let source = arms.iter().position(|arm| arm.name() == after);
        assert!(source.expect("a source") < at, "{}", arm.name());
    }
    assert_eq!(arms[0].after(), None);
}

#[test]
fn ways_are_compared_on_equal_seeds_and_by_new_groups() {
    let plan = plan(Comparison::Samplers);
    let result = crate::staleness::tests::update(0, 0, [0.0, 0.0], 1.0);
    let trial = |name: &str, seed: u64, sampled: &[f64]| {
        let mut arms = plan.arms().into_iter();
        let arm = arms.find(|arm| arm.way.name == name && arm.seed == seed);
        let arm = arm.expect("an arm");
        let evaluations = evaluations(8, sampled);
        let results = std::slice::from_ref(&result);
        Trial::new(arm, arm.way.loss, State::Finished, results, &evaluations)
    };
    let trials = vec![
        trial("none", 7, &[0.0, 0.2]),
        trial("none", 8, &[0.0, 0.4]),
        trial("curated", 7, &[0.0, 0.6]),
        trial("curated", 8, &[0.0, 0.8]),
    ];
    let report = Report::new(plan, 0.7, trials);
    let row = report.rows.iter().find(|row| row.way == "curated");
    let means = row.and_then(|row| row.means.as_ref()).expect("two runs");
    let first = means.difference.expect("a baseline");
    // The last four evaluations are both: 0.3 and 0.4 beside 0.1 and 0.2.
    assert!((first.mean - 0.2).abs() < 1e-12, "{first:?}");
    // Version 8 of 10 new groups an update, in one of two runs.
    assert_eq!(
        (means.groups_to.expect("one reached it").mean, means.reached),
        (80.0, 1)
    );
    // Nothing was run that curated differs from in one thing.
    assert!(report.contrasts.is_empty());
    let text = report.text();
    assert!(
        text.contains("80, 1 of 2") && text.contains("+20.0"),
        "{text}"
    );
    assert!(report.finished_runs("curated").len() == 2);
}
