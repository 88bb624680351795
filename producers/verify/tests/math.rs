//! Tests of mathematical equality, case by case. `golden/math.tsv` lists the expected verdicts, and
//! the integration tests compare it with math-verify too.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use vintage_verify::{AnswerKind, check, is_correct};

/// Table of `kind, answer, completion, verdict`, with these names in its first line.
const TABLE: &str = include_str!("golden/math.tsv");

fn judged(completion: &str, answer: &str) -> bool {
    is_correct(AnswerKind::Math, completion, answer).correct
}

/// Table that tests which part of a completion is judged; columns as in [`TABLE`], `␤` is a line
/// feed.
const FINAL: &str = include_str!("golden/final.tsv");

#[test]
fn the_table_holds() {
    holds(TABLE, 300);
}

#[test]
fn the_final_answer_is_what_is_judged() {
    holds(FINAL, 200);
}

/// The kinds number and math take the answer from the same place, so they agree if the known answer
/// is a number.
#[test]
fn numbers_are_judged_by_the_same_final_answer() {
    let mut wrong = Vec::new();
    let mut cases = 0;
    for line in FINAL.lines().skip(1) {
        let fields: Vec<_> = line.split('\t').collect();
        let [kind, answer, completion, verdict] = fields.as_slice() else {
            panic!("not four fields: {line:?}");
        };
        // How numbers are written is each kind's own affair.
        if *kind == "written" || check(AnswerKind::Number, answer).is_err() {
            continue;
        }
        cases += 1;
        let completion = completion.replace('␤', "\n");
        let found = is_correct(AnswerKind::Number, &completion, answer);
        if found.correct != (*verdict == "right") {
            wrong.push(format!(
                "{answer} | {line} is {verdict}: {:?}",
                found.extracted
            ));
        }
    }
    assert!(cases >= 100, "{cases} cases");
    assert!(
        wrong.is_empty(),
        "{} of {cases}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn holds(table: &str, least: usize) {
    let mut wrong = Vec::new();
    let mut cases = 0;
    for line in table.lines().skip(1) {
        let fields: Vec<_> = line.split('\t').collect();
        let [kind, answer, completion, verdict] = fields.as_slice() else {
            panic!("not four fields: {line:?}");
        };
        assert!(matches!(*verdict, "right" | "wrong"), "{line:?}");
        assert_eq!(
            check(AnswerKind::Math, answer).err().map(|e| e.to_string()),
            None
        );
        let correct = judged(&completion.replace('␤', "\n"), answer);
        if correct != (*verdict == "right") {
            wrong.push(format!("{kind}: {answer} | {completion} is {verdict}"));
        }
        cases += 1;
    }
    assert!(cases >= least, "{cases} cases");
    assert!(
        wrong.is_empty(),
        "{} of {cases}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Sentences as policies write them, some of which mention a number that is not the answer.
#[test]
fn a_sentence_gives_the_answer_it_announces() {
    let right = [
        ("5", "The answer is 5, because 2+3 = 5 and 6 is too many"),
        ("5", "The answer is 5 (2 red and 3 blue)"),
        ("366", "The answer is 366 downloads over the 3 months."),
        ("4", "The answer is 4, not 5"),
        ("7", "The answer is 3 + 4 = 7"),
        ("2/3", "The answer is 2/3 of the cake"),
        ("5", "It is not 4. The answer is 5."),
        ("5", "It is not 4. So we get 5."),
        ("A", "The correct answer is option A"),
        ("A", "Choice A"),
        ("A", "Option A is right."),
        ("A", "\\boxed{\\text{Option A}}"),
        ("(B)", "The correct option is B"),
        ("False", "The answer is false."),
    ];
    let wrong = [
        ("5", "The answer is 4, not 5"),
        ("5", "The answer is not 5"),
        ("5", "The answer is not $5$"),
        ("5", "5 is wrong"),
        ("5", "The answer is between 4 and 5"),
        ("6", "The answer is 5, because 2+3 = 5 and 6 is too many"),
        ("A", "A person walked to the shop."),
        ("A", "Option A is wrong."),
        ("A", "The correct answer is option B"),
    ];
    let cases = right.map(|case| (case, true)).into_iter();
    let cases = cases.chain(wrong.map(|case| (case, false)));
    let off: Vec<_> = cases
        .filter(|((answer, completion), verdict)| judged(completion, answer) != *verdict)
        .collect();
    assert!(off.is_empty(), "{off:#?}");
}

#[test]
fn answers_that_nothing_compares_with_are_refused() {
    let long = format!("x{}", "+1".repeat(1000));
    for answer in [
        "",
        " ",
        ",",
        "$$",
        "\\boxed{}",
        "\\boxed{42",
        "\\frac{1}{2",
        "}{",
        &long,
    ] {
        let refused = check(AnswerKind::Math, answer);
        assert!(refused.is_err(), "{answer:?} is accepted");
        assert!(
            !judged(&format!("\\boxed{{{answer}}}"), answer),
            "{answer:?}"
        );
    }
    let error = check(AnswerKind::Math, "\\boxed{42")
        .unwrap_err()
        .to_string();
    assert!(error.contains("cut off"), "{error}");
}

#[test]
fn what_was_found_is_said() {
    let found = |completion: &str| is_correct(AnswerKind::Math, completion, "7").extracted;
    assert_eq!(
        found("so \\boxed{6} or \\boxed{7}.").unwrap(),
        "\\boxed{6} or \\boxed{7}"
    );
    assert_eq!(found("first \\boxed{6}, then \\boxed{7}.").unwrap(), "7");
    assert_eq!(found("The answer is $x=8$ cm.").unwrap(), "$x=8$ cm");
    assert_eq!(found("The answer is the number 7.").unwrap(), "7");
    assert_eq!(found("\\boxed{7"), None);
    assert_eq!(found(""), None);
}

/// Comparisons of hostile texts take bounded time and memory.
#[test]
fn hostile_answers_take_bounded_time() {
    let nested = |open: &str, core: &str, close: &str, times: usize| {
        format!("{}{core}{}", open.repeat(times), close.repeat(times))
    };
    let mut slowest = (Duration::ZERO, String::new());
    let listed = |times: u32, sign: &str, item: fn(u32) -> String| {
        (0..times).map(item).collect::<Vec<_>>().join(sign)
    };
    let hostile = [
        nested("(", "1", ")", 900),
        nested("-", "1", "", 1900),
        nested("2^{", "2", "}", 400),
        nested("\\sqrt{2+", "3", "}", 30),
        nested("\\sqrt{x+", "y", "}", 30),
        nested("\\sin(x+", "y", ")", 30),
        nested("|x+", "y", "|", 30),
        nested("\\frac{1}{1+", "x", "}", 30),
        nested("\\{", "1", "\\}", 35),
        "9^{9^{9}}".to_owned(),
        "(9^{9999})!".to_owned(),
        "10^{-99999999999999999999}".to_owned(),
        "(a+b+c+d+e+f+g+h)^{40}".to_owned(),
        "(1+\\sqrt{2}+\\sqrt{3}+\\sqrt{5}+\\sqrt{7}+\\sqrt{11}+\\sqrt{13})^{40}".to_owned(),
        format!("\\sqrt{{{}}}", "9".repeat(300)),
        format!("\\sqrt{{{}}}", "7".repeat(1900)),
        format!("\\frac{{{}}}{{{}}}", "7".repeat(900), "3".repeat(900)),
        "(x+y+z)(x-y+z)".repeat(100),
        "\\sin x\\cos y+".repeat(100) + "1",
        "\\ln(x+1)\\cdot ".repeat(100) + "1",
        "\\sqrt{x+y}+\\sqrt[3]{x-y}-".repeat(60) + "1",
        "\\{\\sqrt{2+\\sqrt{3}},".repeat(80),
        listed(90, ",", |n| format!("\\sqrt{{{n}}}")),
        listed(60, "\\cup", |n| format!("({n},{n}.5)")),
        listed(60, "\\text{ and }", |n| format!("x\\ne {n}")),
        listed(900, "/", |n| (n % 9).to_string()),
        "\\pm 1".repeat(300),
        "\\pm x,".repeat(250) + "1",
        "1_{".repeat(600),
        "x'".repeat(900),
        "5!".to_owned() + &"!".repeat(1900),
        "\\text{".repeat(350) + &"}".repeat(350),
        "\\binom{9999}{4999}".to_owned(),
    ];
    for text in &hostile {
        let begun = Instant::now();
        let changed = text.replacen('1', "4", 1).replacen('y', "z", 1) + "+0";
        judged(&format!("\\boxed{{{changed}}}"), text);
        judged(text, "\\sqrt{2}");
        let (taken, begins) = (begun.elapsed(), text.chars().take(40).collect::<String>());
        // All of them together take half a second, and up to 20 s on two cores with ten builds.
        assert!(taken.as_secs() < 60, "{begins} took {taken:?}");
        slowest = slowest.max((taken, begins));
    }
    assert!(
        slowest.0.as_millis() > 0,
        "nothing was compared: {slowest:?}"
    );
}

/// Writes `factor`·x^`power` in one of four styles.
fn term(factor: i64, power: u32, style: u8) -> String {
    let sign = if factor < 0 { "-" } else { "+" };
    let size = factor.abs();
    match style % 4 {
        0 => format!("{sign}{size}x^{power}"),
        1 => format!("{sign}{size}\\cdot x^{{{power}}}"),
        2 => format!("{sign}\\frac{{{}x^{power}}}{{3}}", 3 * size),
        _ => format!("{sign}x^{power}\\cdot{size}.0"),
    }
}

proptest! {
    #[test]
    fn a_sum_is_equal_in_any_order_and_style_and_to_no_other(
        terms in prop::collection::vec((-50_i64..50, 0_u32..6, any::<u8>()), 1..8),
        shuffle in any::<u64>(),
    ) {
        let write = |order: &[usize], styled: bool| -> String {
            order.iter().map(|&at| {
                let (factor, power, style) = terms[at];
                term(factor, power, if styled { style } else { 0 })
            }).collect()
        };
        let mut order: Vec<usize> = (0..terms.len()).collect();
        let plain = write(&order, false);
        order.sort_by_key(|&at| shuffle.rotate_left(at as u32 * 7) ^ at as u64);
        let completion = format!("so it is $\\boxed{{{}}}$.", write(&order, true));
        prop_assert!(judged(&completion, &plain), "{plain} is not {completion}");
        let other = format!("{plain}+\\frac{{1}}{{1000000}}");
        prop_assert!(!judged(&completion, &other), "{other} is {completion}");
    }

    #[test]
    fn a_product_is_what_it_expands_to(
        a in 1_i64..40, b in -40_i64..40, c in 1_i64..40, d in -40_i64..40,
    ) {
        let product = format!("({a}x+{b})({c}x+{d})").replace("+-", "-");
        let (square, linear, constant) = (a * c, a * d + b * c, b * d);
        let expanded = format!("\\boxed{{{square}x^2+{linear}x+{constant}}}").replace("+-", "-");
        prop_assert!(judged(&expanded, &product), "{product} is not {expanded}");
        let ratio = format!("\\boxed{{\\frac{{{square}x^2+{linear}x+{constant}}}{{{a}x+{b}}}}}");
        let quotient = format!("{c}x+({d})");
        prop_assert!(judged(&ratio.replace("+-", "-"), &quotient));
        prop_assert!(!judged(&expanded, &product.replacen('x', "y", 1)));
    }

    #[test]
    fn roots_are_exact(square in 1_i64..60, radicand in 1_i64..60, other in 1_i64..60) {
        let inside = square * square * radicand;
        let root = format!("\\boxed{{\\sqrt{{{inside}}}}}");
        let product = format!("{square}\\sqrt{{{radicand}}}");
        prop_assert!(judged(&root, &product));
        // The identity (√a + √b)² = a + b + 2√ab is not visible in any normal form.
        let (sum, product) = (radicand + other, radicand * other);
        let nested = format!("\\boxed{{\\sqrt{{{sum}+2\\sqrt{{{product}}}}}}}");
        let flat = format!("\\sqrt{{{radicand}}}+\\sqrt{{{other}}}");
        prop_assert!(judged(&nested, &flat), "{nested} is not {flat}");
        let other = format!("{flat}+10^{{-20}}");
        prop_assert!(!judged(&nested, &other));
    }

    #[test]
    fn sets_have_no_order_and_tuples_do(mut items in prop::collection::vec(-99_i64..99, 2..9)) {
        items.sort_unstable();
        items.dedup();
        let list = |items: &[i64]| {
            items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let (up, sorted) = (list(&items), items.clone());
        items.reverse();
        let down = list(&items);
        let set = format!("\\boxed{{\\{{{down}\\}}}}");
        prop_assert!(judged(&set, &up));
        let tuple = judged(&format!("\\boxed{{({down})}}"), &format!("({up})"));
        prop_assert_eq!(tuple, items == sorted);
    }

    #[test]
    fn an_answer_is_right_for_itself(pieces in prop::collection::vec(prop::sample::select(PIECES), 1..12)) {
        let answer = pieces.concat();
        if check(AnswerKind::Math, &answer).is_ok() {
            prop_assert!(judged(&format!("\\boxed{{{answer}}}"), &answer), "{}", answer);
        }
    }
}

/// Pieces of answers whose braces are closed, so that a box around them is closed too.
const PIECES: &[&str] = &[
    "1",
    "2.5",
    "x",
    "y_1",
    "+",
    "-",
    "\\cdot ",
    "/",
    "^2",
    "(",
    ")",
    "[",
    "]",
    "\\{",
    "\\}",
    ",",
    "=",
    "<",
    "\\frac12",
    "\\frac{a}{b}",
    "\\sqrt{3}",
    "\\pi",
    "\\infty",
    "\\cup ",
    "\\pm ",
    "|",
    "!",
    "\\sin ",
    "\\text{ cm}",
    "\\%",
    "^\\circ",
    "\\begin{pmatrix}1&2\\end{pmatrix}",
    " and ",
    "yes",
];
