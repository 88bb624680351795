use vintage_settings::AnswerKind;

use crate::{
    extract::{Found, final_number, known_number},
    math,
    number::Number,
    thought::{has_thought, is_open, spoken},
};

/// Checks that completions can be compared with a known answer. Called when prompts are loaded, so
/// that a damaged answer is found before time is spent on sampling.
///
/// # Errors
/// An empty answer; for [`AnswerKind::Number`], one that does not state exactly one number; for
/// [`AnswerKind::Math`], one that is cut off, or too long to be compared in bounded time.
pub fn check(kind: AnswerKind, answer: &str) -> Result<(), BadAnswer> {
    let refuse = |what| {
        Err(BadAnswer {
            answer: answer.chars().take(80).collect(),
            what,
        })
    };
    if answer.trim().is_empty() {
        return refuse("it is empty; give every prompt an answer");
    }
    match kind {
        AnswerKind::Exact => Ok(()),
        AnswerKind::Number if known_number(answer).is_some() => Ok(()),
        AnswerKind::Number => refuse(
            "it does not state one number; write it as 42, -1,234.5, 3/4, 50%, #### 42 or \
             \\boxed{42}, or check with kind math or exact",
        ),
        AnswerKind::Math => math::check(answer).or_else(refuse),
    }
}

/// Error of a known answer with which no completion can be compared.
#[derive(Debug, thiserror::Error)]
#[error("reading the answer {answer:?} failed: {what}")]
pub struct BadAnswer {
    answer: String,
    what: &'static str,
}

/// Result of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// True if the completion's answer equals the known one.
    pub correct: bool,
    /// Answer found in the completion, as it is written there.
    pub extracted: Option<String>,
}

/// Compares the final answer of `completion` with `answer`.
///
/// A completion without an answer is wrong, and so is every completion if `answer` fails
/// [`check`].
pub fn is_correct(kind: AnswerKind, completion: &str, answer: &str) -> Verdict {
    judge(kind, "", completion, answer)
}

/// Compares the final answer of `completion` with `answer`, where `completion` continues `prompt`.
/// Some chat templates end the prompt with an opening reasoning tag; nothing counts as an answer
/// then until the completion closes it. A mathematical answer that only repeats the prompt, as `20 +
/// 34` where 54 was asked for, is wrong.
pub fn is_correct_after(kind: AnswerKind, prompt: &str, completion: &str, answer: &str) -> Verdict {
    judge(kind, prompt, completion, answer)
}

fn judge(kind: AnswerKind, prompt: &str, completion: &str, answer: &str) -> Verdict {
    let open = is_open(prompt);
    match kind {
        AnswerKind::Exact => {
            let said = if has_thought(answer) {
                Some(completion)
            } else {
                spoken(completion, open)
            };
            let text = said.unwrap_or_default().trim();
            let correct = !text.is_empty() && text == answer.trim();
            Verdict {
                correct,
                extracted: (!text.is_empty()).then(|| text.to_owned()),
            }
        }
        AnswerKind::Number => {
            let found = final_number(completion, open);
            let equals = |number: &Number| {
                known_number(answer).is_some_and(|known| known.number.equals(number))
            };
            let correct = found.as_ref().is_some_and(|found| equals(&found.number));
            Verdict {
                correct,
                extracted: found.map(|Found { text, .. }| text.to_owned()),
            }
        }
        AnswerKind::Math => {
            let (correct, found) = math::judge(prompt, completion, answer, open);
            Verdict {
                correct,
                extracted: found.map(str::to_owned),
            }
        }
    }
}
