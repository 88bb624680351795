//! Tests of all curators and objectives, by what they promise.

mod history;
mod objectives;
mod promises;

use proptest::prelude::*;
use vintage_control::PolicyVersion;

use crate::{
    Bins, CandidateId, ConcaveOverGroups, Curator, FacilityLocation, Kind, Objective, Settings,
    WeightedCoverage,
};

pub(super) const KINDS: [Kind; 7] = [
    Kind::DynamicLevels {
        epsilon: 0.2,
        eager: false,
    },
    Kind::DynamicLevels {
        epsilon: 0.1,
        eager: true,
    },
    Kind::Sieve { epsilon: 0.2 },
    Kind::LazyGreedy { every: 0 },
    Kind::LazyGreedy { every: 3 },
    Kind::Uniform,
    Kind::Newest,
];

pub(super) fn id(number: u64) -> CandidateId {
    CandidateId(u128::from(number).to_be_bytes())
}

/// Candidate of a test: its weight and its features.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item<F> {
    pub(super) weight: f64,
    pub(super) features: F,
}

/// Operation of a test. A deletion names one of those that live, by its place.
#[derive(Debug, Clone)]
pub(super) enum Op<F> {
    Insert(Item<F>),
    Delete(prop::sample::Index),
}

/// Live items of a test, in the order of insertion, with their numbers.
pub(super) type Live<F> = Vec<(u64, Item<F>)>;

/// Applies operations to a curator and to a plain list; `after` is called after each of them.
pub(super) fn apply<O: Objective>(
    curator: &mut Curator<O>,
    ops: &[Op<O::Features>],
    live: &mut Live<O::Features>,
    first: u64,
    mut after: impl FnMut(&mut Curator<O>, &Live<O::Features>),
) {
    for (number, op) in (first..).zip(ops) {
        match op {
            Op::Insert(item) => {
                let version = PolicyVersion(number);
                curator
                    .insert_features(id(number), version, item.weight, item.features.clone())
                    .unwrap();
                live.push((number, item.clone()));
            }
            Op::Delete(_) if live.is_empty() => continue,
            Op::Delete(which) => {
                let (gone, _) = live.remove(which.index(live.len()));
                curator.delete(id(gone)).unwrap();
            }
        }
        after(curator, live);
    }
}

pub(super) fn curator<O: Objective>(objective: &O, kind: Kind, k: usize, seed: u64) -> Curator<O> {
    let settings = Settings {
        kind,
        k,
        seed,
        decay: 1.0,
    };
    Curator::with(objective.clone(), settings).unwrap()
}

/// Returns the state of a curator as text.
pub(super) fn state<O: Objective>(curator: &Curator<O>) -> String {
    serde_json::to_string(curator).unwrap()
}

fn ops<F: std::fmt::Debug + Clone>(
    features: impl Strategy<Value = F>,
    most: usize,
) -> impl Strategy<Value = Vec<Op<F>>> {
    let weight = prop_oneof![1 => Just(0.0), 4 => (1..4_u32).prop_map(f64::from), 4 => 0.01..3.0];
    let item = (weight, features).prop_map(|(weight, features)| Item { weight, features });
    let delete = any::<prop::sample::Index>().prop_map(Op::Delete);
    prop::collection::vec(
        prop_oneof![3 => item.prop_map(Op::Insert), 1 => delete],
        1..most,
    )
}

pub(super) fn coverage_ops(most: usize) -> impl Strategy<Value = Vec<Op<Vec<u64>>>> {
    let features = prop::collection::btree_set(0..12_u64, 1..6);
    ops(features.prop_map(|set| set.into_iter().collect()), most)
}

pub(super) fn groups_ops(most: usize) -> impl Strategy<Value = Vec<Op<Bins>>> {
    let bins = (0..6_u64, 0..3_u64, 0..3_u64);
    let bins = bins.prop_map(|(prompt, outcome, length)| Bins {
        prompt,
        outcome,
        length,
    });
    ops(bins, most)
}

pub(super) fn facility_ops(most: usize) -> impl Strategy<Value = Vec<Op<Vec<f32>>>> {
    ops(prop::collection::vec(0.0..1.0_f32, 5), most)
}

/// Calls a generic test for each objective, with operations made for it.
macro_rules! for_each_objective {
    ($test:ident, $most:expr, $cases:expr) => {
        mod $test {
            use super::*;
            proptest! {
                #![proptest_config(ProptestConfig::with_cases($cases))]
                #[test]
                fn by_coverage(ops in coverage_ops($most), k in 1..6_usize) {
                    super::$test(&WeightedCoverage, &ops, k)?;
                }
                #[test]
                fn by_groups(ops in groups_ops($most), k in 1..6_usize) {
                    super::$test(&ConcaveOverGroups::default(), &ops, k)?;
                }
                #[test]
                fn by_facilities(ops in facility_ops($most), k in 1..6_usize) {
                    super::$test(&FacilityLocation::default(), &ops, k)?;
                }
            }
        }
    };
}
pub(super) use for_each_objective;
