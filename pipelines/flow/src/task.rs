//! Prompts and answers of the built-in tasks: pure functions, so that a run finds the same ones on every
//! machine and after every upgrade.

use std::{borrow::Cow, collections::BTreeSet, fmt::Write as _};

use vintage_config::presets;
use vintage_settings::BuiltInTask;

use crate::error::{Error, Result};

/// Half of a task's prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    /// Prompts to train on.
    Train,
    /// Prompts to evaluate on; none of them can be among those to train on.
    HeldOut,
}

/// Number of digits of a prompt.
const DIGITS: usize = 6;

/// Returns the name of the file that holds half of a task's prompts, from the folder of all of them.
pub(crate) fn file(task: BuiltInTask, half: Half) -> &'static str {
    match (task, half) {
        (BuiltInTask::Sort, Half::Train) => "sort/train.jsonl",
        (BuiltInTask::Sort, Half::HeldOut) => "sort/heldout.jsonl",
        (BuiltInTask::EvensFirst, Half::Train) => "evens_first/train.jsonl",
        (BuiltInTask::EvensFirst, Half::HeldOut) => "evens_first/heldout.jsonl",
        (BuiltInTask::Sums, Half::Train) => "chain6/train.jsonl",
        (BuiltInTask::Sums, Half::HeldOut) => "chain6/heldout.jsonl",
    }
}

/// Returns half of a task's prompts and answers as JSON lines.
///
/// # Errors
/// [`Error::Bug`] if the program was built without the rows of the running sums.
pub(crate) fn rows(task: BuiltInTask, half: Half) -> Result<Cow<'static, str>> {
    let answer = match task {
        BuiltInTask::Sums => {
            let name = file(task, half);
            return presets::data(name)
                .map(Cow::Borrowed)
                .ok_or_else(|| Error::Bug(format!("no built-in prompts called {name}")));
        }
        BuiltInTask::Sort => sorted,
        BuiltInTask::EvensFirst => evens_first,
    };
    let mut text = String::new();
    for digits in drawn(half) {
        let answer = answer(&digits);
        let row = format_args!("{{\"prompt\":\"{digits}=\",\"answer\":\"{answer}\"}}");
        let _infallible = writeln!(text, "{row}");
    }
    Ok(Cow::Owned(text))
}

/// Returns the digits in ascending order: `4729` becomes `2479`.
fn sorted(digits: &str) -> String {
    let mut digits: Vec<_> = digits.chars().collect();
    digits.sort_unstable();
    digits.into_iter().collect()
}

/// Returns the even digits and then the odd ones, each in their order: `4729` becomes `4279`.
fn evens_first(digits: &str) -> String {
    // The codes of the digits are as even as they are.
    let is_even = |digit: &char| u32::from(*digit).is_multiple_of(2);
    let (evens, odds): (String, String) = digits.chars().partition(is_even);
    evens + &odds
}

/// Draws the digits of the prompts of a half, each of them once.
fn drawn(half: Half) -> Vec<String> {
    let (count, seed) = match half {
        Half::Train => (16_384, 0x7261_696e),
        Half::HeldOut => (1024, 0x6865_6c64),
    };
    let mut random = Random(seed);
    let mut seen = BTreeSet::new();
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let digits: String = (0..DIGITS).map(|_| random.digit()).collect();
        if half_of(&digits) == half && seen.insert(digits.clone()) {
            all.push(digits);
        }
    }
    all
}

/// Returns the half that digits belong to, whatever is drawn: held out is what has a sum of
/// `i * digit i` (i from 1) that is a multiple of 7.
fn half_of(digits: &str) -> Half {
    let weighted = (1..).zip(digits.chars().filter_map(|digit| digit.to_digit(10)));
    let sum: u32 = weighted.map(|(i, digit)| i * digit).sum();
    if sum.is_multiple_of(7) {
        Half::HeldOut
    } else {
        Half::Train
    }
}

/// Source of random numbers (SplitMix64). It is written out here because the prompts of a run must stay
/// the same whatever version of a library the program is built with.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Draws a digit; their probabilities differ by less than 1e-18.
    fn digit(&mut self) -> char {
        char::from(b'0' + (self.bits() % 10) as u8)
    }
}

#[cfg(test)]
mod tests;
