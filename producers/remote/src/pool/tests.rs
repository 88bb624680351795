use proptest::prelude::*;

use super::*;

const V: fn(u64) -> PolicyVersion = PolicyVersion;

fn serving(endpoints: usize) -> Pool {
    let mut pool = Pool::new(endpoints);
    for index in 0..endpoints {
        assert!(pool.take_due(index, Duration::ZERO));
        pool.open(index, V(0));
    }
    pool
}

#[test]
fn the_endpoint_with_the_fewest_requests_is_taken() {
    let mut pool = serving(3);
    let mut take = || pool.pick(Duration::ZERO, V(0), None);
    assert_eq!([take(), take(), take()], [0, 1, 2].map(Pick::Take));
    pool.ended(1);
    assert_eq!(pool.pick(Duration::ZERO, V(0), None), Pick::Take(1));
    pool.ended(1);
    // An endpoint that just failed a request is not asked again if another can be.
    assert_ne!(pool.pick(Duration::ZERO, V(0), Some(1)), Pick::Take(1));
}

#[test]
fn a_busy_endpoint_rests_as_long_as_it_asks() {
    let mut pool = serving(1);
    let asks = Some(Duration::from_secs(7));
    assert!(pool.failed(0, Duration::from_secs(1), Verdict::Busy, asks, "429"));
    let until = Duration::from_secs(8);
    assert_eq!(
        pool.pick(Duration::from_secs(2), V(0), None),
        Pick::At(until)
    );
    assert_eq!(pool.pick(until, V(0), None), Pick::Take(0));
}

#[test]
fn a_broken_endpoint_takes_no_request_until_it_is_brought_up() {
    let mut pool = serving(1);
    assert!(pool.failed(0, Duration::ZERO, Verdict::Broken, None, "reset"));
    let is_news = pool.failed(0, Duration::ZERO, Verdict::Broken, None, "reset");
    assert!(!is_news, "one outage is told once");
    assert_eq!(pool.pick(Duration::from_secs(999), V(0), None), Pick::None);
    assert!(!pool.serves(V(0)) && !pool.take_due(0, Duration::ZERO));
    assert!(pool.take_due(0, SHORTEST));
    pool.open(0, V(3));
    assert!(pool.serves(V(3)) && !pool.serves(V(4)));
    assert_eq!(pool.pick(SHORTEST, V(4), None), Pick::None);
    assert_eq!(pool.pick(SHORTEST, V(3), None), Pick::Take(0));
}

#[derive(Debug, Clone)]
enum Step {
    Pick(u64, Option<usize>),
    End(usize),
    Fail(usize, Verdict),
    Close(usize),
    Settle(usize, Option<u64>),
    Due(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let verdict = prop::sample::select(vec![
        Verdict::Sound,
        Verdict::Busy,
        Verdict::Wrong,
        Verdict::Broken,
    ]);
    prop_oneof![
        4 => (0_u64..4, prop::option::of(0_usize..3)).prop_map(|(v, avoid)| Step::Pick(v, avoid)),
        2 => (0_usize..8).prop_map(Step::End),
        2 => (0_usize..3, verdict).prop_map(|(i, verdict)| Step::Fail(i, verdict)),
        1 => (0_usize..3).prop_map(Step::Close),
        2 => (0_usize..3, prop::option::of(0_u64..4)).prop_map(|(i, v)| Step::Settle(i, v)),
        2 => (0_usize..3).prop_map(Step::Due),
        2 => (0_u64..40_000).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens, a request goes only to an endpoint in service with a version that is new
    /// enough; closed endpoints are those whose owner has not settled them; requests are counted
    /// exactly; and no rest is longer than the longest.
    #[test]
    fn requests_go_only_where_they_may(steps in prop::collection::vec(step(), 1..200)) {
        let mut pool = serving(3);
        let mut now = Duration::ZERO;
        let mut taken: Vec<usize> = Vec::new();
        let mut closed = [false; 3];
        for step in steps {
            match step {
                Step::Pick(version, avoid) => match pool.pick(now, V(version), avoid) {
                    Pick::Take(index) => {
                        prop_assert!(!closed[index]);
                        prop_assert_eq!(pool.0[index].phase, Phase::Ready);
                        prop_assert!(pool.0[index].version >= V(version));
                        taken.push(index);
                    }
                    Pick::At(until) => prop_assert!(now < until && until <= now + LONGEST),
                    Pick::None => {
                        let fits = |endpoint: &Endpoint| {
                            endpoint.phase == Phase::Ready && endpoint.version >= V(version)
                        };
                        prop_assert!(!pool.0.iter().any(fits), "one was ready");
                    }
                },
                Step::End(place) if !taken.is_empty() => {
                    let index = taken.swap_remove(place % taken.len());
                    pool.ended(index);
                }
                Step::Fail(index, verdict) => {
                    let _is_news = pool.failed(index, now, verdict, None, "why");
                }
                Step::Close(index) => {
                    let was = closed[index];
                    let now_closed = pool.close(index);
                    prop_assert!(!(was && now_closed), "closed twice");
                    closed[index] |= now_closed;
                }
                Step::Settle(index, version) if closed[index] => {
                    closed[index] = false;
                    match version {
                        Some(version) => pool.open(index, V(version)),
                        None => pool.give_up(index, now, "why"),
                    }
                }
                Step::End(_) | Step::Settle(..) => {}
                Step::Due(index) => if pool.take_due(index, now) {
                    prop_assert!(!closed[index]);
                    closed[index] = true;
                },
                Step::Wait(millis) => now += Duration::from_millis(millis),
            }
            for (index, &closed) in closed.iter().enumerate() {
                prop_assert_eq!(closed, pool.0[index].phase == Phase::Closed);
                let outstanding = taken.iter().filter(|&&taken| taken == index).count();
                prop_assert_eq!(pool.0[index].outstanding, outstanding as u64);
            }
            let due = (0..3).filter_map(|index| pool.due(index));
            prop_assert!(due.max().is_none_or(|due| due <= now + LONGEST));
        }
        // Left alone, every endpoint comes back.
        for (index, closed) in closed.into_iter().enumerate() {
            if closed {
                pool.open(index, V(9));
            }
        }
        now += LONGEST;
        for index in 0..3 {
            if pool.take_due(index, now) {
                pool.open(index, V(9));
            }
        }
        prop_assert!(matches!(pool.pick(now, V(0), None), Pick::Take(_)));
    }
}
