//! Tests of the verdict, case by case.

use vintage_verify::{AnswerKind, Number, boxed, check, hashes, is_correct, last_number};

/// Texts that are one number each: all of one entry are equal, and those of two entries never are.
const EQUAL: &[&[&str]] = &[
    &[
        "0",
        "-0",
        "+0",
        "00",
        "0.0",
        "0/7",
        "0%",
        ".0",
        "0e9",
        "−0",
        "$0.00",
        "\\frac{0}{5}",
    ],
    &[
        "42", " 42 ", "+42", "042", "42.0", "42.", "42.00", "84/2", "$42", "42 €", "4.2e1",
        "420e-1",
    ],
    &[
        "-42",
        "−42",
        "-42.0",
        "-$42",
        "$-42",
        "-84/2",
        "-\\frac{84}{2}",
        "\\frac{-84}{2}",
    ],
    &[
        "0.5",
        ".5",
        "1/2",
        "2/4",
        "0.50",
        "5e-1",
        "\\frac{1}{2}",
        "\\dfrac{2}{4}",
        "\\tfrac{1}{2}",
    ],
    &["-0.5", "-.5", "-1/2", "−1/2"],
    &[
        "1234567",
        "1,234,567",
        "1{,}234{,}567",
        "1\\,234\\,567",
        "1\u{a0}234\u{a0}567",
    ],
    &[
        "1234.5",
        "1,234.5",
        "1,234.50",
        "$1,234.50",
        "2469/2",
        "\\$1,234.5",
        "£1,234.5",
    ],
    &[
        "1000",
        "1,000",
        "1e3",
        "1E3",
        "1e+3",
        "1,000.000",
        "1\u{202f}000",
        "1\u{2009}000",
        "¥1000",
    ],
    &["1/3", "2/6", "333/999", "\\frac{1}{3}", "1,000/3,000"],
    &["0.333", "333/1000"],
    &["0.3333333333333333", "3333333333333333/10000000000000000"],
    &["0.1", "1/10", "0.10"],
    &["0.30000000000000004"],
    &["0.3", "3/10"],
    &[
        "12345678901234567890123456789012345678901234567890",
        "12345678901234567890123456789012345678901234567890.0",
    ],
    &["12345678901234567890123456789012345678901234567891"],
    &["1e100", "10e99", "0.1e101"],
    &["1e-100", "0.1e-99"],
    &["1e999999999999"],
    &["1e999999999998"],
    &["7", "7 ₽", "₹7", "₩7", "₺7", "7.", "7 $"],
];

/// Texts that are not exactly one number.
const NO_NUMBER: &[&str] = &[
    "",
    " ",
    ".",
    "-",
    "+",
    "$",
    "%",
    "/",
    "1/0",
    "0/0",
    "x",
    "1,23",
    "12,34,567",
    "1,2345",
    "1 2",
    "1 000",
    "--1",
    "1--",
    "1/2/3",
    "1.2.3",
    "5 apples",
    "x=5",
    "1/-2",
    "e5",
    "1e",
    "1 / 2",
    "½",
    "\\frac{1}{0}",
    "\\frac{1}",
    "\\frac{a}{b}",
    "∞",
    "NaN",
    "inf",
    "0x10",
    "1_000",
    "...5",
    "５",
];

/// Completion, known answer, expected verdict, and the text found in the completion.
type Case = (&'static str, &'static str, bool, Option<&'static str>);

const NUMBERS: &[Case] = &[
    // the last number counts
    ("42", "42", true, Some("42")),
    ("The answer is 42.", "42", true, Some("42")),
    ("3+4=7", "7", true, Some("7")),
    ("3 + 4 = 7, so 8", "7", false, Some("8")),
    ("7 apples and 2 pears", "7", false, Some("2")),
    ("It costs $5.", "5", true, Some("$5")),
    ("It costs 5$.", "5", true, Some("5$")),
    ("It costs $1,234.50!", "1234.5", true, Some("$1,234.50")),
    ("US$50", "50", true, Some("50")),
    ("x = -5", "-5", true, Some("-5")),
    ("x=-5", "-5", true, Some("-5")),
    ("x = −5", "-5", true, Some("−5")),
    ("temperature: +3", "3", true, Some("+3")),
    ("10-5", "5", true, Some("5")),
    ("10 - 5", "5", true, Some("5")),
    ("(3)-5", "5", true, Some("5")),
    ("pages 3-5", "5", true, Some("5")),
    ("so 3/4 of it", "0.75", true, Some("3/4")),
    ("so 0.75 of it", "3/4", true, Some("0.75")),
    ("on 12/05/2023", "2023", true, Some("2023")),
    ("about 1e3", "1000", true, Some("1e3")),
    ("25 cm^2", "25", true, Some("25")),
    ("25 cm^{2}", "25", true, Some("25")),
    ("25 m2", "25", true, Some("25")),
    ("a_1 = 7 where a_2", "7", true, Some("7")),
    ("7 H2O", "7", true, Some("7")),
    ("the 3rd", "3", true, Some("3")),
    ("5kg", "5", true, Some("5")),
    ("答案是42。", "42", true, Some("42")),
    ("答案：-42", "-42", true, Some("-42")),
    ("it is ...5", "5", true, Some("5")),
    ("version 1.2.3", "3", true, Some("3")),
    ("1,234", "1234", true, Some("1,234")),
    ("1, 2, 3", "3", true, Some("3")),
    ("{1,2,345}", "2345", true, Some("2,345")),
    ("$x=5$", "5", true, Some("5$")),
    ("**12**", "12", true, Some("12")),
    ("<b>12</b>", "12", true, Some("12")),
    ("12\n", "12", true, Some("12")),
    ("12\n\nDone.", "12", true, Some("12")),
    ("1/0", "1", false, None),
    ("no idea", "42", false, None),
    ("", "42", false, None),
    ("4 2", "42", false, Some("2")),
    ("420", "42", false, Some("420")),
    ("-42", "42", false, Some("-42")),
    ("42.1", "42", false, Some("42.1")),
    // percentages
    ("50%", "50%", true, Some("50%")),
    ("50%", "50", true, Some("50%")),
    ("50", "50%", true, Some("50")),
    ("50%", "0.5", true, Some("50%")),
    ("0.5", "50%", true, Some("0.5")),
    ("1/2", "50%", true, Some("1/2")),
    ("50 %", "1/2", true, Some("50 %")),
    ("50\\%", "0.5", true, Some("50\\%")),
    ("50", "0.5", false, Some("50")),
    ("0.5%", "50%", false, Some("0.5%")),
    ("5%", "50", false, Some("5%")),
    ("12.5% of them", "1/8", true, Some("12.5%")),
    // GSM8K's mark
    ("48/2 = 24\n#### 72", "72", true, Some("72")),
    ("#### 72", "72", true, Some("72")),
    ("####72", "72", true, Some("72")),
    ("#### $1,000", "1000", true, Some("$1,000")),
    ("#### 72 apples", "72", true, Some("72")),
    ("#### 72\nThat is 5 less than 77", "72", true, Some("72")),
    ("#### 1\n#### 2", "2", true, Some("2")),
    ("#### ", "72", false, None),
    ("#### none\n72", "72", false, None),
    (
        "72",
        "so 48/2 = 24 and 24+48 = 72\n#### 72",
        true,
        Some("72"),
    ),
    ("72", "#### 1,072", false, Some("72")),
    // boxes
    ("\\boxed{42}", "42", true, Some("42")),
    ("\\boxed {42}", "42", true, Some("42")),
    ("\\fbox{42}", "42", true, Some("42")),
    ("$\\boxed{42}$.", "42", true, Some("42")),
    ("\\boxed{42} because 6*7 is not 41", "42", true, Some("42")),
    ("\\boxed{1} no, \\boxed{2}", "2", true, Some("2")),
    ("\\boxed{\\frac{3}{4}}", "0.75", true, Some("\\frac{3}{4}")),
    (
        "\\boxed{-\\frac{3}{4}}",
        "-3/4",
        true,
        Some("-\\frac{3}{4}"),
    ),
    ("\\boxed{x = \\text{about } 42}", "42", true, Some("42")),
    ("\\boxed{{42}}", "42", true, Some("42")),
    ("\\boxed{\\{42\\}}", "42", true, Some("42")),
    ("\\boxed{\\boxed{42}}", "42", true, Some("42")),
    // The number is cut off, so it may have been the beginning of any other.
    ("\\boxed{42", "42", false, None),
    ("\\boxed{41}, no: \\boxed{42", "41", false, None),
    ("\\boxed{}", "42", false, None),
    ("42 \\boxed{}", "42", false, None),
    ("\\boxed{none} 42", "42", false, None),
    ("\\boxed{1}\n#### 2", "2", true, Some("2")),
    ("#### 1\n\\boxed{2}", "2", true, Some("2")),
    ("\\boxed{50\\%}", "1/2", true, Some("50\\%")),
    ("\\boxed{1{,}000}", "1000", true, Some("1{,}000")),
    ("\\boxed{10^{3}}", "10", false, None),
    ("2^10 = 1024", "1024", true, Some("1024")),
    ("\\boxed{30^\\circ}", "30", true, Some("30")),
    ("\\boxed{30^{\\circ}}", "30", true, Some("30")),
    ("42", "\\boxed{42}", true, Some("42")),
    // answers that state no number make everything wrong
    ("42", "", false, Some("42")),
    ("42", "forty-two", false, Some("42")),
    ("42", "41 or 42", false, Some("42")),
];

const TEXTS: &[Case] = &[
    ("paris", "paris", true, Some("paris")),
    (" paris\n", "paris", true, Some("paris")),
    ("paris", " paris ", true, Some("paris")),
    ("Paris", "paris", false, Some("Paris")),
    ("paris.", "paris", false, Some("paris.")),
    ("in paris", "paris", false, Some("in paris")),
    ("42", "42.0", false, Some("42")),
    ("a  b", "a b", false, Some("a  b")),
    ("é", "é", true, Some("é")),
    ("", "", false, None),
    (" ", "", false, None),
    ("", "paris", false, None),
];

#[test]
fn numbers_are_compared_by_value() {
    let parse = |text: &str| Number::parse(text).unwrap_or_else(|| panic!("no number: {text:?}"));
    for (i, line) in EQUAL.iter().enumerate() {
        for a in *line {
            for (j, other) in EQUAL.iter().enumerate() {
                for b in *other {
                    let equal = parse(a).equals(&parse(b));
                    assert_eq!(equal, i == j, "{a:?} and {b:?}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_number_is_refused() {
    for text in NO_NUMBER {
        assert!(
            Number::parse(text).is_none(),
            "{text:?} was read as a number"
        );
    }
}

#[test]
fn completions_are_judged_by_their_final_number() {
    judge(AnswerKind::Number, NUMBERS);
}

#[test]
fn completions_are_judged_as_whole_texts() {
    judge(AnswerKind::Exact, TEXTS);
}

fn judge(kind: AnswerKind, cases: &[Case]) {
    for &(completion, answer, correct, extracted) in cases {
        let verdict = is_correct(kind, completion, answer);
        assert_eq!(verdict.extracted.as_deref(), extracted, "{completion:?}");
        assert_eq!(
            verdict.correct, correct,
            "{completion:?} against {answer:?}"
        );
    }
}

#[test]
fn answers_are_checked_before_use() {
    for answer in [
        "42",
        " 1,234.5 ",
        "3/4",
        "50%",
        "… #### 72",
        "\\boxed{7}",
        "-$5",
    ] {
        check(AnswerKind::Number, answer).unwrap();
    }
    for answer in [
        "",
        " ",
        "forty",
        "41 or 42",
        "1/0",
        "72 apples",
        "#### ",
        "5 #### x",
    ] {
        let error = check(AnswerKind::Number, answer).unwrap_err().to_string();
        assert!(error.contains("reading the answer"), "{error}");
    }
    check(AnswerKind::Exact, "x").unwrap();
    check(AnswerKind::Exact, " ").unwrap_err();
}

#[test]
fn kinds_are_known_by_name() {
    for kind in AnswerKind::ALL {
        let name = serde_json::to_string(&kind).unwrap();
        assert_eq!(name, format!("\"{kind}\""));
        assert_eq!(serde_json::from_str::<AnswerKind>(&name).unwrap(), kind);
    }
    let error = serde_json::from_str::<AnswerKind>("\"maths\"").unwrap_err();
    assert!(error.to_string().contains("`number`, `math`"), "{error}");
}

#[test]
fn extraction_stands_alone() {
    assert_eq!(boxed("a \\boxed{b{c}d} e"), Some("b{c}d"));
    assert_eq!(boxed("\\boxed{a"), None);
    assert_eq!(boxed("{a}"), None);
    assert_eq!(hashes("x\n####  7 \ny"), Some("7"));
    assert_eq!(hashes("###"), None);
    assert_eq!(last_number("1 and -2.5 kg"), Some("-2.5"));
    assert_eq!(last_number("none"), None);
}
