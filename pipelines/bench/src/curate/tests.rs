use super::{Arm, Contender, Plan, Report, Workload, measure};

fn small(seed: u64) -> Report {
    let plan = Plan {
        rows: vec![60, 240],
        sizes: vec![8],
        epsilon: 0.2,
        every: vec![1, 1_000_000],
        updates: 400,
        curators: Contender::ALL.to_vec(),
        workload: Workload::Coverage,
        seed,
    };
    measure(&plan, |_| ()).unwrap()
}

/// Returns what does not depend on the machine.
fn counted(report: &Report) -> Vec<(Contender, u64, u64, u64)> {
    let arms = report.measured.iter().flat_map(|measured| &measured.arms);
    let bits = |arm: &Arm| {
        (
            arm.curator,
            arm.update_calls.to_bits(),
            arm.question_calls.to_bits(),
            arm.value.to_bits(),
        )
    };
    arms.map(bits).collect()
}

#[test]
fn calls_and_values_are_a_function_of_the_seed() {
    assert_eq!(counted(&small(1)), counted(&small(1)));
    assert_ne!(counted(&small(1)), counted(&small(2)));
}

#[test]
fn curators_that_look_are_worth_more_than_those_that_do_not() {
    for measured in small(1).measured {
        let value = |curator| {
            let arm = measured.arms.iter().find(|arm| arm.curator == curator);
            arm.unwrap().value
        };
        assert_eq!(value(Contender::LazyGreedy), 1.0);
        for curator in [Contender::Sieve, Contender::Levels, Contender::LevelsEager] {
            for blind in [Contender::Uniform, Contender::Newest] {
                assert!(value(curator) > value(blind), "{measured:?}");
            }
        }
    }
}

#[test]
fn a_total_has_a_share_of_the_question_and_levels_lose_if_it_is_asked_rarely() {
    let report = small(1);
    let greedy = &report.measured[0].arms[0];
    let (each, rarely) = (greedy.total(1).0, greedy.total(1_000_000).0);
    assert!(each > 10.0 && rarely < 2.0, "{greedy:?}");
    let of = |every| {
        let mut wins = report.wins.iter();
        wins.find(|wins| wins.every == every && wins.against == Contender::LazyGreedy)
            .unwrap()
    };
    assert_eq!(of(1_000_000).by_calls, None);
}
