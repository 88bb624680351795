//! Properties that hold for all texts.

use proptest::prelude::*;
use vintage_verify::{AnswerKind, Number, boxed, check, hashes, is_correct, last_number};

/// Strategy for texts made of pieces of answers, so that most reach the deep branches.
fn answerish() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "\\boxed{",
        "\\fbox",
        "{",
        "}",
        "\\",
        "####",
        "\n",
        " ",
        "-",
        "−",
        "+",
        "$",
        "\\$",
        "€",
        "%",
        "\\%",
        ".",
        ",",
        "{,}",
        "\\,",
        "/",
        "e",
        "E",
        "^",
        "_",
        "x",
        "é",
        "０",
        "\\frac{",
        "}{",
        "\\frac",
        "\\sqrt[",
        "\\sqrt{",
        "\\text{ cm}",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "&",
        "\\\\",
        "\\pm ",
        "\\cup",
        "\\infty",
        "\\sin ",
        "\\log_",
        "\\left",
        "\\{",
        "\\}",
        "(",
        ")",
        "[",
        "]",
        "|",
        "!",
        "<",
        "=",
        "\\ge ",
        "\\pi",
        "i",
        " and ",
        " not ",
        " but ",
        ", so ",
        "The answer is ",
        " if ",
        "**",
        " million",
        "three",
        ":",
        " | ",
        "y",
        "0",
        "00",
        "1",
        "42",
        "999",
        "1e999999999999999999999",
        "170141183460469231731687303715884105727",
        "170141183460469231731687303715884105728",
    ]);
    prop::collection::vec(piece, 0..32).prop_map(|pieces| pieces.concat())
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

proptest! {
    #[test]
    fn no_text_panics(completion in any::<String>(), answer in any::<String>()) {
        examine(&completion, &answer);
    }

    #[test]
    fn no_answerish_text_panics(completion in answerish(), answer in answerish()) {
        examine(&completion, &answer);
    }

    #[test]
    fn equality_is_symmetric_and_reflexive(a in answerish(), b in answerish()) {
        if let Some(a) = Number::parse(&a) {
            prop_assert!(a.equals(&a));
            if let Some(b) = Number::parse(&b) {
                prop_assert_eq!(a.equals(&b), b.equals(&a));
            }
        }
    }

    #[test]
    fn every_way_to_write_an_integer_is_equal(number in any::<u64>(), scale in 1_u64..1000) {
        let plain = number.to_string();
        let fraction = format!("{}/{scale}", u128::from(number) * u128::from(scale));
        let scientific = format!("{number}000e-3");
        let decimal = format!("${}.000", grouped(number));
        for text in [grouped(number), fraction, scientific, decimal] {
            let completion = format!("therefore it is {text}.");
            let verdict = is_correct(AnswerKind::Number, &completion, &plain);
            prop_assert!(verdict.correct, "{:?} gave {:?}", completion, verdict.extracted);
            let next = (u128::from(number) + 1).to_string();
            prop_assert!(!is_correct(AnswerKind::Number, &completion, &next).correct);
        }
    }
}

fn examine(completion: &str, answer: &str) {
    for kind in AnswerKind::ALL {
        let verdict = is_correct(kind, completion, answer);
        let extracted = verdict.extracted.unwrap_or_default();
        assert!(
            completion.contains(&extracted),
            "{extracted:?} is not in {completion:?}"
        );
        assert!(!verdict.correct || check(kind, answer).is_ok());
    }
    for part in [
        boxed(completion),
        hashes(completion),
        last_number(completion),
    ] {
        assert!(completion.contains(part.unwrap_or_default()));
    }
}

/// Time is linear for marks or fractions that never close: no text is scanned again from each of
/// its positions.
#[test]
fn long_hostile_texts_take_linear_time() {
    let started = std::time::Instant::now();
    for piece in [
        "\\boxed{",
        "{",
        "1,",
        "1,111",
        "1/",
        "\\frac{1",
        "1e",
        "-$",
        "#### ",
        "1.",
        " {",
        "$x$ ",
        "\\(",
        "answer is ",
        "\\boxed{1},",
        "bye. ",
        "not 24 but ",
        "answer would be 24 if there were ",
        "wrong answer: 24\n",
        "1 : ",
        "**24** ",
        "three ",
        "hundred thousand ",
        "1 million ",
        "1 000 ",
        "| 1 ",
    ] {
        let text = piece.repeat(200_000 / piece.len());
        is_correct(AnswerKind::Number, &text, "42");
        is_correct(AnswerKind::Math, &text, "42");
    }
    // Linear time takes half a second in all, and 23 s on two cores with ten builds; quadratic time
    // takes many minutes.
    assert!(started.elapsed().as_secs() < 120);
}
