//! Properties that hold for every batch: the invariants of Algorithm 1 and of the control arms.

use proptest::prelude::*;
use vintage_losses::{Rule, Tokens, mask_m2, weigh};

/// Batch whose log-probs are whole multiples of 2^-20. Squares and their sums are then whole
/// multiples of 2^-40, so every decision can be checked in integers.
#[derive(Debug, Clone)]
struct Batch {
    /// Log-ratio per token, in units of 2^-20.
    steps: Vec<i64>,
    behavior: Vec<f64>,
    new: Vec<f64>,
    advantage: Vec<f64>,
    valid: Vec<bool>,
}

const STEP: f64 = 1.0 / (1 << 20) as f64;
const TAUS: [f64; 6] = [0.04, 0.0625, 0.0, 0.01, 0.5, 1e-4];

impl Batch {
    fn of(tokens: Vec<(i64, i64, f64, bool)>) -> Self {
        let mut batch = Self {
            steps: Vec::new(),
            behavior: Vec::new(),
            new: Vec::new(),
            advantage: Vec::new(),
            valid: Vec::new(),
        };
        for (steps, behavior, advantage, valid) in tokens {
            batch.steps.push(steps);
            batch.behavior.push(behavior as f64 * STEP);
            batch.new.push((behavior + steps) as f64 * STEP);
            batch.advantage.push(advantage);
            batch.valid.push(valid);
        }
        batch
    }

    fn tokens(&self) -> Tokens<'_, f64> {
        Tokens::new(&self.new, &self.behavior, &self.advantage, &self.valid)
    }

    fn in_trust(&self, i: usize) -> bool {
        let (l, a) = (self.steps[i], self.advantage[i]);
        self.valid[i] && ((a > 0.0 && l > 0) || (a < 0.0 && l < 0))
    }

    /// Returns `v_i`, the squared log-ratio, in units of 2^-40.
    fn square(&self, i: usize) -> i128 {
        i128::from(self.steps[i]).pow(2)
    }

    fn permuted(&self, order: &[usize]) -> Self {
        let token = |&i: &usize| {
            let behavior = (self.behavior[i] / STEP) as i64;
            (self.steps[i], behavior, self.advantage[i], self.valid[i])
        };
        Self::of(order.iter().map(token).collect())
    }
}

/// Compares the mean of `count` squares with sum `sum` to `tau`, exactly.
fn compare(sum: i128, count: usize, tau: f64) -> std::cmp::Ordering {
    if tau == 0.0 {
        return sum.cmp(&0);
    }
    let bits = tau.to_bits();
    let mantissa = i128::from((bits & ((1 << 52) - 1)) | (1 << 52));
    // tau = mantissa * 2^-power; sums are in units of 2^-40.
    let power = 1075 - ((bits >> 52) & 0x7ff) as i32;
    assert!((40..=100).contains(&power), "tau within reach of i128");
    (sum << (power - 40)).cmp(&(mantissa * count as i128))
}

/// Runs Algorithm 1 as printed: while the mean is above `tau`, it drops the largest square, and of
/// equal ones the first in order. With `areal` set it is AReaL's loop: over all valid tokens, with
/// a strict bound, and one token always kept.
fn algorithm_1(batch: &Batch, tau: f64, areal: bool) -> Vec<bool> {
    let mut mask = batch.valid.clone();
    let mut left: Vec<usize> = (0..mask.len())
        .filter(|&i| {
            if areal {
                batch.valid[i]
            } else {
                batch.in_trust(i)
            }
        })
        .collect();
    loop {
        let sum: i128 = left.iter().map(|&i| batch.square(i)).sum();
        let order = compare(sum, left.len(), tau);
        let done = if areal {
            order.is_lt() || left.len() <= 1
        } else {
            order.is_le()
        };
        if done || left.is_empty() {
            return mask;
        }
        let at = (0..left.len())
            .max_by_key(|&k| (batch.square(left[k]), std::cmp::Reverse(left[k])))
            .expect("not empty");
        mask[left.remove(at)] = false;
    }
}

fn log_ratio_steps() -> impl Strategy<Value = i64> {
    prop_oneof![
        // Most log-ratios are about 0.05.
        4 => -60_000_i64..60_000,
        // Some log-ratios are about 1.
        1 => -2_000_000_i64..2_000_000,
        // Few levels, which give ties.
        3 => (-8_i64..=8).prop_map(|level| level << 16),
        1 => Just(0_i64),
    ]
}

fn advantage() -> impl Strategy<Value = f64> {
    prop_oneof![4 => -2.0..2.0_f64, 1 => Just(0.0), 3 => Just(1.0), 2 => Just(-1.0)]
}

fn batch(max: usize) -> impl Strategy<Value = Batch> {
    let token = (
        log_ratio_steps(),
        -4_000_000_i64..0,
        advantage(),
        prop::bool::weighted(0.9),
    );
    prop::collection::vec(token, 0..max).prop_map(Batch::of)
}

fn tau() -> impl Strategy<Value = f64> {
    prop::sample::select(TAUS.to_vec())
}

/// Returns the sum and the count of the kept squares of `T`, and the smallest masked one.
fn kept_of_trust(batch: &Batch, mask: &[bool]) -> (i128, usize, Option<i128>) {
    let trust = (0..mask.len()).filter(|&i| batch.in_trust(i));
    let (kept, masked): (Vec<usize>, Vec<usize>) = trust.partition(|&i| mask[i]);
    (
        kept.iter().map(|&i| batch.square(i)).sum(),
        kept.len(),
        masked.iter().map(|&i| batch.square(i)).min(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn paper_mask_is_algorithm_1(batch in batch(80), tau in tau()) {
        let got = mask_m2(&batch.tokens(), tau).expect("finite");
        prop_assert_eq!(got.mask, algorithm_1(&batch, tau, false));
    }

    #[test]
    fn areal_mask_is_its_loop(batch in batch(80), tau in tau()) {
        let rule = Rule::M2poAreal { tau, eps: 0.2, behavior_cap: None };
        let got = weigh(&rule, &batch.tokens()).expect("finite");
        prop_assert_eq!(got.mask, algorithm_1(&batch, tau, true));
    }

    /// Checks the four properties that define the mask, in integers, on batches of several blocks,
    /// where the naive loop is too slow.
    #[test]
    fn large_masks_are_the_smallest_that_meet_the_budget(
        batch in prop::collection::vec(
            (log_ratio_steps(), -4_000_000_i64..0, advantage(), prop::bool::weighted(0.95)),
            2000..5000,
        ).prop_map(Batch::of),
        tau in tau(),
    ) {
        let mask = mask_m2(&batch.tokens(), tau).expect("finite").mask;
        let (sum, count, smallest) = kept_of_trust(&batch, &mask);
        prop_assert!(count == 0 || compare(sum, count, tau).is_le(), "M2 after is at most tau");
        for (i, &kept) in mask.iter().enumerate() {
            prop_assert!(kept <= batch.valid[i], "a kept token is valid");
            if batch.valid[i] && !kept {
                prop_assert!(batch.in_trust(i), "only T is masked");
                prop_assert!(compare(batch.square(i), 1, tau).is_gt(), "masked tokens are over tau");
            }
        }
        if let Some(smallest) = smallest {
            prop_assert!(
                compare(sum + smallest, count + 1, tau).is_gt(),
                "the smallest masked token does not fit"
            );
            let largest = (0..mask.len())
                .filter(|&i| batch.in_trust(i) && mask[i])
                .map(|i| batch.square(i))
                .max();
            prop_assert!(largest <= Some(smallest), "an upper set of v is masked");
            let ties: Vec<bool> = (0..mask.len())
                .filter(|&i| batch.in_trust(i) && batch.square(i) == smallest)
                .map(|i| mask[i])
                .collect();
            prop_assert!(ties.is_sorted(), "of equal tokens the first are dropped");
        }
    }

    #[test]
    fn order_of_tokens_does_not_matter(
        (batch, order) in batch(400).prop_flat_map(|batch| {
            let order: Vec<usize> = (0..batch.steps.len()).collect();
            (Just(batch), Just(order).prop_shuffle())
        }),
        tau in tau(),
    ) {
        let shuffled = batch.permuted(&order);
        let here = mask_m2(&batch.tokens(), tau).expect("finite");
        let there = mask_m2(&shuffled.tokens(), tau).expect("finite");
        prop_assert_eq!(here.n_masked, there.n_masked);
        let sorted_kept = |batch: &Batch, mask: &[bool]| {
            let mut kept: Vec<i128> = (0..mask.len())
                .filter(|&i| batch.in_trust(i) && mask[i])
                .map(|i| batch.square(i))
                .collect();
            kept.sort_unstable();
            kept
        };
        prop_assert_eq!(sorted_kept(&batch, &here.mask), sorted_kept(&shuffled, &there.mask));
    }

    /// Checks that invalid tokens do not matter, although they shift the valid ones across block
    /// boundaries and may hold any value.
    #[test]
    fn padding_does_not_matter(batch in batch(300), pad in 0_usize..1500, tau in tau()) {
        let mut padded = batch.clone();
        for list in [&mut padded.new, &mut padded.behavior, &mut padded.advantage] {
            let fill = std::iter::repeat_n([f64::NAN, f64::INFINITY, 5.0], pad).flatten().take(pad);
            list.splice(0..0, fill);
        }
        padded.valid.splice(0..0, std::iter::repeat_n(false, pad));
        for (i, valid) in padded.valid.clone().into_iter().enumerate() {
            if !valid {
                padded.new[i] = f64::NAN;
                padded.behavior[i] = f64::NEG_INFINITY;
                padded.advantage[i] = f64::NAN;
            }
        }
        for rule in rules(tau) {
            let (Ok(plain), Ok(with)) =
                (weigh(&rule, &batch.tokens()), weigh(&rule, &padded.tokens()))
            else {
                prop_assert!(matches!(rule, Rule::M2poFork { .. }), "{rule:?} refused");
                continue;
            };
            prop_assert_eq!(&with.mask[pad..], &plain.mask[..]);
            prop_assert_eq!(&with.weight[pad..], &plain.weight[..]);
            prop_assert!(with.weight[..pad].iter().all(|&weight| weight == 0.0));
            prop_assert_eq!(with.loss, plain.loss);
            prop_assert_eq!(with.stats, plain.stats);
        }
    }

    #[test]
    fn a_larger_budget_never_masks_more(batch in batch(300), tau in tau(), more in 0.0..0.2_f64) {
        let less = mask_m2(&batch.tokens(), tau).expect("finite");
        let more = mask_m2(&batch.tokens(), tau + more).expect("finite");
        for (less, more) in less.mask.iter().zip(&more.mask) {
            prop_assert!(less <= more);
        }
    }

    #[test]
    fn the_size_of_advantages_does_not_matter(batch in batch(300), tau in tau(), c in 1e-6..1e6) {
        let mut scaled = batch.clone();
        for advantage in &mut scaled.advantage {
            *advantage *= c;
        }
        prop_assert_eq!(
            mask_m2(&batch.tokens(), tau).expect("finite"),
            mask_m2(&scaled.tokens(), tau).expect("finite")
        );
    }

    /// Checks that tokens with A > 0 which the paper masks are among those that a clip at 0.2
    /// stops: at tau = 0.04 a masked token has r above 1.2214 or below 0.8187.
    #[test]
    fn paper_masks_for_good_answers_are_clipped_by_grpo(batch in batch(300)) {
        let tokens = batch.tokens();
        let paper = weigh(&Rule::PAPER, &tokens).expect("finite");
        let grpo = weigh(&Rule::GrpoClip { eps: 0.2 }, &tokens).expect("finite");
        for i in (0..batch.steps.len()).filter(|&i| batch.valid[i] && !paper.mask[i]) {
            let ratio = (batch.new[i] - batch.behavior[i]).exp();
            prop_assert!(!(0.8187..=1.2214).contains(&ratio), "r = {ratio}");
            if batch.advantage[i] > 0.0 {
                prop_assert!(!grpo.mask[i]);
            }
        }
    }

    #[test]
    fn a_doubled_batch_masks_twice_as_many_or_one_fewer(batch in batch(200), tau in tau()) {
        let order: Vec<usize> = (0..batch.steps.len()).chain(0..batch.steps.len()).collect();
        let double = batch.permuted(&order);
        let once = mask_m2(&batch.tokens(), tau).expect("finite");
        let twice = mask_m2(&double.tokens(), tau).expect("finite");
        prop_assert!((once.m2_before - twice.m2_before).abs() <= 1e-12 * once.m2_before);
        // Ties at the cut may keep several more, each one of several equal tokens.
        let (_, _, smallest) = kept_of_trust(&batch, &once.mask);
        let ties = (0..batch.steps.len())
            .filter(|&i| batch.in_trust(i) && Some(batch.square(i)) == smallest)
            .count() as u64;
        prop_assert!(twice.n_masked <= 2 * once.n_masked);
        prop_assert!(twice.n_masked + ties.max(1) >= 2 * once.n_masked);
        if ties <= 1 && once.n_masked > 0 {
            prop_assert!(twice.n_masked + 1 >= 2 * once.n_masked);
        }
    }

    /// Checks that `weight` is the derivative of `loss` where a small step changes no decision.
    #[test]
    fn weights_are_derivatives(batch in batch(24), tau in tau(), at in 0_usize..24) {
        let h = 1e-5;
        let prox: Vec<f64> = batch.behavior.iter().map(|b| b + 0.03).collect();
        for rule in rules(tau) {
            if at >= batch.steps.len() || !batch.valid[at] {
                continue;
            }
            let at_offset = |offset: f64| {
                let mut moved = batch.clone();
                moved.new[at] += offset;
                let tokens = Tokens { prox: Some(&prox), ..moved.tokens() };
                weigh(&rule, &tokens)
            };
            let (Ok(low), Ok(here), Ok(high)) = (at_offset(-h), at_offset(0.0), at_offset(h)) else {
                continue;
            };
            let same = low.mask == here.mask
                && high.mask == here.mask
                && low.stats.ratio_bounds == high.stats.ratio_bounds
                && low.stats.n_clipped == high.stats.n_clipped;
            if same {
                let slope = (high.loss - low.loss) / (2.0 * h);
                let size = here.weight[at].abs().max(1e-3);
                prop_assert!(
                    (slope - here.weight[at]).abs() <= 1e-5 * size,
                    "{:?}: {} against {}", rule, slope, here.weight[at]
                );
            }
        }
    }

    /// Checks that every rule equals plain REINFORCE, with weight -A / N, when the batch is on
    /// policy.
    #[test]
    fn on_policy_all_rules_agree(batch in batch(60)) {
        let mut fresh = batch;
        fresh.new = fresh.behavior.clone();
        let n = fresh.valid.iter().filter(|&&valid| valid).count() as f64;
        for rule in rules(0.04) {
            let weighed = weigh(&rule, &fresh.tokens()).expect("finite");
            prop_assert_eq!(&weighed.mask, &fresh.valid);
            for (i, &weight) in weighed.weight.iter().enumerate() {
                let expected = if fresh.valid[i] { -fresh.advantage[i] / n } else { 0.0 };
                prop_assert!((weight - expected).abs() <= 2e-8 * expected.abs(), "{:?}", rule);
            }
        }
    }

    /// Checks that f32 and f64 inputs give one mask if f32 holds the values exactly, as it does
    /// every multiple of 2^-20 up to 8.
    #[test]
    fn f32_and_f64_inputs_mask_alike(batch in batch(300), tau in tau()) {
        let narrow = |list: &[f64]| list.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let (new, behavior) = (narrow(&batch.new), narrow(&batch.behavior));
        prop_assume!(new.iter().zip(&batch.new).all(|(&f, &d)| f64::from(f) == d));
        let advantage = narrow(&batch.advantage);
        let single = Tokens::new(&new, &behavior, &advantage, &batch.valid);
        prop_assert_eq!(
            mask_m2(&single, tau).expect("finite"),
            mask_m2(&batch.tokens(), tau).expect("finite")
        );
    }

    /// Checks that |log r| up to 1000 gives no NaN and no overflow, and that clamped tokens are
    /// counted.
    #[test]
    fn extreme_ratios_stay_finite(
        ratios in prop::collection::vec((-1000.0..1000.0_f64, -2.0..2.0_f64), 1..60),
        tau in tau(),
    ) {
        let (new, advantage): (Vec<f64>, Vec<f64>) = ratios.into_iter().unzip();
        let behavior = vec![0.0; new.len()];
        let valid = vec![true; new.len()];
        let tokens = Tokens::new(&new, &behavior, &advantage, &valid);
        for rule in rules(tau) {
            let Ok(weighed) = weigh(&rule, &tokens) else {
                continue;
            };
            prop_assert!(weighed.loss.is_finite());
            prop_assert!(weighed.weight.iter().all(|weight| weight.is_finite()));
            let beyond = new.iter().filter(|l| l.abs() > 20.0).count() as u64;
            prop_assert_eq!(weighed.stats.n_clamped, beyond);
        }
    }
}

fn rules(tau: f64) -> [Rule; 8] {
    [
        Rule::M2poPaper { tau },
        Rule::M2poAreal {
            tau: tau.max(1e-4),
            eps: 0.2,
            behavior_cap: None,
        },
        Rule::M2poAreal {
            tau: tau.max(1e-4),
            eps: 0.2,
            behavior_cap: Some(5.0),
        },
        Rule::M2poFork { tau: tau.max(1e-4) },
        Rule::GrpoClip { eps: 0.2 },
        Rule::MixPpg {
            eps: 0.2,
            dual_clip: Some(3.0),
        },
        Rule::DecoupledPpo {
            eps: 0.2,
            dual_clip: Some(3.0),
            cap: Some(5.0),
        },
        Rule::None,
    ]
}
