//! Extraction of the spoken part of a completion: after its reasoning, inside its answer tags.

/// Tags around reasoning, as reasoning models write them or prompts ask for them.
const THOUGHTS: [(&str, &str); 10] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel|>analysis", "<|channel|>final"),
];
/// Channel names in a completion whose special tokens were removed.
const CHANNELS: (&str, &str) = ("analysis", "assistantfinal");
/// Tags around an answer.
const ANSWERS: [(&str, &str); 3] = [
    ("<answer>", "</answer>"),
    ("<final_answer>", "</final_answer>"),
    ("<SOLUTION>", "</SOLUTION>"),
];

/// Returns true if a prompt ends with an opening reasoning tag, as some chat templates do.
pub(crate) fn is_open(prompt: &str) -> bool {
    let prompt = prompt.trim_end();
    THOUGHTS.iter().any(|(open, _)| prompt.ends_with(open))
}

/// Returns true if a text contains a reasoning tag.
pub(crate) fn has_thought(text: &str) -> bool {
    THOUGHTS
        .iter()
        .any(|(open, close)| text.contains(open) || text.contains(close))
}

/// Returns the text after the last closed reasoning tag and, if there are answer tags in it, the
/// content of the last pair. `None` if a reasoning tag or the answer tag is not closed, or if
/// adjacent answers differ: none of them is final then.
///
/// `open` is true if the prompt ends with an opening reasoning tag.
pub(crate) fn spoken(completion: &str, open: bool) -> Option<&str> {
    let closed = THOUGHTS.iter().filter_map(|(_, close)| {
        let at = completion.rfind(close)?;
        Some(at + close.len())
    });
    let closed = closed.max();
    if open && closed.is_none() {
        return None;
    }
    let text = &completion[closed.unwrap_or(0)..];
    if THOUGHTS.iter().any(|(open, _)| text.contains(open)) {
        return None;
    }
    let text = text.strip_prefix("<|message|>").unwrap_or(text);
    let (analysis, last) = CHANNELS;
    let text = match text.rfind(last) {
        Some(at) if text.trim_start().starts_with(analysis) => &text[at + last.len()..],
        _ => text,
    };
    let tags = ANSWERS.iter().filter_map(|&(open, close)| {
        let at = text.rfind(open)?;
        Some((at, open, close))
    });
    match tags.max() {
        Some((at, open, close)) => tagged(text, at, open, close),
        None => Some(text),
    }
}

/// Returns the content of the answer tag that begins at `at`.
fn tagged<'a>(text: &'a str, at: usize, open: &str, close: &str) -> Option<&'a str> {
    let behind = &text[at + open.len()..];
    let content = &behind[..behind.find(close)?];
    let before = text[..at].trim_end();
    // Adjacent answers are guesses.
    if let Some(before) = before.strip_suffix(close) {
        let begin = before.rfind(open)? + open.len();
        if before[begin..].trim() != content.trim() {
            return None;
        }
    }
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::{is_open, spoken};

    #[test]
    fn what_follows_the_thoughts_is_said() {
        for (completion, said) in [
            ("24", Some("24")),
            ("<think>23</think>24", Some("24")),
            ("23</think>24", Some("24")),
            ("<think>2</think>23<think>3</think>24", Some("24")),
            ("<think>23", None),
            ("<think>23</think>24<think>25", None),
            ("<think>23</think>", Some("")),
            ("[THINK]23[/THINK]24", Some("24")),
            (
                "<reasoning>\n23\n</reasoning>\n<answer>\n24\n</answer>",
                Some("\n24\n"),
            ),
            ("<answer>24</answer>, I think", Some("24")),
            ("<answer>24", None),
            ("<answer>24</answer><answer>25</answer>", None),
            ("<answer>24</answer>\n<answer> 24 </answer>", Some(" 24 ")),
            ("<answer>23</answer> No: <answer>24</answer>", Some("24")),
            ("<|channel|>analysis<|message|>23<|end|>", None),
            (
                "<|channel|>analysis<|message|>23<|end|><|start|>assistant<|channel|>final<|message|>24",
                Some("24"),
            ),
            ("analysis23 it is.assistantfinal24", Some("24")),
        ] {
            assert_eq!(spoken(completion, false), said, "{completion}");
        }
    }

    #[test]
    fn a_thought_that_the_prompt_opens_must_end() {
        assert!(is_open("<|assistant|>\n<think>\n"));
        assert!(!is_open("<think>\n\n</think>\n\n"));
        assert!(!is_open("think between <think> and </think>:"));
        assert_eq!(spoken("so it is 24", true), None);
        assert_eq!(spoken("so</think>24", true), Some("24"));
    }
}
