use std::path::Path;

use proptest::prelude::*;
use vintage_rollout::PromptSet;

use super::*;

/// Digits and answers of half of a task, as a run reads them.
fn read(task: BuiltInTask, half: Half) -> Vec<(String, String)> {
    let text = rows(task, half).expect("built in");
    let set = PromptSet::from_reader(Path::new(file(task, half)), text.as_bytes());
    let set = set.expect("prompts");
    let row = |prompt: &vintage_rollout::Prompt| {
        let digits = prompt.text.strip_suffix('=').expect("an equals sign");
        (digits.to_owned(), prompt.answer.clone().expect("an answer"))
    };
    set.prompts().iter().map(row).collect()
}

#[test]
fn no_prompt_of_a_task_is_there_twice_or_in_both_halves() {
    for task in [
        BuiltInTask::Sort,
        BuiltInTask::EvensFirst,
        BuiltInTask::Sums,
    ] {
        let (train, heldout) = (read(task, Half::Train), read(task, Half::HeldOut));
        assert_eq!((train.len(), heldout.len()), (16_384, 1024));
        let all: BTreeSet<_> = train
            .iter()
            .chain(&heldout)
            .map(|(digits, _)| digits)
            .collect();
        assert_eq!(all.len(), train.len() + heldout.len(), "{task:?}");
    }
}

/// Each answer is checked by what it must be, not by the function that made it.
#[test]
fn every_answer_is_right() {
    for half in [Half::Train, Half::HeldOut] {
        for (digits, answer) in read(BuiltInTask::Sort, half) {
            for digit in '0'..='9' {
                let count = |text: &str| text.matches(digit).count();
                assert_eq!(count(&digits), count(&answer), "{digits} and {answer}");
            }
            let ascends = answer.as_bytes().windows(2).all(|two| two[0] <= two[1]);
            assert!(ascends, "{answer} of {digits}");
        }
        for (digits, answer) in read(BuiltInTask::EvensFirst, half) {
            assert_eq!(digits.len(), answer.len());
            let is_odd = |digit: &char| "13579".contains(*digit);
            let (mut odds, mut evens) = (0, 0);
            for digit in digits.chars() {
                let at = if is_odd(&digit) {
                    &mut odds
                } else {
                    &mut evens
                };
                let half = answer.chars().filter(|of| is_odd(of) == is_odd(&digit));
                assert_eq!(half.clone().nth(*at), Some(digit), "{answer} of {digits}");
                *at += 1;
            }
            let mut last = answer.chars().skip_while(|digit| !is_odd(digit));
            assert!(last.all(|digit| is_odd(&digit)), "{answer} of {digits}");
        }
    }
}

/// A run that was begun with these prompts goes on with these prompts only. The digests are those of
/// another implementation, in Python.
#[test]
fn prompts_are_those_of_every_earlier_build() {
    let digest = |task, half| {
        let text = rows(task, half).expect("built in");
        let set = PromptSet::from_reader(Path::new("rows"), text.as_bytes()).expect("prompts");
        set.files()[0].sha256.to_string()
    };
    let digests = [
        digest(BuiltInTask::Sort, Half::Train),
        digest(BuiltInTask::Sort, Half::HeldOut),
        digest(BuiltInTask::EvensFirst, Half::Train),
        digest(BuiltInTask::EvensFirst, Half::HeldOut),
    ];
    let recorded = include_str!("digests.txt");
    assert_eq!(digests.join("\n"), recorded.trim_end());
}

proptest! {
    /// Digits belong to one half only, whoever draws them: prompts of one's own too.
    #[test]
    fn a_half_is_decided_by_the_digits_alone(digits in "[0-9]{1,8}") {
        let weights = digits.bytes().enumerate();
        let sum: usize = weights.map(|(i, digit)| (i + 1) * usize::from(digit - b'0')).sum();
        prop_assert_eq!(half_of(&digits) == Half::HeldOut, sum.is_multiple_of(7));
    }

    #[test]
    fn an_answer_has_the_digits_of_its_prompt_and_is_its_own_answer(digits in "[0-9]{0,12}") {
        for answer in [sorted, evens_first] {
            let right = answer(&digits);
            prop_assert_eq!(answer(&right), right.clone());
            prop_assert_eq!(sorted(&right), sorted(&digits));
        }
    }

    #[test]
    fn draws_are_even(seed: u64) {
        let mut random = Random(seed);
        let mut counts = [0_u32; 10];
        for _ in 0..10_000 {
            let digit = random.digit().to_digit(10).expect("a digit");
            counts[digit as usize] += 1;
        }
        // 1000 expected, with a standard deviation of 30.
        prop_assert!(counts.iter().all(|count| (800..1200).contains(count)), "{:?}", counts);
    }
}
