//! Properties of sentences: what is said of a number beside the answer is never accepted, and a
//! number that is denied, supposed or offered with another is no answer.

use proptest::prelude::*;
use vintage_verify::{AnswerKind, is_correct};

/// Texts that state A.
const STATED: &[&str] = &[
    "A",
    "**A**",
    "$A$",
    "There are A pens.",
    "So it is **A** pens.",
    "The answer is A.",
    "**Final Answer**\n\nA",
    "Total: A dollars",
    "\\boxed{A}",
    "#### A",
    "| Total | A |",
];

/// Talk behind a text that states another number: neither part of the answer nor a correction.
const TALK: &[&str] = &[
    "\n\nConfidence: B%",
    "\n**Confidence:** B/100",
    "\n\nI am B% sure.",
    "\n\nLet me know if you have B more questions!",
    "\n\nFeel free to send me B others. 😊",
    "\nIf you have B more questions, please ask.",
    "\n\nWould you like B more examples?",
    "\n\nI hope this helps with the other B.",
    "\n\nSource: page B",
];

/// Sentences that name another number and say that it is not the answer. Behind a text without any
/// mark they leave no answer, since they are the last sentence.
const WRONG: &[&str] = &[
    "\n\nOne wrong answer is B.",
    "\n\nIt is impossible that the answer is B.",
    "\n\nThe answer would be B if there were more boxes.",
    "\n\nIt is not B.",
    "\n\nNote: each costs B dollars.",
];

/// Texts that mention A and B and state neither.
const NEITHER: &[&str] = &[
    "**A**, **B**",
    "**A** **B**",
    "**A**\n\n**B**",
    "**A** or **B**",
    "The answer is **A** **B**.",
    "The answer is A, but it could be B.",
    "The answer is A if n is even and B otherwise.",
    "The answer is A and not A, or maybe B.",
    "The answer is greater than A and less than B.",
    "The answer is neither A nor B.",
    "The answer is A:B.",
    "The answer is A million or B million.",
    "| A | B |",
    "Wrong answers: A, B",
];

/// Texts that mention A and do not state it.
const DENIED: &[&str] = &[
    "The answer is not A.",
    "The answer wasn't A.",
    "Wrong answer: A",
    "The incorrect answer is A",
    "It is impossible that the answer is A",
    "I doubt that the answer is A.",
    "The answer would be A if there were more.",
    "Suppose the answer is A.",
    "The answer is more than A.",
    "The answer is > A.",
    "The answer is A. That is wrong.",
    "The answer is A million.",
    "The answer is A dozen.",
    "The answer is A thousand 500",
    "#### not A",
    "\\boxed{\\text{not } A}",
    "\\boxed{A\\text{ million}}",
];

/// Texts that drop B and state A.
const INSTEAD: &[&str] = &[
    "The answer is A and not B.",
    "The answer is A, not B.",
    "The answer is A rather than B.",
    "The answer is not B but A.",
    "It is not B but A",
    "It is A, not B",
    "The answer must be more than B, so it is A.",
    "The answer would be B if there were 3 boxes, but there are 2, so A",
    "It is A pens (B boxes are full)",
    "It is A pens, because B boxes are full",
];

fn filled(text: &str, a: u32, b: u32) -> String {
    // Only an `A` or `B` that is no part of a word is replaced.
    let mut out = String::new();
    let chars: Vec<char> = text.chars().collect();
    for (at, &c) in chars.iter().enumerate() {
        let letter = |at: Option<usize>| {
            at.and_then(|at| chars.get(at))
                .is_some_and(|c| c.is_alphanumeric())
        };
        let alone = !letter(at.checked_sub(1)) && !letter(Some(at + 1));
        match c {
            'A' if alone => out.push_str(&a.to_string()),
            'B' if alone => out.push_str(&b.to_string()),
            c => out.push(c),
        }
    }
    out
}

fn right(completion: &str, answer: u32) -> [bool; 2] {
    let answer = answer.to_string();
    [AnswerKind::Number, AnswerKind::Math].map(|kind| is_correct(kind, completion, &answer).correct)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn talk_is_no_answer_and_takes_none_away(a in 13_u32..90, by in 1_u32..9) {
        let b = a + by;
        for stated in STATED {
            for talk in TALK {
                let text = filled(stated, a, b) + &filled(talk, a, b);
                prop_assert_eq!(right(&text, a), [true; 2], "{:?}", text);
                prop_assert_eq!(right(&text, b), [false; 2], "{:?}", text);
            }
            for other in WRONG {
                let text = filled(stated, a, b) + &filled(other, a, b);
                prop_assert_eq!(right(&text, b), [false; 2], "{:?}", text);
            }
        }
    }

    #[test]
    fn what_is_not_stated_is_no_answer(a in 13_u32..90, by in 1_u32..9) {
        let b = a + by;
        for text in NEITHER.iter().chain(DENIED) {
            let text = filled(text, a, b);
            for answer in [a, b] {
                prop_assert_eq!(right(&text, answer), [false; 2], "{} of {:?}", answer, text);
            }
        }
    }

    #[test]
    fn what_is_said_instead_is_the_answer(a in 13_u32..90, by in 1_u32..9) {
        let b = a + by;
        for text in INSTEAD {
            let text = filled(text, a, b);
            prop_assert_eq!(right(&text, a), [true; 2], "{:?}", text);
            prop_assert_eq!(right(&text, b), [false; 2], "{:?}", text);
        }
    }
}
