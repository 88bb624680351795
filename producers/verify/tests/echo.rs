//! Answers that repeat the question: a policy that is paid for them learns nothing else.

use vintage_verify::{AnswerKind, is_correct, is_correct_after};

fn judged(question: &str, completion: &str, answer: &str) -> bool {
    is_correct_after(AnswerKind::Math, question, completion, answer).correct
}

#[test]
fn a_question_said_again_is_no_answer() {
    let chat = "<|im_start|>user\nWhat is 20 + 34? Reply with the number only.<|im_end|>\n";
    for completion in [
        "20 + 34",
        "20 + 34.",
        "$34 + 20$",
        "\\boxed{20+34}",
        "The answer is 20 + 34.",
        "20 + 34 = X",
        "20 + 34 = 34 + 20",
        "**20 + 34**",
    ] {
        assert!(!judged(chat, completion, "54"), "{completion}");
    }
    for completion in ["54", "20 + 34 = 54", "54.", "\\boxed{54}", "20 + 34 is 54"] {
        assert!(judged(chat, completion, "54"), "{completion}");
    }
    for (question, completion, answer) in [
        ("Expand $(x+1)^2$.", "$(x + 1)^2$", "x^2+2x+1"),
        ("Simplify \\sqrt{12}.", "\\boxed{\\sqrt{12}}", "2\\sqrt{3}"),
        ("Factor $x^2-1$.", "x^2 - 1", "(x-1)(x+1)"),
        ("What is 2^{10}?", "\\boxed{2^{10}}", "1024"),
        ("Add 1,2 and 3.", "1 + 2 + 3", "6"),
        ("What is 1,200 \\times 3?", "\\boxed{1200 \\cdot 3}", "3600"),
    ] {
        assert!(!judged(question, completion, answer), "{completion}");
    }
}

#[test]
fn an_answer_that_stands_in_the_question_is_one() {
    for (question, completion, answer) in [
        ("Which is larger, 3/4 or 2/3?", "3/4", "3/4"),
        ("Which is larger, 3/4 or 2/3?", "3/4", "0.75"),
        ("Is x^2+1 or x^2-1 irreducible?", "\\boxed{x^2+1}", "x^2+1"),
        (
            "Which line is steeper, y = 2x+1 or y = 3x-1?",
            "$3x-1$",
            "y=3x-1",
        ),
        ("Is it 7 or 8?", "7", "7"),
        ("Choose: (A) 1+1 (B) 2+3", "(B) 2+3", "B"),
        ("What is 12 + 30?", "40 + 2", "42"),
        ("Expand $(x+1)^2$.", "x^2+2x+1", "x^2+2x+1"),
        ("Write 0.5 as a fraction.", "1/2", "\\frac{1}{2}"),
        ("What is 10 - 20?", "-10", "-10"),
    ] {
        assert!(judged(question, completion, answer), "{completion}");
    }
}

#[test]
fn an_equation_comes_to_its_last_side() {
    let wrong = |completion: &str, answer: &str| {
        assert!(
            !is_correct(AnswerKind::Math, completion, answer).correct,
            "{completion}"
        );
    };
    wrong("36 - 8 = 24", "28");
    wrong("\\boxed{36 - 8 = 24}", "28");
    assert!(is_correct(AnswerKind::Math, "36 - 8 = 28", "28").correct);
    assert!(is_correct(AnswerKind::Math, "\\boxed{3+4=7}", "7").correct);
}
